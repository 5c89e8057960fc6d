// SPDX-License-Identifier: Apache-2.0
//
// An image that keeps its disk in blocks, each at a place of its own in the file or nowhere: what VHD and VHDX have in
// common.
//
//     request  |-------------------------|      read, write, zero, discard, query, flush       here
//              | of block 6 |  7  | of 8 |      cut where blocks meet, the parts side by side
//                    |         |      |
//               read_block  ... (BlockPart)     where a block lies, and what of it               vhd/, vhdx/
//                     \________|______/
//                  the file, or the parent
//
// Requests share a block through the gate; who changes where the block lies owns it meanwhile.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "disk/disk.hpp"
#include "disk/file/file.hpp"
#include "disk/synchronization.hpp"

namespace bulkhead::disk {

/// What of one request lies in one block: `length` bytes from `within` on.
struct BlockPart {
  std::uint64_t block;
  std::uint64_t within;
  std::uint64_t length;
};

class BlockDisk : public Disk {
 public:
  const Properties& properties() const final { return properties_; }
  const std::string& name() const final { return file_->name(); }
  Disk* parent() const final { return parent_.get(); }
  Task<Result<>> read(std::uint64_t offset, Buffers buffers) final;
  Task<Result<>> write(std::uint64_t offset, Buffers buffers) final;
  Task<Result<>> flush() final;
  Task<Result<>> zero(std::uint64_t offset, std::uint64_t length) final;
  Task<Result<>> discard(std::uint64_t offset, std::uint64_t length) final;
  Task<Result<Extent>> query(std::uint64_t offset, std::uint64_t length) final;

  /// Blocks from one on whose table entries are the same and have no place in the file; none if it has one, or if that is
  /// not known. One look at the table: there may be more of them.
  struct Absent {
    std::uint64_t blocks = 0;
    Content content = Content::hole;
  };
  virtual Task<Result<Absent>> absent_from(std::uint64_t block);

  /// What a differencing image lies on.
  void set_parent(std::unique_ptr<Disk> parent) { parent_ = std::move(parent); }
  /// The image's file, or what stands for it while the log of a read-only image is replayed in memory.
  File& file() { return *active_; }

 protected:
  /// A run of sectors of a block that are all in this image, or all in the parent.
  struct Run {
    std::uint64_t length;
    bool present;
  };

  explicit BlockDisk(std::unique_ptr<File> file) : file_(std::move(file)), active_(file_.get()) {}

  virtual Task<Result<>> read_block(BlockPart part, Buffers buffers) = 0;
  virtual Task<Result<>> write_block(BlockPart part, Buffers buffers) = 0;
  virtual Task<Result<>> zero_block(BlockPart part) = 0;
  virtual Task<Result<>> discard_block(BlockPart part) = 0;
  virtual Task<Result<Extent>> query_block(BlockPart part) = 0;
  /// The run of a differencing image's block that begins at the part; at most as long as that.
  virtual Task<Result<Run>> present_run(BlockPart part) = 0;
  /// Before a part of the disk's content changes, and again for each further block: an error if it cannot.
  virtual Task<Result<>> prepare_write() = 0;
  /// Makes everything durable; never called twice at once. After an error nothing more is written.
  virtual Task<Result<>> flush_now() = 0;

  /// The error of an image that cannot be changed: opened for reading, or broken.
  Result<> may_change() const;
  /// Of a block whose data lies at `place` of the file: the sectors that are there from there, others from the parent.
  Task<Result<>> read_mixed(BlockPart part, std::uint64_t place, Buffers buffers);
  Task<Result<>> read_parent(std::uint64_t offset, Buffers buffers);
  /// How much of a block that a larger disk newly shows lies over what the parent has, from the block's beginning.
  std::uint64_t over_parent(std::uint64_t block) const;
  std::unexpected<Error> damaged(std::string what) const;
  std::uint64_t block_size() const { return properties_.block != 0 ? properties_.block : properties_.size; }
  bool has_parent() const { return properties_.kind == Kind::differencing; }

  std::unique_ptr<File> file_;
  File* active_;
  Properties properties_;
  std::unique_ptr<Disk> parent_;
  Gate gate_;
  /// Why nothing can be written any more: after a failed write of tables nobody knows what the file holds.
  std::optional<Error> broken_;

 private:
  using Transfer = Task<Result<>> (BlockDisk::*)(BlockPart, Buffers);
  using Change = Task<Result<>> (BlockDisk::*)(BlockPart);
  BlockPart first_part(std::uint64_t offset, std::uint64_t length) const;
  Task<Result<>> for_each_block(std::uint64_t offset, Buffers buffers, Transfer transfer);
  Task<Result<>> change_each_block(std::uint64_t offset, std::uint64_t length, Change change);
  Task<Result<>> transfer_window(BlockPart part, std::vector<iovec> window, Transfer transfer);
  Task<Result<>> read_file_window(std::uint64_t offset, std::vector<iovec> window);
  Task<Result<>> read_parent_window(std::uint64_t offset, std::vector<iovec> window);

  Mutex flushing_;
  std::uint64_t flushes_asked_ = 0;
  std::uint64_t flushes_done_ = 0;
};

/// What of [offset, offset + length) of an image's file, where disk content lies, takes space: the run that begins at
/// `offset`, in whole sectors.
Task<Result<Extent>> query_stored(File& file, std::uint64_t offset, std::uint64_t length, std::uint32_t sector);

}  // namespace bulkhead::disk
