// SPDX-License-Identifier: Apache-2.0
//
// A VHDX image as a Disk.
//
//   write to a new block:  place at the end of the file (zeros) -> data there -> BAT entry in the page cache -> flush:
//                          one log entry with all changed pages, one flush for it and all data
//
// Order, for crashes: what a BAT entry refers to is zeros before it is anything else (a fresh or scrubbed place), so
// the entry may become durable before the data. A sector bitmap's bit hides the parent's sector, so its data must be
// durable first: such changes raise a barrier, which costs the flush a second one.
//
// Concurrency: requests share a block through the gate; who changes where the block lies owns it meanwhile.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "disk/disk.hpp"
#include "disk/file/overlay_file.hpp"
#include "disk/page_cache.hpp"
#include "disk/synchronization.hpp"
#include "disk/vhdx/bat.hpp"
#include "disk/vhdx/header.hpp"
#include "disk/vhdx/log_writer.hpp"
#include "disk/vhdx/metadata.hpp"
#include "disk/vhdx/region_table.hpp"

namespace bulkhead::disk::vhdx {

class VhdxDisk final : public Disk {
 public:
  /// Opens for writing if the file is writable. An image that was not closed is recovered: in the file if it is
  /// writable, else in memory. The parent of a differencing image is given with set_parent().
  static Task<Result<std::unique_ptr<VhdxDisk>>> open(std::unique_ptr<File> file);

  const Properties& properties() const override { return properties_; }
  const std::string& name() const override { return file_->name(); }
  Disk* parent() const override { return parent_.get(); }
  Task<Result<>> read(std::uint64_t offset, Buffers buffers) override;
  Task<Result<>> write(std::uint64_t offset, Buffers buffers) override;
  Task<Result<>> flush() override;
  Task<Result<>> zero(std::uint64_t offset, std::uint64_t length) override;
  Task<Result<>> discard(std::uint64_t offset, std::uint64_t length) override;
  Task<Result<Extent>> query(std::uint64_t offset, std::uint64_t length) override;
  Task<Result<>> close() override;

  void set_parent(std::unique_ptr<Disk> parent) { parent_ = std::move(parent); }
  std::unique_ptr<Disk> take_parent() { return std::move(parent_); }

  const Metadata& metadata() const { return metadata_; }
  const Header& header() const { return headers_.current(); }
  const BatGeometry& geometry() const { return geometry_; }
  const RegionTable& regions() const { return regions_; }
  int valid_headers() const { return headers_.valid_copies(); }
  bool was_recovered() const { return recovered_; }
  File& file() { return *active_; }
  /// The BAT entry of a payload block; of a chunk's sector bitmap block.
  Task<Result<BatEntry>> payload_entry(std::uint64_t block);
  Task<Result<BatEntry>> bitmap_entry(std::uint64_t chunk);

  // What follows is for operations on the whole image, while no other request is under way.

  /// Replaces what the image says about its disk and its parent: all of it, or after a crash nothing.
  Task<Result<>> set_metadata(Metadata next);
  /// Changes the disk's size. When it shrinks, the blocks behind the new end go; the caller has looked at them.
  Task<Result<>> resize(std::uint64_t size);
  /// Turns a differencing image that hides all of its parent into a dynamic one.
  Task<Result<>> drop_parent();
  /// Moves blocks from the end of the file into gaps, and cuts the file. `progress(done, total)` in moved blocks;
  /// false stops between two blocks.
  Task<Result<>> compact(std::function<bool(std::uint64_t, std::uint64_t)> progress);
  /// A new identity of the content, as after a change; for a merge, which lets the child know it beforehand.
  Task<Result<>> set_data_write_guid(const Guid& guid);
  /// From now on writes leave the DataWriteGuid as it is.
  void keep_data_write_guid() { data_guid_renewed_ = true; }
  /// Writes both headers and both region tables anew.
  Task<Result<>> rewrite_headers();
  /// Marks a block whose entry cannot be right as not present.
  Task<Result<>> reset_entry(std::uint64_t table_index);

 private:
  enum class Bits { clear, set };
  /// A run of sectors of a block that are all in this image, or all in the parent.
  struct Run {
    std::uint64_t length;
    bool present;
  };
  struct Place {
    std::uint64_t offset;
    std::uint64_t length;
  };

  explicit VhdxDisk(std::unique_ptr<File> file) : file_(std::move(file)), active_(file_.get()) {}
  Task<Result<>> load();
  Task<Result<>> recover();
  Result<> check_layout() const;
  void set_properties();

  Task<Result<>> read_block(std::uint64_t block, std::uint64_t within, std::uint64_t length, Buffers buffers);
  Task<Result<>> read_slice(std::uint64_t block, std::uint64_t within, std::vector<iovec> window);
  Task<Result<>> read_mixed(std::uint64_t block, BatEntry entry, std::uint64_t within, std::uint64_t length,
                            Buffers buffers);
  Task<Result<>> read_parent(std::uint64_t offset, Buffers buffers);
  Task<Result<>> read_file_part(std::uint64_t offset, std::vector<iovec> window);
  Task<Result<>> read_parent_part(std::uint64_t offset, std::vector<iovec> window);

