// SPDX-License-Identifier: Apache-2.0
//
// A disk as SCSI sees it (SBC-3): a direct-access unit over a disk::Disk of any format.
//
//   READ, WRITE        guest memory ◀──▶ the image's file, by io_uring, without a copy
//   SYNCHRONIZE CACHE, FUA    return when the data is on the host's disk
//   UNMAP              gives space back; what is read there afterwards is zeros or what was there (LBPRZ 0)
//   WRITE SAME         zeros are a hole where the image can have one
#pragma once

#include <memory>

#include "vsp/storage/logical_unit.hpp"

namespace bulkhead::vsp::storage {

/// Of one UNMAP, and bytes of one WRITE SAME: both take the disk's time in one piece.
inline constexpr std::size_t kMaximumUnmapDescriptors = 256;
inline constexpr std::uint64_t kMaximumWriteSame = std::uint64_t{64} << 20;

class DiskUnit final : public LogicalUnit {
 public:
  /// `identity` is what the guest knows the disk by; most images have one of their own. A disk that is not writable, or
  /// `read_only`, is write-protected.
  DiskUnit(std::unique_ptr<disk::Disk> disk, disk::Guid identity, bool read_only);

  std::uint64_t bytes_moved(const ScsiCommand& command) const override;
  disk::Task<Result<>> close() override;
  const std::string& name() const override { return disk_->name(); }
  /// Makes the disk larger; no command of it is under way. Errors: it is write-protected, would become smaller, or would not
  /// end with a whole block; those of the image.
  disk::Task<Result<>> grow(std::uint64_t size);

 private:
  /// Blocks that a command is about.
  struct Extent {
    std::uint64_t first = 0;
    std::uint64_t count = 0;
  };
  enum class Forced : std::uint8_t { No, Yes };  // unit access: past all caches

  disk::Task<ScsiResult> perform(const ScsiCommand& command) override;
  std::span<const std::uint8_t> more_pages() const override;
  std::vector<std::uint8_t> vital_product_data(std::uint8_t page) const override;
  void on_reset() override { stopped_ = false; }
  void on_save(state::SavedUnit& unit) const override;
  void on_restore(state::SavedReader& reader) override;
  void on_inspect(state::Inspection& node) const override;

  disk::Task<ScsiResult> read(const ScsiCommand& command, Extent extent);
  disk::Task<ScsiResult> write(const ScsiCommand& command, Extent extent, Forced forced);
  disk::Task<ScsiResult> flush();
  disk::Task<ScsiResult> unmap(const ScsiCommand& command);
  disk::Task<ScsiResult> write_same(const ScsiCommand& command, Extent extent);
  disk::Task<ScsiResult> start_stop(const ScsiCommand& command);
  ScsiResult verify(const ScsiCommand& command, Extent extent) const;
  ScsiResult read_capacity_10(const ScsiCommand& command) const;
  ScsiResult service_action_in(const ScsiCommand& command) const;

  ScsiResult modes(const ScsiCommand& command) const;
  std::vector<std::uint8_t> block_limits() const;

  bool holds(Extent extent) const;
  std::uint64_t block_count() const { return disk_->properties().size / block_size(); }
  std::uint32_t block_size() const { return disk_->properties().logical_sector; }
  static ScsiResult host_failed(const Error& error, scsi::Sense sense);

  std::unique_ptr<disk::Disk> disk_;
  bool write_protected_;
  bool stopped_ = false;  // by START STOP UNIT
};

}  // namespace bulkhead::vsp::storage
