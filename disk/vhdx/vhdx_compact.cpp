// SPDX-License-Identifier: Apache-2.0
// Making a VHDX file as short as its content: blocks from its end move into gaps in front of them.
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "disk/vhdx/vhdx_disk.hpp"

namespace bulkhead::disk::vhdx {
namespace {

/// So much is copied before the tables that refer to the copies are committed.
constexpr std::uint64_t kBatch = 64 * kMiB;

}  // namespace

Task<Result<std::vector<VhdxDisk::Used>>> VhdxDisk::used_places() {
  std::vector<Used> used;
  const auto room = align_up(active_->size(), kAlignment) / kMiB;
  const auto chunks = (geometry_.blocks + geometry_.chunk_ratio - 1) / geometry_.chunk_ratio;
  const auto add = [&](const Result<BatEntry>& entry, std::uint64_t length, std::uint64_t index) -> Result<> {
    if (!entry) {
      return std::unexpected(entry.error());
    }
    if (entry->has_place()) {
      used.push_back({entry->offset, length, index});
      if (used.size() > room) {  // bounds memory, however large a table a small file pretends to have
        return damaged("its blocks overlap");
      }
    }
    return {};
  };
  for (std::uint64_t block = 0; block < geometry_.blocks;) {
    auto added = add(co_await payload_entry(block), geometry_.block_size, geometry_.payload_entry(block));
    if (!added) {
      co_return std::unexpected(added.error());
    }
    const auto absent = co_await absent_from(block);
    block += absent ? std::max<std::uint64_t>(absent->blocks, 1) : 1;
  }
  for (std::uint64_t chunk = 0; metadata_.has_parent && chunk < chunks; ++chunk) {
    auto added = add(co_await bitmap_entry(chunk), kMiB, geometry_.bitmap_entry(chunk));
    if (!added) {
      co_return std::unexpected(added.error());
    }
  }
  const auto& header = headers_.current();
  used.push_back({header.log_offset, header.log_length, kNoEntry});
  for (const auto& entry : regions_.entries) {
    used.push_back({entry.file_offset, entry.length, kNoEntry});
  }
  std::ranges::sort(used, {}, &Used::offset);
  for (std::size_t i = 1; i < used.size(); ++i) {
    if (used[i - 1].offset + used[i - 1].length > used[i].offset) {
      co_return damaged(fmt::format("two of its blocks overlap at {}", used[i].offset));
    }
  }
  co_return used;
}

Task<Result<>> VhdxDisk::compact(std::function<bool(std::uint64_t, std::uint64_t)> progress) {
  auto done = co_await prepare_change(false);
  if (done) {
    done = co_await flush();
  }
  if (done) {
    done = co_await log_->write_home();
  }
  if (!done) {
    co_return done;
  }
  // Places that were given back are gaps like others now; whoever writes next must not be given them too.
  scrubbed_.clear();
  free_.clear();
  auto found = co_await used_places();
  if (!found) {
    co_return std::unexpected(found.error());
  }
  auto& used = *found;
  std::map<std::uint64_t, std::uint64_t> gaps;  // offset -> length
  std::uint64_t end = kMiB;
  for (const auto& place : used) {
    if (place.offset > end) {
      gaps[end] = place.offset - end;
    }
    end = place.offset + place.length;
  }
  std::uint64_t pending = 0;
  std::uint64_t moved = 0;
  bool cancelled = false;
  for (auto place = used.rbegin(); done && place != used.rend() && !cancelled; ++place) {
    if (place->table_index == kNoEntry) {
      continue;
    }
    const auto gap = std::ranges::find_if(gaps, [&](const auto& g) { return g.second >= place->length; });
    if (gap == gaps.end() || gap->first > place->offset) {
      continue;
    }
    const auto target = gap->first;
    const auto rest = gap->second - place->length;
    gaps.erase(gap);
    if (rest > 0) {
      gaps[target + place->length] = rest;
    }
    done = co_await move_place(*place, target);
    place->offset = target;
    pending += place->length;
    if (done && pending >= kBatch) {
      done = co_await commit_moves();
      pending = 0;
    }
    cancelled = progress && !progress(++moved, used.size());
  }
  if (done) {
    done = co_await commit_moves();
  }
  if (done) {
    end = kMiB;
    for (const auto& place : used) {
      end = std::max(end, place.offset + place.length);
    }
    done = co_await cut_file(end);
  }
  if (done && cancelled) {
    co_return fail("stopped; run it again to finish");
  }
  co_return done;
}

Task<Result<>> VhdxDisk::move_place(const Used& place, std::uint64_t target) {
  auto done = co_await active_->zero(target, place.length, File::Zeroing::give_space_back);
  PageBuffer buffer(kMiB);
  for (std::uint64_t at = 0; done && at < place.length;) {
    const auto part = std::min<std::uint64_t>(buffer.size(), place.length - at);
    auto extent = co_await active_->query(place.offset + at, part);
    if (!extent) {
      co_return std::unexpected(extent.error());
    }
    if (!extent->hole) {
      const auto bytes = std::span(buffer).first(extent->length);
      done = co_await read_bytes(*active_, place.offset + at, bytes);
      if (done) {
        done = co_await write_bytes(*active_, target + at, bytes);
      }
    }
    at += extent->length;
  }
  if (!done) {
    co_return done;
  }
  auto raw = co_await table_entry(place.table_index);
  if (!raw) {
    co_return std::unexpected(raw.error());
  }
  auto entry = BatEntry::decode(*raw);
  entry.offset = target;
  barrier_ = true;  // the copy must be durable before the table refers to it
  pages_->forget(place.offset, place.offset + (place.length == kMiB ? kMiB : 0));
  co_return co_await set_table_entry(place.table_index, entry.encode());
}

Task<Result<>> VhdxDisk::commit_moves() {
  auto done = co_await flush();
  if (done) {
    done = co_await log_->write_home();
  }
  co_return done;
}

/// The log knows how long the file is, so it must be empty before the file becomes shorter.
Task<Result<>> VhdxDisk::cut_file(std::uint64_t end) {
  auto done = co_await log_->close();
  if (done && end < active_->size()) {
    done = co_await active_->resize(end);
    if (done) {
      done = co_await active_->flush();
    }
    end_ = end;
  }
  co_return done;
}

}  // namespace bulkhead::disk::vhdx
