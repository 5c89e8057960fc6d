// SPDX-License-Identifier: Apache-2.0
//
// The disk side of a machine's storage (vsp/storage/storage_host.hpp) on its event loop: one io_uring for all disks.
//
//   processors' threads ── post ──▶ event loop ──▶ work ──▶ ring: submit ──▶ kernel ◀──▶ guest memory
//                                       ▲                                      │
//                                       └────────── the ring is readable ◀─────┘
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "disk/file/ring.hpp"
#include "error/error.hpp"
#include "vsp/storage/storage_host.hpp"

namespace bulkhead::worker {

class DiskLoop final : public vsp::storage::StorageHost {
 public:
  using HostFull = std::function<void(std::string why)>;

  /// `host_full` is called on the event loop, without the lock. Error: the kernel has no io_uring for us.
  static Result<std::unique_ptr<DiskLoop>> create(boost::asio::io_context& event_loop, std::mutex& machine_lock,
                                                  HostFull host_full);

  disk::Ring& ring() { return *ring_; }

  std::mutex& bus_lock() override { return machine_lock_; }
  void post(std::function<void()> work) override;
  void post_after(std::chrono::nanoseconds delay, std::function<void()> work) override;
  std::chrono::nanoseconds now() override;
  void wait_for_progress() override { ring_->wait(); }
  void host_is_full(std::string_view disk, std::string_view why) override;

 private:
  DiskLoop(boost::asio::io_context& event_loop, std::mutex& machine_lock, HostFull host_full,
           std::unique_ptr<disk::Ring> ring);
  /// Hands over what was started, and goes on with what has ended.
  void poll();
  void watch();

  boost::asio::io_context& event_loop_;
  std::mutex& machine_lock_;
  HostFull host_full_;
  std::unique_ptr<disk::Ring> ring_;
  boost::asio::posix::stream_descriptor readable_;
  bool watching_ = false;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace bulkhead::worker
