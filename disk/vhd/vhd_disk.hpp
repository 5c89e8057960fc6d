// SPDX-License-Identifier: Apache-2.0
//
// A VHD image as a Disk.
//
// VHD has no log, so a crash is survived by order alone. A new block goes behind the footer, with its bitmap written
// and the footer repeated behind it; a flush makes these durable before any BAT entry refers to them, and data durable
// before any bitmap says that it is there; then the tables are written in place (their 512-byte sectors are whole or
// not at all, and each entry stands for itself), and a second flush ends it. Where the footer at the end was lost, its
// copy at the beginning serves.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "disk/disk.hpp"
#include "disk/file/file.hpp"
#include "disk/page_cache.hpp"
#include "disk/synchronization.hpp"
#include "disk/vhd/footer.hpp"
#include "disk/vhd/layout.hpp"

namespace bulkhead::disk::vhd {

/// Where a differencing image says its parent is.
struct ParentLocator {
  Guid identity;  // the parent's unique id
  std::uint32_t timestamp = 0;
  std::string name;
  std::string relative_path;
  std::string absolute_path;
};

class VhdDisk final : public Disk {
 public:
  static Task<Result<std::unique_ptr<VhdDisk>>> open(std::unique_ptr<File> file);

  const Properties& properties() const override { return properties_; }
  const std::string& name() const override { return file_->name(); }
  Disk* parent() const override { return parent_.get(); }
  Task<Result<>> read(std::uint64_t offset, Buffers buffers) override;
  Task<Result<>> write(std::uint64_t offset, Buffers buffers) override;
  Task<Result<>> flush() override;
  Task<Result<>> zero(std::uint64_t offset, std::uint64_t length) override;
  Task<Result<>> discard(std::uint64_t offset, std::uint64_t length) override;
  Task<Result<Extent>> query(std::uint64_t offset, std::uint64_t length) override;
  Task<Result<>> close() override { return flush(); }

  void set_parent(std::unique_ptr<Disk> parent) { parent_ = std::move(parent); }
  std::unique_ptr<Disk> take_parent() { return std::move(parent_); }
  const std::optional<ParentLocator>& locator() const { return locator_; }
  const Footer& footer() const { return footer_; }
  const DynamicHeader& header() const { return header_; }
  /// The footer at the end is missing or differs from its copy at the beginning.
  bool footer_damaged() const { return footer_damaged_; }
  std::uint64_t blocks() const { return blocks_; }
  /// Bytes that a block takes, with its bitmap.
  std::uint64_t place_length() const { return bitmap_length_ + properties_.block; }
  File& file() { return *file_; }
  /// Where a block's bitmap is in the file; nothing if it is not there.
  Task<Result<std::optional<std::uint64_t>>> block_place(std::uint64_t block);

  // For operations on the whole image, while no other request is under way.

  /// Changes the disk's size. When it shrinks, what lies behind the new end goes; the caller has looked at it.
  Task<Result<>> resize(std::uint64_t size);
  Task<Result<>> compact(std::function<bool(std::uint64_t, std::uint64_t)> progress);
  Task<Result<>> set_locator(const ParentLocator& locator);
  Task<Result<>> drop_parent();
  /// Writes the footer at the end and its copy anew.
  Task<Result<>> rewrite_footers();
  Task<Result<>> reset_entry(std::uint64_t block);

 private:
  enum class Bits { clear, set };
  struct Run {
    std::uint64_t length;
    bool present;
  };
  /// A part of the file that holds a block, or (kNoBlock) something else.
  struct Used {
    std::uint64_t offset;
    std::uint64_t length;
    std::uint64_t block;
    std::uint64_t end() const { return offset + length; }
  };
  static constexpr std::uint64_t kNoBlock = ~std::uint64_t{0};

  explicit VhdDisk(std::unique_ptr<File> file) : file_(std::move(file)) {}
  Task<Result<>> load();
  Task<Result<>> load_footer();
  Task<Result<>> load_header();
  Task<Result<>> load_locator();
  bool is_fixed() const { return properties_.kind == Kind::fixed; }
  bool has_parent() const { return properties_.kind == Kind::differencing; }

