// SPDX-License-Identifier: Apache-2.0
//
// A DVD drive (MMC-6) whose medium is an ISO image, or none. A disc up to the size of a CD is one.
//
//   empty ── insert ──▶ loaded ── eject: by the host, or START STOP UNIT (LoEj) unless the guest prevents removal ──▶ empty
//
// The guest learns of a change by a unit attention, and by GET EVENT STATUS NOTIFICATION, which its drivers poll.
#pragma once

#include <memory>

#include "vsp/storage/logical_unit.hpp"

namespace bulkhead::vsp::storage {

class DvdUnit final : public LogicalUnit {
 public:
  static constexpr std::uint32_t kSectorSize = 2048;

  /// `medium` may be null. Its logical sectors must be of 2048 bytes or smaller.
  DvdUnit(std::unique_ptr<disk::Disk> medium, disk::Guid identity);

  /// Puts a disc in. Error: there is one.
  Result<> insert(std::unique_ptr<disk::Disk> medium);
  /// Takes the disc out, whatever the guest says. Reads of it that are under way end as if it were still there.
  void eject();
  bool is_loaded() const { return medium_ != nullptr; }

  std::uint64_t bytes_moved(const ScsiCommand& command) const override;
  disk::Task<Result<>> close() override;
  const std::string& name() const override;

 private:
  enum class MediaEvent : std::uint8_t { None = 0, NewMedia = 2, MediaRemoval = 3 };

  disk::Task<ScsiResult> perform(const ScsiCommand& command) override;
  void on_reset() override { removal_prevented_ = false; }
  void on_save(state::SavedUnit& unit) const override;
  void on_restore(state::SavedReader& reader) override;
  void on_inspect(state::Inspection& node) const override;

  disk::Task<ScsiResult> read(const ScsiCommand& command, std::uint64_t first, std::uint64_t count);
  ScsiResult answer_without_medium(const ScsiCommand& command);
  ScsiResult answer_with_medium(const ScsiCommand& command) const;
  ScsiResult read_toc(const ScsiCommand& command) const;
  ScsiResult get_configuration(const ScsiCommand& command) const;
  ScsiResult get_event_status(const ScsiCommand& command);
  ScsiResult read_disc_information(const ScsiCommand& command) const;
  ScsiResult read_track_information(const ScsiCommand& command) const;
  ScsiResult read_dvd_structure(const ScsiCommand& command) const;
  ScsiResult start_stop(const ScsiCommand& command);

  std::uint64_t block_count() const { return medium_ ? medium_->properties().size / kSectorSize : 0; }
  bool is_cd() const;
  std::uint16_t profile() const;

  std::unique_ptr<disk::Disk> medium_;
  std::vector<std::unique_ptr<disk::Disk>> ejected_;  // until nobody reads them any more
  unsigned reads_under_way_ = 0;
  bool removal_prevented_ = false;
  MediaEvent event_ = MediaEvent::None;
};

}  // namespace bulkhead::vsp::storage
