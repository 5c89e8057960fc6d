// SPDX-License-Identifier: Apache-2.0
#include "worker/processor_thread.hpp"

#include <fmt/format.h>
#include <pthread.h>
#include <sched.h>
#include <cerrno>
#include <csignal>
#include <system_error>

namespace bulkhead::worker {
namespace {

/// Signals of the process are the event loop's; a processor's thread takes only those that the engine sends it.
class SignalsBlocked {
 public:
  SignalsBlocked() {
    sigset_t signals;
    sigemptyset(&signals);
    for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGCHLD, SIGUSR1}) sigaddset(&signals, number);
    pthread_sigmask(SIG_BLOCK, &signals, &before_);
  }
  ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

 private:
  sigset_t before_;
};

}  // namespace

ProcessorThread::ProcessorThread(std::unique_ptr<engine::VirtualProcessor> vp, ExitHandler& handler)
    : vp_(std::move(vp)), handler_(handler) {}

ProcessorThread::~ProcessorThread() { stop(); }

Result<> ProcessorThread::start() {
  stop_requested_ = false;
  SignalsBlocked blocked;  // the new thread inherits it
  try {
    thread_ = std::thread([this] { run(); });
  } catch (const std::system_error& error) {
    return std::unexpected(
        Error::from_errno(fmt::format("cannot start the thread of processor {}", vp_->index()), error.code().value()));
  }
  pthread_setname_np(thread_.native_handle(), fmt::format("vp{}", vp_->index()).c_str());
  return {};
}

void ProcessorThread::request_stop() {
  stop_requested_ = true;
  vp_->cancel();
}

void ProcessorThread::stop() {
  if (!thread_.joinable()) return;
  request_stop();
  thread_.join();
}

void ProcessorThread::run() {
  // The event loop, from which it has inherited, gives way to others (worker/main.cpp); a guest that is woken wants to run now.
  const sched_param priority{};
  if (sched_getscheduler(0) == SCHED_BATCH) sched_setscheduler(0, SCHED_OTHER, &priority);
  while (!stop_requested_) {
    auto exit = vp_->run();
    if (!exit) {
      handler_.handle_engine_failure(*vp_, exit.error());
      return;
    }
    if (!handler_.handle_exit(*vp_, *exit)) return;
  }
}

}  // namespace bulkhead::worker
