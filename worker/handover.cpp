// SPDX-License-Identifier: Apache-2.0
#include "worker/handover.hpp"

#include <sys/eventfd.h>
#include <unistd.h>

#include <boost/asio/post.hpp>
#include <cerrno>
#include <cstdint>
#include <utility>

namespace bulkhead::worker {
namespace {

thread_local Handover::Visit* visit_of_this_thread = nullptr;

/// After so many lists in a row the event loop's other work has its turn.
constexpr unsigned kListsInARow = 8;

}  // namespace

Result<std::unique_ptr<Handover>> Handover::create(boost::asio::io_context& event_loop) {
  const int bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (bell < 0) return std::unexpected(Error::from_errno("cannot make an eventfd", errno));
  std::unique_ptr<Handover> handover(new Handover(event_loop, bell));
  handover->watch();
  return handover;
}

Handover::Visit::Visit(Handover& handover) : handover_(handover), outer_(std::exchange(visit_of_this_thread, this)) {}

Handover::Visit::~Visit() {
  visit_of_this_thread = outer_;
  if (to_wake_) handover_.wake();
}

void Handover::post(boost::asio::io_context& event_loop, Work work) {
  Visit* visit = visit_of_this_thread;
  if (visit != nullptr && &visit->handover_.event_loop_ == &event_loop) {
    if (visit->handover_.add(std::move(work))) visit->to_wake_ = true;
    return;
  }
  boost::asio::post(event_loop, std::move(work));
}

bool Handover::add(Work work) {
  const std::lock_guard lock(mutex_);
  list_.push_back(std::move(work));
  return list_.size() == 1;
}

void Handover::wake() {
  // It can only fail when the count is full, and then the loop is woken anyhow.
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(bell_.native_handle(), &one, sizeof one);
}

void Handover::watch() {
  bell_.async_wait(boost::asio::posix::stream_descriptor::wait_read,
                   [this, alive = std::weak_ptr<bool>(alive_)](const boost::system::error_code& error) {
                     if (error || alive.expired()) return;
                     carry_out();
                     if (!alive.expired()) watch();
                   });
}

void Handover::carry_out() {
  std::uint64_t count = 0;
  [[maybe_unused]] const ssize_t read = ::read(bell_.native_handle(), &count, sizeof count);
  const std::weak_ptr<bool> alive(alive_);
  // What the work posts in turn is the next list.
  Visit visit(*this);
  for (unsigned lists = 0; lists < kListsInARow; ++lists) {
    std::vector<Work> list;
    visit.to_wake_ = false;
    {
      const std::lock_guard lock(mutex_);
      list.swap(list_);
    }
    if (list.empty()) return;
    for (const auto& work : list) {
      work();
      if (!alive.expired()) continue;
      visit.to_wake_ = false;
      return;
    }
  }
}

}  // namespace bulkhead::worker
