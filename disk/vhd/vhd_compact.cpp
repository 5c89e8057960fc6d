// SPDX-License-Identifier: Apache-2.0
// Making a VHD file as short as its content: blocks from its end move into gaps in front of them.
#include <fmt/format.h>

#include <algorithm>

#include "disk/vhd/vhd_disk.hpp"

namespace bulkhead::disk::vhd {

Task<Result<std::vector<VhdDisk::Used>>> VhdDisk::used_places() {
  std::vector<Used> used;
  const auto room = file_->size() / properties_.block + 1;
  for (std::uint64_t block = 0; block < blocks_; ++block) {
    auto place = co_await block_place(block);
    if (!place) {
      co_return std::unexpected(place.error());
    }
    if (*place) {
      used.push_back({**place, place_length(), block});
      if (used.size() > room) {
        co_return damaged("its blocks overlap");
      }
    }
  }
  used.push_back({0, kSector, kNoBlock});
  used.push_back({footer_.data_offset, sizeof header_, kNoBlock});
  used.push_back({header_.table_offset, align_up(header_.max_table_entries * 4ull, kSector), kNoBlock});
  for (const auto& entry : header_.locators) {
    if (entry.platform != 0 && entry.offset < end_) {
      used.push_back({entry.offset, align_up(std::max<std::uint64_t>(entry.length, 1), kSector), kNoBlock});
    }
  }
  std::ranges::sort(used, {}, &Used::offset);
  for (std::size_t i = 1; i < used.size(); ++i) {
    if (used[i - 1].end() > used[i].offset) {
      co_return damaged(fmt::format("two of its parts overlap at {}", used[i].offset));
    }
  }
  co_return used;
}

Task<Result<>> VhdDisk::compact(std::function<bool(std::uint64_t, std::uint64_t)> progress) {
  auto done = co_await prepare_write();
  if (done && !is_fixed()) {
    done = co_await flush();
  }
  if (!done || is_fixed()) {
    co_return done;
  }
  auto found = co_await used_places();
  if (!found) {
    co_return std::unexpected(found.error());
  }
  auto& used = *found;
  // Gaps of exactly a block, in the order of their places; the last blocks go to the first gaps.
  std::vector<std::uint64_t> gaps;
  std::uint64_t at = 0;
  for (const auto& place : used) {
    while (aligned_place(at) + place_length() <= place.offset) {
      gaps.push_back(aligned_place(at));
      at = aligned_place(at) + place_length();
    }
    at = place.end();
  }
  std::uint64_t moved = 0;
  bool cancelled = false;
  auto gap = gaps.begin();
  for (auto place = used.rbegin(); done && place != used.rend() && gap != gaps.end() && !cancelled; ++place) {
    if (place->block == kNoBlock) {
      continue;
    }
    if (*gap > place->offset) {
      break;
    }
    done = co_await move_block(*place, *gap);
    place->offset = *gap++;
    if (done && ++moved % 32 == 0) {
      done = co_await flush();
    }
    cancelled = progress && !progress(moved, gaps.size());
  }
  if (done) {
    done = co_await flush();
  }
  if (done) {
    std::uint64_t end = 0;
    for (const auto& place : used) {
      end = std::max(end, place.end());
    }
    done = co_await cut_file(end);
  }
  if (done && cancelled) {
    co_return fail("stopped; run it again to finish");
  }
  co_return done;
}

Task<Result<>> VhdDisk::move_block(const Used& used, std::uint64_t target) {
  auto done = co_await file_->zero(target, place_length(), File::Zeroing::give_space_back);
  pages_->forget(target, target + bitmap_length_);
  pages_->forget(used.offset, used.offset + bitmap_length_);
  std::vector<std::byte> buffer(256 * kKiB);
  for (std::uint64_t at = 0; done && at < place_length();) {
    const auto part = std::min<std::uint64_t>(buffer.size(), place_length() - at);
    auto extent = co_await file_->query(used.offset + at, part);
    if (!extent) {
      co_return std::unexpected(extent.error());
    }
    if (!extent->hole) {
      const auto bytes = std::span(buffer).first(extent->length);
      done = co_await read_bytes(*file_, used.offset + at, bytes);
      if (done) {
        done = co_await write_bytes(*file_, target + at, bytes);
      }
    }
    at += extent->length;
  }
  if (done) {
    done = co_await set_entry(used.block, static_cast<std::uint32_t>(target / kSector));
  }
  co_return done;
}

Task<Result<>> VhdDisk::cut_file(std::uint64_t end) {
  if (end >= end_) {
    co_return Result<>();
  }
  auto done = co_await write_bytes(*file_, end, bytes_of(footer_));
  if (done) {
    done = co_await file_->flush();
  }
  if (done) {
    done = co_await file_->resize(end + kSector);
  }
  if (done) {
    done = co_await file_->flush();
  }
  if (done) {
    end_ = end;
  }
  co_return done;
}

}  // namespace bulkhead::disk::vhd
