// SPDX-License-Identifier: Apache-2.0
//
// The storage of a machine: a SCSI controller on VMBus for up to 64 disks and DVD drives, which come and go as they
// like, and up to four IDE disks, which are there from the start.
//
//   DiskOption, descriptors ─▶ disk/chain ─▶ LogicalUnit ─▶ StorageController ─▶ Bus
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <string>

#include "engine/file_descriptor.hpp"
#include "vmbus/bus.hpp"
#include "vsp/storage/storage_controller.hpp"
#include "worker/disk_loop.hpp"
#include "worker/disk_option.hpp"
#include "worker/unit_tree.hpp"

namespace bulkhead::worker {

/// A disk that is to be attached. It owns its files: they are closed with it.
struct DiskAttachment {
  explicit DiskAttachment(DiskOption disk);

  DiskOption option;
  std::vector<engine::FileDescriptor> files;  // as option.files has them
};

/// All calls are made on the event loop's thread, without the machine's lock.
class MachineStorage {
 public:
  struct Settings {
    std::string machine;  // its name
    std::uint32_t vp_count = 1;
  };

  /// The event loop, the lock and the memory live longer. Error: no io_uring.
  static Result<std::unique_ptr<MachineStorage>> create(boost::asio::io_context& event_loop, std::mutex& machine_lock,
                                                        const engine::GuestMemory& memory, Settings settings,
                                                        DiskLoop::HostFull host_full);
  /// Closes what is not closed.
  ~MachineStorage();

  /// Opens the disk's files and gives it to the guest. Gives its number on its bus. Errors: those of the disk library;
  /// a place that is taken or cannot be; an IDE disk after `connect`.
  Result<std::uint8_t> attach(DiskAttachment disk);
  /// Takes the disk with that number from the SCSI controller; `gone` is called, here or later, when its image is closed.
  Result<> detach(std::uint8_t number, std::function<void(Result<>)> gone);
  /// Changes the limits of the disk with that number on the SCSI controller. Error: there is none.
  Result<> set_limits(std::uint8_t number, vsp::storage::Limits limits) { return scsi_->set_limits(number, limits); }
  /// Makes the disk with that number on the SCSI controller larger; the guest finds out at once. `running`: the machine is not
  /// paused. Holds up the event loop until it is done. Errors: there is no such disk, it is a DVD drive; those of
  /// DiskUnit::grow.
  Result<> grow(std::uint8_t number, std::uint64_t size, bool running);
  /// Offers the controllers on the bus, with their own channel numbers, and adds them to the units. Once, with the lock.
  Result<> connect(vmbus::Bus& bus, UnitTree& units);
  /// Closes all images, once nothing uses them any more. The first error; all are closed.
  Result<> close();

 private:
  using Controller = std::unique_ptr<vsp::storage::StorageController>;

  MachineStorage(const engine::GuestMemory& memory, Settings settings, std::unique_ptr<DiskLoop> loop);
  /// Lets everything come to its end that the SCSI controller's disks do, calls the function, and lets them go on.
  template <typename Function>
  Result<> between_commands(bool running, Function function);
  Result<std::unique_ptr<vsp::storage::LogicalUnit>> open(DiskAttachment disk, std::string_view place);
  Result<std::uint8_t> attach_to_scsi(DiskAttachment disk);
  Result<std::uint8_t> attach_to_ide(DiskAttachment disk);
  Result<> close(vsp::storage::StorageController& controller);

  const engine::GuestMemory& memory_;
  Settings settings_;
  std::unique_ptr<DiskLoop> loop_;
  Controller scsi_;
  std::array<Controller, 4> ide_;
  bool connected_ = false;
};

}  // namespace bulkhead::worker
