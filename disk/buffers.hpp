// SPDX-License-Identifier: Apache-2.0
//
// Scattered memory for one read or write: a list of pieces, and windows into such a list.
#pragma once

#include <sys/uio.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

namespace bulkhead::disk {

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
