// SPDX-License-Identifier: Apache-2.0
//
// A partition's reference time: 100 ns units since its creation, less the time for which its parent froze it. TLFS,
// "Partition Reference Counter". Its VPs' time stamp counters and timers stand still with it: Partition::freeze_time.
#pragma once

#include <cstdint>
#include <utility>

#include "hypervisor/machine.hpp"

namespace bulkhead::hypervisor {

class ReferenceTime {
 public:
  void start(std::uint64_t tsc, std::uint64_t tsc_frequency) {
    // 10^7 * 2^64 / frequency. The quotient fits in 64 bits for any counter faster than 10 MHz.
    std::uint64_t remainder = 0;
    asm("divq %[frequency]"
        : "=a"(scale_), "=d"(remainder)
        : [frequency] "r"(tsc_frequency), "a"(0ull), "d"(10'000'000ull));
    offset_ = 0;
    origin_ = tsc;
    frozen_ = false;
  }

  std::uint64_t at(std::uint64_t tsc) const { return frozen_ ? offset_ : offset_ + elapsed(tsc); }
  bool frozen() const { return frozen_; }

  static constexpr std::uint64_t kNever = ~0ull;
  /// The first value of the counter at which the time is at least `time`. kNever: it is frozen, or that is centuries away.
  std::uint64_t tsc_of(std::uint64_t time) const {
    if (frozen_) return kNever;
    if (time <= offset_) return origin_;
    const std::uint64_t distance = time - offset_;
    if (distance >= scale_) return kNever;
    std::uint64_t ticks = 0, remainder = 0;
    asm("divq %[scale]" : "=a"(ticks), "=d"(remainder) : [scale] "r"(scale_), "a"(0ull), "d"(distance));
    return ticks >= kNever - origin_ ? kNever : origin_ + ticks + 1;
  }
  /// Another one after each change, so that what was reckoned from it can be told to be out of date.
  std::uint32_t generation() const { return generation_; }

  void freeze(std::uint64_t tsc) {
    if (frozen_) return;
    offset_ = at(tsc);
    origin_ = tsc;
    frozen_ = true;
    ++generation_;
  }
  /// How many ticks of the counter it was frozen for.
  std::uint64_t thaw(std::uint64_t tsc) {
    if (!frozen_) return 0;
    frozen_ = false;
    ++generation_;
    return tsc - std::exchange(origin_, tsc);
  }
  /// The counter, or what it was when time was frozen.
  std::uint64_t moment(std::uint64_t tsc) const { return frozen_ ? origin_ : tsc; }
  /// Only while frozen.
  void set(std::uint64_t value) { offset_ = value; }

  /// While not frozen, the same as a line through the values of a counter of the same rate: time = (counter * scale >> 64) + offset,
  /// at most one unit ahead of at(). `counter` is what it reads when the root's reads `tsc`; it is below 2^63.
  struct Line {
    std::uint64_t scale;
    std::int64_t offset;
  };
  Line line(std::uint64_t tsc, std::uint64_t counter) const {
    __extension__ using SignedWide = __int128;
    const SignedWide counter_at_origin = static_cast<SignedWide>(counter) - static_cast<SignedWide>(tsc - origin_);
    const auto before_origin = static_cast<std::int64_t>(counter_at_origin * static_cast<SignedWide>(scale_) >> 64);
    return {scale_, static_cast<std::int64_t>(offset_) - before_origin};
  }

 private:
  std::uint64_t elapsed(std::uint64_t tsc) const {
    __extension__ using Wide = unsigned __int128;
    return static_cast<std::uint64_t>(static_cast<Wide>(tsc - origin_) * scale_ >> 64);
  }

  std::uint64_t scale_ = 0;
  std::uint64_t origin_ = 0;
  std::uint64_t offset_ = 0;
  bool frozen_ = false;
  std::uint32_t generation_ = 0;
};

}  // namespace bulkhead::hypervisor
