// SPDX-License-Identifier: Apache-2.0
//
// The local APIC's timer. It counts at the rate of the root's time stamp counter (that is the frequency which the guest is
// told), so moments are values of that counter and no rate has to be converted. Nothing ticks: there is a moment at which it fires.
#pragma once

#include <algorithm>
#include <cstdint>

#include "hypervisor/periodic.hpp"

namespace bulkhead::hypervisor {

enum class ApicTimerMode : std::uint8_t { OneShot = 0, Periodic = 1, TscDeadline = 2 };

class ApicTimer {
 public:
  static constexpr std::uint64_t kNever = ~0ull;

  /// A periodic timer does not fire more often than this.
  void set_minimum_period(std::uint64_t ticks) { minimum_period_ = ticks; }

  std::uint64_t deadline() const { return deadline_; }
  ApicTimerMode mode() const { return mode_; }
  std::uint32_t initial_count() const { return initial_count_; }
  std::uint32_t divide_configuration() const { return divide_configuration_; }

  /// Changing to or from TscDeadline disarms it.
  void set_mode(ApicTimerMode mode) {
    if (mode == mode_) return;
    if (mode == ApicTimerMode::TscDeadline || mode_ == ApicTimerMode::TscDeadline) {
      deadline_ = kNever;
      initial_count_ = 0;
    }
    mode_ = mode;
  }

  void set_initial_count(std::uint32_t count, std::uint64_t now) {
    if (mode_ == ApicTimerMode::TscDeadline) return;
    initial_count_ = count;
    deadline_ = count == 0 ? kNever : now + period();
  }

  /// A count that runs goes on from where it is at the new rate.
  void set_divide_configuration(std::uint32_t value, std::uint64_t now) {
    const std::uint64_t left = current_count(now);
    divide_configuration_ = value & kDivideBits;
    if (mode_ != ApicTimerMode::TscDeadline && deadline_ != kNever) deadline_ = now + left * divisor();
  }

  std::uint32_t current_count(std::uint64_t now) const {
    if (mode_ == ApicTimerMode::TscDeadline || deadline_ == kNever || deadline_ <= now) return 0;
    return static_cast<std::uint32_t>(std::min<std::uint64_t>((deadline_ - now) / divisor(), initial_count_));
  }

  /// In root time; kNever disarms. Nothing happens in other modes.
  void set_tsc_deadline(std::uint64_t deadline) {
    if (mode_ == ApicTimerMode::TscDeadline) deadline_ = deadline;
  }

  /// Call when `now` has reached the deadline: it fires.
  void fire(std::uint64_t now) {
    deadline_ = mode_ == ApicTimerMode::Periodic ? next_beat(deadline_, period(), minimum_period_, now) : kNever;
  }

  /// The counter ran on while the guest's time stood still.
  void postpone(std::uint64_t ticks) {
    if (deadline_ != kNever) deadline_ += ticks;
  }

  /// What is left in units of the current count, rounded up, so that 0 means that it does not count.
  std::uint32_t remaining_count(std::uint64_t now) const {
    if (mode_ == ApicTimerMode::TscDeadline || deadline_ == kNever) return 0;
    const std::uint64_t left = deadline_ <= now ? 1 : units(deadline_ - now);
    return static_cast<std::uint32_t>(mode_ == ApicTimerMode::Periodic ? left
                                                                       : std::min<std::uint64_t>(left, initial_count_));
  }
  /// Whether a timer can have these registers and as much as that left.
  bool can_be(ApicTimerMode mode, std::uint32_t initial, std::uint32_t divide, std::uint32_t remaining) const {
    if (divide & ~kDivideBits) return false;
    if (mode == ApicTimerMode::TscDeadline) return initial == 0 && remaining == 0;
    ApicTimer other = *this;
    other.divide_configuration_ = divide;
    const std::uint64_t longest = mode == ApicTimerMode::Periodic ? other.units(longest_respite(minimum_period_)) : 0;
    return remaining <= std::max<std::uint64_t>(initial, longest) && (initial != 0 || remaining == 0);
  }
  /// After can_be. In TSC deadline mode it is disarmed.
  void set(ApicTimerMode mode, std::uint32_t initial, std::uint32_t divide, std::uint32_t remaining,
           std::uint64_t now) {
    mode_ = mode;
    initial_count_ = initial;
    divide_configuration_ = divide;
    deadline_ = remaining == 0 ? kNever : now + remaining * divisor();
  }

  void reset() {
    mode_ = ApicTimerMode::OneShot;
    deadline_ = kNever;
    initial_count_ = 0;
    divide_configuration_ = 0;
  }

 private:
  static constexpr std::uint32_t kDivideBits = 0xb;
  std::uint64_t units(std::uint64_t ticks) const { return (ticks + divisor() - 1) / divisor(); }
  std::uint64_t divisor() const {
    const unsigned encoded = (divide_configuration_ & 3) | (divide_configuration_ >> 1 & 4);
    return 1ull << ((encoded + 1) & 7);
  }
  std::uint64_t period() const {
    const std::uint64_t ticks = initial_count_ * divisor();
    return mode_ == ApicTimerMode::Periodic ? std::max(ticks, minimum_period_) : ticks;
  }

  ApicTimerMode mode_ = ApicTimerMode::OneShot;
  std::uint32_t initial_count_ = 0;
  std::uint32_t divide_configuration_ = 0;
  std::uint64_t deadline_ = kNever;
  std::uint64_t minimum_period_ = 1;
};

}  // namespace bulkhead::hypervisor
