// SPDX-License-Identifier: Apache-2.0
//
// A clock that the test moves, and a time of day that goes with it.
#pragma once

#include <algorithm>
#include <map>
#include <utility>

#include "state/clock.hpp"

namespace bulkhead::state {

class FakeClock final : public Clock {
 public:
  Nanoseconds now() const override {
    now_ += between_looks_;
    return now_;
  }

  std::unique_ptr<Timer> make_timer(std::function<void()> callback) override {
    return std::make_unique<FakeTimer>(*this, std::move(callback));
  }

  /// Lets time pass; timers fire at their moments, in order.
  void advance(Nanoseconds by) {
    const Nanoseconds end = now_ + by;
    while (!armed_.empty() && armed_.begin()->first <= end) {
      auto [at, timer] = *armed_.begin();
      armed_.erase(armed_.begin());
      now_ = std::max(now_, at);
      ++fired_;
      timer->fire();
    }
    now_ = end;
  }
  /// The clock of another machine, or of this one long before.
  void set(Nanoseconds now) { now_ = now; }
  /// From now on time goes on by so much whenever somebody looks, as it does where a device is slow.
  void let_time_pass_between_looks(Nanoseconds time) { between_looks_ = time; }
  std::size_t armed_timers() const { return armed_.size(); }
  std::size_t fired() const { return fired_; }

 private:
  class FakeTimer final : public Timer {
   public:
    FakeTimer(FakeClock& clock, std::function<void()> callback) : clock_(clock), callback_(std::move(callback)) {}
    ~FakeTimer() override { disarm(); }
    void arm(Nanoseconds at) override {
      disarm();
      clock_.armed_.emplace(at, this);
    }
    void disarm() override {
      std::erase_if(clock_.armed_, [this](const auto& entry) { return entry.second == this; });
    }
    void fire() { callback_(); }

   private:
    FakeClock& clock_;
    std::function<void()> callback_;
  };

  mutable Nanoseconds now_{0};
  Nanoseconds between_looks_{0};
  std::size_t fired_ = 0;
  std::multimap<Nanoseconds, FakeTimer*> armed_;
};

/// The host's time of day goes with the fake clock, from a moment that the test gives.
class FakeWallClock final : public WallClock {
 public:
  FakeWallClock(const FakeClock& clock, std::int64_t seconds_since_1970)
      : clock_(clock), begin_(std::chrono::seconds(seconds_since_1970)) {}
  Nanoseconds now() const override { return begin_ + clock_.now(); }
  void jump(Nanoseconds by) { begin_ += by; }

 private:
  const FakeClock& clock_;
  Nanoseconds begin_;
};

}  // namespace bulkhead::state
