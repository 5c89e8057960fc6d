// SPDX-License-Identifier: Apache-2.0
#include "vmbus/guest_ranges.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "abi/vmbus.hpp"

namespace bulkhead::vmbus {
namespace {

constexpr std::uint64_t kPageSize = 4096;

}  // namespace

Result<GuestRanges> GuestRanges::parse(std::span<const std::uint8_t> bytes, std::uint32_t count) {
  if (count == 0) return fail("a list of no ranges of guest memory");
  GuestRanges list;
  for (std::uint32_t index = 0; index < count; ++index) {
    abi::vmbus::GpaRange head;
    if (bytes.size() < sizeof head) return fail("a list of guest memory is cut short");
    std::memcpy(&head, bytes.data(), sizeof head);
    bytes = bytes.subspan(sizeof head);
    if (head.byte_count == 0) return fail("a range of guest memory is empty");
    if (head.byte_offset >= kPageSize) return fail("a range of guest memory begins beyond its first page");
    const std::uint64_t pages = (std::uint64_t{head.byte_offset} + head.byte_count + kPageSize - 1) / kPageSize;
    // Before anything is allocated: the guest must have sent the page numbers that it speaks of.
    if (pages > bytes.size() / sizeof(std::uint64_t)) return fail("a range of guest memory lacks page numbers");
    GuestRange range{.byte_count = head.byte_count, .byte_offset = head.byte_offset, .pages = {}};
    range.pages.resize(pages);
    std::memcpy(range.pages.data(), bytes.data(), pages * sizeof(std::uint64_t));
    bytes = bytes.subspan(pages * sizeof(std::uint64_t));
    list.ranges_.push_back(std::move(range));
  }
  return list;
}

std::uint64_t GuestRanges::byte_count() const {
  std::uint64_t sum = 0;
  for (const auto& range : ranges_) sum += range.byte_count;
  return sum;
}

std::size_t GuestRanges::page_count() const {
  std::size_t sum = 0;
  for (const auto& range : ranges_) sum += range.pages.size();
  return sum;
}

/// Calls `function` with each piece within one page of [offset, offset + size); false if there is a piece that is not.
template <typename Function>
bool GuestRanges::each(const engine::GuestMemory& memory, std::uint64_t offset, std::uint64_t size, bool writable,
                       Function function) const {
  for (const auto& range : ranges_) {
    if (size == 0) return true;
    if (offset >= range.byte_count) {
      offset -= range.byte_count;
      continue;
    }
    std::uint64_t left = std::min(size, range.byte_count - offset);
    size -= left;
    std::uint64_t at = range.byte_offset + offset;
    offset = 0;
    while (left > 0) {
      const std::uint64_t page = range.pages[at / kPageSize];
      const std::uint64_t count = std::min(left, kPageSize - at % kPageSize);
      if (page > UINT64_MAX / kPageSize) return false;
      const std::uint64_t address = page * kPageSize + at % kPageSize;
      const auto bytes = memory.at(address, count);
      if (!bytes || (writable && !memory.find(address)->writable)) return false;
      function(*bytes);
      at += count;
      left -= count;
    }
  }
  return size == 0;
}

bool GuestRanges::read(const engine::GuestMemory& memory, std::uint64_t offset, std::span<std::uint8_t> to) const {
  return each(memory, offset, to.size(), false, [&](std::span<const std::uint8_t> piece) {
    std::memcpy(to.data(), piece.data(), piece.size());
    to = to.subspan(piece.size());
  });
}

bool GuestRanges::write(const engine::GuestMemory& memory, std::uint64_t offset,
                        std::span<const std::uint8_t> from) const {
  return each(memory, offset, from.size(), true, [&](std::span<std::uint8_t> piece) {
    std::memcpy(piece.data(), from.data(), piece.size());
    from = from.subspan(piece.size());
  });
}

Result<std::vector<std::span<std::uint8_t>>> GuestRanges::segments(const engine::GuestMemory& memory,
                                                                   std::uint64_t offset, std::uint64_t size,
                                                                   bool writable) const {
  std::vector<std::span<std::uint8_t>> segments;
  const bool whole = each(memory, offset, size, writable, [&](std::span<std::uint8_t> piece) {
    if (!segments.empty() && segments.back().data() + segments.back().size() == piece.data()) {
      segments.back() = {segments.back().data(), segments.back().size() + piece.size()};
    } else {
      segments.push_back(piece);
    }
  });
  if (!whole) return fail(fmt::format("{} bytes at {} of a list of guest memory are not all memory", size, offset));
  return segments;
}

}  // namespace bulkhead::vmbus
