// SPDX-License-Identifier: Apache-2.0
//
// The guest's own address translation, as its processor does it: AMD64 APM volume 2, "Page Translation and Protection";
// Intel SDM volume 3, "Paging".
//
//   no paging          linear = physical
//   32-bit             10 | 10 | 12        4 KiB and (CR4.PSE) 4 MiB pages
//   PAE             2 | 9 | 9 | 12         4 KiB and 2 MiB
//   4-level     9 | 9 | 9 | 9 | 12         4 KiB, 2 MiB and 1 GiB
//   5-level 9 | 9 | 9 | 9 | 9 | 12
#pragma once

#include <cstdint>

#include "engine/emulator/processor_state.hpp"
#include "engine/guest_memory.hpp"
#include "engine/written_pages.hpp"

namespace bulkhead::engine::emulator {

/// An access whose rights are checked. `user`: of privilege level 3.
struct AccessKind {
  bool write = false;
  bool fetch = false;
  bool user = false;
};

struct Translation {
  enum class Outcome : std::uint8_t { Mapped, PageFault, TableNotInMemory };
  Outcome outcome;
  std::uint32_t error_code;      // of the page fault
  GuestPhysicalAddress address;  // Mapped: the byte's; TableNotInMemory: the table entry's
};

/// Translates one byte's address and sets accessed and dirty bits as the processor does; the pages of the tables in which it sets some
/// go to `written`.
Translation translate(const ProcessorState& state, GuestMemory& memory, std::uint64_t linear, AccessKind access,
                      WrittenPages* written = nullptr);

}  // namespace bulkhead::engine::emulator
