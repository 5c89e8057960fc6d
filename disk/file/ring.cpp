// SPDX-License-Identifier: Apache-2.0
#include "disk/file/ring.hpp"

#include <cerrno>

#include "disk/task.hpp"

namespace bulkhead::disk {

Result<std::unique_ptr<Ring>> Ring::create(unsigned entries) {
  std::unique_ptr<Ring> ring(new Ring);
  // Linux 5.19 and later need not interrupt this thread for each completion: poll() and wait() fetch them.
  int status = io_uring_queue_init(entries, &ring->ring_, IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG);
  if (status == -EINVAL) {
    status = io_uring_queue_init(entries, &ring->ring_, 0);
  }
  if (status < 0) {
    ring->ring_.ring_fd = -1;
    return std::unexpected(Error::from_errno("cannot set up io_uring", -status));
  }
  return ring;
}

Ring::~Ring() {
  if (ring_.ring_fd >= 0) {
    io_uring_queue_exit(&ring_);
  }
}

io_uring_sqe* Ring::next_entry() {
  for (;;) {
    if (auto* sqe = io_uring_get_sqe(&ring_)) {
      return sqe;
    }
    // The submission queue is full: hand it over. The kernel may refuse for a moment (EAGAIN, EBUSY) and has then
    // completions to give.
    if (io_uring_submit(&ring_) < 0) {
      dispatch();
    }
  }
}

void Ring::poll() {
  // What the resumed tasks start is handed over too: nothing else would come to do it.
  do {
    const int handed_over = io_uring_submit(&ring_);
    dispatch();
    if (handed_over < 0) return;  // the kernel has no room; the end of what is under way brings us back
  } while (io_uring_sq_ready(&ring_) > 0);
}

void Ring::wait() {
  if (in_flight_ == 0) {
    return;
  }
  io_uring_submit_and_wait(&ring_, 1);
  dispatch();
}

void Ring::dispatch() {
  constexpr unsigned kBatch = 64;
  io_uring_cqe* completed[kBatch];
  for (;;) {
    const unsigned count = io_uring_peek_batch_cqe(&ring_, completed, kBatch);
    if (count == 0) {
      return;
    }
    // A resumed task may start operations and even dispatch again: take the batch out of the queue first.
    Pending* pending[kBatch];
    for (unsigned i = 0; i < count; ++i) {
      pending[i] = static_cast<Pending*>(io_uring_cqe_get_data(completed[i]));
      pending[i]->result = completed[i]->res;
    }
    io_uring_cq_advance(&ring_, count);
    in_flight_ -= count;
    for (unsigned i = 0; i < count; ++i) {
      wake(pending[i]->waiter);
    }
  }
}

}  // namespace bulkhead::disk
