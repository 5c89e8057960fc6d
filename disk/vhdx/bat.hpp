// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "disk/vhdx/layout.hpp"

namespace bulkhead::disk::vhdx {

/// One entry of the block allocation table ([MS-VHDX] 2.5.1).
struct BatEntry {
  PayloadState state = PayloadState::not_present;
  std::uint64_t offset = 0;  // in the file, whole mebibytes

  static BatEntry decode(std::uint64_t raw) { return {static_cast<PayloadState>(raw & 7), (raw >> 20) << 20}; }
  std::uint64_t encode() const { return offset | static_cast<std::uint64_t>(state); }
  bool has_place() const { return state == PayloadState::fully_present || state == PayloadState::partially_present; }
};

/// Where in the table the entry of a block is, and how many there are.
struct BatGeometry {
  std::uint64_t block_size = 0;
  std::uint64_t chunk_ratio = 0;  // payload blocks to one sector bitmap block
  std::uint64_t blocks = 0;
  std::uint64_t entries = 0;

  static BatGeometry of(std::uint64_t disk_size, std::uint64_t block_size, std::uint64_t logical_sector,
                        bool has_parent) {
    BatGeometry geometry;
    geometry.block_size = block_size;
    geometry.chunk_ratio = (std::uint64_t{1} << 23) * logical_sector / block_size;
    geometry.blocks = (disk_size + block_size - 1) / block_size;
    const auto chunks = (geometry.blocks + geometry.chunk_ratio - 1) / geometry.chunk_ratio;
    geometry.entries = has_parent ? chunks * (geometry.chunk_ratio + 1)
                                  : geometry.blocks + (geometry.blocks - 1) / geometry.chunk_ratio;
    return geometry;
  }
  std::uint64_t payload_entry(std::uint64_t block) const { return block + block / chunk_ratio; }
  std::uint64_t bitmap_entry(std::uint64_t chunk) const { return chunk * (chunk_ratio + 1) + chunk_ratio; }
  std::uint64_t chunk_of(std::uint64_t block) const { return block / chunk_ratio; }
};

}  // namespace bulkhead::disk::vhdx
