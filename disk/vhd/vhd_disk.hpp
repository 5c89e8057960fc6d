// SPDX-License-Identifier: Apache-2.0
//
// A VHD image as a Disk.
//
// VHD has no log, so a crash is survived by order alone. A new block goes behind the footer, with its bitmap written
// and the footer repeated behind it; a flush makes these durable before any BAT entry refers to them, and data durable
// before any bitmap says that it is there; then the tables are written in place (their 512-byte sectors are whole or
// not at all, and each entry stands for itself), and a second flush ends it. Where the footer at the end was lost, its
// copy at the beginning serves, and the first change writes it anew.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "disk/block_disk.hpp"
#include "disk/page_cache.hpp"
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

/// How the footer at the end and its copy at the beginning were found.
enum class FooterState {
  good,
  not_put_away,  // each that is there is valid, but the one at the end is missing or another one: what a crash leaves
  damaged,       // the copy is not valid
};

class VhdDisk final : public BlockDisk {
 public:
  static Task<Result<std::unique_ptr<VhdDisk>>> open(std::unique_ptr<File> file);

  Task<Result<>> close() override;

  const std::optional<ParentLocator>& locator() const { return locator_; }
  const Footer& footer() const { return footer_; }
  const DynamicHeader& header() const { return header_; }
  FooterState footer_state() const { return footer_state_; }
  std::uint64_t blocks() const { return blocks_; }
  /// Bytes that a block takes, with its bitmap.
  std::uint64_t place_length() const { return bitmap_length_ + properties_.block; }
  /// Where a block's bitmap is in the file; nothing if it is not there.
  Task<Result<std::optional<std::uint64_t>>> block_place(std::uint64_t block);
  Task<Result<Absent>> absent_from(std::uint64_t block) override;

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
  /// A part of the file that holds a block, or (kNoBlock) something else.
  struct Used {
    std::uint64_t offset;
    std::uint64_t length;
    std::uint64_t block;
    std::uint64_t end() const { return offset + length; }
  };
  static constexpr std::uint64_t kNoBlock = ~std::uint64_t{0};

  explicit VhdDisk(std::unique_ptr<File> file) : BlockDisk(std::move(file)) {}
  Task<Result<>> load();
  Task<Result<>> load_footer();
  Task<Result<>> load_header();
  Task<Result<>> load_locator();
  bool is_fixed() const { return properties_.kind == Kind::fixed; }

  Task<Result<>> read_block(BlockPart part, Buffers buffers) override;
  Task<Result<>> write_block(BlockPart part, Buffers buffers) override;
  Task<Result<>> zero_block(BlockPart part) override;
  Task<Result<>> discard_block(BlockPart part) override;
  Task<Result<Extent>> query_block(BlockPart part) override;
  Task<Result<Run>> present_run(BlockPart part) override;
  Task<Result<>> prepare_write() override;
  Task<Result<>> flush_now() override;

  Task<Result<>> repair_footers();
  Task<Result<>> allocate_block(std::uint64_t block);
  Task<Result<>> write_full_bitmap(std::uint64_t place);
  Task<Result<>> set_bits(std::uint64_t place, std::uint64_t within, std::uint64_t length);
  Task<Result<>> punch(BlockPart part);
  Task<Result<>> set_entry(std::uint64_t block, std::uint32_t sector);

  Task<Result<>> resize_fixed(std::uint64_t size);
  Task<Result<>> make_room_for_table(std::uint64_t entries);
  Task<Result<>> write_header(const DynamicHeader& header);
  Task<Result<>> write_footers(const Footer& footer);
  Task<Result<>> clear_entries(std::uint64_t first, std::uint64_t end);
  Task<Result<>> clear_last_block();
  Task<Result<>> hide_parent(std::uint64_t size);
  Task<Result<std::vector<Used>>> used_places();
  Task<Result<>> move_block(const Used& used, std::uint64_t target);
  Task<Result<>> cut_file(std::uint64_t end);
  std::uint64_t aligned_place(std::uint64_t at) const;

  Footer footer_{};
  DynamicHeader header_{};
  FooterState footer_state_ = FooterState::good;
  std::optional<ParentLocator> locator_;
  std::unique_ptr<PageCache> pages_;
  std::uint64_t blocks_ = 0;
  std::uint64_t bitmap_length_ = 0;
  std::uint64_t end_ = 0;  // where the footer is
  Mutex appending_;        // for what moves it
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