  Task<Result<>> prepare_change(bool of_data);
  Task<Result<>> write_block(std::uint64_t block, std::uint64_t within, std::uint64_t length, Buffers buffers);
  Task<Result<>> write_slice(std::uint64_t block, std::uint64_t within, std::vector<iovec> window);
  Task<Result<>> allocate_block(std::uint64_t block);
  Task<Result<>> mark_present(std::uint64_t block, std::uint64_t within, std::uint64_t length);
  Task<Result<>> zero_block(std::uint64_t block, std::uint64_t within, std::uint64_t length);
  Task<Result<>> zero_part(std::uint64_t block, std::uint64_t within, std::uint64_t length);
  Task<Result<>> discard_block(std::uint64_t block, std::uint64_t within, std::uint64_t length);
  Task<Result<>> release_block(std::uint64_t block, PayloadState state);
  Task<Result<Extent>> query_block(std::uint64_t block, std::uint64_t within, std::uint64_t length);

  Task<Result<std::uint64_t>> table_entry(std::uint64_t index);
  Task<Result<>> set_table_entry(std::uint64_t index, std::uint64_t raw);
  Task<Result<BatEntry>> checked_entry(std::uint64_t index, std::uint64_t raw, std::uint64_t length);
  Task<Result<std::uint64_t>> bitmap_place(std::uint64_t chunk, bool create);
  /// Where in the file the bit of a block's sector is; first the chunk's bitmap must have a place.
  std::uint64_t bit_number(std::uint64_t block, std::uint64_t within) const;
  Task<Result<Run>> bitmap_run(std::uint64_t block, std::uint64_t within, std::uint64_t length);
  Task<Result<bool>> change_bits(std::uint64_t block, std::uint64_t within, std::uint64_t length, Bits bits);

  Task<Result<>> stage_metadata(const Metadata& next);
  Task<Result<>> reload_metadata();
  Task<Result<>> stage_region_table(const RegionTable& table);
  Task<Result<>> clear_last_block();
  Task<Result<>> clear_behind(std::uint64_t size);
  Task<Result<>> move_table(std::uint64_t length);

  /// A part of the file that something refers to: a table entry, or for regions kNoEntry.
  struct Used {
    std::uint64_t offset;
    std::uint64_t length;
    std::uint64_t table_index;
  };
  static constexpr std::uint64_t kNoEntry = ~std::uint64_t{0};
  /// All of them by offset. Fails if two overlap.
  Task<Result<std::vector<Used>>> used_places();
  Task<Result<>> move_place(const Used& place, std::uint64_t target);
  Task<Result<>> commit_moves();
  Task<Result<>> cut_file(std::uint64_t end);

  Task<Result<std::uint64_t>> allocate(std::uint64_t length);
  Task<Result<>> flush_now();
  std::unexpected<Error> damaged(std::string what) const;
  std::uint64_t bat_end() const { return regions_.bat.offset + geometry_.entries * 8; }

  std::unique_ptr<File> file_;
  std::unique_ptr<OverlayFile> overlay_;
  File* active_;
  HeaderSection headers_;
  RegionTable regions_;
  Metadata metadata_;
  BatGeometry geometry_;
  Properties properties_;
  std::unique_ptr<Disk> parent_;
  std::unique_ptr<PageCache> pages_;
  std::unique_ptr<LogWriter> log_;
  bool recovered_ = false;

  Gate gate_;
  Mutex changing_;  // the first change of a session
  bool file_guid_renewed_ = false;
  bool data_guid_renewed_ = false;
  Mutex flushing_;
  std::uint64_t flushes_asked_ = 0;
  std::uint64_t flushes_done_ = 0;
  bool barrier_ = false;
  /// Why nothing can be written any more: after a failed write of tables nobody knows what the file holds.
  std::optional<Error> broken_;

  // Space: the end of what is given out, and places given back, on their way to being given out again: released, then
  // (no durable entry refers to it) scrubbed, then (the zeros are durable) free.
  std::uint64_t end_ = 0;
  std::vector<Place> released_;
  std::vector<Place> scrubbed_;
  std::vector<Place> free_;
};

/// What a new image is to be.
struct CreateOptions {
  std::uint64_t size = 0;
  Kind kind = Kind::dynamic;
  std::uint32_t block_size = 0;  // 0: 32 MiB, or 2 MiB if differencing
  std::uint32_t logical_sector = 512;
  std::uint32_t physical_sector = 4096;
  std::optional<ParentLocator> parent = std::nullopt;
  Guid identity = Guid::random();
};

/// Writes an empty image into `file`, which is empty. What becomes the file's size is durable at the end.
Task<Result<>> create(File& file, CreateOptions options);

}  // namespace bulkhead::disk::vhdx
