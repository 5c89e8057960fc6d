// SPDX-License-Identifier: Apache-2.0
// Changing a VHDX image as a whole: what it says about itself, its size, its parent.
#include <fmt/format.h>

#include <algorithm>

#include "disk/vhdx/vhdx_disk.hpp"

namespace bulkhead::disk::vhdx {
namespace {

/// So many changed pages of the table are committed before more change.
constexpr std::size_t kMostStagedPages = 256;

}  // namespace

/// All pages that change go into one log entry, so that a crash leaves either the old metadata or the new.
Task<Result<>> VhdxDisk::set_metadata(Metadata next) {
  auto done = co_await prepare_change(false);
  if (done) {
    done = co_await flush();
  }
  if (!done) {
    co_return done;
  }
  done = co_await stage_metadata(next);
  if (done) {
    done = co_await flush();
  }
  if (done) {
    done = co_await reload_metadata();
  }
  co_return done;
}

Task<Result<>> VhdxDisk::stage_metadata(const Metadata& next) {
  const auto start = regions_.metadata.offset;
  std::vector<std::byte> current(metadata_.used_length());
  for (std::uint64_t at = 0; at < current.size(); at += kLogSector) {
    auto page = co_await pages_->load(start + at);
    if (!page) {
      co_return std::unexpected(page.error());
    }
    std::ranges::copy(*page, current.begin() + static_cast<std::ptrdiff_t>(at));
  }
  auto changed = next.changed_pages(current, regions_.metadata.length);
  if (!changed) {
    co_return std::unexpected(changed.error().within(fmt::format("cannot change '{}'", name())));
  }
  for (const auto& [offset, content] : *changed) {
    auto page = co_await pages_->load(start + offset);
    if (!page) {
      co_return std::unexpected(page.error());
    }
    std::ranges::copy(content, pages_->modify(start + offset).begin());
  }
  co_return Result<>();
}

Task<Result<>> VhdxDisk::reload_metadata() {
  auto home = co_await log_->write_home();
  if (!home) {
    co_return home;
  }
  auto metadata = co_await Metadata::load(*active_, regions_.metadata);
  if (!metadata) {
    co_return std::unexpected(metadata.error());
  }
  metadata_ = std::move(*metadata);
  geometry_ =
      BatGeometry::of(metadata_.disk_size, metadata_.block_size, metadata_.logical_sector, metadata_.has_parent);
  set_properties();
  co_return Result<>();
}

Task<Result<>> VhdxDisk::resize(std::uint64_t size) {
  if (size == 0 || size > kLargestDisk || size % metadata_.logical_sector != 0) {
    co_return fail(fmt::format("cannot make '{}' {} bytes: a VHDX has whole sectors of {} bytes, at most 64 TiB",
                               name(), size, metadata_.logical_sector));
  }
  auto done = co_await prepare_change(true);
  if (done) {
    done = size < properties_.size ? co_await clear_behind(size) : co_await clear_last_block();
  }
  if (done) {
    done = co_await flush();
  }
  if (!done) {
    co_return done;
  }
  auto next = metadata_;
  next.disk_size = size;
  const auto geometry = BatGeometry::of(size, metadata_.block_size, metadata_.logical_sector, metadata_.has_parent);
  const auto old_blocks = geometry_.blocks;
  if (geometry.entries * 8 > regions_.bat.length) {
    done = co_await move_table(align_up(geometry.entries * 8, kAlignment));
  }
  if (done) {
    done = co_await prepare_entries(geometry.blocks);
  }
  if (done) {
    done = co_await set_metadata(std::move(next));
  }
  for (auto block = old_blocks; done && properties_.kind == Kind::fixed && block < geometry_.blocks; ++block) {
    done = co_await allocate_block(block);
  }
  if (done) {
    done = co_await flush();
  }
  co_return done;
}

/// What lies behind the end of the disk in its last block becomes visible when it grows, in the image and below it.
Task<Result<>> VhdxDisk::clear_last_block() {
  const auto block = geometry_.blocks - 1;
  const auto used = properties_.size % geometry_.block_size;
  if (used == 0) {
    co_return Result<>();
  }
  auto entry = co_await payload_entry(block);
  if (!entry) {
    co_return std::unexpected(entry.error());
  }
  if (entry->state == PayloadState::not_present && over_parent(block) > used) {
    auto allocated = co_await allocate_block(block);
    if (!allocated) {
      co_return allocated;
    }
  }
  co_return co_await zero_part({block, used, geometry_.block_size - used});
}

/// The table's entries behind the end of the disk mean nothing until it grows; then its new blocks are empty, and hide
/// what the parent has there.
Task<Result<>> VhdxDisk::prepare_entries(std::uint64_t blocks) {
  Result<> done;
  for (auto block = geometry_.blocks; done && block < blocks; ++block) {
    const auto state = over_parent(block) > 0 ? PayloadState::zero : PayloadState::not_present;
    const auto index = geometry_.payload_entry(block);
    const auto old = co_await table_entry(index);
    if (!old) {
      co_return std::unexpected(old.error());
    }
    if (*old != BatEntry{state, 0}.encode()) {
      done = co_await set_table_entry(index, BatEntry{state, 0}.encode());
    }
    if (done && pages_->dirty() > kMostStagedPages) {
      done = co_await flush();
    }
  }
  co_return done;
}

Task<Result<>> VhdxDisk::clear_behind(std::uint64_t size) {
  const auto first = (size + geometry_.block_size - 1) / geometry_.block_size;
  for (auto block = first; block < geometry_.blocks;) {
    auto released = co_await release_block(block, PayloadState::not_present);
    const auto absent = co_await absent_from(block);
    block += absent ? std::max<std::uint64_t>(absent->blocks, 1) : 1;  // as this one is by now
    if (released && pages_->dirty() > kMostStagedPages) {
      released = co_await flush();
    }
    if (!released) {
      co_return released;
    }
  }
  co_return Result<>();
}

/// Gives the BAT a larger region at the end of the file. The copy is durable before one log entry makes both region
/// tables name it.
Task<Result<>> VhdxDisk::move_table(std::uint64_t length) {
  auto done = co_await flush();
  if (done) {
    done = co_await log_->write_home();
  }
  if (!done) {
    co_return done;
  }
  auto place = co_await allocate(length);
  if (!place) {
    co_return std::unexpected(place.error());
  }
  const auto old = regions_.bat;
  PageBuffer buffer(std::min<std::uint64_t>(old.length, kMiB));
  for (std::uint64_t at = 0; done && at < old.length; at += buffer.size()) {
    done = co_await read_bytes(*active_, old.offset + at, buffer);
    if (done) {
      done = co_await write_bytes(*active_, *place + at, buffer);
    }
  }
  if (done) {
    done = co_await active_->flush();
  }
  if (!done) {
    co_return done;
  }
  auto next = regions_;
  next.bat = {*place, length};
  for (auto& entry : next.entries) {
    if (entry.guid == kBatRegion) {
      entry.file_offset = *place;
      entry.length = static_cast<std::uint32_t>(length);
    }
  }
  done = co_await stage_region_table(next);
  if (done) {
    done = co_await flush();
  }
  if (done) {
    pages_->forget(old.offset, old.end());
    regions_ = std::move(next);
    done = co_await log_->write_home();
    released_.push_back({old.offset, old.length});
  }
  co_return done;
}

Task<Result<>> VhdxDisk::stage_region_table(const RegionTable& table) {
  const auto content = table.serialize();
  for (const auto start : kRegionTableOffsets) {
    for (std::uint64_t at = 0; at < content.size(); at += kLogSector) {
      auto page = co_await pages_->load(start + at);
      if (!page) {
        co_return std::unexpected(page.error());
      }
      const auto wanted = std::span(content).subspan(at, kLogSector);
      if (!std::ranges::equal(*page, wanted)) {
        std::ranges::copy(wanted, pages_->modify(start + at).begin());
      }
    }
  }
  co_return Result<>();
}

Task<Result<>> VhdxDisk::drop_parent() {
  auto done = co_await prepare_change(false);
  for (std::uint64_t block = 0; done && block < geometry_.blocks;) {
    auto entry = co_await payload_entry(block);
    if (!entry) {
      co_return std::unexpected(entry.error());
    }
    const auto start = block * geometry_.block_size;
    const auto length = std::min(geometry_.block_size, properties_.size - start);
    auto extent = co_await query(start, length);
    if (!extent) {
      co_return std::unexpected(extent.error());
    }
    if (extent->content == Content::parent) {
      co_return fail(fmt::format("cannot cut '{}' off from its parent: it does not hold all of its content", name()));
    }
    if (entry->state == PayloadState::partially_present) {
      auto run = co_await present_run({block, 0, length});
      if (!run || !run->present || run->length != length) {
        co_return fail(fmt::format("cannot cut '{}' off from its parent: it does not hold all of its content", name()));
      }
      done = co_await set_table_entry(geometry_.payload_entry(block),
                                      BatEntry{PayloadState::fully_present, entry->offset}.encode());
      barrier_ = true;
    }
    const auto absent = co_await absent_from(block);
    block += absent ? std::max<std::uint64_t>(absent->blocks, 1) : 1;
  }
  const auto chunks = (geometry_.blocks + geometry_.chunk_ratio - 1) / geometry_.chunk_ratio;
  if (done) {
    done = co_await flush();
  }
  for (std::uint64_t chunk = 0; done && chunk < chunks; ++chunk) {
    auto entry = co_await bitmap_entry(chunk);
    if (!entry) {
      co_return std::unexpected(entry.error());
    }
    if (entry->has_place()) {
      done = co_await set_table_entry(geometry_.bitmap_entry(chunk), 0);
    }
  }
  if (!done) {
    co_return done;
  }
  auto next = metadata_;
  next.has_parent = false;
  next.parent.reset();
  done = co_await set_metadata(std::move(next));
  if (done) {
    parent_.reset();
  }
  co_return done;
}

Task<Result<>> VhdxDisk::set_data_write_guid(const Guid& guid) {
  auto done = co_await headers_.update(*active_, [this, guid](Header& header) {
    if (!file_guid_renewed_) {
      header.file_write_guid = Guid::random();
    }
    header.data_write_guid = guid;
  });
  if (done) {
    file_guid_renewed_ = data_guid_renewed_ = true;
  }
  co_return done;
}

Task<Result<>> VhdxDisk::rewrite_headers() {
  auto done = co_await headers_.update(*active_, [](Header& header) { header.file_write_guid = Guid::random(); });
  if (done) {
    file_guid_renewed_ = true;
    done = co_await headers_.update(*active_, [](Header&) {});
  }
  if (done) {
    done = co_await stage_region_table(regions_);
  }
  if (done) {
    done = co_await flush();
  }
  co_return done;
}

Task<Result<>> VhdxDisk::reset_entry(std::uint64_t table_index) {
  auto done = co_await prepare_change(true);
  if (done) {
    done = co_await set_table_entry(table_index, 0);
  }
  co_return done;
}

}  // namespace bulkhead::disk::vhdx
