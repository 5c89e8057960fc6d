// SPDX-License-Identifier: Apache-2.0
// Making a new VHDX image.
#include <fmt/format.h>

#include <bit>

#include "disk/vhdx/vhdx_disk.hpp"

namespace bulkhead::disk::vhdx {
namespace {

constexpr std::uint64_t kLogOffset = kMiB;
constexpr std::uint64_t kLogLength = kMiB;
constexpr std::uint64_t kMetadataOffset = 2 * kMiB;
constexpr std::uint64_t kBatOffset = 3 * kMiB;

Result<> check(const File& file, const CreateOptions& options) {
  if (file.size() != 0) {
    return fail(fmt::format("cannot make an image of '{}': it is not empty", file.name()));
  }
  if (options.logical_sector != 512 && options.logical_sector != 4096) {
    return fail(fmt::format("a VHDX has logical sectors of 512 or 4096 bytes, not {}", options.logical_sector));
  }
  if (options.physical_sector != 512 && options.physical_sector != 4096) {
    return fail(fmt::format("a VHDX has physical sectors of 512 or 4096 bytes, not {}", options.physical_sector));
  }
  if (options.size == 0 || options.size > kLargestDisk || options.size % options.logical_sector != 0) {
    return fail(fmt::format("a VHDX has whole sectors of {} bytes and at most 64 TiB; {} bytes is not that",
                            options.logical_sector, options.size));
  }
  if (options.block_size < kSmallestBlock || options.block_size > kLargestBlock ||
      !std::has_single_bit(options.block_size)) {
    return fail(fmt::format("a VHDX has blocks of 1, 2, 4 ... or 256 MiB, not {} bytes", options.block_size));
  }
  if ((options.kind == Kind::differencing) != options.parent.has_value()) {
    return fail("a differencing image needs a parent, and only that");
  }
  return {};
}

/// The BAT of a fixed disk: all blocks, one after the other.
Task<Result<>> write_full_table(File& file, const BatGeometry& geometry, std::uint64_t first_block) {
  std::vector<std::byte> buffer;
  std::uint64_t at = kBatOffset;
  std::uint64_t place = first_block;
  for (std::uint64_t index = 0; index < geometry.entries; ++index) {
    const bool bitmap = index % (geometry.chunk_ratio + 1) == geometry.chunk_ratio;
    const U64 raw = bitmap ? 0 : BatEntry{PayloadState::fully_present, place}.encode();
    place += bitmap ? 0 : geometry.block_size;
    const auto bytes = bytes_of(raw);
    buffer.insert(buffer.end(), bytes.begin(), bytes.end());
    if (buffer.size() == kMiB || index + 1 == geometry.entries) {
      auto written = co_await write_bytes(file, at, buffer);
      if (!written) {
        co_return written;
      }
      at += buffer.size();
      buffer.clear();
    }
  }
  co_return Result<>();
}

}  // namespace

Task<Result<>> create(File& file, CreateOptions options) {
  if (options.block_size == 0) {
    options.block_size = static_cast<std::uint32_t>((options.kind == Kind::differencing ? 2 : 32) * kMiB);
  }
  if (auto checked = check(file, options); !checked) {
    co_return checked;
  }
  const bool differencing = options.kind == Kind::differencing;
  const auto geometry = BatGeometry::of(options.size, options.block_size, options.logical_sector, differencing);
  const auto bat_length = align_up(geometry.entries * 8, kAlignment);
  const auto blocks_start = kBatOffset + bat_length;

  Metadata metadata;
  metadata.block_size = options.block_size;
  metadata.leave_blocks_allocated = options.kind == Kind::fixed;
  metadata.has_parent = differencing;
  metadata.disk_size = options.size;
  metadata.page_83 = options.identity;
  metadata.logical_sector = options.logical_sector;
  metadata.physical_sector = options.physical_sector;
  metadata.parent = options.parent;
  auto items = metadata.serialize();
  if (!items) {
    co_return std::unexpected(items.error());
  }
  RegionTable regions;
  for (const auto& [guid, offset, length] :
       {std::tuple{kBatRegion, kBatOffset, bat_length}, std::tuple{kMetadataRegion, kMetadataOffset, kMiB}}) {
    RegionTableEntry entry{};
    entry.guid = guid;
    entry.file_offset = offset;
    entry.length = static_cast<std::uint32_t>(length);
    entry.required = 1;
    regions.entries.push_back(entry);
  }

  const auto blocks = options.kind == Kind::fixed ? geometry.blocks * geometry.block_size : 0;
  auto done = co_await file.resize(blocks_start + blocks);
  if (done) {
    done = co_await write_bytes(file, kMetadataOffset, *items);
  }
  if (done && options.kind == Kind::fixed) {
    done = co_await file.zero(blocks_start, blocks, File::Zeroing::keep_space);
    if (done) {
      done = co_await write_full_table(file, geometry, blocks_start);
    }
  }
  const auto table = regions.serialize();
  for (const auto offset : kRegionTableOffsets) {
    if (done) {
      done = co_await write_bytes(file, offset, table);
    }
  }
  if (done) {
    done = co_await file.flush();
  }
  if (!done) {
    co_return done;
  }
  // The identifier and the headers make it an image, so they come last.
  auto headers = co_await HeaderSection::create(file, kLogOffset, static_cast<std::uint32_t>(kLogLength));
  co_return headers ? Result<>() : std::unexpected(headers.error());
}

}  // namespace bulkhead::disk::vhdx
