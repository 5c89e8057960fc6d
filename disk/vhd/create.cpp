// SPDX-License-Identifier: Apache-2.0
// Making a new VHD image.
#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "disk/utf16.hpp"
#include "disk/vhd/vhd_disk.hpp"

namespace bulkhead::disk::vhd {
namespace {

Result<> check(const File& file, const CreateOptions& options) {
  if (file.size() != 0) {
    return fail(fmt::format("cannot make an image of '{}': it is not empty", file.name()));
  }
  if (options.size == 0 || options.size % kSector != 0 || options.size > kLargestDisk) {
    return fail(
        fmt::format("a VHD has whole sectors of 512 bytes and at most 2040 GiB; {} bytes is not that", options.size));
  }
  if (options.kind != Kind::fixed && options.block_size != 512 * kKiB && options.block_size != 2 * kMiB) {
    return fail(fmt::format("a VHD has blocks of 512 KiB or 2 MiB, not {} bytes", options.block_size));
  }
  if ((options.kind == Kind::differencing) != options.parent.has_value()) {
    return fail("a differencing image needs a parent, and only that");
  }
  return {};
}

Task<Result<>> create_fixed(File& file, const Footer& footer) {
  const std::uint64_t size = footer.current_size;
  auto done = co_await file.resize(size);
  if (done) {
    done = co_await file.zero(0, size, File::Zeroing::keep_space);
  }
  if (done) {
    done = co_await write_bytes(file, size, bytes_of(footer));
  }
  if (done) {
    done = co_await file.flush();
  }
  co_return done;
}

}  // namespace

Result<std::vector<std::byte>> place_locators(DynamicHeader& header, const ParentLocator& parent,
                                              std::uint64_t offset) {
  header.parent_unique_id = parent.identity.big_endian();
  header.parent_timestamp = parent.timestamp;
  header.parent_name = {};
  auto name = utf16_from_utf8(parent.name, std::endian::big);
  name.resize(std::min(name.size(), header.parent_name.size() - 2));
  std::ranges::copy(name, header.parent_name.begin());
  header.locators = {};
  std::vector<std::byte> bytes;
  std::size_t slot = 0;
  for (const auto& [platform, text] :
       {std::pair{kPlatformRelative, parent.relative_path}, std::pair{kPlatformAbsolute, parent.absolute_path}}) {
    if (text.empty()) {
      continue;
    }
    const auto utf16 = utf16_from_utf8(text, std::endian::little);
    if (utf16.size() > 32 * kKiB) {
      return fail("the parent's path is too long for a VHD");
    }
    auto& entry = header.locators[slot++];
    entry.platform = platform;
    entry.space = static_cast<std::uint32_t>(align_up(utf16.size(), kSector));
    entry.length = static_cast<std::uint32_t>(utf16.size());
    entry.offset = offset + bytes.size();
    bytes.insert(bytes.end(), utf16.begin(), utf16.end());
    bytes.resize(align_up(bytes.size(), kSector));
  }
  return bytes;
}

Task<Result<>> create(File& file, CreateOptions options) {
  if (options.block_size == 0) {
    options.block_size = static_cast<std::uint32_t>(2 * kMiB);
  }
  if (options.azure) {
    options.size = align_up(options.size, kMiB);
  }
  if (auto checked = check(file, options); !checked) {
    co_return checked;
  }
  if (options.kind == Kind::fixed) {
    co_return co_await create_fixed(file, make_footer(options.size, DiskType::fixed, options.identity));
  }
  const auto type = options.kind == Kind::dynamic ? DiskType::dynamic : DiskType::differencing;
  const auto footer = make_footer(options.size, type, options.identity);
  const auto entries = (options.size + options.block_size - 1) / options.block_size;
  const auto table_length = align_up(entries * 4, kSector);
  DynamicHeader header{};
  header.cookie = kHeaderCookie;
  header.data_offset = kNoOffset;
  header.table_offset = 3 * kSector;
  header.header_version = 0x00010000;
  header.max_table_entries = static_cast<std::uint32_t>(entries);
  header.block_size = options.block_size;
  const auto locators_at = header.table_offset + table_length;
  std::vector<std::byte> locators;
  if (options.parent) {
    auto placed = place_locators(header, *options.parent, locators_at);
    if (!placed) {
      co_return std::unexpected(placed.error());
    }
    locators = std::move(*placed);
  }
  seal(header);
  const std::vector<std::byte> table(table_length, std::byte{0xff});
  auto done = co_await write_bytes(file, kSector, bytes_of(header));
  if (done) {
    done = co_await write_bytes(file, header.table_offset, table);
  }
  if (done && !locators.empty()) {
    done = co_await write_bytes(file, locators_at, locators);
  }
  if (done) {
    done = co_await write_bytes(file, locators_at + locators.size(), bytes_of(footer));
  }
  if (done) {
    done = co_await file.flush();
  }
  if (done) {  // with the copy in front the file is an image
    done = co_await write_bytes(file, 0, bytes_of(footer));
  }
  if (done) {
    done = co_await file.flush();
  }
  co_return done;
}

}  // namespace bulkhead::disk::vhd
