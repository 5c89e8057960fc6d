// SPDX-License-Identifier: Apache-2.0
//
// Scattered memory for one read or write: a list of pieces, and windows into such a list.
#pragma once

#include <sys/uio.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <span>
#include <vector>

namespace bulkhead::disk {

/// Memory that begins where a page does: Linux copies out of its page cache more quickly to there (docs/performance.md).
template <typename Value>
struct PageAllocator {
  using value_type = Value;
  static constexpr std::align_val_t kPage{4096};

  PageAllocator() = default;
  template <typename Other>
  PageAllocator(const PageAllocator<Other>&) {}
  Value* allocate(std::size_t count) { return static_cast<Value*>(::operator new(count * sizeof(Value), kPage)); }
  void deallocate(Value* memory, std::size_t) { ::operator delete(memory, kPage); }
  bool operator==(const PageAllocator&) const = default;
};
using PageBuffer = std::vector<std::byte, PageAllocator<std::byte>>;

/// Pieces of memory, in the order in which the bytes lie on the disk. The caller keeps both the list and the memory
/// until the operation has ended.
using Buffers = std::span<const iovec>;

inline std::uint64_t total_length(Buffers buffers) {
  std::uint64_t total = 0;
  for (const auto& piece : buffers) {
    total += piece.iov_len;
  }
  return total;
}

/// The one piece `bytes`; for a write the memory is only read.
inline iovec piece(std::span<const std::byte> bytes) { return {const_cast<std::byte*>(bytes.data()), bytes.size()}; }

/// The window [offset, offset + length) of `buffers`, which must be that long.
inline std::vector<iovec> slice(Buffers buffers, std::uint64_t offset, std::uint64_t length) {
  std::vector<iovec> window;
  for (const auto& whole : buffers) {
    if (length == 0) {
      break;
    }
    if (offset >= whole.iov_len) {
      offset -= whole.iov_len;
      continue;
    }
    const auto part = std::min<std::uint64_t>(whole.iov_len - offset, length);
    window.push_back({static_cast<std::byte*>(whole.iov_base) + offset, static_cast<std::size_t>(part)});
    length -= part;
    offset = 0;
  }
  return window;
}

/// Fills [offset, offset + length) of `buffers` with zeros.
inline void fill_zero(Buffers buffers, std::uint64_t offset, std::uint64_t length) {
  for (const auto& part : slice(buffers, offset, length)) {
    std::memset(part.iov_base, 0, part.iov_len);
  }
}

}  // namespace bulkhead::disk
