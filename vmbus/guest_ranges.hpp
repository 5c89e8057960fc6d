// SPDX-License-Identifier: Apache-2.0
//
// Lists of pieces of guest memory, as GPADLs and GPA-direct packets give them:
//
//   byte count u32 │ byte offset u32 │ page number u64 ...      as many pages as offset + count need; then the next
//
// A list is checked for its form when it is parsed, and against the guest's memory when it is used.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/guest_memory.hpp"
#include "error/error.hpp"

namespace bulkhead::vmbus {

/// One range: `byte_count` bytes that begin `byte_offset` bytes into the first of the pages.
struct GuestRange {
  std::uint32_t byte_count = 0;
  std::uint32_t byte_offset = 0;
  std::vector<std::uint64_t> pages;  // guest page numbers

  bool operator==(const GuestRange&) const = default;
};

class GuestRanges {
 public:
  GuestRanges() = default;

  /// Exactly `count` ranges out of the bytes; what follows them is ignored, for some guests pad.
  /// Errors: none, cut short, an empty range, an offset beyond the first page.
  static Result<GuestRanges> parse(std::span<const std::uint8_t> bytes, std::uint32_t count);

  std::span<const GuestRange> ranges() const { return ranges_; }
  std::uint64_t byte_count() const;
  std::size_t page_count() const;

  /// Copies all of `to` out of the memory that is listed, from `offset` on. False if the list is shorter or if a part
  /// is not memory.
  bool read(const engine::GuestMemory& memory, std::uint64_t offset, std::span<std::uint8_t> to) const;
  /// Copies into it. False, with a part perhaps written, if the list is shorter or a part is not writable memory.
  bool write(const engine::GuestMemory& memory, std::uint64_t offset, std::span<const std::uint8_t> from) const;
  /// The memory itself, in pieces that join neighbouring pages. Error: a part is not memory, or not writable where the
  /// device writes, or the list is shorter than `offset` + `size`.
  Result<std::vector<std::span<std::uint8_t>>> segments(const engine::GuestMemory& memory, std::uint64_t offset,
                                                        std::uint64_t size, bool writable) const;

  bool operator==(const GuestRanges&) const = default;

 private:
  template <typename Function>
  bool each(const engine::GuestMemory& memory, std::uint64_t offset, std::uint64_t size, bool writable,
            Function function) const;

  std::vector<GuestRange> ranges_;
};

}  // namespace bulkhead::vmbus