  Task<Result<>> read_block(std::uint64_t block, std::uint64_t within, std::uint64_t length, Buffers buffers);
  Task<Result<>> read_slice(std::uint64_t block, std::uint64_t within, std::vector<iovec> window);
  Task<Result<>> read_mixed(std::uint64_t block, std::uint64_t place, std::uint64_t within, std::uint64_t length,
                            Buffers buffers);
  Task<Result<>> read_file_part(std::uint64_t offset, std::vector<iovec> window);
  Task<Result<>> read_parent_part(std::uint64_t offset, std::vector<iovec> window);
  Task<Result<>> read_parent(std::uint64_t offset, Buffers buffers);
  Task<Result<Run>> bitmap_run(std::uint64_t place, std::uint64_t within, std::uint64_t length);
  Task<Result<Extent>> query_block(std::uint64_t block, std::uint64_t within, std::uint64_t length);
  Task<Result<Extent>> query_file(std::uint64_t offset, std::uint64_t length);

  Task<Result<>> may_change();
  Task<Result<>> write_block(std::uint64_t block, std::uint64_t within, std::uint64_t length, Buffers buffers);
  Task<Result<>> write_slice(std::uint64_t block, std::uint64_t within, std::vector<iovec> window);
  Task<Result<>> allocate_block(std::uint64_t block);
  Task<Result<>> write_full_bitmap(std::uint64_t place);
  Task<Result<>> set_bits(std::uint64_t place, std::uint64_t within, std::uint64_t length);
  Task<Result<>> zero_block(std::uint64_t block, std::uint64_t within, std::uint64_t length, bool allocate);
  Task<Result<>> set_entry(std::uint64_t block, std::uint32_t sector);
  Task<Result<>> flush_now();

  Task<Result<>> resize_fixed(std::uint64_t size);
  Task<Result<>> make_room_for_table(std::uint64_t entries);
  Task<Result<>> write_header(const DynamicHeader& header);
  Task<Result<>> write_footers(const Footer& footer);
  Task<Result<>> clear_behind(std::uint64_t size);
  Task<Result<>> clear_last_block();
  Task<Result<std::vector<Used>>> used_places();
  Task<Result<>> move_block(const Used& used, std::uint64_t target);
  Task<Result<>> cut_file(std::uint64_t end);
  std::uint64_t aligned_place(std::uint64_t at) const;
  std::unexpected<Error> damaged(std::string what) const;

  std::unique_ptr<File> file_;
  Footer footer_{};
  DynamicHeader header_{};
  bool footer_damaged_ = false;
  Properties properties_;
  std::optional<ParentLocator> locator_;
  std::unique_ptr<Disk> parent_;
  std::unique_ptr<PageCache> pages_;
  std::uint64_t blocks_ = 0;
  std::uint64_t bitmap_length_ = 0;
  std::uint64_t end_ = 0;  // where the footer is

  Gate gate_;
  Mutex appending_;
  Mutex flushing_;
  std::uint64_t flushes_asked_ = 0;
  std::uint64_t flushes_done_ = 0;
  std::optional<Error> broken_;
};

struct CreateOptions {
  std::uint64_t size = 0;
  Kind kind = Kind::dynamic;
  std::uint32_t block_size = 0;  // 0: 2 MiB
  /// Round the size up to whole mebibytes, as Azure demands.
  bool azure = false;
  std::optional<ParentLocator> parent = std::nullopt;
  Guid identity = Guid::random();
};

/// Writes an empty image into `file`, which is empty.
Task<Result<>> create(File& file, CreateOptions options);
/// The locators of `parent`, entered into `header`; their texts go to `offset` of the file.
Result<std::vector<std::byte>> place_locators(DynamicHeader& header, const ParentLocator& parent, std::uint64_t offset);

}  // namespace bulkhead::disk::vhd
