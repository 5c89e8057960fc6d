// SPDX-License-Identifier: Apache-2.0
// Changing what a VHDX image holds.
#include <fmt/format.h>

#include <algorithm>

#include "disk/vhdx/vhdx_disk.hpp"

namespace bulkhead::disk::vhdx {
namespace {

/// So many changed pages are committed even if nobody asks for a flush; they cannot leave memory before.
constexpr std::size_t kMostDirtyPages = 512;
/// A new block that is written as a whole starts on its way to the disk in pieces of so many bytes, while the next piece is copied.
constexpr std::uint64_t kWrittenAtOnce = 512 * kKiB;

}  // namespace

/// Before anything in the file changes, the header says that somebody writes ([MS-VHDX] 2.2.2.1).
Task<Result<>> VhdxDisk::prepare_change(bool of_data) {
  if (auto allowed = may_change(); !allowed) {
    co_return allowed;
  }
  if (of_data && pages_->dirty() > kMostDirtyPages) {
    auto flushed = co_await flush();
    if (!flushed) {
      co_return flushed;
    }
  }
  if (file_guid_renewed_ && (data_guid_renewed_ || !of_data)) {
    co_return Result<>();
  }
  auto held = co_await changing_.lock();
  if (file_guid_renewed_ && (data_guid_renewed_ || !of_data)) {
    co_return Result<>();
  }
  auto done = co_await headers_.update(*active_, [this, of_data](Header& header) {
    if (!file_guid_renewed_) {
      header.file_write_guid = Guid::random();
    }
    if (of_data && !data_guid_renewed_) {
      header.data_write_guid = Guid::random();
    }
  });
  if (done) {
    file_guid_renewed_ = true;
    data_guid_renewed_ = data_guid_renewed_ || of_data;
  }
  co_return done;
}

Task<Result<>> VhdxDisk::write_whole_block(std::uint64_t offset, Buffers buffers) {
  TaskGroup under_way;
  Result<> written;
  const auto length = total_length(buffers);
  for (std::uint64_t done = 0; written && done < length; done += kWrittenAtOnce) {
    if (done > 0) {
      under_way.add(active_->begin_flush(offset + done - kWrittenAtOnce, kWrittenAtOnce));
    }
    const auto some = slice(buffers, done, std::min(kWrittenAtOnce, length - done));
    written = co_await active_->write(offset + done, some);
  }
  static_cast<void>(co_await under_way.wait());
  co_return written;
}

Task<Result<>> VhdxDisk::write_block(BlockPart part, Buffers buffers) {
  for (bool is_new = false;; is_new = true) {
    {
      auto held = co_await gate_.share(part.block);
      auto entry = co_await payload_entry(part.block);
      if (!entry) {
        co_return std::unexpected(entry.error());
      }
      if (entry->has_place()) {
        Result<> written;
        if (is_new && is_whole(part)) {
          written = co_await write_whole_block(entry->offset, buffers);
        } else {
          written = co_await active_->write(entry->offset + part.within, buffers);
        }
        if (written && entry->state == PayloadState::partially_present) {
          written = co_await mark_present(part);
        }
        co_return written;
      }
    }
    auto allocated = co_await allocate_block(part.block);
    if (!allocated) {
      co_return allocated;
    }
  }
}

/// The sectors' data is written; now the bitmap may say so, and become durable after them.
Task<Result<>> VhdxDisk::mark_present(BlockPart part) {
  barrier_ = true;
  if (part.length == geometry_.block_size) {
    const auto index = geometry_.payload_entry(part.block);
    auto raw = co_await table_entry(index);
    if (!raw) {
      co_return std::unexpected(raw.error());
    }
    auto entry = BatEntry::decode(*raw);
    barrier_ = true;
    entry.state = PayloadState::fully_present;
    co_return co_await set_table_entry(index, entry.encode());
  }
  auto changed = co_await change_bits(part, Bits::set);
  barrier_ = true;
  if (!changed) {
    co_return std::unexpected(changed.error());
  }
  co_return Result<>();
}

/// Gives a block that has none a place of zeros, over the parent's sectors if it shows them.
Task<Result<>> VhdxDisk::allocate_block(std::uint64_t block) {
  auto owned = co_await gate_.own(block);
  auto entry = co_await payload_entry(block);
  if (!entry || entry->has_place()) {
    co_return entry ? Result<>() : std::unexpected(entry.error());
  }
  const bool shows_parent = metadata_.has_parent && entry->state == PayloadState::not_present;
  if (shows_parent) {
    auto bitmap = co_await bitmap_place(geometry_.chunk_of(block), true);
    if (!bitmap) {
      co_return std::unexpected(bitmap.error());
    }
    auto cleared = co_await change_bits({block, 0, geometry_.block_size}, Bits::clear);
    if (!cleared) {
      co_return std::unexpected(cleared.error());
    }
    if (*cleared) {  // there were bits of somebody else: they must be gone before the block refers to them
      auto flushed = co_await flush();
      if (!flushed) {
        co_return flushed;
      }
    }
  }
  auto place = co_await allocate(geometry_.block_size);
  if (!place) {
    co_return std::unexpected(place.error());
  }
  const BatEntry made{shows_parent ? PayloadState::partially_present : PayloadState::fully_present, *place};
  co_return co_await set_table_entry(geometry_.payload_entry(block), made.encode());
}

Task<Result<std::uint64_t>> VhdxDisk::bitmap_place(std::uint64_t chunk, bool create) {
  auto entry = co_await bitmap_entry(chunk);
  if (!entry) {
    co_return std::unexpected(entry.error());
  }
  if (entry->has_place() || !create) {
    co_return entry->has_place() ? entry->offset : std::uint64_t{0};
  }
  // Blocks of one chunk share a bitmap: its number, out of the blocks' way, guards its making.
  auto owned = co_await gate_.own(geometry_.blocks + chunk);
  entry = co_await bitmap_entry(chunk);
  if (!entry || entry->has_place()) {
    co_return entry ? Result<std::uint64_t>(entry->offset) : std::unexpected(entry.error());
  }
  auto place = co_await allocate(kMiB);
  if (!place) {
    co_return place;
  }
  const BatEntry made{PayloadState::fully_present, *place};
  auto set = co_await set_table_entry(geometry_.bitmap_entry(chunk), made.encode());
  if (!set) {
    co_return std::unexpected(set.error());
  }
  co_return *place;
}

/// Whether any bit changed.
Task<Result<bool>> VhdxDisk::change_bits(BlockPart part, Bits bits) {
  auto place = co_await bitmap_place(geometry_.chunk_of(part.block), true);
  if (!place) {
    co_return std::unexpected(place.error());
  }
  auto bit = bit_number(part.block, part.within);
  const auto end = bit + part.length / metadata_.logical_sector;
  bool changed = false;
  while (bit < end) {
    const auto page = pages_->page_of(*place + bit / 8);
    auto loaded = co_await pages_->load(page);
    if (!loaded) {
      co_return std::unexpected(loaded.error());
    }
    const auto page_end = std::min(end, (page - *place + kLogSector) * 8);
    std::span<std::byte> writable;
    for (; bit < page_end; ++bit) {
      const auto index = *place + bit / 8 - page;
      const auto mask = static_cast<std::byte>(1u << (bit % 8));
      const auto old = (*loaded)[index];
      const auto next = bits == Bits::set ? old | mask : old & ~mask;
      if (next != old) {
        if (writable.empty()) {
          writable = pages_->modify(page);
        }
        writable[index] = next;
        changed = true;
      }
    }
  }
  co_return changed;
}

/// Whether it is all of a block, or of what the disk has of its last one.
bool VhdxDisk::is_whole(BlockPart part) const {
  return part.within == 0 &&
         part.length == std::min(geometry_.block_size, properties_.size - part.block * geometry_.block_size);
}

Task<Result<>> VhdxDisk::zero_block(BlockPart part) {
  auto entry = co_await payload_entry(part.block);
  if (!entry) {
    co_return std::unexpected(entry.error());
  }
  if (entry->state == PayloadState::zero || (entry->state == PayloadState::not_present && !has_parent())) {
    co_return Result<>();
  }
  const bool shows_parent = entry->state == PayloadState::not_present;
  // A block that was given up reads as zeros here, but others may give anything.
  if ((is_whole(part) && properties_.kind != Kind::fixed) || (!entry->has_place() && !shows_parent)) {
    co_return co_await release_block(part.block, PayloadState::zero);
  }
  if (shows_parent) {
    auto allocated = co_await allocate_block(part.block);
    if (!allocated) {
      co_return allocated;
    }
  }
  co_return co_await zero_part(part);
}

Task<Result<>> VhdxDisk::zero_part(BlockPart part) {
  auto held = co_await gate_.share(part.block);
  auto entry = co_await payload_entry(part.block);
  if (!entry || !entry->has_place()) {  // somebody discarded it meanwhile: it reads as zeros
    co_return entry ? Result<>() : std::unexpected(entry.error());
  }
  const auto zeroing = properties_.kind == Kind::fixed ? File::Zeroing::keep_space : File::Zeroing::give_space_back;
  auto done = co_await active_->zero(entry->offset + part.within, part.length, zeroing);
  if (done && entry->state == PayloadState::partially_present) {
    done = co_await mark_present(part);
  }
  co_return done;
}

Task<Result<>> VhdxDisk::discard_block(BlockPart part) {
  auto entry = co_await payload_entry(part.block);
  if (!entry || !entry->has_place() || properties_.kind == Kind::fixed) {
    co_return entry ? Result<>() : std::unexpected(entry.error());
  }
  if (is_whole(part)) {
    co_return co_await release_block(part.block, PayloadState::unmapped);
  }
  if (entry->state == PayloadState::fully_present) {
    co_return co_await zero_part(part);
  }
  co_return Result<>();
}

Task<Result<>> VhdxDisk::release_block(std::uint64_t block, PayloadState state) {
  auto owned = co_await gate_.own(block);
  auto entry = co_await payload_entry(block);
  if (!entry || entry->state == state) {
    co_return entry ? Result<>() : std::unexpected(entry.error());
  }
  auto set = co_await set_table_entry(geometry_.payload_entry(block), BatEntry{state, 0}.encode());
  if (set && entry->has_place()) {
    released_.push_back({entry->offset, geometry_.block_size});
  }
  co_return set;
}

/// A place of zeros, durably so unless nothing has ever been written there.
Task<Result<std::uint64_t>> VhdxDisk::allocate(std::uint64_t length) {
  const auto found = std::ranges::find(free_, length, &Place::length);
  if (found != free_.end()) {
    const auto offset = found->offset;
    free_.erase(found);
    co_return offset;
  }
  const auto offset = end_;
  end_ += length;
  auto grown = co_await active_->resize(std::max(end_, active_->size()));
  if (!grown) {
    co_return std::unexpected(grown.error());
  }
  co_return offset;
}

Task<Result<>> VhdxDisk::flush_now() {
  auto released = std::exchange(released_, {});
  auto scrubbed = std::exchange(scrubbed_, {});
  Result<> done;
  if (pages_->dirty() > 0) {
    done = co_await prepare_change(false);
    if (done) {
      done = co_await log_->commit(std::exchange(barrier_, false));
    }
  } else {
    done = co_await active_->flush();
  }
  if (!done) {
    co_return done;
  }
  free_.insert(free_.end(), scrubbed.begin(), scrubbed.end());
  for (const auto& place : released) {
    done = co_await active_->zero(place.offset, place.length, File::Zeroing::give_space_back);
    if (!done) {
      co_return done;
    }
    scrubbed_.push_back(place);
  }
  co_return done;
}

}  // namespace bulkhead::disk::vhdx
