// SPDX-License-Identifier: Apache-2.0
#include "worker/disk_loop.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <boost/asio/steady_timer.hpp>
#include <cerrno>

#include "worker/handover.hpp"

namespace bulkhead::worker {

Result<std::unique_ptr<DiskLoop>> DiskLoop::create(boost::asio::io_context& event_loop, std::mutex& machine_lock,
                                                   HostFull host_full) {
  auto ring = disk::Ring::create();
  if (!ring) return std::unexpected(ring.error());
  std::unique_ptr<DiskLoop> loop(new DiskLoop(event_loop, machine_lock, std::move(host_full), std::move(*ring)));
  // The ring closes its own descriptor, and Asio the one that it watches.
  const int watched = fcntl(loop->ring_->descriptor(), F_DUPFD_CLOEXEC, 0);
  if (watched < 0) return std::unexpected(Error::from_errno("cannot watch io_uring", errno));
  boost::system::error_code error;
  static_cast<void>(loop->readable_.assign(watched, error));
  if (error) {
    ::close(watched);
    return fail("cannot watch io_uring: " + error.message());
  }
  return loop;
}

DiskLoop::DiskLoop(boost::asio::io_context& event_loop, std::mutex& machine_lock, HostFull host_full,
                   std::unique_ptr<disk::Ring> ring)
    : event_loop_(event_loop),
      machine_lock_(machine_lock),
      host_full_(std::move(host_full)),
      ring_(std::move(ring)),
      readable_(event_loop) {}

void DiskLoop::post(std::function<void()> work) {
  Handover::post(event_loop_, [this, alive = std::weak_ptr<bool>(alive_), work = std::move(work)] {
    if (alive.expired()) return;
    work();
    poll();
  });
}

void DiskLoop::post_after(std::chrono::nanoseconds delay, std::function<void()> work) {
  auto timer = std::make_shared<boost::asio::steady_timer>(event_loop_, delay);
  timer->async_wait([this, timer, alive = std::weak_ptr<bool>(alive_),
                     work = std::move(work)](const boost::system::error_code& error) {
    if (error || alive.expired()) return;
    work();
    poll();
  });
}

std::chrono::nanoseconds DiskLoop::now() { return std::chrono::steady_clock::now().time_since_epoch(); }

void DiskLoop::host_is_full(std::string_view disk, std::string_view why) {
  host_full_(fmt::format("the host has no room for the disk '{}': {}", disk, why));
}

void DiskLoop::poll() {
  ring_->poll();
  if (ring_->in_flight() > 0) watch();
}

void DiskLoop::watch() {
  if (std::exchange(watching_, true)) return;
  readable_.async_wait(boost::asio::posix::stream_descriptor::wait_read,
                       [this, alive = std::weak_ptr<bool>(alive_)](const boost::system::error_code& error) {
                         if (error || alive.expired()) return;
                         watching_ = false;
                         poll();
                       });
}

}  // namespace bulkhead::worker
