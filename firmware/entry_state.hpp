// SPDX-License-Identifier: Apache-2.0
//
// The processor states in which kernels begin, and what these states need in the guest's memory.
#pragma once

#include "engine/guest_memory.hpp"
#include "firmware/firmware.hpp"

namespace bulkhead::firmware {

/// The general registers that an entry protocol gives meaning to.
struct EntryRegisters {
  std::uint64_t rip;
  std::uint64_t rax = 0;
  std::uint64_t rbx = 0;
  std::uint64_t rsi = 0;
};

/// 64-bit mode; the first 4 GiB are mapped to themselves. Writes GDT and page tables. Code is selector 10h, data 18h.
Result<EntryState> enter_64_bit(engine::GuestMemory& memory, const EntryRegisters& registers);

/// 32-bit protected mode without paging, flat segments. Writes the GDT. Code is selector 10h, data 18h.
Result<EntryState> enter_32_bit(engine::GuestMemory& memory, const EntryRegisters& registers);

}  // namespace bulkhead::firmware
