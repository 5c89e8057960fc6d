// SPDX-License-Identifier: Apache-2.0
// Reading a VHDX image, and where its bytes are.
#include <fmt/format.h>

#include <algorithm>

#include "disk/vhdx/vhdx_disk.hpp"

namespace bulkhead::disk::vhdx {

Task<Result<>> VhdxDisk::read_block(BlockPart part, Buffers buffers) {
  auto held = co_await gate_.share(part.block);
  auto entry = co_await payload_entry(part.block);
  if (!entry) {
    co_return std::unexpected(entry.error());
  }
  switch (entry->state) {
    case PayloadState::fully_present: co_return co_await active_->read(entry->offset + part.within, buffers);
    case PayloadState::partially_present: co_return co_await read_mixed(part, entry->offset, buffers);
    case PayloadState::not_present:
      if (has_parent()) {
        co_return co_await read_parent(part.block * geometry_.block_size + part.within, buffers);
      }
      break;
    case PayloadState::undefined:
    case PayloadState::zero:
    case PayloadState::unmapped: break;
  }
  fill_zero(buffers, 0, part.length);
  co_return Result<>();
}

std::uint64_t VhdxDisk::bit_number(std::uint64_t block, std::uint64_t within) const {
  const auto block_in_chunk = block % geometry_.chunk_ratio;
  return (block_in_chunk * geometry_.block_size + within) / metadata_.logical_sector;
}

Task<Result<VhdxDisk::Run>> VhdxDisk::present_run(BlockPart part) {
  auto place = co_await bitmap_place(geometry_.chunk_of(part.block), false);
  if (!place) {
    co_return std::unexpected(place.error());
  }
  if (*place == 0) {
    co_return damaged(fmt::format("block {} needs a sector bitmap, and there is none", part.block));
  }
  const auto sector = metadata_.logical_sector;
  auto bit = bit_number(part.block, part.within);
  const auto end = bit + part.length / sector;
  const auto start = bit;
  std::optional<bool> present;
  while (bit < end) {
    const auto page = pages_->page_of(*place + bit / 8);
    auto bytes = co_await pages_->load(page);
    if (!bytes) {
      co_return std::unexpected(bytes.error());
    }
    const auto page_end = std::min(end, (page - *place + kLogSector) * 8);
    for (; bit < page_end; ++bit) {
      const auto byte = static_cast<unsigned>((*bytes)[*place + bit / 8 - page]);
      const bool set = ((byte >> (bit % 8)) & 1) != 0;
      if (present && *present != set) {
        co_return Run{(bit - start) * sector, *present};
      }
      present = set;
    }
  }
  co_return Run{(end - start) * sector, present.value_or(false)};
}

Content VhdxDisk::content_of(PayloadState absent) const {
  if (absent == PayloadState::zero) {
    return Content::zero;
  }
  return absent == PayloadState::not_present && has_parent() ? Content::parent : Content::hole;
}

/// Up to the end of the page of the table; a chunk ends with one.
Task<Result<BlockDisk::Absent>> VhdxDisk::absent_from(std::uint64_t block) {
  const auto table = regions_.bat.offset;
  const auto first = geometry_.payload_entry(block);
  const auto page = pages_->page_of(table + first * 8);
  auto bytes = co_await pages_->load(page);
  if (!bytes) {
    co_return std::unexpected(bytes.error());
  }
  const auto raw = [&](std::uint64_t index) {
    return std::uint64_t{disk::load<U64>(*bytes, table + index * 8 - page)};
  };
  const auto entry = checked_entry(first, raw(first), geometry_.block_size);
  if (!entry || entry->has_place()) {
    co_return Absent{};
  }
  const auto end = std::min({(page + kLogSector - table) / 8, geometry_.bitmap_entry(geometry_.chunk_of(block)),
                             geometry_.payload_entry(geometry_.blocks - 1) + 1});
  auto index = first + 1;
  while (index < end && raw(index) == raw(first)) {
    ++index;
  }
  co_return Absent{index - first, content_of(entry->state)};
}

Task<Result<Extent>> VhdxDisk::query_block(BlockPart part) {
  auto held = co_await gate_.share(part.block);
  auto entry = co_await payload_entry(part.block);
  if (!entry) {
    co_return std::unexpected(entry.error());
  }
  if (!entry->has_place()) {
    co_return Extent{part.length, content_of(entry->state)};
  }
  if (entry->state == PayloadState::partially_present) {
    auto run = co_await present_run(part);
    if (!run) {
      co_return std::unexpected(run.error());
    }
    if (!run->present) {
      co_return Extent{run->length, Content::parent};
    }
    part.length = run->length;
  }
  co_return co_await query_stored(*active_, entry->offset + part.within, part.length, metadata_.logical_sector);
}

}  // namespace bulkhead::disk::vhdx
