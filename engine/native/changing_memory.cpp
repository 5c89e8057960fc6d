// SPDX-License-Identifier: Apache-2.0
#include "engine/native/changing_memory.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace bulkhead::engine::native {
namespace {

constexpr std::uint64_t kPageSize = 4096;
constexpr std::uint64_t kPieceSize = 0x200000;
constexpr std::uint32_t kAccess = HV_MAP_GPA_READABLE | HV_MAP_GPA_KERNEL_EXECUTABLE | HV_MAP_GPA_USER_EXECUTABLE;

}  // namespace

bool ChangingMemory::Piece::is_taken() const { return std::ranges::find(taken, false) == taken.end(); }

template <typename Pieces, typename Function>
Result<> ChangingMemory::each(Pieces& pieces, GuestPhysicalAddress address, std::uint64_t size, Function function) {
  auto piece = std::ranges::upper_bound(pieces, address, {}, [](const Piece& p) { return p.end(); });
  while (size > 0) {
    if (address % kPageSize != 0 || size % kPageSize != 0 || piece == pieces.end() || address < piece->base) {
      return fail(fmt::format("{:#x} bytes at {:#x} are not all memory of the partition", size, address));
    }
    const std::uint64_t part = std::min(size, piece->end() - address);
    if (auto done = function(*piece, address, part); !done) return done;
    address += part;
    size -= part;
    ++piece;
  }
  return {};
}

Result<> ChangingMemory::map(Piece& piece) {
  // The mapping keeps the pinned object; its descriptor is not needed any more.
  auto pinned = vid_.create_memory(piece.bytes, !piece.writable);
  if (!pinned) return std::unexpected(pinned.error());
  const std::uint32_t access = kAccess | (piece.writable ? HV_MAP_GPA_WRITABLE : 0);
  auto mapped = partition_.map_memory(**pinned, access, piece.base, piece.bytes.size());
  piece.mapped = mapped.has_value();
  return mapped;
}

Result<> ChangingMemory::map() {
  for (const auto& region : memory_.regions()) {
    for (std::uint64_t offset = 0; offset < region.bytes.size();) {
      const GuestPhysicalAddress base = region.base + offset;
      const std::uint64_t size = std::min(region.bytes.size() - offset, kPieceSize - base % kPieceSize);
      pieces_.push_back({.base = base,
                         .bytes = region.bytes.subspan(offset, size),
                         .taken = std::vector<bool>(size / kPageSize, !region.at_start),
                         .writable = region.writable});
      offset += size;
      if (!region.at_start) continue;
      if (auto mapped = map(pieces_.back()); !mapped) return mapped;
    }
  }
  return {};
}

Result<> ChangingMemory::take(GuestPhysicalAddress address, std::uint64_t size) {
  return each(pieces_, address, size, [this](Piece& piece, GuestPhysicalAddress begin, std::uint64_t length) {
    const auto first = piece.taken.begin() + static_cast<std::ptrdiff_t>((begin - piece.base) / kPageSize);
    std::fill(first, first + static_cast<std::ptrdiff_t>(length / kPageSize), true);
    if (!piece.mapped) return memory_.discard(begin, length);
    if (!piece.is_taken()) return Result<>();
    if (auto unmapped = partition_.unmap_memory(piece.base, piece.bytes.size()); !unmapped) return unmapped;
    piece.mapped = false;
    return memory_.discard(piece.base, piece.bytes.size());
  });
}

Result<> ChangingMemory::give(GuestPhysicalAddress address, std::uint64_t size) {
  std::uint64_t given = 0;
  auto done = each(pieces_, address, size, [&](Piece& piece, GuestPhysicalAddress begin, std::uint64_t length) {
    if (!piece.mapped) {
      if (auto mapped = map(piece); !mapped) return mapped;
    }
    const auto first = piece.taken.begin() + static_cast<std::ptrdiff_t>((begin - piece.base) / kPageSize);
    std::fill(first, first + static_cast<std::ptrdiff_t>(length / kPageSize), false);
    given += length;
    return Result<>();
  });
  // All or nothing.
  if (!done && given > 0) static_cast<void>(take(address, given));
  return done;
}

std::uint64_t ChangingMemory::used_again(GuestPhysicalAddress address, std::uint64_t size) const {
  // Of what is not mapped, by devices; what waits for its neighbours is not counted, for it cannot be taken now.
  std::uint64_t pages = 0;
  static_cast<void>(
      each(pieces_, address, size, [&](const Piece& piece, GuestPhysicalAddress begin, std::uint64_t length) {
        if (!piece.mapped) pages += memory_.resident_pages(begin, length);
        return Result<>();
      }));
  return pages;
}

}  // namespace bulkhead::engine::native
