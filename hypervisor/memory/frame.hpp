// SPDX-License-Identifier: Apache-2.0
//
// Page numbers. Two kinds that must not be mixed up are two types.
#pragma once

#include <compare>
#include <cstdint>

namespace bulkhead::hypervisor {

inline constexpr std::uint64_t kPageSize = 4096;
inline constexpr std::uint64_t kPagesPerLargePage = 512;
inline constexpr std::uint64_t kLargePageSize = kPageSize * kPagesPerLargePage;
/// Of any page, physical or guest physical: 52 address bits.
inline constexpr std::uint64_t kMaximumPageNumber = (1ull << 40) - 1;

/// Four levels of tables reach this far.
inline constexpr unsigned kGuestAddressBits = 48;
inline constexpr std::uint64_t kGuestPages = 1ull << (kGuestAddressBits - 12);

/// A 4 KiB page of the machine's memory (system physical address / 4096).
struct Frame {
  std::uint64_t number = 0;

  static constexpr Frame at(std::uint64_t address) { return {address / kPageSize}; }
  constexpr std::uint64_t address() const { return number * kPageSize; }
  constexpr Frame operator+(std::uint64_t pages) const { return {number + pages}; }
  auto operator<=>(const Frame&) const = default;
};

/// A 4 KiB page of a partition's guest physical address space.
struct GuestPage {
  std::uint64_t number = 0;

  static constexpr GuestPage at(std::uint64_t address) { return {address / kPageSize}; }
  constexpr std::uint64_t address() const { return number * kPageSize; }
  constexpr GuestPage operator+(std::uint64_t pages) const { return {number + pages}; }
  auto operator<=>(const GuestPage&) const = default;
};

}  // namespace bulkhead::hypervisor
