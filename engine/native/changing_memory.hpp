// SPDX-License-Identifier: Apache-2.0
//
// The memory of a partition that gives memory back and gets more while it runs.
//
//   guest physical   ├─ piece ─┤─ piece ─┤─ piece ─┤ ...       2 MiB each: a mapping and a pinned object of its own
//                      mapped    not       mapped
//                      some      all       no
//                      taken     taken     page taken
//
// Pinned memory goes back to the host in what it was pinned by, so a piece is unmapped when its last page has been taken, and
// mapped again, whole, when the first is given. Guests give pages in pieces of that size as long as they have such.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/guest_memory.hpp"
#include "engine/native/vid.hpp"

namespace bulkhead::engine::native {

class ChangingMemory {
 public:
  /// All live longer.
  ChangingMemory(Vid& vid, VidPartition& partition, GuestMemory& memory)
      : vid_(vid), partition_(partition), memory_(memory) {}

  /// Maps what is there at the start. Once.
  Result<> map();
  // As Partition has them.
  Result<> take(GuestPhysicalAddress address, std::uint64_t size);
  Result<> give(GuestPhysicalAddress address, std::uint64_t size);
  std::uint64_t used_again(GuestPhysicalAddress address, std::uint64_t size) const;

 private:
  struct Piece {
    GuestPhysicalAddress base;
    std::span<std::uint8_t> bytes;
    std::vector<bool> taken;  // a page each
    bool writable;
    bool mapped = false;

    bool is_taken() const;
    GuestPhysicalAddress end() const { return base + bytes.size(); }
  };

  /// Calls the function with each piece of the range, and with the part of it that is in the range, until one fails.
  template <typename Pieces, typename Function>
  static Result<> each(Pieces& pieces, GuestPhysicalAddress address, std::uint64_t size, Function function);
  Result<> map(Piece& piece);

  Vid& vid_;
  VidPartition& partition_;
  GuestMemory& memory_;
  std::vector<Piece> pieces_;  // by address
};

}  // namespace bulkhead::engine::native
