// SPDX-License-Identifier: Apache-2.0
// Reading a VHDX image, and where its bytes are.
#include <fmt/format.h>

#include <algorithm>

#include "disk/vhdx/vhdx_disk.hpp"

namespace bulkhead::disk::vhdx {

Task<Result<>> VhdxDisk::read(std::uint64_t offset, Buffers buffers) {
  const auto length = total_length(buffers);
  if (auto allowed = check_request(*this, offset, length); !allowed) {
    co_return allowed;
  }
  const auto within = offset % geometry_.block_size;
  if (within + length <= geometry_.block_size) {
    co_return co_await read_block(offset / geometry_.block_size, within, length, buffers);
  }
  TaskGroup parts;
  for (std::uint64_t done = 0; done < length;) {
    const auto at = offset + done;
    const auto part = std::min(length - done, geometry_.block_size - at % geometry_.block_size);
    parts.add(read_slice(at / geometry_.block_size, at % geometry_.block_size, slice(buffers, done, part)));
    done += part;
  }
  co_return co_await parts.wait();
}

Task<Result<>> VhdxDisk::read_slice(std::uint64_t block, std::uint64_t within, std::vector<iovec> window) {
  co_return co_await read_block(block, within, total_length(window), window);
}

Task<Result<>> VhdxDisk::read_file_part(std::uint64_t offset, std::vector<iovec> window) {
  co_return co_await active_->read(offset, window);
}

Task<Result<>> VhdxDisk::read_parent_part(std::uint64_t offset, std::vector<iovec> window) {
  co_return co_await read_parent(offset, window);
}

Task<Result<>> VhdxDisk::read_parent(std::uint64_t offset, Buffers buffers) {
  if (!parent_) {
    co_return fail(fmt::format("'{}' was opened without its parent", name()));
  }
  co_return co_await read_padded(*parent_, offset, buffers);
}

Task<Result<>> VhdxDisk::read_block(std::uint64_t block, std::uint64_t within, std::uint64_t length, Buffers buffers) {
  auto held = co_await gate_.share(block);
  auto entry = co_await payload_entry(block);
  if (!entry) {
    co_return std::unexpected(entry.error());
  }
  switch (entry->state) {
    case PayloadState::fully_present: co_return co_await active_->read(entry->offset + within, buffers);
    case PayloadState::partially_present: co_return co_await read_mixed(block, *entry, within, length, buffers);
    case PayloadState::not_present:
      if (metadata_.has_parent) {
        co_return co_await read_parent(block * geometry_.block_size + within, buffers);
      }
      break;
    case PayloadState::undefined:
    case PayloadState::zero:
    case PayloadState::unmapped: break;
  }
  fill_zero(buffers, 0, length);
  co_return Result<>();
}

Task<Result<>> VhdxDisk::read_mixed(std::uint64_t block, BatEntry entry, std::uint64_t within, std::uint64_t length,
                                    Buffers buffers) {
  TaskGroup parts;
  Result<> found;
  for (std::uint64_t done = 0; done < length;) {
    const auto run = co_await bitmap_run(block, within + done, length - done);
    if (!run) {
      found = std::unexpected(run.error());
      break;
    }
    auto window = slice(buffers, done, run->length);
    if (run->present) {
      parts.add(read_file_part(entry.offset + within + done, std::move(window)));
    } else {
      parts.add(read_parent_part(block * geometry_.block_size + within + done, std::move(window)));
    }
    done += run->length;
  }
  auto read = co_await parts.wait();
  co_return found ? read : found;
}

std::uint64_t VhdxDisk::bit_number(std::uint64_t block, std::uint64_t within) const {
  const auto block_in_chunk = block % geometry_.chunk_ratio;
  return (block_in_chunk * geometry_.block_size + within) / metadata_.logical_sector;
}

Task<Result<VhdxDisk::Run>> VhdxDisk::bitmap_run(std::uint64_t block, std::uint64_t within, std::uint64_t length) {
  auto place = co_await bitmap_place(geometry_.chunk_of(block), false);
  if (!place) {
    co_return std::unexpected(place.error());
  }
  if (*place == 0) {
    co_return damaged(fmt::format("block {} needs a sector bitmap, and there is none", block));
  }
  const auto sector = metadata_.logical_sector;
  auto bit = bit_number(block, within);
  const auto end = bit_number(block, within + length - sector) + 1;
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

Task<Result<Extent>> VhdxDisk::query(std::uint64_t offset, std::uint64_t length) {
  if (auto allowed = check_request(*this, offset, length); !allowed) {
    co_return std::unexpected(allowed.error());
  }
  constexpr int kMostBlocks = 4096;  // bounds the time of one call
  std::optional<Extent> run;
  for (int i = 0; i < kMostBlocks && length > 0; ++i) {
    const auto within = offset % geometry_.block_size;
    const auto part = std::min(length, geometry_.block_size - within);
    auto extent = co_await query_block(offset / geometry_.block_size, within, part);
    if (!extent || (run && run->content != extent->content)) {
      break;  // an error is met again by whoever asks from there
    }
    run = run ? Extent{run->length + extent->length, run->content} : *extent;
    offset += extent->length;
    length -= extent->length;
    if (extent->length < part) {
      break;
    }
  }
  if (!run) {
    auto first = co_await query_block(offset / geometry_.block_size, offset % geometry_.block_size,
                                      std::min(length, geometry_.block_size - offset % geometry_.block_size));
    co_return first;
  }
  co_return *run;
}

Task<Result<Extent>> VhdxDisk::query_block(std::uint64_t block, std::uint64_t within, std::uint64_t length) {
  auto held = co_await gate_.share(block);
  auto entry = co_await payload_entry(block);
  if (!entry) {
    co_return std::unexpected(entry.error());
  }
  switch (entry->state) {
    case PayloadState::not_present: co_return Extent{length, metadata_.has_parent ? Content::parent : Content::hole};
    case PayloadState::undefined:
    case PayloadState::unmapped: co_return Extent{length, Content::hole};
    case PayloadState::zero: co_return Extent{length, Content::zero};
    case PayloadState::partially_present: {
      auto run = co_await bitmap_run(block, within, length);
      if (!run) {
        co_return std::unexpected(run.error());
      }
      if (!run->present) {
        co_return Extent{run->length, Content::parent};
      }
      length = run->length;
      break;
    }
    case PayloadState::fully_present: break;
  }
  // The file may be sparse below an allocated block.
  auto stored = co_await active_->query(entry->offset + within, length);
  if (!stored) {
    co_return std::unexpected(stored.error());
  }
  const auto sector = metadata_.logical_sector;
  if (stored->hole && stored->length < length) {
    const auto whole = stored->length / sector * sector;
    co_return whole > 0 ? Extent{whole, Content::hole} : Extent{sector, Content::data};
  }
  co_return Extent{std::min(length, align_up(stored->length, sector)), stored->hole ? Content::hole : Content::data};
}

}  // namespace bulkhead::disk::vhdx
