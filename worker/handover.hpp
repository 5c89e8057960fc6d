// SPDX-License-Identifier: Apache-2.0
//
// Work that the threads of processors hand to the event loop.
//
//   processor's thread ── Visit, the machine's lock ──▶ a provider ── post ──▶ list
//                      ── lock released, end of Visit ──▶ eventfd ──▶ event loop ──▶ the list's work
//
// The loop is woken when the thread holds nothing any more. Woken before (Asio does it with its own lock held, and callers have the
// machine's), it could run at once, but only up to those locks.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "error/error.hpp"

namespace bulkhead::worker {

class Handover {
 public:
  using Work = std::function<void()>;

  /// The event loop lives longer. Error: the kernel has no eventfd for us.
  static Result<std::unique_ptr<Handover>> create(boost::asio::io_context& event_loop);
  /// Work that has not begun is forgotten.
  ~Handover() = default;
  Handover(const Handover&) = delete;
  Handover& operator=(const Handover&) = delete;

  /// While it lives, what its thread posts is gathered; its end wakes the event loop. To be made before the machine's lock is
  /// taken.
  class Visit {
   public:
    explicit Visit(Handover& handover);
    ~Visit();
    Visit(const Visit&) = delete;
    Visit& operator=(const Visit&) = delete;

   private:
    friend class Handover;
    Handover& handover_;
    Visit* outer_;  // of the same thread
    bool to_wake_ = false;
  };

  /// From any thread: `work` runs soon on the event loop, in the order of the calls of one thread.
  static void post(boost::asio::io_context& event_loop, Work work);

 private:
  Handover(boost::asio::io_context& event_loop, int eventfd) : event_loop_(event_loop), bell_(event_loop, eventfd) {}
  /// True: the event loop does not know yet that there is something.
  bool add(Work work);
  void wake();
  void watch();
  void carry_out();

  boost::asio::io_context& event_loop_;
  boost::asio::posix::stream_descriptor bell_;
  std::mutex mutex_;
  std::vector<Work> list_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace bulkhead::worker
