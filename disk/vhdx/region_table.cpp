// SPDX-License-Identifier: Apache-2.0
#include "disk/vhdx/region_table.hpp"

#include <fmt/format.h>

#include <optional>

#include "disk/vhdx/header.hpp"

namespace bulkhead::disk::vhdx {
namespace {

std::optional<std::vector<RegionTableEntry>> parse(std::span<const std::byte> copy) {
  const auto header = load<RegionTableHeader>(copy);
  if (header.signature != kRegionTableSignature || header.entry_count > kMostTableEntries ||
      header.checksum != checksum_of(copy)) {
    return std::nullopt;
  }
  std::vector<RegionTableEntry> entries;
  entries.reserve(header.entry_count);
  for (std::uint32_t i = 0; i < header.entry_count; ++i) {
    entries.push_back(load<RegionTableEntry>(copy, sizeof header + i * sizeof(RegionTableEntry)));
  }
  return entries;
}

Result<> place(const File& file, const RegionTableEntry& entry, const char* what, Region& region) {
  if (region.length != 0) {
    return fail(fmt::format("'{}' is damaged: it has two {} regions", file.name(), what));
  }
  region = {entry.file_offset, entry.length};
  if (region.offset < kMiB || region.offset % kAlignment != 0 || region.length == 0 ||
      region.length % kAlignment != 0 || region.offset > file.size() || region.length > file.size() - region.offset) {
    return fail(fmt::format("'{}' is damaged: its {} region is said to be {} bytes at {}, outside of the file",
                            file.name(), what, region.length, region.offset));
  }
  return {};
}

}  // namespace

Task<Result<RegionTable>> RegionTable::load(File& file) {
  RegionTable table;
  std::optional<std::vector<RegionTableEntry>> found;
  std::vector<std::byte> copy(kRegionTableLength);
  for (const auto offset : kRegionTableOffsets) {
    auto read = co_await read_bytes(file, offset, copy);
    if (!read) {
      co_return std::unexpected(read.error());
    }
    if (auto entries = parse(copy)) {
      ++table.valid_copies;
      if (!found) {
        found = std::move(entries);
      }
    }
  }
  if (!found) {
    co_return fail(fmt::format("'{}' is damaged: neither copy of its region table is valid", file.name()));
  }
  table.entries = std::move(*found);
  for (const auto& entry : table.entries) {
    Result<> placed;
    if (entry.guid == kBatRegion) {
      placed = place(file, entry, "BAT", table.bat);
    } else if (entry.guid == kMetadataRegion) {
      placed = place(file, entry, "metadata", table.metadata);
    } else if ((entry.required & 1) != 0) {
      placed = fail(fmt::format("'{}' needs a region that is not known here: {}", file.name(), entry.guid.text()));
    }
    if (!placed) {
      co_return std::unexpected(placed.error());
    }
  }
  if (table.bat.length == 0 || table.metadata.length == 0) {
    co_return fail(
        fmt::format("'{}' is damaged: it has no {} region", file.name(), table.bat.length == 0 ? "BAT" : "metadata"));
  }
  if (table.bat.overlaps(table.metadata.offset, table.metadata.length)) {
    co_return fail(fmt::format("'{}' is damaged: its BAT and metadata regions overlap", file.name()));
  }
  co_return table;
}

std::vector<std::byte> RegionTable::serialize() const {
  std::vector<std::byte> copy(kRegionTableLength);
  RegionTableHeader header;
  header.signature = kRegionTableSignature;
  header.entry_count = static_cast<std::uint32_t>(entries.size());
  store(copy, 0, header);
  for (std::size_t i = 0; i < entries.size(); ++i) {
    store(copy, sizeof header + i * sizeof(RegionTableEntry), entries[i]);
  }
  header.checksum = checksum_of(copy);
  store(copy, 0, header);
  return copy;
}

}  // namespace bulkhead::disk::vhdx
