// SPDX-License-Identifier: Apache-2.0
#include "tests/vsp/storage/test_disk.hpp"

#include <algorithm>
#include <cstring>

namespace bulkhead::vsp::storage {

/// Waits for release_one, if the disk holds its operations back.
struct TestDisk::Turn {
  TestDisk& disk;
  bool await_ready() const { return !disk.holds; }
  void await_suspend(std::coroutine_handle<> waiter) const { disk.held_->push_back(waiter); }
  void await_resume() const {}
};

TestDisk::TestDisk(std::uint64_t size, std::uint32_t sector) : bytes(size) {
  properties_.size = size;
  properties_.logical_sector = sector;
  properties_.physical_sector = 4096;
  properties_.writable = true;
}

Result<> TestDisk::outcome() const {
  if (fails_with == 0) return {};
  return std::unexpected(Error::from_errno("the test's disk", fails_with));
}

disk::Task<Result<>> TestDisk::read(std::uint64_t offset, disk::Buffers buffers) {
  ++reads;
  co_await Turn{*this};
  if (auto done = outcome(); !done) co_return done;
  if (auto allowed = disk::check_request(*this, offset, disk::total_length(buffers)); !allowed) co_return allowed;
  for (const auto& piece : buffers) {
    std::memcpy(piece.iov_base, bytes.data() + offset, piece.iov_len);
    offset += piece.iov_len;
  }
  co_return Result<>();
}

disk::Task<Result<>> TestDisk::write(std::uint64_t offset, disk::Buffers buffers) {
  ++writes;
  co_await Turn{*this};
  if (auto done = outcome(); !done) co_return done;
  if (auto allowed = disk::check_request(*this, offset, disk::total_length(buffers)); !allowed) co_return allowed;
  for (const auto& piece : buffers) {
    std::memcpy(bytes.data() + offset, piece.iov_base, piece.iov_len);
    offset += piece.iov_len;
  }
  co_return Result<>();
}

disk::Task<Result<>> TestDisk::flush() {
  ++flushes;
  co_await Turn{*this};
  co_return outcome();
}

disk::Task<Result<>> TestDisk::zero(std::uint64_t offset, std::uint64_t length) {
  ++zeroings;
  co_await Turn{*this};
  if (auto done = outcome(); !done) co_return done;
  if (auto allowed = disk::check_request(*this, offset, length); !allowed) co_return allowed;
  std::fill_n(bytes.begin() + static_cast<std::ptrdiff_t>(offset), length, std::uint8_t{0});
  co_return Result<>();
}

disk::Task<Result<>> TestDisk::discard(std::uint64_t offset, std::uint64_t length) {
  ++discards;
  co_await Turn{*this};
  if (auto done = outcome(); !done) co_return done;
  co_return disk::check_request(*this, offset, length);
}

disk::Task<Result<disk::Extent>> TestDisk::query(std::uint64_t, std::uint64_t length) {
  co_return disk::Extent{length, disk::Content::data};
}

disk::Task<Result<>> TestDisk::close() {
  ++closes;
  co_return Result<>();
}

void TestDisk::release(std::size_t count) {
  const auto held = held_;
  for (; count > 0 && !held->empty(); --count) {
    const auto waiter = held->front();
    held->pop_front();
    waiter.resume();
  }
}

void TestHost::run() {
  while (!posted_.empty()) {
    const auto work = std::move(posted_.front());
    posted_.pop_front();
    work();
  }
}

void TestHost::pass(std::chrono::nanoseconds time) {
  const auto end = time_ + time;
  run();
  while (!timers_.empty() && timers_.begin()->first <= end) {
    time_ = std::max(time_, timers_.begin()->first);
    const auto work = std::move(timers_.begin()->second);
    timers_.erase(timers_.begin());
    work();
    run();
  }
  time_ = end;
}

}  // namespace bulkhead::vsp::storage
