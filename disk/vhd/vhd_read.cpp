// SPDX-License-Identifier: Apache-2.0
// Reading a VHD image, and where its bytes are.
#include <algorithm>

#include "disk/vhd/vhd_disk.hpp"

namespace bulkhead::disk::vhd {

Task<Result<>> VhdDisk::read_block(BlockPart part, Buffers buffers) {
  if (is_fixed()) {
    co_return co_await file_->read(part.within, buffers);
  }
  auto held = co_await gate_.share(part.block);
  auto place = co_await block_place(part.block);
  if (!place) {
    co_return std::unexpected(place.error());
  }
  if (*place) {
    const auto data = **place + bitmap_length_;
    // Of a dynamic disk's bitmap it does not matter what it says: a sector that was never written holds zeros.
    if (has_parent()) {
      co_return co_await read_mixed(part, data, buffers);
    }
    co_return co_await file_->read(data + part.within, buffers);
  }
  if (has_parent()) {
    co_return co_await read_parent(part.block * properties_.block + part.within, buffers);
  }
  fill_zero(buffers, 0, part.length);
  co_return Result<>();
}

/// In a VHD's bitmap the first sector is the highest bit of the first byte.
Task<Result<VhdDisk::Run>> VhdDisk::present_run(BlockPart part) {
  auto place = co_await block_place(part.block);
  if (!place) {
    co_return std::unexpected(place.error());
  }
  if (!*place) {
    co_return Run{part.length, false};
  }
  const auto bitmap = **place;
  auto bit = part.within / kSector;
  const auto start = bit;
  const auto end = (part.within + part.length) / kSector;
  std::optional<bool> present;
  while (bit < end) {
    const auto page = pages_->page_of(bitmap + bit / 8);
    auto bytes = co_await pages_->load(page);
    if (!bytes) {
      co_return std::unexpected(bytes.error());
    }
    const auto page_end = std::min(end, (page - bitmap + kSector) * 8);
    for (; bit < page_end; ++bit) {
      const auto byte = static_cast<unsigned>((*bytes)[bitmap + bit / 8 - page]);
      const bool set = ((byte >> (7 - bit % 8)) & 1) != 0;
      if (present && *present != set) {
        co_return Run{(bit - start) * kSector, *present};
      }
      present = set;
    }
  }
  co_return Run{part.length, present.value_or(false)};
}

Task<Result<BlockDisk::Absent>> VhdDisk::absent_from(std::uint64_t block) {
  if (is_fixed()) {
    co_return Absent{};
  }
  const std::uint64_t table = header_.table_offset;
  const auto page = pages_->page_of(table + block * 4);
  auto bytes = co_await pages_->load(page);
  if (!bytes) {
    co_return std::unexpected(bytes.error());
  }
  const auto end = std::min(blocks_, (page + pages_->page_size() - table) / 4);
  auto last = block;
  while (last < end && disk::load<U32>(*bytes, table + last * 4 - page) == kUnused) {
    ++last;
  }
  co_return Absent{last - block, has_parent() ? Content::parent : Content::hole};
}

Task<Result<Extent>> VhdDisk::query_block(BlockPart part) {
  if (is_fixed()) {
    co_return co_await query_stored(*file_, part.within, part.length, static_cast<std::uint32_t>(kSector));
  }
  auto held = co_await gate_.share(part.block);
  auto place = co_await block_place(part.block);
  if (!place) {
    co_return std::unexpected(place.error());
  }
  if (!*place) {
    co_return Extent{part.length, has_parent() ? Content::parent : Content::hole};
  }
  if (has_parent()) {
    auto run = co_await present_run(part);
    if (!run) {
      co_return std::unexpected(run.error());
    }
    if (!run->present) {
      co_return Extent{run->length, Content::parent};
    }
    part.length = run->length;
  }
  co_return co_await query_stored(*file_, **place + bitmap_length_ + part.within, part.length,
                                  static_cast<std::uint32_t>(kSector));
}

}  // namespace bulkhead::disk::vhd
