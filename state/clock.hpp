// SPDX-License-Identifier: Apache-2.0
//
// Time as the parts of a machine see it. A test has a clock of its own, which it moves.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>

namespace bulkhead::state {

/// The machine's time in nanoseconds since it was made. It stands still while the machine is stopped.
using Nanoseconds = std::chrono::duration<std::int64_t, std::nano>;

/// Calls back once, at or after a moment of the machine's time. Destroying it disarms it.
class Timer {
 public:
  virtual ~Timer() = default;
  /// Replaces what was armed before.
  virtual void arm(Nanoseconds at) = 0;
  virtual void disarm() = 0;
};

class Clock {
 public:
  virtual ~Clock() = default;
  virtual Nanoseconds now() const = 0;
  virtual std::unique_ptr<Timer> make_timer(std::function<void()> callback) = 0;
};

/// The host's time of day.
class WallClock {
 public:
  virtual ~WallClock() = default;
  /// Nanoseconds since 1970-01-01 00:00 UTC.
  virtual Nanoseconds now() const = 0;
};

}  // namespace bulkhead::state
