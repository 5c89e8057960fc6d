// SPDX-License-Identifier: Apache-2.0
// Changing what a VHD image holds.
#include <fmt/format.h>

#include <algorithm>

#include "disk/vhd/vhd_disk.hpp"

namespace bulkhead::disk::vhd {
namespace {

/// So many changed table sectors are written even if nobody asks for a flush.
constexpr std::size_t kMostDirtyPages = 4096;

}  // namespace

Task<Result<>> VhdDisk::prepare_write() {
  if (auto allowed = may_change(); !allowed) {
    co_return allowed;
  }
  if (footer_state_ != FooterState::good) {
    auto repaired = co_await repair_footers();
    if (!repaired) {
      co_return repaired;
    }
  }
  if (pages_ && pages_->dirty() > kMostDirtyPages) {
    co_return co_await flush();
  }
  co_return Result<>();
}

Task<Result<>> VhdDisk::repair_footers() {
  auto held = co_await appending_.lock();
  if (footer_state_ == FooterState::good) {
    co_return Result<>();
  }
  co_return co_await write_footers(footer_);
}

Task<Result<>> VhdDisk::write_block(BlockPart part, Buffers buffers) {
  if (is_fixed()) {
    co_return co_await file_->write(part.within, buffers);
  }
  auto allocated = co_await allocate_block(part.block);
  if (!allocated) {
    co_return allocated;
  }
  auto held = co_await gate_.share(part.block);
  auto place = co_await block_place(part.block);
  if (!place) {
    co_return std::unexpected(place.error());
  }
  auto written = co_await file_->write(**place + bitmap_length_ + part.within, buffers);
  if (written && has_parent()) {
    written = co_await set_bits(**place, part.within, part.length);
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

Task<Result<>> VhdDisk::zero_block(BlockPart part) {
  if (is_fixed()) {
    co_return co_await file_->zero(part.within, part.length, File::Zeroing::keep_space);
  }
  if (has_parent()) {
    auto allocated = co_await allocate_block(part.block);
    if (!allocated) {
      co_return allocated;
    }
  }
  co_return co_await punch(part);
}

/// A VHD cannot take a block back, but a hole in the file below it takes no space either.
Task<Result<>> VhdDisk::discard_block(BlockPart part) {
  if (is_fixed()) {
    co_return Result<>();
  }
  co_return co_await punch(part);
}

Task<Result<>> VhdDisk::punch(BlockPart part) {
  auto held = co_await gate_.share(part.block);
  auto place = co_await block_place(part.block);
  if (!place || !*place) {
    co_return place ? Result<>() : std::unexpected(place.error());
  }
  auto done = co_await file_->zero(**place + bitmap_length_ + part.within, part.length, File::Zeroing::give_space_back);
  if (done && has_parent()) {
    done = co_await set_bits(**place, part.within, part.length);
  }
  co_return done;
}

Task<Result<>> VhdDisk::flush_now() {
  if (!pages_ || pages_->dirty() == 0) {
    co_return co_await file_->flush();
  }
  const auto taken = pages_->take_dirty();
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

/// An image that a crash has left without its footer at the end gets it back.
Task<Result<>> VhdDisk::close() {
  if (properties_.writable && footer_state_ != FooterState::good && !broken_) {
    auto repaired = co_await repair_footers();
    if (!repaired) {
      co_return repaired;
    }
  }
  co_return co_await flush();
}

}  // namespace bulkhead::disk::vhd
