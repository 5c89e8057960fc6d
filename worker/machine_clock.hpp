// SPDX-License-Identifier: Apache-2.0
//
// The machine's time: the host's monotonic clock, less the times at which the machine stood still.
//
//   host      ──────────────────────────────────▶
//   machine         0 ────▶ 1s      1s ────▶ 2s
//                   start   stop    start
//
// All device timers share one timer of the host, which is set only when an earlier deadline comes: a device that
// re-arms its timer at every register access, as the PIT does, costs no system call.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "vdev/device.hpp"

namespace bulkhead::worker {

/// Everything here is called with the machine's lock held; the timers' callbacks run with it, on the event loop.
/// To be made and destroyed on the event loop's thread, or while that does not run. Timers do not outlive it.
class MachineClock final : public vdev::Clock, public state::StateUnit {
 public:
  MachineClock(boost::asio::io_context& event_loop, std::mutex& machine_lock);
  ~MachineClock() override;

  vdev::Nanoseconds now() const override;
  std::unique_ptr<vdev::Timer> make_timer(std::function<void()> callback) override;

  std::string_view name() const override { return "clock"; }
  void start() override;
  void stop() override;
  /// Time goes on where it is: a reset of the machine does not take back the time that has passed.
  void reset() override {}
  state::SavedUnit save() const override;
  Result<> restore(const state::SavedUnit& saved) override;
  void inspect(state::Inspection& node) const override;

 private:
  class DeviceTimer;
  using HostTime = std::chrono::steady_clock::time_point;

  /// Sees to it that the host wakes us no later than at the first deadline.
  void schedule();
  void wake();
  std::optional<vdev::Nanoseconds> first_deadline() const;

  std::mutex& machine_lock_;
  boost::asio::steady_timer host_timer_;
  std::vector<DeviceTimer*> timers_;
  vdev::Nanoseconds stopped_at_{0};           // the machine's time when it last stopped
  std::optional<HostTime> started_;           // while running: when it last started
  std::optional<vdev::Nanoseconds> wake_at_;  // what host_timer_ is set for
  std::shared_ptr<bool> alive_;               // a handler may still be queued when the clock has gone
};

}  // namespace bulkhead::worker
