// SPDX-License-Identifier: Apache-2.0
// Reading and writing a VHD image.
#include <fmt/format.h>

#include <algorithm>

#include "disk/vhd/vhd_disk.hpp"

namespace bulkhead::disk::vhd {
namespace {

/// So many changed table sectors are written even if nobody asks for a flush.
constexpr std::size_t kMostDirtyPages = 4096;

}  // namespace

Task<Result<>> VhdDisk::read(std::uint64_t offset, Buffers buffers) {
  const auto length = total_length(buffers);
  if (auto allowed = check_request(*this, offset, length); !allowed) {
    co_return allowed;
  }
  if (is_fixed()) {
    co_return co_await file_->read(offset, buffers);
  }
  const std::uint64_t block = properties_.block;
  if (offset % block + length <= block) {
    co_return co_await read_block(offset / block, offset % block, length, buffers);
  }
  TaskGroup parts;
  for (std::uint64_t done = 0; done < length;) {
    const auto at = offset + done;
    const auto part = std::min(length - done, block - at % block);
    parts.add(read_slice(at / block, at % block, slice(buffers, done, part)));
    done += part;
  }
  co_return co_await parts.wait();
}

Task<Result<>> VhdDisk::read_slice(std::uint64_t block, std::uint64_t within, std::vector<iovec> window) {
  co_return co_await read_block(block, within, total_length(window), window);
}

Task<Result<>> VhdDisk::read_file_part(std::uint64_t offset, std::vector<iovec> window) {
  co_return co_await file_->read(offset, window);
}

Task<Result<>> VhdDisk::read_parent_part(std::uint64_t offset, std::vector<iovec> window) {
  co_return co_await read_parent(offset, window);
}

Task<Result<>> VhdDisk::read_parent(std::uint64_t offset, Buffers buffers) {
  if (!parent_) {
    co_return fail(fmt::format("'{}' was opened without its parent", name()));
  }
  co_return co_await read_padded(*parent_, offset, buffers);
}

Task<Result<>> VhdDisk::read_block(std::uint64_t block, std::uint64_t within, std::uint64_t length, Buffers buffers) {
  auto held = co_await gate_.share(block);
  auto place = co_await block_place(block);
  if (!place) {
    co_return std::unexpected(place.error());
  }
  if (*place) {
    // Of a dynamic disk's bitmap it does not matter what it says: a sector that was never written holds zeros.
    if (has_parent()) {
      co_return co_await read_mixed(block, **place, within, length, buffers);
    }
    co_return co_await file_->read(**place + bitmap_length_ + within, buffers);
  }
  if (has_parent()) {
    co_return co_await read_parent(block * properties_.block + within, buffers);
  }
  fill_zero(buffers, 0, length);
  co_return Result<>();
}

Task<Result<>> VhdDisk::read_mixed(std::uint64_t block, std::uint64_t place, std::uint64_t within, std::uint64_t length,
                                   Buffers buffers) {
  TaskGroup parts;
  Result<> found;
  for (std::uint64_t done = 0; done < length;) {
    const auto run = co_await bitmap_run(place, within + done, length - done);
    if (!run) {
      found = std::unexpected(run.error());
      break;
    }
    auto window = slice(buffers, done, run->length);
    if (run->present) {
      parts.add(read_file_part(place + bitmap_length_ + within + done, std::move(window)));
    } else {
      parts.add(read_parent_part(block * properties_.block + within + done, std::move(window)));
    }
    done += run->length;
  }
  auto read = co_await parts.wait();
  co_return found ? read : found;
}

/// In a VHD's bitmap the first sector is the highest bit of the first byte.
Task<Result<VhdDisk::Run>> VhdDisk::bitmap_run(std::uint64_t place, std::uint64_t within, std::uint64_t length) {
  auto bit = within / kSector;
  const auto start = bit;
  const auto end = (within + length) / kSector;
  std::optional<bool> present;
  while (bit < end) {
    const auto page = pages_->page_of(place + bit / 8);
    auto bytes = co_await pages_->load(page);
    if (!bytes) {
      co_return std::unexpected(bytes.error());
    }
    const auto page_end = std::min(end, (page - place + kSector) * 8);
    for (; bit < page_end; ++bit) {
      const auto byte = static_cast<unsigned>((*bytes)[place + bit / 8 - page]);
      const bool set = ((byte >> (7 - bit % 8)) & 1) != 0;
      if (present && *present != set) {
        co_return Run{(bit - start) * kSector, *present};
      }
      present = set;
    }
  }
  co_return Run{length, present.value_or(false)};
}

Task<Result<Extent>> VhdDisk::query(std::uint64_t offset, std::uint64_t length) {
  if (auto allowed = check_request(*this, offset, length); !allowed) {
    co_return std::unexpected(allowed.error());
  }
  if (is_fixed()) {
    co_return co_await query_file(offset, length);
  }
  constexpr int kMostBlocks = 4096;  // bounds the time of one call
  std::optional<Extent> run;
  for (int i = 0; i < kMostBlocks && length > 0; ++i) {
    const auto within = offset % properties_.block;
    const auto part = std::min(length, properties_.block - within);
    auto extent = co_await query_block(offset / properties_.block, within, part);
    if (!extent) {
      co_return run ? Result<Extent>(*run) : extent;
    }
    if (run && run->content != extent->content) {
      break;
    }
    run = run ? Extent{run->length + extent->length, run->content} : *extent;
    offset += extent->length;
    length -= extent->length;
    if (extent->length < part) {
      break;
    }
  }
  co_return run.value_or(Extent{0, Content::hole});
}

Task<Result<Extent>> VhdDisk::query_block(std::uint64_t block, std::uint64_t within, std::uint64_t length) {
  auto held = co_await gate_.share(block);
  auto place = co_await block_place(block);
  if (!place) {
    co_return std::unexpected(place.error());
  }
  if (!*place) {
    co_return Extent{length, has_parent() ? Content::parent : Content::hole};
  }
  if (has_parent()) {
    auto run = co_await bitmap_run(**place, within, length);
    if (!run) {
      co_return std::unexpected(run.error());
    }
    if (!run->present) {
      co_return Extent{run->length, Content::parent};
    }
    length = run->length;
  }
  co_return co_await query_file(**place + bitmap_length_ + within, length);
}

Task<Result<Extent>> VhdDisk::query_file(std::uint64_t offset, std::uint64_t length) {
  auto stored = co_await file_->query(offset, length);
  if (!stored) {
    co_return std::unexpected(stored.error());
  }
  if (stored->hole && stored->length < length) {
    const auto whole = stored->length / kSector * kSector;
    co_return whole > 0 ? Extent{whole, Content::hole} : Extent{kSector, Content::data};
  }
  co_return Extent{std::min(length, align_up(stored->length, kSector)), stored->hole ? Content::hole : Content::data};
}

Task<Result<>> VhdDisk::may_change() {
  if (broken_) {
    co_return std::unexpected(broken_->within("nothing can be written any more"));
  }
  if (!properties_.writable) {
    co_return fail(fmt::format("cannot write to '{}': it was opened for reading", name()));
  }
  if (pages_ && pages_->dirty() > kMostDirtyPages) {
    co_return co_await flush();
  }
  co_return Result<>();
}

Task<Result<>> VhdDisk::write(std::uint64_t offset, Buffers buffers) {
  const auto length = total_length(buffers);
  auto allowed = check_request(*this, offset, length);
  if (allowed) {
    allowed = co_await may_change();
  }
  if (!allowed) {
    co_return allowed;
  }
  if (is_fixed()) {
    co_return co_await file_->write(offset, buffers);
  }
  const std::uint64_t block = properties_.block;
  if (offset % block + length <= block) {
    co_return co_await write_block(offset / block, offset % block, length, buffers);
  }
  TaskGroup parts;
  for (std::uint64_t done = 0; done < length;) {
    const auto at = offset + done;
    const auto part = std::min(length - done, block - at % block);
    parts.add(write_slice(at / block, at % block, slice(buffers, done, part)));
    done += part;
  }
  co_return co_await parts.wait();
}

Task<Result<>> VhdDisk::write_slice(std::uint64_t block, std::uint64_t within, std::vector<iovec> window) {
  co_return co_await write_block(block, within, total_length(window), window);
}

Task<Result<>> VhdDisk::write_block(std::uint64_t block, std::uint64_t within, std::uint64_t length, Buffers buffers) {
  if (length == 0) {
    co_return Result<>();
  }
  auto allocated = co_await allocate_block(block);
  if (!allocated) {
    co_return allocated;
  }
  auto held = co_await gate_.share(block);
  auto place = co_await block_place(block);
  if (!place) {
    co_return std::unexpected(place.error());
  }
  auto written = co_await file_->write(**place + bitmap_length_ + within, buffers);
  if (written && has_parent()) {
    written = co_await set_bits(**place, within, length);
  }
  co_return written;
}

/// The next place at or after `at` whose data is aligned to 4 KiB.
std::uint64_t VhdDisk::aligned_place(std::uint64_t at) const {
  return align_up(at + bitmap_length_, 4 * kKiB) - bitmap_length_;
}

/// Blocks of a VHD are never taken back while it is in use, so one that is there stays.
Task<Result<>> VhdDisk::allocate_block(std::uint64_t block) {
  auto place = co_await block_place(block);
  if (!place || *place) {
    co_return place ? Result<>() : std::unexpected(place.error());
  }
  auto owned = co_await gate_.own(block);
  auto appending = co_await appending_.lock();
  place = co_await block_place(block);
  if (!place || *place) {
    co_return place ? Result<>() : std::unexpected(place.error());
  }
  // Behind the footer, which stays valid until the one behind the new block is.
  const auto target = aligned_place(end_ + kSector);
  const auto end = target + place_length();
  if (end / kSector >= kUnused) {
    co_return fail(fmt::format("'{}' is full: a VHD file has at most 2 TiB", name()));
  }
  auto done = co_await file_->resize(end + kSector);
  if (done) {
    done = co_await write_bytes(*file_, end, bytes_of(footer_));
  }
  if (done && !has_parent()) {
    done = co_await write_full_bitmap(target);
  }
  if (!done) {
    co_return done;
  }
  end_ = end;
  co_return co_await set_entry(block, static_cast<std::uint32_t>(target / kSector));
}

/// Other readers look at a dynamic disk's bitmap too, so it says that all sectors are there.
Task<Result<>> VhdDisk::write_full_bitmap(std::uint64_t place) {
  const std::vector<std::byte> ones(bitmap_length_, std::byte{0xff});
  co_return co_await write_bytes(*file_, place, ones);
}

Task<Result<>> VhdDisk::set_bits(std::uint64_t place, std::uint64_t within, std::uint64_t length) {
  auto bit = within / kSector;
  const auto end = (within + length) / kSector;
  while (bit < end) {
    const auto page = pages_->page_of(place + bit / 8);
    auto loaded = co_await pages_->load(page);
    if (!loaded) {
      co_return std::unexpected(loaded.error());
    }
    const auto page_end = std::min(end, (page - place + kSector) * 8);
    std::span<std::byte> writable;
    for (; bit < page_end; ++bit) {
      const auto index = place + bit / 8 - page;
      const auto mask = static_cast<std::byte>(0x80u >> (bit % 8));
      if (((*loaded)[index] & mask) == std::byte{0}) {
        if (writable.empty()) {
          writable = pages_->modify(page);
        }
        writable[index] |= mask;
      }
    }
  }
  co_return Result<>();
}

Task<Result<>> VhdDisk::zero(std::uint64_t offset, std::uint64_t length) {
  auto done = check_request(*this, offset, length);
  if (done) {
    done = co_await may_change();
  }
  if (done && is_fixed()) {
    co_return co_await file_->zero(offset, length, File::Zeroing::keep_space);
  }
  while (done && length > 0) {
    const auto within = offset % properties_.block;
    const auto part = std::min(length, properties_.block - within);
    done = co_await zero_block(offset / properties_.block, within, part, has_parent());
    offset += part;
    length -= part;
  }
  co_return done;
}

/// A VHD cannot take a block back, but a hole in the file below it takes no space either.
Task<Result<>> VhdDisk::discard(std::uint64_t offset, std::uint64_t length) {
  auto done = check_request(*this, offset, length);
  if (done) {
    done = co_await may_change();
  }
  while (done && length > 0 && !is_fixed()) {
    const auto within = offset % properties_.block;
    const auto part = std::min(length, properties_.block - within);
    done = co_await zero_block(offset / properties_.block, within, part, false);
    offset += part;
    length -= part;
  }
  co_return done;
}

Task<Result<>> VhdDisk::zero_block(std::uint64_t block, std::uint64_t within, std::uint64_t length, bool allocate) {
  if (allocate) {
    auto allocated = co_await allocate_block(block);
    if (!allocated) {
      co_return allocated;
    }
  }
  auto held = co_await gate_.share(block);
  auto place = co_await block_place(block);
  if (!place || !*place) {
    co_return place ? Result<>() : std::unexpected(place.error());
  }
  auto done = co_await file_->zero(**place + bitmap_length_ + within, length, File::Zeroing::give_space_back);
  if (done && has_parent()) {
    done = co_await set_bits(**place, within, length);
  }
  co_return done;
}

Task<Result<>> VhdDisk::flush() {
  if (broken_) {
    co_return std::unexpected(broken_->within("nothing can be written any more"));
  }
  if (!properties_.writable) {
    co_return Result<>();
  }
  const auto ticket = ++flushes_asked_;
  auto held = co_await flushing_.lock();
  if (flushes_done_ >= ticket) {
    co_return Result<>();  // one that began after this was asked for has ended
  }
  const auto covered = flushes_asked_;
  auto done = co_await flush_now();
  if (done) {
    flushes_done_ = covered;
  } else {
    broken_ = done.error();
  }
  co_return done;
}

Task<Result<>> VhdDisk::flush_now() {
  if (!pages_ || pages_->dirty() == 0) {
    co_return co_await file_->flush();
  }
  const auto taken = pages_->take_dirty(pages_->dirty());
  auto done = co_await file_->flush();  // what the tables are about to say must be true first
  if (done) {
    TaskGroup writes;
    for (const auto& page : taken) {
      writes.add(write_bytes(*file_, page.page, *page.content));
    }
    done = co_await writes.wait();
  }
  if (done) {
    done = co_await file_->flush();
  }
  for (const auto& page : taken) {
    pages_->release(page.page);
  }
  co_return done;
}

}  // namespace bulkhead::disk::vhd
