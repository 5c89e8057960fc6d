// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "disk/file/file.hpp"
#include "disk/vhdx/layout.hpp"

namespace bulkhead::disk::vhdx {

struct Region {
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
  std::uint64_t end() const { return offset + length; }
  bool overlaps(std::uint64_t other, std::uint64_t other_length) const {
    return other < end() && offset < other + other_length;
  }
};

/// Where the BAT and the metadata are ([MS-VHDX] 2.2.3). There are two copies; either will do.
struct RegionTable {
  std::vector<RegionTableEntry> entries;
  Region bat;
  Region metadata;
  int valid_copies = 0;

  static Task<Result<RegionTable>> load(File& file);
  /// The 64 KiB of one copy.
  std::vector<std::byte> serialize() const;
};

}  // namespace bulkhead::disk::vhdx
