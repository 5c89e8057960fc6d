// SPDX-License-Identifier: Apache-2.0
//
// A logical unit: what answers SCSI commands at one address of a controller. This class has what all kinds share (SPC-4);
// what they are for is in disk_unit.hpp and dvd_unit.hpp.
//
//   execute ─▶ unit attention pending? ─▶ INQUIRY, REQUEST SENSE, PERSISTENT RESERVE … here
//                                      └▶ perform: READ, WRITE, READ CAPACITY …      the kind's own
//
// A unit belongs to the disk side (storage_host.hpp): everything here happens on one thread, and a command is a task
// that waits for the disk without holding the thread up.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "disk/disk.hpp"
#include "state/inspection.hpp"
#include "state/saved_state.hpp"
#include "vsp/storage/persistent_reservations.hpp"
#include "vsp/storage/scsi_command.hpp"

namespace bulkhead::vsp::storage {

class LogicalUnit {
 public:
  /// What the unit is called in INQUIRY data, the same for its life.
  struct Description {
    std::uint8_t device_type = scsi::kDirectAccess;
    bool removable = false;
    std::string product;  // at most 16 characters
    disk::Guid identity;  // pages 80 and 83
  };

  explicit LogicalUnit(Description description) : description_(std::move(description)) {}
  virtual ~LogicalUnit() = default;
  LogicalUnit(const LogicalUnit&) = delete;
  LogicalUnit& operator=(const LogicalUnit&) = delete;

  /// Carries a command out. The command stays where it is until the task has ended.
  disk::Task<ScsiResult> execute(const ScsiCommand& command);
  /// How many bytes of the disk the command would move: what limits are counted in. 0: it moves none.
  virtual std::uint64_t bytes_moved(const ScsiCommand& command) const = 0;

  /// The next command that is not exempt is told of this first.
  void raise(scsi::Sense attention);
  /// A bus, target or unit reset has ended all commands.
  void bus_reset();
  /// The machine was off.
  void power_on();
  /// Puts the disk away in order. Nothing comes after it.
  virtual disk::Task<Result<>> close() = 0;
  /// What it reads and writes, for messages.
  virtual const std::string& name() const = 0;

  state::SavedUnit save() const;
  Result<> restore(const state::SavedUnit& saved);
  void inspect(state::Inspection& node) const;

  const Description& description() const { return description_; }

 protected:
  /// Commands that are not answered here.
  virtual disk::Task<ScsiResult> perform(const ScsiCommand& command) = 0;
  /// The numbers of the pages that vital_product_data answers, besides 00, 80 and 83.
  virtual std::span<const std::uint8_t> more_pages() const { return {}; }
  virtual std::vector<std::uint8_t> vital_product_data(std::uint8_t page) const;
  virtual void on_reset() {}
  virtual void on_save(state::SavedUnit&) const {}
  virtual void on_restore(state::SavedReader&) {}
  virtual void on_inspect(state::Inspection&) const {}

 private:
  ScsiResult inquiry(const ScsiCommand& command) const;
  ScsiResult request_sense(const ScsiCommand& command);
  std::vector<std::uint8_t> device_identification() const;
  std::string serial_number() const;

  Description description_;
  std::vector<scsi::Sense> attentions_;  // each at most once
  PersistentReservations reservations_;
};

/// The answer of a controller to INQUIRY at an address where nothing is.
ScsiResult inquire_absent(const ScsiCommand& command);

}  // namespace bulkhead::vsp::storage
