// SPDX-License-Identifier: Apache-2.0
//
// Which pages of a guest's memory were written: one bit for each page, region by region as in GuestMemory.
#pragma once

#include <bit>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/guest_memory.hpp"

namespace bulkhead::engine {

inline constexpr std::uint64_t kGuestPageSize = 4096;

class DirtyPages {
 public:
  /// A clean map of the regions.
  explicit DirtyPages(std::span<const MemoryRegion> regions) {
    for (const auto& region : regions) {
      maps_.push_back({region.base, region.bytes.size(), std::vector<std::uint64_t>(words_for(region.bytes.size()))});
    }
  }

  /// Words of 64 pages that a region of `size` bytes has.
  static std::size_t words_for(std::uint64_t size) { return (size / kGuestPageSize + 63) / 64; }

  /// The bits of the region at this place in the list; bit 0 of word 0 is the region's first page.
  std::span<std::uint64_t> words(std::size_t region) { return maps_[region].words; }

  /// Marks the page that the address lies in. Addresses outside of all regions are nobody's pages.
  void mark(GuestPhysicalAddress address) {
    for (auto& map : maps_) {
      if (address - map.base >= map.size) continue;
      const std::uint64_t page = (address - map.base) / kGuestPageSize;
      map.words[page / 64] |= std::uint64_t{1} << page % 64;
    }
  }

  /// Marks what is marked in `other`, a map of the same regions.
  void add(const DirtyPages& other) {
    for (std::size_t map = 0; map < maps_.size(); ++map) {
      for (std::size_t word = 0; word < maps_[map].words.size(); ++word) {
        maps_[map].words[word] |= other.maps_[map].words[word];
      }
    }
  }

  std::uint64_t count() const {
    std::uint64_t pages = 0;
    for (const auto& map : maps_) {
      for (const std::uint64_t word : map.words) pages += static_cast<std::uint64_t>(std::popcount(word));
    }
    return pages;
  }

  /// The addresses of the pages, region by region and ascending in each.
  std::vector<GuestPhysicalAddress> addresses() const {
    std::vector<GuestPhysicalAddress> pages;
    for (const auto& map : maps_) {
      for (std::size_t index = 0; index < map.words.size(); ++index) {
        for (std::uint64_t rest = map.words[index]; rest != 0; rest &= rest - 1) {
          const auto bit = static_cast<std::uint64_t>(std::countr_zero(rest));
          pages.push_back(map.base + (index * 64 + bit) * kGuestPageSize);
        }
      }
    }
    return pages;
  }

 private:
  struct Map {
    GuestPhysicalAddress base;
    std::uint64_t size;
    std::vector<std::uint64_t> words;
  };
  std::vector<Map> maps_;
};

}  // namespace bulkhead::engine
