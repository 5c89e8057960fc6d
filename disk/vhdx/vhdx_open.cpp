// SPDX-License-Identifier: Apache-2.0
// Opening and closing a VHDX image, and its tables.
#include <fmt/format.h>

#include <algorithm>

#include "disk/vhdx/log_reader.hpp"
#include "disk/vhdx/vhdx_disk.hpp"

namespace bulkhead::disk::vhdx {
namespace {

/// 16 MiB of tables: the whole BAT of a 64 TB disk with 32 MiB blocks.
constexpr std::size_t kCachedPages = 4096;
constexpr std::uint64_t kLargestOverlay = 64 * kMiB;
/// The entries' places have 44 bits of mebibytes, which is more than a file can have.
constexpr std::uint64_t kLargestPlace = std::uint64_t{1} << 62;

}  // namespace

Task<Result<std::unique_ptr<VhdxDisk>>> VhdxDisk::open(std::unique_ptr<File> file) {
  std::unique_ptr<VhdxDisk> disk(new VhdxDisk(std::move(file)));
  auto loaded = co_await disk->load();
  if (!loaded) {
    co_return std::unexpected(loaded.error());
  }
  co_return std::move(disk);
}

Task<Result<>> VhdxDisk::load() {
  auto headers = co_await HeaderSection::load(*file_);
  if (!headers) {
    co_return std::unexpected(headers.error());
  }
  headers_ = std::move(*headers);
  if (!headers_.current().log_guid.is_zero()) {
    auto recovered = co_await recover();
    if (!recovered) {
      co_return recovered;
    }
  }
  auto regions = co_await RegionTable::load(*active_);
  if (!regions) {
    co_return std::unexpected(regions.error());
  }
  regions_ = std::move(*regions);
  auto metadata = co_await Metadata::load(*active_, regions_.metadata);
  if (!metadata) {
    co_return std::unexpected(metadata.error());
  }
  metadata_ = std::move(*metadata);
  geometry_ =
      BatGeometry::of(metadata_.disk_size, metadata_.block_size, metadata_.logical_sector, metadata_.has_parent);
  if (auto checked = check_layout(); !checked) {
    co_return checked;
  }
  set_properties();
  pages_ = std::make_unique<PageCache>(*active_, kLogSector, 0, kCachedPages);
  log_ = std::make_unique<LogWriter>(*active_, headers_, *pages_);
  end_ = align_up(active_->size(), kAlignment);
  co_return Result<>();
}

Task<Result<>> VhdxDisk::recover() {
  LogReader reader(*file_, headers_.current());
  recovered_ = true;
  if (!file_->writable()) {
    overlay_ = std::make_unique<OverlayFile>(*file_, kLargestOverlay);
    active_ = overlay_.get();
    co_return co_await reader.replay(*overlay_);
  }
  auto done = co_await reader.replay(*file_);
  if (done) {
    done = co_await file_->flush();
  }
  if (done) {
    file_guid_renewed_ = true;
    done = co_await headers_.update(*file_, [](Header& header) {
      header.log_guid = Guid{};
      header.file_write_guid = Guid::random();
    });
  }
  co_return done;
}

Result<> VhdxDisk::check_layout() const {
  if (geometry_.entries * 8 > regions_.bat.length) {
    return damaged(fmt::format("its BAT has room for {} blocks, and the disk needs {}", regions_.bat.length / 8,
                               geometry_.entries));
  }
  const Region log{headers_.current().log_offset, headers_.current().log_length};
  if (log.overlaps(regions_.bat.offset, regions_.bat.length) ||
      log.overlaps(regions_.metadata.offset, regions_.metadata.length)) {
    return damaged("its log overlaps other regions");
  }
  return {};
}

void VhdxDisk::set_properties() {
  properties_.format = Format::vhdx;
  properties_.kind = metadata_.has_parent               ? Kind::differencing
                     : metadata_.leave_blocks_allocated ? Kind::fixed
                                                        : Kind::dynamic;
  properties_.size = metadata_.disk_size;
  properties_.logical_sector = metadata_.logical_sector;
  properties_.physical_sector = metadata_.physical_sector;
  properties_.block = metadata_.block_size;
  properties_.identity = metadata_.page_83;
  properties_.writable = file_->writable();
}

std::optional<std::uint64_t> VhdxDisk::entry_in_memory(std::uint64_t index) {
  const auto offset = regions_.bat.offset + index * 8;
  const auto page = pages_->page_of(offset);
  const auto bytes = pages_->find(page);
  return bytes.empty() ? std::nullopt : std::optional<std::uint64_t>(disk::load<U64>(bytes, offset - page));
}

Task<Result<std::uint64_t>> VhdxDisk::table_entry(std::uint64_t index) {
  if (const auto raw = entry_in_memory(index)) {
    co_return *raw;
  }
  const auto offset = regions_.bat.offset + index * 8;
  const auto page = pages_->page_of(offset);
  auto loaded = co_await pages_->load(page);
  if (!loaded) {
    co_return std::unexpected(loaded.error());
  }
  co_return std::uint64_t{disk::load<U64>(*loaded, offset - page)};
}

Task<Result<>> VhdxDisk::set_table_entry(std::uint64_t index, std::uint64_t raw) {
  const auto offset = regions_.bat.offset + index * 8;
  const auto page = pages_->page_of(offset);
  auto loaded = co_await pages_->load(page);
  if (!loaded) {
    co_return std::unexpected(loaded.error());
  }
  store(pages_->modify(page), offset - page, U64(raw));
  co_return Result<>();
}

/// An entry that refers to a place outside of the file, or to one that holds tables, is not followed.
Result<BatEntry> VhdxDisk::checked_entry(std::uint64_t index, std::uint64_t raw, std::uint64_t length) const {
  const auto entry = BatEntry::decode(raw);
  if (static_cast<std::uint8_t>(entry.state) == 4 || static_cast<std::uint8_t>(entry.state) == 5) {
    return damaged(fmt::format("BAT entry {} has the unknown state {}", index, static_cast<int>(entry.state)));
  }
  if (!entry.has_place()) {
    return entry;
  }
  if (entry.offset < kMiB || entry.offset > kLargestPlace ||
      entry.offset + length > align_up(active_->size(), kAlignment)) {
    return damaged(fmt::format("BAT entry {} points to {}, outside of the file", index, entry.offset));
  }
  const Region place{entry.offset, length};
  const auto& header = headers_.current();
  if (place.overlaps(regions_.bat.offset, regions_.bat.length) ||
      place.overlaps(regions_.metadata.offset, regions_.metadata.length) ||
      place.overlaps(header.log_offset, header.log_length)) {
    return damaged(fmt::format("BAT entry {} points to {}, where tables are", index, entry.offset));
  }
  return entry;
}

Task<Result<BatEntry>> VhdxDisk::payload_entry(std::uint64_t block) {
  const auto index = geometry_.payload_entry(block);
  auto raw = entry_in_memory(index);
  if (!raw) {
    auto loaded = co_await table_entry(index);
    if (!loaded) {
      co_return std::unexpected(loaded.error());
    }
    raw = *loaded;
  }
  auto entry = checked_entry(index, *raw, geometry_.block_size);
  if (entry && entry->state == PayloadState::partially_present && !metadata_.has_parent) {
    co_return damaged(fmt::format("block {} is said to be in part in a parent, and there is none", block));
  }
  co_return entry;
}

Task<Result<BatEntry>> VhdxDisk::bitmap_entry(std::uint64_t chunk) {
  const auto index = geometry_.bitmap_entry(chunk);
  auto raw = co_await table_entry(index);
  if (!raw) {
    co_return std::unexpected(raw.error());
  }
  auto entry = checked_entry(index, *raw, kMiB);
  if (entry && entry->state != PayloadState::not_present && entry->state != PayloadState::fully_present) {
    co_return damaged(fmt::format("BAT entry {} has the unknown state {}", index, static_cast<int>(entry->state)));
  }
  co_return entry;
}

Task<Result<>> VhdxDisk::close() {
  if (!properties_.writable) {
    co_return Result<>();
  }
  auto done = co_await flush();
  if (done) {
    done = co_await log_->write_home();
  }
  if (done) {
    done = co_await log_->close();
  }
  co_return done;
}

}  // namespace bulkhead::disk::vhdx
