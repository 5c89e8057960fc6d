// SPDX-License-Identifier: Apache-2.0
#include "worker/machine_clock.hpp"

#include <algorithm>

namespace bulkhead::worker {

using vdev::Nanoseconds;

namespace {
constexpr std::chrono::hours kLongestSleep{1};
}

class MachineClock::DeviceTimer final : public vdev::Timer {
 public:
  DeviceTimer(MachineClock& clock, std::function<void()> callback) : clock_(clock), callback_(std::move(callback)) {
    clock_.timers_.push_back(this);
  }
  ~DeviceTimer() override { std::erase(clock_.timers_, this); }

  void arm(Nanoseconds at) override {
    deadline_ = at;
    clock_.schedule();
  }
  void disarm() override { deadline_.reset(); }

  const std::optional<Nanoseconds>& deadline() const { return deadline_; }
  void fire() {
    deadline_.reset();
    callback_();
  }

 private:
  MachineClock& clock_;
  std::function<void()> callback_;
  std::optional<Nanoseconds> deadline_;
};

MachineClock::MachineClock(boost::asio::io_context& event_loop, std::mutex& machine_lock)
    : machine_lock_(machine_lock), host_timer_(event_loop), alive_(std::make_shared<bool>(true)) {}

MachineClock::~MachineClock() = default;

Nanoseconds MachineClock::now() const {
  if (!started_) return stopped_at_;
  return stopped_at_ + std::chrono::duration_cast<Nanoseconds>(std::chrono::steady_clock::now() - *started_);
}

std::unique_ptr<vdev::Timer> MachineClock::make_timer(std::function<void()> callback) {
  return std::make_unique<DeviceTimer>(*this, std::move(callback));
}

void MachineClock::start() {
  if (started_) return;
  started_ = std::chrono::steady_clock::now();
  schedule();
}

void MachineClock::stop() {
  if (!started_) return;
  stopped_at_ = now();
  started_.reset();
  wake_at_.reset();
  host_timer_.cancel();
}

state::SavedUnit MachineClock::save() const {
  state::SavedUnit saved(1);
  saved.number("now", static_cast<std::uint64_t>(stopped_at_.count()));
  return saved;
}

Result<> MachineClock::restore(const state::SavedUnit& saved) {
  state::SavedReader reader(saved, name(), 1);
  const auto time = reader.number("now", INT64_MAX / 2);
  if (auto complete = reader.finish(); !complete) return complete;
  stopped_at_ = Nanoseconds(static_cast<std::int64_t>(time));
  return {};
}

void MachineClock::inspect(state::Inspection& node) const {
  node.value("nanoseconds", static_cast<std::uint64_t>(now().count()));
  node.value("running", started_.has_value());
}

std::optional<Nanoseconds> MachineClock::first_deadline() const {
  std::optional<Nanoseconds> first;
  for (const auto* timer : timers_) {
    if (timer->deadline() && (!first || *timer->deadline() < *first)) first = timer->deadline();
  }
  return first;
}

void MachineClock::schedule() {
  const auto first = first_deadline();
  // A wake-up that comes too early finds nothing to do and schedules again; so later deadlines need no new one.
  if (!started_ || !first || (wake_at_ && *wake_at_ <= *first)) return;
  // No further than the host's clock can count, wherever a guest puts its deadline.
  wake_at_ = std::min(*first, now() + kLongestSleep);
  host_timer_.expires_at(*started_ + (*wake_at_ - stopped_at_));
  host_timer_.async_wait([this, alive = std::weak_ptr<bool>(alive_)](const boost::system::error_code& error) {
    if (!error && !alive.expired()) wake();
  });
}

void MachineClock::wake() {
  std::lock_guard lock(machine_lock_);
  wake_at_.reset();
  if (!started_) return;
  // Each timer fires at most once in one wake-up, so that a guest that sets a deadline in the past again and again
  // cannot hold the machine's lock. A callback may destroy timers: look each one up again before it fires.
  const Nanoseconds time = now();
  const std::vector<DeviceTimer*> candidates = timers_;
  for (auto* timer : candidates) {
    if (std::ranges::find(timers_, timer) == timers_.end()) continue;
    if (timer->deadline() && *timer->deadline() <= time) timer->fire();
  }
  schedule();
}

}  // namespace bulkhead::worker
