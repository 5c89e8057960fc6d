// SPDX-License-Identifier: Apache-2.0
#include "disk/vhdx/metadata.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <set>

#include "disk/utf16.hpp"

namespace bulkhead::disk::vhdx {
namespace {

constexpr std::uint64_t kPage = 4096;
constexpr std::uint64_t kLargestItem = kMiB;
constexpr std::uint64_t kLargestRegion = 64 * kMiB;  // held in memory when it changes; usual is 1 MiB
constexpr std::size_t kMostLocatorEntries = 64;  // entries may share bytes, so memory would not be bounded by the item

bool is_known(const Guid& item) {
  return item == kFileParametersItem || item == kVirtualDiskSizeItem || item == kPage83DataItem ||
         item == kLogicalSectorSizeItem || item == kPhysicalSectorSizeItem || item == kParentLocatorItem;
}

std::uint32_t flags_of(const Guid& item) {
  const bool about_disk = item != kFileParametersItem && item != kParentLocatorItem;
  return kMetadataIsRequired | (about_disk ? kMetadataIsVirtualDisk : 0);
}

template <typename Layout>
std::vector<std::byte> item_of(const Layout& layout) {
  const auto bytes = bytes_of(layout);
  return {bytes.begin(), bytes.end()};
}

}  // namespace

Result<ParentLocator> ParentLocator::parse(std::span<const std::byte> item) {
  if (item.size() < sizeof(ParentLocatorHeader)) {
    return fail("its parent locator is too short");
  }
  const auto header = load<ParentLocatorHeader>(item);
  if (header.locator_type != kVhdxParentLocator) {
    return fail(fmt::format("its parent is of a type that is not known here: {}", header.locator_type.text()));
  }
  const std::size_t count = header.key_value_count;
  if (count > kMostLocatorEntries) {
    return fail(fmt::format("its parent locator has {} entries", count));
  }
  if (sizeof header + count * sizeof(ParentLocatorEntry) > item.size()) {
    return fail("its parent locator is too short for its entries");
  }
  ParentLocator locator;
  for (std::size_t i = 0; i < count; ++i) {
    const auto entry = load<ParentLocatorEntry>(item, sizeof header + i * sizeof(ParentLocatorEntry));
    const auto text = [&](std::uint64_t offset, std::uint64_t length) -> std::optional<std::string> {
      if (offset > item.size() || length > item.size() - offset || length % 2 != 0) {
        return std::nullopt;
      }
      return utf8_from_utf16(item.subspan(offset, length), std::endian::little);
    };
    const auto key = text(entry.key_offset, entry.key_length);
    const auto value = text(entry.value_offset, entry.value_length);
    if (!key || !value) {
      return fail("its parent locator points outside of itself");
    }
    locator.values[*key] = *value;
  }
  return locator;
}

Result<std::vector<std::byte>> ParentLocator::serialize() const {
  std::vector<std::byte> item(sizeof(ParentLocatorHeader) + values.size() * sizeof(ParentLocatorEntry));
  ParentLocatorHeader header;
  header.locator_type = kVhdxParentLocator;
  header.key_value_count = static_cast<std::uint16_t>(values.size());
  store(item, 0, header);
  std::size_t index = 0;
  for (const auto& [key, value] : values) {
    ParentLocatorEntry entry;
    const auto append = [&item](const std::string& text) {
      const auto utf16 = utf16_from_utf8(text, std::endian::little);
      item.insert(item.end(), utf16.begin(), utf16.end());
      return utf16.size();
    };
    entry.key_offset = static_cast<std::uint32_t>(item.size());
    entry.key_length = static_cast<std::uint16_t>(append(key));
    entry.value_offset = static_cast<std::uint32_t>(item.size());
    const auto length = append(value);
    if (length > 0xffff || item.size() > kMetadataTableLength) {
      return fail("the parent's path is too long for a VHDX");
    }
    entry.value_length = static_cast<std::uint16_t>(length);
    store(item, sizeof header + index++ * sizeof entry, entry);
  }
  return item;
}

std::optional<std::string> ParentLocator::value(const std::string& key) const {
  const auto found = values.find(key);
  return found == values.end() ? std::nullopt : std::optional(found->second);
}

bool ParentLocator::links_to(const Guid& data_write_guid) const {
  for (const char* key : {"parent_linkage", "parent_linkage2"}) {
    if (const auto text = value(key)) {
      if (const auto guid = Guid::parse(*text); guid && *guid == data_write_guid) {
        return true;
      }
    }
  }
  return false;
}

Task<Result<Metadata>> Metadata::load(File& file, const Region& region) {
  if (region.length > kLargestRegion) {
    co_return fail(fmt::format("'{}' has {} MiB of metadata; at most {} MiB are handled", file.name(),
                               region.length / kMiB, kLargestRegion / kMiB));
  }
  std::vector<std::byte> table(kMetadataTableLength);
  auto read = co_await read_bytes(file, region.offset, table);
  if (!read) {
    co_return std::unexpected(read.error());
  }
  const auto header = disk::load<MetadataTableHeader>(table);
  if (header.signature != kMetadataSignature || header.entry_count > kMostTableEntries) {
    co_return fail(fmt::format("'{}' is damaged: its metadata table is not valid", file.name()));
  }
  Metadata metadata;
  std::set<std::pair<Guid, bool>> seen;
  for (std::size_t i = 0; i < header.entry_count; ++i) {
    const auto entry = disk::load<MetadataTableEntry>(table, sizeof header + i * sizeof(MetadataTableEntry));
    const bool user = (entry.flags & kMetadataIsUser) != 0;
    if (!seen.insert({entry.item, user}).second) {
      co_return fail(fmt::format("'{}' is damaged: metadata item {} is there twice", file.name(), entry.item.text()));
    }
    const std::uint64_t offset = entry.offset;
    const std::uint64_t length = entry.length;
    if (length > kLargestItem || (length != 0 && offset < kMetadataTableLength) || offset > region.length ||
        length > region.length - offset) {
      co_return fail(
          fmt::format("'{}' is damaged: metadata item {} lies outside of its region", file.name(), entry.item.text()));
    }
    metadata.entries.push_back(entry);
    if (user || !is_known(entry.item)) {
      if ((entry.flags & kMetadataIsRequired) != 0) {
        co_return fail(
            fmt::format("'{}' needs metadata that is not known here: item {}", file.name(), entry.item.text()));
      }
      continue;
    }
    std::vector<std::byte> content(length);
    read = co_await read_bytes(file, region.offset + offset, content);
    if (read) {
      read = metadata.take(file, entry, content);
    }
    if (!read) {
      co_return std::unexpected(read.error());
    }
  }
  if (auto checked = metadata.check(file); !checked) {
    co_return std::unexpected(checked.error());
  }
  co_return metadata;
}

Result<> Metadata::take(const File& file, const MetadataTableEntry& entry, std::span<const std::byte> content) {
  const auto is = [&](const Guid& item, std::size_t size) { return entry.item == item && content.size() >= size; };
  if (is(kFileParametersItem, sizeof(FileParameters))) {
    const auto parameters = disk::load<FileParameters>(content);
    block_size = parameters.block_size;
    leave_blocks_allocated = (parameters.flags & kLeaveBlocksAllocated) != 0;
    has_parent = (parameters.flags & kHasParent) != 0;
  } else if (is(kVirtualDiskSizeItem, 8)) {
    disk_size = disk::load<U64>(content);
  } else if (is(kPage83DataItem, 16)) {
    page_83 = disk::load<Guid>(content);
  } else if (is(kLogicalSectorSizeItem, 4)) {
    logical_sector = disk::load<U32>(content);
  } else if (is(kPhysicalSectorSizeItem, 4)) {
    physical_sector = disk::load<U32>(content);
  } else if (entry.item == kParentLocatorItem) {
    auto locator = ParentLocator::parse(content);
    if (!locator) {
      return fail(fmt::format("'{}' is damaged: {}", file.name(), locator.error().message()));
    }
    parent = std::move(*locator);
  } else {
    return fail(fmt::format("'{}' is damaged: metadata item {} is too short", file.name(), entry.item.text()));
  }
  return {};
}

Result<> Metadata::check(const File& file) const {
  const auto damaged = [&file](std::string what) {
    return fail(fmt::format("'{}' is damaged: {}", file.name(), std::move(what)));
  };
  if (block_size < kSmallestBlock || block_size > kLargestBlock || !std::has_single_bit(block_size)) {
    return damaged(fmt::format("its block size is {} bytes", block_size));
  }
  if (logical_sector != 512 && logical_sector != 4096) {
    return damaged(fmt::format("its logical sector size is {} bytes", logical_sector));
  }
  if (physical_sector != 512 && physical_sector != 4096) {
    return damaged(fmt::format("its physical sector size is {} bytes", physical_sector));
  }
  if (disk_size == 0 || disk_size > kLargestDisk || disk_size % logical_sector != 0) {
    return damaged(fmt::format("its virtual disk size is {} bytes", disk_size));
  }
  if (has_parent && !parent) {
    return damaged("it has a parent but does not say which");
  }
  return {};
}

Result<std::map<Guid, std::vector<std::byte>>> Metadata::known_items() const {
  std::map<Guid, std::vector<std::byte>> items;
  FileParameters parameters;
  parameters.block_size = block_size;
  parameters.flags = (leave_blocks_allocated ? kLeaveBlocksAllocated : 0) | (has_parent ? kHasParent : 0);
  items[kFileParametersItem] = item_of(parameters);
  items[kVirtualDiskSizeItem] = item_of(U64(disk_size));
  items[kPage83DataItem] = item_of(page_83);
  items[kLogicalSectorSizeItem] = item_of(U32(logical_sector));
  items[kPhysicalSectorSizeItem] = item_of(U32(physical_sector));
  if (has_parent && parent) {
    auto locator = parent->serialize();
    if (!locator) {
      return std::unexpected(locator.error());
    }
    items[kParentLocatorItem] = std::move(*locator);
  }
  return items;
}

Result<std::vector<std::byte>> Metadata::serialize() const {
  auto pages = changed_pages({}, kMiB);
  if (!pages) {
    return std::unexpected(pages.error());
  }
  std::vector<std::byte> region;
  for (const auto& [offset, content] : *pages) {
    region.resize(offset + kPage);
    std::ranges::copy(content, region.begin() + static_cast<std::ptrdiff_t>(offset));
  }
  return region;
}

std::uint64_t Metadata::used_length() const {
  std::uint64_t end = kMetadataTableLength;
  for (const auto& entry : entries) {
    end = std::max<std::uint64_t>(end, std::uint64_t{entry.offset} + entry.length);
  }
  return align_up(end, kPage);
}

Result<std::map<std::uint64_t, std::vector<std::byte>>> Metadata::changed_pages(std::span<const std::byte> current,
                                                                                std::uint64_t region_length) const {
  auto items = known_items();
  if (!items) {
    return std::unexpected(items.error());
  }
  std::vector<std::byte> region(current.begin(), current.end());
  region.resize(std::max<std::size_t>(region.size(), kMetadataTableLength));
  std::vector<MetadataTableEntry> kept;
  std::uint64_t end = kMetadataTableLength;
  for (const auto& entry : entries) {
    const bool ours = (entry.flags & kMetadataIsUser) == 0 && is_known(entry.item);
    if (ours && !items->contains(entry.item)) {
      continue;  // the parent locator of an image that has no parent any more
    }
    kept.push_back(entry);
    end = std::max<std::uint64_t>(end, std::uint64_t{entry.offset} + entry.length);
  }
  for (const auto& [guid, content] : *items) {
    auto entry =
        std::ranges::find_if(kept, [&](const auto& e) { return e.item == guid && (e.flags & kMetadataIsUser) == 0; });
    if (entry == kept.end()) {
      MetadataTableEntry added{};
      added.item = guid;
      added.flags = flags_of(guid);
      entry = kept.insert(kept.end(), added);
    }
    if (entry->offset == 0 || content.size() > entry->length) {  // new, or it has outgrown its place
      entry->offset = static_cast<std::uint32_t>(end);
      end += align_up(content.size(), 8);
    }
    entry->length = static_cast<std::uint32_t>(content.size());
    if (end > region_length || kept.size() > kMostTableEntries) {
      return fail("there is no room left in the image for its metadata");
    }
    region.resize(std::max<std::size_t>(region.size(), align_up(end, kPage)));
    std::ranges::copy(content, region.begin() + static_cast<std::ptrdiff_t>(std::uint32_t{entry->offset}));
  }
  MetadataTableHeader header{};
  header.signature = kMetadataSignature;
  header.entry_count = static_cast<std::uint16_t>(kept.size());
  std::fill_n(region.begin(), kMetadataTableLength, std::byte{0});
  store(region, 0, header);
  for (std::size_t i = 0; i < kept.size(); ++i) {
    store(region, sizeof header + i * sizeof(MetadataTableEntry), kept[i]);
  }
  region.resize(align_up(region.size(), kPage));
  std::map<std::uint64_t, std::vector<std::byte>> changed;
  for (std::uint64_t offset = 0; offset < region.size(); offset += kPage) {
    const auto page = std::span(region).subspan(offset, kPage);
    const bool same = offset + kPage <= current.size() && std::ranges::equal(page, current.subspan(offset, kPage));
    if (!same) {
      changed[offset] = {page.begin(), page.end()};
    }
  }
  return changed;
}

}  // namespace bulkhead::disk::vhdx
