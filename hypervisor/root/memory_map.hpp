// SPDX-License-Identifier: Apache-2.0
//
// The machine's memory map (E820), and how the hypervisor's own memory is taken out of it.
//
//   before   |        usable         |  reserved |            after   |  usable |reserved: hypervisor| usable|  reserved |
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace bulkhead::hypervisor::root {

/// ACPI specification, "Address Range Types". Others are passed on as they are.
enum class MemoryType : std::uint32_t {
  Usable = 1,
  Reserved = 2,
  AcpiReclaimable = 3,
  AcpiNonVolatile = 4,
  Unusable = 5
};

struct MemoryRange {
  std::uint64_t base;
  std::uint64_t size;
  MemoryType type;

  std::uint64_t end() const { return base + size; }
  bool contains(std::uint64_t start, std::uint64_t stop) const {
    return start >= base && stop <= end() && start < stop;
  }
  bool operator==(const MemoryRange&) const = default;
};

class MemoryMap {
 public:
  /// As many as boot_params holds.
  static constexpr std::size_t kCapacity = 128;

  /// False if it is full, or the range wraps around. Empty ranges are left out.
  bool add(const MemoryRange& range);
  std::span<const MemoryRange> ranges() const { return {ranges_.data(), count_}; }

  /// Gives [start, end) a new type. It must lie in one usable range. False if it does not, or the map is full.
  bool retype(std::uint64_t start, std::uint64_t end, MemoryType type);

  /// Highest usable `alignment`-aligned place for `size` bytes in [floor, ceiling).
  std::optional<std::uint64_t> highest(std::uint64_t size, std::uint64_t alignment, std::uint64_t floor,
                                       std::uint64_t ceiling) const {
    return find(true, size, alignment, floor, ceiling);
  }
  /// Lowest such place.
  std::optional<std::uint64_t> lowest(std::uint64_t size, std::uint64_t alignment, std::uint64_t floor,
                                      std::uint64_t ceiling) const {
    return find(false, size, alignment, floor, ceiling);
  }
  /// Is all of [start, end) usable memory of one range?
  bool is_usable(std::uint64_t start, std::uint64_t end) const;

  /// End of the highest usable range.
  std::uint64_t end_of_memory() const;

 private:
  std::optional<std::uint64_t> find(bool highest, std::uint64_t size, std::uint64_t alignment, std::uint64_t floor,
                                    std::uint64_t ceiling) const;

  std::array<MemoryRange, kCapacity> ranges_{};
  std::size_t count_ = 0;
};

}  // namespace bulkhead::hypervisor::root
