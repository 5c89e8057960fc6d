// SPDX-License-Identifier: Apache-2.0
//
// A machine as the control socket's commands see it.
#pragma once

#include <cstdint>
#include <functional>
#include <mutex>
#include <string>

#include "state/inspection.hpp"
#include "vsp/memory/dynamic_memory.hpp"
#include "worker/integration_services.hpp"
#include "worker/machine_storage.hpp"

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

  /// Gives the guest a disk or DVD drive, also while it runs. The attachment's descriptors are the machine's from then
  /// on, or closed. Gives its number on its bus. Errors: the machine has no VMBus, the place is taken, and those of the
  /// disk library: not an image of that format, in use by another program, not the parent that is meant.
  virtual Result<std::uint8_t> attach_disk(DiskAttachment disk) = 0;
  /// Takes the disk with that number on the SCSI controller from the guest, whether the guest has let go of it or not;
  /// what it still wrote is on the disk. `gone` is called on the event loop, here or later, when the image is closed.
  /// Error: there is no such disk.
  virtual Result<> detach_disk(std::uint8_t number, std::function<void(Result<>)> gone) = 0;
  /// Makes the disk with that number on the SCSI controller larger. Errors: there is none, it would lose something, and
  /// those of the disk library.
  virtual Result<> grow_disk(std::uint8_t number, std::uint64_t size) = 0;
  /// Changes what the disk with that number on the SCSI controller may do in a second. Error: there is no such disk.
  virtual Result<> set_disk_limits(std::uint8_t number, vsp::storage::Limits limits) = 0;

  /// The machine's lock, which everything of the following is used with.
  virtual std::unique_lock<std::mutex> hold() = 0;
  /// Null: the machine has no VMBus.
  virtual IntegrationServices* integration() = 0;
  /// Null: its memory does not change.
  virtual vsp::memory::DynamicMemory* dynamic_memory() = 0;
};

}  // namespace bulkhead::worker::control
