// SPDX-License-Identifier: Apache-2.0
//
// The beat of periodic timers, local APIC's and synthetic ones, in whatever unit they count. Each has a minimum period, or a guest could not
// get on at all for its own interrupts.
#pragma once

#include <algorithm>
#include <cstdint>

namespace bulkhead::hypervisor {

/// The most that a timer waits for the guest's sake.
constexpr std::uint64_t longest_respite(std::uint64_t minimum_period) { return 50 * minimum_period; }

/// When a timer fires next that was due at `due` and fires at `now`. Periods that passed unseen are one. After them the guest of a timer
/// that is faster than the longest respite has as long for itself, up to that: where an interrupt takes longer than a period, it still
/// gets on. At most `now`: there is no such moment any more.
constexpr std::uint64_t next_beat(std::uint64_t due, std::uint64_t period, std::uint64_t minimum_period,
                                  std::uint64_t now) {
  const std::uint64_t late = now - due, respite = longest_respite(minimum_period);
  const std::uint64_t next = due + (late / period + 1) * period;
  return late >= period && period < respite ? std::max(next, now + std::min(late, respite)) : next;
}

}  // namespace bulkhead::hypervisor
