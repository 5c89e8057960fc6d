// SPDX-License-Identifier: Apache-2.0
#include "hypervisor/synic/synthetic_timers.hpp"

#include <algorithm>
#include <functional>

#include "hypervisor/periodic.hpp"

namespace bulkhead::hypervisor {

void SyntheticTimers::set_configuration(unsigned index, std::uint64_t value, std::uint64_t now) {
  Timer& timer = timers_[index];
  timer.configuration = value & kConfigurationBits;
  // SINT 0 is not for messages of timers.
  const bool nowhere = !(value & kDirect) && !(value >> 16 & 0xf);
  if (nowhere) timer.configuration &= ~kEnable;
  timer.undelivered = kNever;
  arm(timer, now);
}

void SyntheticTimers::set_count(unsigned index, std::uint64_t value, std::uint64_t now) {
  Timer& timer = timers_[index];
  timer.count = value;
  if (value == 0) {
    timer.configuration &= ~kEnable;
  } else if (timer.configuration & kAutoEnable) {
    set_configuration(index, timer.configuration | kEnable, now);
    return;
  }
  arm(timer, now);
}

void SyntheticTimers::arm(Timer& timer, std::uint64_t now) {
  timer.expiry = kNever;
  if (!(timer.configuration & kEnable) || timer.count == 0) return;
  if (!(timer.configuration & kPeriodic)) {
    timer.expiry = timer.count;
    return;
  }
  const std::uint64_t period = std::max(timer.count, kMinimumPeriod);
  if (period < kNever - now) timer.expiry = now + period;
}

/// It has expired.
void SyntheticTimers::pass(Timer& timer, std::uint64_t now) {
  timer.undelivered = timer.expiry;
  if (!(timer.configuration & kPeriodic)) {
    timer.expiry = kNever;
    timer.configuration &= ~kEnable;
    return;
  }
  const std::uint64_t period = std::max(timer.count, kMinimumPeriod);
  const std::uint64_t next = next_beat(timer.expiry, period, kMinimumPeriod, now);
  timer.expiry = next > now ? next : kNever;
}

std::uint64_t SyntheticTimers::deadline() const {
  std::uint64_t earliest = kNever;
  for (const Timer& timer : timers_) earliest = std::min(earliest, timer.expiry);
  return earliest;
}

bool SyntheticTimers::has_undelivered() const {
  return std::ranges::any_of(timers_, [](const Timer& timer) { return timer.undelivered != kNever; });
}

hv_synthetic_timers_state SyntheticTimers::save() const {
  hv_synthetic_timers_state state{};
  for (unsigned index = 0; index < kCount; ++index) {
    const Timer& timer = timers_[index];
    const bool undelivered = timer.undelivered != kNever;
    state.timers[index] = {undelivered ? HV_SYNTHETIC_TIMER_UNDELIVERED : 0,
                           0,
                           timer.configuration,
                           timer.count,
                           timer.expiry == kNever ? 0 : timer.expiry,
                           undelivered ? timer.undelivered : 0};
  }
  return state;
}

bool SyntheticTimers::restore(const hv_synthetic_timers_state& state) {
  const auto valid = [](const hv_synthetic_timer_state& timer) {
    const bool undelivered = timer.flags & HV_SYNTHETIC_TIMER_UNDELIVERED;
    const bool runs = (timer.config & kEnable) && timer.count;
    return !(timer.flags & ~HV_SYNTHETIC_TIMER_UNDELIVERED) && !timer.reserved &&
           !(timer.config & ~kConfigurationBits) && (runs || !timer.adjustment) &&
           (undelivered || !timer.undelivered_expiration_time);
  };
  if (!std::ranges::all_of(state.timers, valid) || std::ranges::any_of(state.reserved, std::identity{})) return false;
  for (unsigned index = 0; index < kCount; ++index) {
    const hv_synthetic_timer_state& from = state.timers[index];
    const bool undelivered = from.flags & HV_SYNTHETIC_TIMER_UNDELIVERED;
    timers_[index] = {from.config, from.count, from.adjustment ? from.adjustment : kNever,
                      undelivered ? from.undelivered_expiration_time : kNever};
  }
  return true;
}

}  // namespace bulkhead::hypervisor
