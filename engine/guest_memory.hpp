// SPDX-License-Identifier: Apache-2.0
//
// The memory of one guest as its worker sees it: where in the worker's address space each range of guest physical
// addresses lies. Everything that looks into guest memory (loaders, the instruction emulator, devices, VMBus) does it
// here, so that a guest's address can never lead outside.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "error/error.hpp"

namespace bulkhead::engine {

using GuestPhysicalAddress = std::uint64_t;

/// `bytes` lie in the guest at `base`. Both are multiples of 4096.
struct MemoryRegion {
  GuestPhysicalAddress base;
  std::span<std::uint8_t> bytes;
  bool writable = true;
  /// False: room for memory that the machine may get later; it does not begin with it.
  bool at_start = true;
};

class GuestMemory {
 public:
  /// Allocates `size` bytes of anonymous memory for each of the ranges {base, size}, placed so that large pages of the
  /// host can be large pages of the guest; pages are taken from the host as they are touched.
  /// Errors: a range that is empty, not a multiple of 4096, or overlaps another; no memory.
  struct Range {
    GuestPhysicalAddress base;
    std::uint64_t size;
    bool at_start = true;
    bool writable = true;  // by the guest
  };
  static Result<std::unique_ptr<GuestMemory>> allocate(std::span<const Range> ranges);

  ~GuestMemory();
  GuestMemory(const GuestMemory&) = delete;
  GuestMemory& operator=(const GuestMemory&) = delete;

  std::span<const MemoryRegion> regions() const { return regions_; }
  std::uint64_t size() const;

  /// The region that `address` lies in, or null.
  const MemoryRegion* find(GuestPhysicalAddress address) const {
    for (const auto& region : regions_) {
      if (address - region.base < region.bytes.size()) return &region;
    }
    return nullptr;
  }

  /// The bytes [address, address + size), or nothing if they are not all in one region.
  std::optional<std::span<std::uint8_t>> at(GuestPhysicalAddress address, std::uint64_t size) const;

  /// The bytes from `address` on, at most `size`, as far as its region goes; or nothing if it is not memory.
  std::optional<std::span<std::uint8_t>> front_of(GuestPhysicalAddress address, std::uint64_t size) const;

  /// Copies out of or into the guest, across regions that touch. False, and nothing written to the guest, if a part of
  /// the range is not memory.
  bool read(GuestPhysicalAddress address, std::span<std::uint8_t> to) const;
  bool write(GuestPhysicalAddress address, std::span<const std::uint8_t> from);

  /// Gives the memory of [address, address + size), whole pages, back to the host: there are zeros now. For engines
  /// (Partition::take_memory), and while there is no partition. Error: it is not all memory, or the kernel's.
  Result<> discard(GuestPhysicalAddress address, std::uint64_t size);
  /// How many of those pages take memory of the host. None where it is not memory.
  std::uint64_t resident_pages(GuestPhysicalAddress address, std::uint64_t size) const;

 private:
  GuestMemory() = default;
  bool covers(GuestPhysicalAddress address, std::uint64_t size) const;

  std::vector<MemoryRegion> regions_;  // by address
};

}  // namespace bulkhead::engine
