// SPDX-License-Identifier: Apache-2.0
#include "disk/file/overlay_file.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

namespace bulkhead::disk {

OverlayFile::Place OverlayFile::place(std::uint64_t offset) const {
  auto next = ranges_.upper_bound(offset);
  if (next != ranges_.begin()) {
    const auto& [start, range] = *std::prev(next);
    if (offset < range.end) {
      return {true, range.kind, range.end};
    }
  }
  const auto end = next == ranges_.end() ? std::numeric_limits<std::uint64_t>::max() : next->first;
  return {false, Kind::pages, end};
}

void OverlayFile::set(std::uint64_t start, std::uint64_t end, Kind kind) {
  auto at = ranges_.upper_bound(start);
  if (at != ranges_.begin()) {
    auto before = std::prev(at);
    const Range old = before->second;
    if (old.end > start) {
      before->second.end = start;
      if (old.end > end) {
        ranges_[end] = old;
      }
      if (before->first == start) {
        ranges_.erase(before);
      }
    }
  }
  at = ranges_.lower_bound(start);
  while (at != ranges_.end() && at->first < end) {
    const Range old = at->second;
    at = ranges_.erase(at);
    if (old.end > end) {
      ranges_[end] = old;
      break;
    }
  }
  ranges_[start] = {end, kind};
}

Task<Result<>> OverlayFile::read(std::uint64_t offset, Buffers buffers) {
  std::uint64_t position = 0;
  std::uint64_t left = total_length(buffers);
  while (left > 0) {
    const auto here = place(offset);
    const auto part = std::min(left, here.end - offset);
    const auto window = slice(buffers, position, part);
    if (!here.changed) {
      auto read = co_await base_.read(offset, window);
      if (!read) {
        co_return read;
      }
    } else if (here.kind == Kind::zeros) {
      fill_zero(window, 0, part);
    } else {
      auto at = offset;
      for (const auto& bytes : window) {
        changes_.read(at, {static_cast<std::byte*>(bytes.iov_base), bytes.iov_len});
        at += bytes.iov_len;
      }
    }
    offset += part;
    position += part;
    left -= part;
  }
  co_return Result<>();
}

Task<Result<>> OverlayFile::write(std::uint64_t offset, Buffers buffers) {
  const auto length = total_length(buffers);
  if ((offset | length) % SparseBytes::kPage != 0) {
    co_return fail("changes over a read-only file come in pages of 4 KiB");
  }
  if (changes_.pages() * SparseBytes::kPage + length > limit_) {
    co_return fail(fmt::format("cannot open '{}' read-only: its log holds more than {} MiB of changes", base_.name(),
                               limit_ >> 20));
  }
  set(offset, offset + length, Kind::pages);
  size_ = std::max(size_, offset + length);
  for (const auto& part : buffers) {
    changes_.write(offset, {static_cast<const std::byte*>(part.iov_base), part.iov_len});
    offset += part.iov_len;
  }
  co_return Result<>();
}

Task<Result<>> OverlayFile::flush() { co_return Result<>(); }

Task<Result<>> OverlayFile::zero(std::uint64_t offset, std::uint64_t length, Zeroing) {
  if (length > 0) {
    changes_.zero(offset, length);
    set(offset, offset + length, Kind::zeros);
  }
  co_return Result<>();
}

Task<Result<>> OverlayFile::resize(std::uint64_t size) {
  size_ = std::max(size_, size);
  co_return Result<>();
}

Task<Result<File::Extent>> OverlayFile::query(std::uint64_t offset, std::uint64_t length) {
  const auto here = place(offset);
  const auto part = std::min(length, here.end - offset);
  if (!here.changed) {
    co_return co_await base_.query(offset, part);
  }
  co_return Extent{part, here.kind == Kind::zeros};
}

}  // namespace bulkhead::disk
