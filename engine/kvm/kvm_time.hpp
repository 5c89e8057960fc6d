// SPDX-License-Identifier: Apache-2.0
//
// A processor's time on KVM: its time stamp counter, which is the host's plus an offset, and its local APIC's timer, which
// runs in the kernel. Freezing writes down where they stand; thawing makes them go on from there:
//
//   host's counter   ───────┼─────────────────┼──────────▶
//   guest's counter   ──────┤ frozen.counter  ├──────────▶    the offset is smaller by what has passed in between
//   count-down timer   ─────┤ frozen.count    ├──────────▶    set again, so that it expires as much later
//   deadline           ─────┤ frozen.deadline ├──────────▶    written again: it is on the guest's counter
#pragma once

#include <cstddef>
#include <cstdint>

#include "error/error.hpp"

namespace bulkhead::engine::kvm {

inline constexpr std::uint32_t kMsrTsc = 0x10;
inline constexpr std::uint32_t kMsrTscDeadline = 0x6e0;
inline constexpr std::size_t kApicCurrentCount = 0x390;  // offset of the register

struct FrozenTime {
  std::uint64_t counter = 0;   // the guest's time stamp counter
  std::uint64_t deadline = 0;  // of the APIC timer, on that counter; 0: none
  std::uint32_t count = 0;     // what the APIC timer's current count register reads; 0: it does not count
};

/// `host_counter` is the host's time stamp counter, the same for all processors of a partition so that theirs stay alike.
Result<FrozenTime> freeze_processor(int processor, std::uint64_t host_counter);
Result<> thaw_processor(int processor, const FrozenTime& frozen, std::uint64_t host_counter);

/// A partition's reference time in units of 100 ns (TLFS, "Partition Reference Counter").
Result<std::uint64_t> read_reference_time(int machine);
Result<> set_reference_time(int machine, std::uint64_t time);

/// Of a processor's time stamp counter, in Hz; 0: the kernel does not know it.
std::uint64_t counter_frequency(int processor);

}  // namespace bulkhead::engine::kvm
