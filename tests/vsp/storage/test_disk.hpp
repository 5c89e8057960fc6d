// SPDX-License-Identifier: Apache-2.0
//
// A disk in memory whose operations can be held back and can fail, and a host on which the test is the event loop.
#pragma once

#include <coroutine>
#include <cstdlib>
#include <deque>
#include <map>
#include <memory>
#include <vector>

#include "disk/disk.hpp"
#include "vsp/storage/storage_host.hpp"

namespace bulkhead::vsp::storage {

class TestDisk final : public disk::Disk {
 public:
  explicit TestDisk(std::uint64_t size, std::uint32_t sector = 512);

  const disk::Properties& properties() const override { return properties_; }
  const std::string& name() const override { return name_; }
  disk::Task<Result<>> read(std::uint64_t offset, disk::Buffers buffers) override;
  disk::Task<Result<>> write(std::uint64_t offset, disk::Buffers buffers) override;
  disk::Task<Result<>> flush() override;
  disk::Task<Result<>> zero(std::uint64_t offset, std::uint64_t length) override;
  disk::Task<Result<>> discard(std::uint64_t offset, std::uint64_t length) override;
  disk::Task<Result<disk::Extent>> query(std::uint64_t offset, std::uint64_t length) override;
  disk::Task<Result<>> close() override;

  /// Lets the oldest operation that is held back go on, or all. The disk may go away with it.
  void release_one() { release(1); }
  void release_all() { release(SIZE_MAX); }

  std::vector<std::uint8_t> bytes;
  bool holds = false;  // operations wait for release_one
  int fails_with = 0;  // an errno value
  unsigned reads = 0, writes = 0, flushes = 0, discards = 0, zeroings = 0, closes = 0;
  disk::Properties& changeable_properties() { return properties_; }
  std::size_t held() const { return held_->size(); }

 private:
  struct Turn;
  Result<> outcome() const;
  void release(std::size_t count);

  disk::Properties properties_;
  std::string name_ = "test.raw";
  std::shared_ptr<std::deque<std::coroutine_handle<>>> held_ = std::make_shared<std::deque<std::coroutine_handle<>>>();
};

/// The machine around a controller, with the test as its event loop.
class TestHost final : public StorageHost {
 public:
  std::mutex& bus_lock() override { return lock_; }
  void post(std::function<void()> work) override { posted_.push_back(std::move(work)); }
  void post_after(std::chrono::nanoseconds delay, std::function<void()> work) override {
    timers_.emplace(time_ + delay, std::move(work));
  }
  std::chrono::nanoseconds now() override { return time_; }
  void wait_for_progress() override {
    if (on_wait) return on_wait();
    // A test that left an operation held back is not to hang.
    if (++idle_waits_ > 1'000'000) std::abort();
  }
  void host_is_full(std::string_view, std::string_view why) override { complaints.emplace_back(why); }

  /// Until nothing is posted any more.
  void run();
  /// Lets the time pass, with all that was to happen meanwhile.
  void pass(std::chrono::nanoseconds time);

  std::function<void()> on_wait;
  std::vector<std::string> complaints;

 private:
  std::mutex lock_;
  std::deque<std::function<void()>> posted_;
  std::multimap<std::chrono::nanoseconds, std::function<void()>> timers_;
  std::chrono::nanoseconds time_{std::chrono::seconds(1000)};
  unsigned idle_waits_ = 0;
};

}  // namespace bulkhead::vsp::storage
