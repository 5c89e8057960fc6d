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
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "disk/block_disk.hpp"
#include "disk/file/overlay_file.hpp"
#include "disk/page_cache.hpp"
#include "disk/vhdx/bat.hpp"
#include "disk/vhdx/header.hpp"
#include "disk/vhdx/log_writer.hpp"
#include "disk/vhdx/metadata.hpp"
#include "disk/vhdx/region_table.hpp"

namespace bulkhead::disk::vhdx {

class VhdxDisk final : public BlockDisk {
 public:
  /// Opens for writing if the file is writable. An image that was not closed is recovered: in the file if it is
  /// writable, else in memory. The parent of a differencing image is given with set_parent().
  static Task<Result<std::unique_ptr<VhdxDisk>>> open(std::unique_ptr<File> file);

  Task<Result<>> close() override;

  const Metadata& metadata() const { return metadata_; }
  const Header& header() const { return headers_.current(); }
  const BatGeometry& geometry() const { return geometry_; }
  const RegionTable& regions() const { return regions_; }
  int valid_headers() const { return headers_.valid_copies(); }
  bool was_recovered() const { return recovered_; }
  /// The BAT entry of a payload block; of a chunk's sector bitmap block.
  Task<Result<BatEntry>> payload_entry(std::uint64_t block);
  Task<Result<BatEntry>> bitmap_entry(std::uint64_t chunk);
  Task<Result<Absent>> absent_from(std::uint64_t block) override;

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
  struct Place {
    std::uint64_t offset;
    std::uint64_t length;
  };

  explicit VhdxDisk(std::unique_ptr<File> file) : BlockDisk(std::move(file)) {}
  Task<Result<>> load();
  Task<Result<>> recover();
  Result<> check_layout() const;
  void set_properties();

  Task<Result<>> read_block(BlockPart part, Buffers buffers) override;
  Task<Result<>> write_block(BlockPart part, Buffers buffers) override;
  Task<Result<>> write_whole_block(std::uint64_t offset, Buffers buffers);
  Task<Result<>> zero_block(BlockPart part) override;
  Task<Result<>> discard_block(BlockPart part) override;
  Task<Result<Extent>> query_block(BlockPart part) override;
  Task<Result<Run>> present_run(BlockPart part) override;
  Task<Result<>> prepare_write() override { return prepare_change(true); }
  Task<Result<>> flush_now() override;

  Task<Result<>> prepare_change(bool of_data);
  Task<Result<>> allocate_block(std::uint64_t block);
  Task<Result<>> mark_present(BlockPart part);
  Task<Result<>> zero_part(BlockPart part);
  Task<Result<>> release_block(std::uint64_t block, PayloadState state);
  bool is_whole(BlockPart part) const;
  /// What a block without a place shows.
  Content content_of(PayloadState absent) const;

  /// A raw entry of the table; the first one only if its page is in memory.
  std::optional<std::uint64_t> entry_in_memory(std::uint64_t index);
  Task<Result<std::uint64_t>> table_entry(std::uint64_t index);
  Task<Result<>> set_table_entry(std::uint64_t index, std::uint64_t raw);
  Result<BatEntry> checked_entry(std::uint64_t index, std::uint64_t raw, std::uint64_t length) const;
  Task<Result<std::uint64_t>> bitmap_place(std::uint64_t chunk, bool create);
  /// Where in the file the bit of a block's sector is; first the chunk's bitmap must have a place.
  std::uint64_t bit_number(std::uint64_t block, std::uint64_t within) const;
  Task<Result<bool>> change_bits(BlockPart part, Bits bits);

  Task<Result<>> stage_metadata(const Metadata& next);
  Task<Result<>> reload_metadata();
  Task<Result<>> stage_region_table(const RegionTable& table);
  Task<Result<>> clear_last_block();
  Task<Result<>> prepare_entries(std::uint64_t blocks);
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

  std::unique_ptr<OverlayFile> overlay_;  // then it is the active file
  HeaderSection headers_;
  RegionTable regions_;
  Metadata metadata_;
  BatGeometry geometry_;
  std::unique_ptr<PageCache> pages_;
  std::unique_ptr<LogWriter> log_;
  bool recovered_ = false;

  Mutex changing_;  // the first change of a session
  bool file_guid_renewed_ = false;
  bool data_guid_renewed_ = false;
  bool barrier_ = false;

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
