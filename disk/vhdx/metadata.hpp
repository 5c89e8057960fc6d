// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "disk/file/file.hpp"
#include "disk/vhdx/layout.hpp"
#include "disk/vhdx/region_table.hpp"

namespace bulkhead::disk::vhdx {

/// Where a differencing image says its parent is ([MS-VHDX] 2.6.2.6.3). Keys that we do not know are kept.
struct ParentLocator {
  std::map<std::string, std::string> values;

  static Result<ParentLocator> parse(std::span<const std::byte> item);
  Result<std::vector<std::byte>> serialize() const;

  /// Whether an image with this DataWriteGuid is the parent that is meant.
  bool links_to(const Guid& data_write_guid) const;
  std::optional<std::string> value(const std::string& key) const;
};

/// What the image says about its disk ([MS-VHDX] 2.6). Items that we do not know stay in the file untouched, unless
/// they are marked as required: then the image is refused.
struct Metadata {
  struct Item {
    MetadataTableEntry entry;
    std::vector<std::byte> content;  // of known items only
  };

  std::uint32_t block_size = 0;
  bool leave_blocks_allocated = false;
  bool has_parent = false;
  std::uint64_t disk_size = 0;
  Guid page_83;
  std::uint32_t logical_sector = 512;
  std::uint32_t physical_sector = 4096;
  std::optional<ParentLocator> parent;
  std::vector<MetadataTableEntry> entries;

  static Task<Result<Metadata>> load(File& file, const Region& region);

  /// The region of a new image: the table and all items, from its beginning on.
  Result<std::vector<std::byte>> serialize() const;
  /// The pages of 4 KiB of an existing region that change when the known items become what they are here: new content
  /// of each by its offset in the region. `current` are the region's bytes up to the last item's end.
  Result<std::map<std::uint64_t, std::vector<std::byte>>> changed_pages(std::span<const std::byte> current,
                                                                        std::uint64_t region_length) const;
  /// How far into the region its items reach.
  std::uint64_t used_length() const;

 private:
  Result<std::map<Guid, std::vector<std::byte>>> known_items() const;
  Result<> take(const File& file, const MetadataTableEntry& entry, std::span<const std::byte> content);
  Result<> check(const File& file) const;
};

}  // namespace bulkhead::disk::vhdx
