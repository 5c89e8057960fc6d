// SPDX-License-Identifier: Apache-2.0
//
// The memory map of BIOS function E820h (ACPI 6.5, section 15): which guest physical addresses are RAM that the kernel
// may take.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/guest_memory.hpp"

namespace bulkhead::firmware {

enum class AddressRangeType : std::uint32_t { Memory = 1, Reserved = 2 };

struct AddressRange {
  std::uint64_t base;
  std::uint64_t size;
  AddressRangeType type;

  bool operator==(const AddressRange&) const = default;
};

struct MemoryMap {
  std::vector<AddressRange> ranges;  // by address, not overlapping
  std::uint64_t low_end;             // end of the RAM that begins at 0 and goes on without a hole, below 4 GiB
};

/// Errors: there is no memory at 0, or less than 2 MiB without a hole.
Result<MemoryMap> build_memory_map(const engine::GuestMemory& memory);

}  // namespace bulkhead::firmware
