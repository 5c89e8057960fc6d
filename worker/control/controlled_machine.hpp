// SPDX-License-Identifier: Apache-2.0
//
// A machine as the control socket's commands see it.
#pragma once

#include <cstdint>
#include <mutex>
#include <string>

#include "state/inspection.hpp"
#include "vsp/memory/dynamic_memory.hpp"
#include "worker/integration_services.hpp"

namespace bulkhead::worker::control {

struct MachineFacts {
  std::string name;
  std::string engine;
  std::uint32_t vp_count = 0;
  std::uint64_t memory_size = 0;  // at the start, bytes
  bool paused = false;
  std::uint64_t uptime_milliseconds = 0;  // since the guest's last start, less the pauses
  std::uint64_t restarts = 0;
};

/// All of it is called on the event loop's thread, without the machine's lock unless said otherwise.
class ControlledMachine {
 public:
  virtual ~ControlledMachine() = default;

  virtual MachineFacts facts() = 0;
  virtual void inspect(state::Inspection& node) = 0;

  /// Stops the processors and the clock, and lets them go on. Errors: paused already, not paused, ending.
  virtual Result<> pause() = 0;
  virtual Result<> resume() = 0;
  /// As pulling the plug, and as the reset button. The guest is not asked.
  virtual void turn_off() = 0;
  virtual void reset() = 0;

  /// The machine's lock, which everything of the following is used with.
  virtual std::unique_lock<std::mutex> hold() = 0;
  /// Null: the machine has no VMBus.
  virtual IntegrationServices* integration() = 0;
  /// Null: its memory does not change.
  virtual vsp::memory::DynamicMemory* dynamic_memory() = 0;
};

}  // namespace bulkhead::worker::control
