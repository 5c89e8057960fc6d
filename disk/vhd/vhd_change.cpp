// SPDX-License-Identifier: Apache-2.0
// Changing a VHD image as a whole: its size, its parent.
#include <fmt/format.h>

#include <algorithm>

#include "disk/vhd/vhd_disk.hpp"

namespace bulkhead::disk::vhd {

/// The footers differ between the two flushes; each of them fits the file at both times.
Task<Result<>> VhdDisk::write_footers(const Footer& footer) {
  auto sealed = footer;
  seal(sealed);
  Result<> done;
  if (!is_fixed()) {
    done = co_await write_bytes(*file_, 0, bytes_of(sealed));
    if (done) {
      done = co_await file_->flush();
    }
  }
  if (done) {
    done = co_await write_bytes(*file_, end_, bytes_of(sealed));
  }
  if (done) {
    done = co_await file_->flush();
  }
  if (done) {
    footer_ = sealed;
    footer_state_ = FooterState::good;
  }
  co_return done;
}

Task<Result<>> VhdDisk::rewrite_footers() {
  auto done = co_await prepare_write();
  if (done) {
    done = co_await write_footers(footer_);
  }
  co_return done;
}

/// Only the header's first sector changes: it holds all but the locators, which do not move here.
Task<Result<>> VhdDisk::write_header(const DynamicHeader& header) {
  auto sealed = header;
  seal(sealed);
  auto done = co_await write_bytes(*file_, footer_.data_offset, bytes_of(sealed));
  if (done) {
    done = co_await file_->flush();
  }
  if (done) {
    header_ = sealed;
  }
  co_return done;
}

Task<Result<>> VhdDisk::resize(std::uint64_t size) {
  if (size == 0 || size % kSector != 0 || size > kLargestDisk) {
    co_return fail(
        fmt::format("cannot make '{}' {} bytes: a VHD has whole sectors of 512 bytes, at most 2040 GiB", name(), size));
  }
  auto done = co_await prepare_write();
  if (done) {
    done = co_await flush();
  }
  if (!done) {
    co_return done;
  }
  if (is_fixed()) {
    co_return co_await resize_fixed(size);
  }
  const auto blocks = (size + properties_.block - 1) / properties_.block;
  // Behind the smaller disk's end the table says nothing; an interrupted resize may have left something there too.
  const auto from = std::min(blocks, blocks_);
  done = co_await clear_entries(from, std::min<std::uint64_t>(std::max(blocks, blocks_), header_.max_table_entries));
  if (done && size > properties_.size) {
    done = co_await clear_last_block();
  }
  if (done && blocks > header_.max_table_entries) {
    done = co_await make_room_for_table(blocks);
  }
  if (done && size > properties_.size) {
    done = co_await hide_parent(size);
  }
  if (done) {
    auto footer = footer_;
    set_size(footer, size);
    done = co_await write_footers(footer);
  }
  if (done) {
    properties_.size = size;
    blocks_ = blocks;
  }
  co_return done;
}

/// The footer at the end is the only one. It moves while nothing else changes; and the size that it tells changes in
/// place, when what is to be the disk's new end is zeros.
Task<Result<>> VhdDisk::resize_fixed(std::uint64_t size) {
  const auto old_size = properties_.size;
  const auto old_end = end_;
  Result<> done;
  if (size > end_) {
    done = co_await write_bytes(*file_, size, bytes_of(footer_));
    if (done) {
      done = co_await file_->flush();
    }
    if (done) {
      end_ = size;
    }
  }
  if (done && size > old_size) {
    done = co_await file_->zero(old_size, std::min(size, old_end + kSector) - old_size, File::Zeroing::keep_space);
    if (done) {
      done = co_await file_->flush();
    }
  }
  if (done) {
    auto footer = footer_;
    set_size(footer, size);
    done = co_await write_footers(footer);
  }
  if (done) {
    properties_.size = size;
    done = co_await cut_file(size);
  }
  co_return done;
}

/// A larger table goes to the end of the file; the header that names it is one sector.
Task<Result<>> VhdDisk::make_room_for_table(std::uint64_t entries) {
  const auto old_offset = std::uint64_t{header_.table_offset};
  const auto old_length = header_.max_table_entries * 4ull;
  const auto length = align_up(entries * 4, kSector);
  const auto target = end_ + kSector;
  std::vector<std::byte> table(length, std::byte{0xff});
  auto done = co_await read_bytes(*file_, old_offset, std::span(table).first(old_length));
  if (done) {
    done = co_await write_bytes(*file_, target, table);
  }
  if (done) {
    done = co_await write_bytes(*file_, target + length, bytes_of(footer_));
  }
  if (done) {
    done = co_await file_->flush();
  }
  if (!done) {
    co_return done;
  }
  end_ = target + length;
  auto header = header_;
  header.table_offset = target;
  header.max_table_entries = static_cast<std::uint32_t>(entries);
  done = co_await write_header(header);
  pages_->forget(old_offset, old_offset + old_length);
  co_return done;
}

Task<Result<>> VhdDisk::clear_entries(std::uint64_t first, std::uint64_t end) {
  for (auto block = first; block < end; ++block) {
    auto place = co_await block_place(block);
    // Of entries behind the end of the disk nobody has said yet that they are right.
    if (!place || *place) {
      auto set = co_await set_entry(block, kUnused);
      if (!set) {
        co_return set;
      }
    }
  }
  co_return co_await flush();
}

/// A differencing image that grows must not show what its parent holds there.
Task<Result<>> VhdDisk::hide_parent(std::uint64_t size) {
  Result<> done;
  for (auto at = properties_.size; done && at < size;) {
    const auto block = at / properties_.block;
    const auto within = at % properties_.block;
    const auto covered = align_up(over_parent(block), kSector);
    if (covered == 0) {
      break;
    }
    if (covered > within) {
      done = co_await zero_block({block, within, covered - within});
    }
    at = (block + 1) * properties_.block;
  }
  if (done) {
    done = co_await flush();
  }
  co_return done;
}

/// What lies behind the end of the disk in its last block becomes visible when it grows.
Task<Result<>> VhdDisk::clear_last_block() {
  const auto used = properties_.size % properties_.block;
  if (used == 0) {
    co_return Result<>();
  }
  auto place = co_await block_place(blocks_ - 1);
  if (!place || !*place) {
    co_return place ? Result<>() : std::unexpected(place.error());
  }
  co_return co_await file_->zero(**place + bitmap_length_ + used, properties_.block - used,
                                 File::Zeroing::give_space_back);
}

Task<Result<>> VhdDisk::reset_entry(std::uint64_t block) {
  auto done = co_await prepare_write();
  if (done) {
    done = co_await set_entry(block, kUnused);
  }
  co_return done;
}

/// The locators' texts go to the end of the file; then the header changes. It spans two sectors, so a copy of the new
/// one is made durable at the end first, and the footers name that copy.
Task<Result<>> VhdDisk::set_locator(const ParentLocator& locator) {
  auto done = co_await prepare_write();
  if (done) {
    done = co_await flush();
  }
  if (!done) {
    co_return done;
  }
  auto header = header_;
  const auto header_at = end_ + kSector;
  const auto texts_at = header_at + sizeof header;
  auto texts = place_locators(header, locator, texts_at);
  if (!texts) {
    co_return std::unexpected(texts.error());
  }
  seal(header);
  const auto end = texts_at + texts->size();
  done = co_await write_bytes(*file_, header_at, bytes_of(header));
  if (done && !texts->empty()) {
    done = co_await write_bytes(*file_, texts_at, *texts);
  }
  if (done) {
    done = co_await write_bytes(*file_, end, bytes_of(footer_));
  }
  if (done) {
    done = co_await file_->flush();
  }
  if (!done) {
    co_return done;
  }
  end_ = end;
  auto footer = footer_;
  footer.data_offset = header_at;
  done = co_await write_footers(footer);
  if (done) {
    header_ = header;
    locator_ = locator;
  }
  co_return done;
}

Task<Result<>> VhdDisk::drop_parent() {
  auto done = co_await flush();
  for (std::uint64_t block = 0; done && block < blocks_; ++block) {
    const auto start = block * properties_.block;
    const auto length = std::min<std::uint64_t>(properties_.block, properties_.size - start);
    for (std::uint64_t at = 0; at < length;) {
      auto extent = co_await query_block({block, at, length - at});
      if (!extent) {
        co_return std::unexpected(extent.error());
      }
      if (extent->content == Content::parent) {
        co_return fail(fmt::format("cannot cut '{}' off from its parent: it does not hold all of its content", name()));
      }
      at += extent->length;
    }
  }
  if (!done) {
    co_return done;
  }
  auto footer = footer_;
  footer.disk_type = static_cast<std::uint32_t>(DiskType::dynamic);
  done = co_await write_footers(footer);
  if (done) {
    // What the header still says of a parent means nothing now, and cannot go without the risk of a torn header.
    properties_.kind = Kind::dynamic;
    locator_.reset();
    parent_.reset();
  }
  co_return done;
}

}  // namespace bulkhead::disk::vhd
