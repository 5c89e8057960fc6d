// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <liburing.h>

#include <coroutine>
#include <cstdint>
#include <memory>

#include "error/error.hpp"

namespace bulkhead::disk {

/// An io_uring that resumes tasks. It belongs to one thread and to no executor: an event loop watches descriptor() for
/// reading and calls poll(); a program without a loop calls wait(). What tasks start between two such calls goes to the
/// kernel in one system call.
class Ring {
 public:
  /// `entries`: how many operations are handed over at once; any number may be in flight.
  static Result<std::unique_ptr<Ring>> create(unsigned entries = 256);
  ~Ring();
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;

  /// Readable when operations have completed.
  int descriptor() const { return ring_.ring_fd; }
  /// Hands over what was started, resumes tasks whose operations have completed, does not wait.
  void poll();
  /// Like poll(), but waits until at least one operation has completed. Nothing in flight: returns at once.
  void wait();
  std::uint64_t in_flight() const { return in_flight_; }

  /// One operation: `const int result = co_await ring.operation([&](io_uring_sqe* sqe) { io_uring_prep_...; });`
  /// The result is what the system call would give: a count, or minus errno.
  template <typename Prepare>
  class Operation;
  template <typename Prepare>
  Operation<Prepare> operation(Prepare prepare) {
    return Operation<Prepare>(*this, prepare);
  }

 private:
  struct Pending {
    std::coroutine_handle<> waiter;
    int result = 0;
  };

  Ring() = default;
  io_uring_sqe* next_entry();
  void dispatch();

  io_uring ring_{};
  std::uint64_t in_flight_ = 0;
};

template <typename Prepare>
class Ring::Operation {
 public:
  Operation(Ring& ring, Prepare prepare) : ring_(ring), prepare_(prepare) {}
  Operation(const Operation&) = delete;
  Operation& operator=(const Operation&) = delete;

  bool await_ready() const { return false; }
  void await_suspend(std::coroutine_handle<> waiter) {
    pending_.waiter = waiter;
    io_uring_sqe* sqe = ring_.next_entry();
    prepare_(sqe);
    io_uring_sqe_set_data(sqe, &pending_);
    ++ring_.in_flight_;
  }
  int await_resume() const { return pending_.result; }

 private:
  Ring& ring_;
  Prepare prepare_;
  Pending pending_;
};

}  // namespace bulkhead::disk
