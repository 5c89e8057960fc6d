// SPDX-License-Identifier: Apache-2.0
//
// The thread of one virtual processor: it runs the guest, hands each exit to the machine, and runs on. It waits for
// nothing but the guest itself and, for the length of a device access, the machine's lock.
#pragma once

#include <atomic>
#include <memory>
#include <thread>

#include "engine/engine.hpp"

namespace bulkhead::worker {

/// What the machine does with what a processor meets. Called from all processors' threads.
class ExitHandler {
 public:
  virtual ~ExitHandler() = default;
  /// Deals with an exit of the processor, which the caller is running. False: the processor shall not run on.
  virtual bool handle_exit(engine::VirtualProcessor& vp, const engine::Exit& exit) = 0;
  /// The engine gave up; the processor's thread ends.
  virtual void handle_engine_failure(engine::VirtualProcessor& vp, const Error& error) = 0;
};

class ProcessorThread {
 public:
  ProcessorThread(std::unique_ptr<engine::VirtualProcessor> vp, ExitHandler& handler);
  /// Stops it first.
  ~ProcessorThread();

  engine::VirtualProcessor& vp() { return *vp_; }

  /// Runs the processor on a new thread. Error: no thread to be had.
  Result<> start();
  /// From any thread: sees to it that the thread ends soon.
  void request_stop();
  /// Requests it, and returns when the thread has ended. Not from the thread itself, nor with the machine's lock.
  void stop();

 private:
  void run();

  std::unique_ptr<engine::VirtualProcessor> vp_;
  ExitHandler& handler_;
  std::atomic<bool> stop_requested_{false};
  std::thread thread_;
};

}  // namespace bulkhead::worker
