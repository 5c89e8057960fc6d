// SPDX-License-Identifier: Apache-2.0
// Opening a VHD image, and its tables.
#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "disk/utf16.hpp"
#include "disk/vhd/vhd_disk.hpp"

namespace bulkhead::disk::vhd {
namespace {

constexpr std::size_t kCachedPages = 32768;  // 16 MiB: all tables of the largest VHD
constexpr std::uint64_t kLargestBlock = 256 * kMiB;
constexpr std::uint64_t kLargestLocator = 64 * kKiB;

}  // namespace

Task<Result<std::unique_ptr<VhdDisk>>> VhdDisk::open(std::unique_ptr<File> file) {
  std::unique_ptr<VhdDisk> disk(new VhdDisk(std::move(file)));
  auto loaded = co_await disk->load();
  if (!loaded) {
    co_return std::unexpected(loaded.error());
  }
  co_return std::move(disk);
}

Task<Result<>> VhdDisk::load() {
  auto loaded = co_await load_footer();
  if (!loaded) {
    co_return loaded;
  }
  properties_.format = Format::vhd;
  properties_.size = footer_.current_size;
  properties_.logical_sector = kSector;
  properties_.physical_sector = kSector;
  properties_.identity = Guid::from_big_endian(footer_.unique_id);
  properties_.writable = file_->writable();
  if (properties_.size == 0 || properties_.size % kSector != 0) {
    co_return damaged(fmt::format("its virtual disk size is {} bytes", properties_.size));
  }
  switch (static_cast<DiskType>(std::uint32_t{footer_.disk_type})) {
    case DiskType::fixed:
      properties_.kind = Kind::fixed;
      if (properties_.size > end_) {
        co_return damaged(fmt::format("its disk of {} bytes does not fit into the file", properties_.size));
      }
      co_return Result<>();
    case DiskType::dynamic: properties_.kind = Kind::dynamic; break;
    case DiskType::differencing: properties_.kind = Kind::differencing; break;
    default:
      co_return fail(
          fmt::format("'{}' is a VHD of a type that is not known here: {}", name(), std::uint32_t{footer_.disk_type}));
  }
  co_return co_await load_header();
}

Task<Result<>> VhdDisk::load_footer() {
  const auto size = file_->size();
  Footer last{};
  Footer first{};
  if (size < kSector) {
    co_return fail(fmt::format("'{}' is not a VHD file", name()));
  }
  auto read = co_await read_bytes(*file_, size - kSector, writable_bytes_of(last));
  if (read) {
    read = co_await read_bytes(*file_, 0, writable_bytes_of(first));
  }
  if (!read) {
    co_return read;
  }
  const bool fixed = static_cast<DiskType>(std::uint32_t{first.disk_type}) == DiskType::fixed;
  const bool have_first = is_valid(first) && !fixed;
  if (size % kSector == 0 && is_valid(last)) {
    footer_ = last;
    end_ = size - kSector;
    const bool has_copy = static_cast<DiskType>(std::uint32_t{last.disk_type}) != DiskType::fixed;
    const bool same = have_first && std::ranges::equal(bytes_of(first), bytes_of(last));
    footer_state_ = !has_copy || same ? FooterState::good
                    : have_first      ? FooterState::not_put_away
                                      : FooterState::damaged;
  } else if (have_first) {
    footer_ = first;
    end_ = align_up(size, kSector);
    footer_state_ = FooterState::not_put_away;
  } else {
    co_return fail(fmt::format("'{}' is not a VHD file", name()));
  }
  co_return Result<>();
}

Task<Result<>> VhdDisk::load_header() {
  const std::uint64_t offset = footer_.data_offset;
  if (offset % kSector != 0 || offset > end_ || end_ - offset < sizeof header_) {
    co_return damaged("its dynamic header lies outside of the file");
  }
  auto read = co_await read_bytes(*file_, offset, writable_bytes_of(header_));
  if (!read) {
    co_return read;
  }
  if (!is_valid(header_)) {
    co_return damaged("its dynamic header is not valid");
  }
  const std::uint64_t block = header_.block_size;
  if (!std::has_single_bit(block) || block < 8 * kSector || block > kLargestBlock) {
    co_return damaged(fmt::format("its block size is {} bytes", block));
  }
  const std::uint64_t table = header_.table_offset;
  const std::uint64_t table_length = std::uint64_t{header_.max_table_entries} * 4;
  if (table % kSector != 0 || table > end_ || table_length > end_ - table) {
    co_return damaged("its block table lies outside of the file");
  }
  blocks_ = (properties_.size + block - 1) / block;
  if (blocks_ > header_.max_table_entries) {
    co_return damaged(fmt::format("its table has {} blocks, and the disk needs {}",
                                  std::uint32_t{header_.max_table_entries}, blocks_));
  }
  properties_.block = static_cast<std::uint32_t>(block);
  bitmap_length_ = align_up(block / kSector / 8, kSector);
  pages_ = std::make_unique<PageCache>(*file_, static_cast<std::uint32_t>(kSector), 0, kCachedPages);
  if (has_parent()) {
    co_return co_await load_locator();
  }
  co_return Result<>();
}

Task<Result<>> VhdDisk::load_locator() {
  ParentLocator locator;
  locator.identity = Guid::from_big_endian(header_.parent_unique_id);
  locator.timestamp = header_.parent_timestamp;
  locator.name = utf8_from_utf16(header_.parent_name, std::endian::big);
  for (const auto& entry : header_.locators) {
    const std::uint32_t platform = entry.platform;
    const std::uint64_t offset = entry.offset;
    const std::uint64_t length = entry.length;
    if (platform != kPlatformAbsolute && platform != kPlatformRelative) {
      continue;
    }
    if (length > kLargestLocator || offset > file_->size() || length > file_->size() - offset) {
      co_return damaged("a parent locator lies outside of the file");
    }
    std::vector<std::byte> bytes(length);
    auto read = co_await read_bytes(*file_, offset, bytes);
    if (!read) {
      co_return read;
    }
    auto text = utf8_from_utf16(bytes, std::endian::little);
    (platform == kPlatformRelative ? locator.relative_path : locator.absolute_path) = std::move(text);
  }
  locator_ = std::move(locator);
  co_return Result<>();
}

Task<Result<std::optional<std::uint64_t>>> VhdDisk::block_place(std::uint64_t block) {
  const auto offset = header_.table_offset + block * 4;
  const auto page = pages_->page_of(offset);
  auto bytes = pages_->find(page);
  if (bytes.empty()) {
    auto loaded = co_await pages_->load(page);
    if (!loaded) {
      co_return std::unexpected(loaded.error());
    }
    bytes = *loaded;
  }
  const std::uint32_t sector = disk::load<U32>(bytes, offset - page);
  if (sector == kUnused) {
    co_return std::optional<std::uint64_t>();
  }
  const auto place = sector * kSector;
  const auto table = std::uint64_t{header_.table_offset};
  const auto table_end = table + header_.max_table_entries * 4ull;
  const auto header = std::uint64_t{footer_.data_offset};
  const auto end = place + place_length();
  if (place < kSector || end > align_up(file_->size(), kSector) || (place < table_end && end > table) ||
      (place < header + sizeof header_ && end > header)) {
    co_return damaged(fmt::format("block {} is said to be at {}, where no block can be", block, place));
  }
  co_return std::optional<std::uint64_t>(place);
}

Task<Result<>> VhdDisk::set_entry(std::uint64_t block, std::uint32_t sector) {
  const auto offset = header_.table_offset + block * 4;
  const auto page = pages_->page_of(offset);
  auto loaded = co_await pages_->load(page);
  if (!loaded) {
    co_return std::unexpected(loaded.error());
  }
  store(pages_->modify(page), offset - page, U32(sector));
  co_return Result<>();
}

}  // namespace bulkhead::disk::vhd
