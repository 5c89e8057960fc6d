// SPDX-License-Identifier: Apache-2.0
//
// The four synthetic timers of a virtual processor: TLFS, "Synthetic Timers". Moments are of the partition's reference time (100 ns).
// Nothing ticks: there is a moment at which the next one expires.
//
//   expire ──▶ direct mode: a vector for the local APIC
//          └─▶ message mode: a message for the SINT's slot; while that is full it waits here, one for each timer
//
// Only the logical processor that owns the VP touches the object.
#pragma once

#include <array>
#include <cstdint>

#include "abi/hypercall.h"

namespace bulkhead::hypervisor {

class SyntheticTimers {
 public:
  static constexpr unsigned kCount = 4;
  static constexpr std::uint64_t kNever = ~0ull;
  /// A periodic timer does not expire more often: 20 microseconds.
  static constexpr std::uint64_t kMinimumPeriod = 200;

  std::uint64_t configuration(unsigned timer) const { return timers_[timer].configuration; }
  std::uint64_t count(unsigned timer) const { return timers_[timer].count; }
  void set_configuration(unsigned timer, std::uint64_t value, std::uint64_t now);
  void set_count(unsigned timer, std::uint64_t value, std::uint64_t now);

  /// When the next one expires.
  std::uint64_t deadline() const;

  /// What an expired timer asks for.
  struct Expiration {
    unsigned timer;
    bool direct;
    std::uint8_t target;  // vector in direct mode, else SINT
    std::uint64_t time;
  };
  /// `deliver(Expiration) -> bool` for each that has expired by `now`, and for each whose message waits; false: the slot is full.
  template <typename Deliver>
  void expire(std::uint64_t now, Deliver&& deliver) {
    for (unsigned index = 0; index < kCount; ++index) {
      Timer& timer = timers_[index];
      if (timer.expiry <= now) pass(timer, now);
      if (timer.undelivered == kNever) continue;
      const bool direct = timer.configuration & kDirect;
      const auto target =
          static_cast<std::uint8_t>(direct ? timer.configuration >> 4 : timer.configuration >> 16 & 0xf);
      if (deliver(Expiration{index, direct, target, timer.undelivered})) timer.undelivered = kNever;
    }
  }
  bool has_undelivered() const;

  hv_synthetic_timers_state save() const;
  /// False, and nothing was changed: timers cannot be in that state.
  bool restore(const hv_synthetic_timers_state& state);

 private:
  static constexpr std::uint64_t kEnable = 1, kPeriodic = 2, kAutoEnable = 8, kDirect = 1 << 12;
  /// With lazy (4): when such a timer may be late is up to us, and it never needs to be.
  static constexpr std::uint64_t kConfigurationBits = 0xf'1fff;

  struct Timer {
    std::uint64_t configuration = 0;
    std::uint64_t count = 0;
    std::uint64_t expiry = kNever;
    std::uint64_t undelivered = kNever;  // the expiration that nobody has been told of
  };

  static void arm(Timer& timer, std::uint64_t now);
  static void pass(Timer& timer, std::uint64_t now);

  std::array<Timer, kCount> timers_{};
};

}  // namespace bulkhead::hypervisor
