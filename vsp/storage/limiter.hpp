// SPDX-License-Identifier: Apache-2.0
//
// Limits of one disk: operations and bytes a second. Each admission moves a clock forward by what it costs; a disk whose
// clock is ahead of the real one by more than the burst waits until it is not.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

namespace bulkhead::vsp::storage {

/// 0: no limit.
struct Limits {
  std::uint64_t operations_per_second = 0;
  std::uint64_t bytes_per_second = 0;

  bool operator==(const Limits&) const = default;
};

class Limiter {
 public:
  using Nanoseconds = std::chrono::nanoseconds;
  /// So much may come at once after a rest.
  static constexpr Nanoseconds kBurst = std::chrono::milliseconds(100);

  explicit Limiter(Limits limits = {}) : limits_(limits) {}

  const Limits& limits() const { return limits_; }
  bool limits_anything() const { return limits_ != Limits{}; }

  /// How long an operation must wait. 0: it may go now, and is counted.
  Nanoseconds admit(Nanoseconds now, std::uint64_t bytes) {
    const Nanoseconds wait = std::max(operations_until_ - kBurst - now, bytes_until_ - kBurst - now);
    if (wait > Nanoseconds(0)) return wait;
    operations_until_ = std::max(operations_until_, now) + cost(1, limits_.operations_per_second);
    bytes_until_ = std::max(bytes_until_, now) + cost(bytes, limits_.bytes_per_second);
    return Nanoseconds(0);
  }

 private:
  static Nanoseconds cost(std::uint64_t count, std::uint64_t per_second) {
    if (per_second == 0) return Nanoseconds(0);
    return Nanoseconds(static_cast<std::int64_t>(static_cast<double>(count) * 1e9 / static_cast<double>(per_second)));
  }

  Limits limits_;
  Nanoseconds operations_until_{0};
  Nanoseconds bytes_until_{0};
};

}  // namespace bulkhead::vsp::storage
