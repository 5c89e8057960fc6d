// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>

#include "disk/byte_order.hpp"
#include "disk/operation/change.hpp"
#include "disk/operation/copy.hpp"
#include "disk/raw/raw_disk.hpp"
#include "disk/vhd/vhd_disk.hpp"
#include "disk/vhdx/vhdx_disk.hpp"

namespace bulkhead::disk {
namespace {

/// Whether everything in [offset, end) reads as zeros.
Task<Result<bool>> reads_as_zeros(Disk& disk, std::uint64_t offset, std::uint64_t end) {
  std::vector<std::byte> buffer(kMiB);
  while (offset < end) {
    auto extent = co_await query_chain(disk, offset, end - offset);
    if (!extent) {
      co_return std::unexpected(extent.error());
    }
    if (extent->content == Content::data) {
      const auto bytes = std::span(buffer).first(std::min<std::uint64_t>(buffer.size(), extent->length));
      auto read = co_await read_bytes(disk, offset, bytes);
      if (!read) {
        co_return std::unexpected(read.error());
      }
      if (!all_zero(bytes)) {
        co_return false;
      }
      offset += bytes.size();
    } else {
      offset += extent->length;
    }
  }
  co_return true;
}

}  // namespace

Task<Result<>> resize_image(ImageStore& store, std::string path, std::optional<Format> format, std::uint64_t size) {
  OpenOptions options;
  options.access = ImageStore::Access::write;
  options.format = format;
  auto opened = co_await open_disk(store, path, options);
  if (!opened) {
    co_return std::unexpected(opened.error());
  }
  auto& disk = **opened;
  const auto old_size = disk.properties().size;
  if (size < old_size) {
    if (size % disk.properties().logical_sector != 0) {
      co_return fail(
          fmt::format("cannot make '{}' {} bytes: its sectors have {}", path, size, disk.properties().logical_sector));
    }
    auto empty = co_await reads_as_zeros(disk, size, old_size);
    if (!empty) {
      co_return std::unexpected(empty.error());
    }
    if (!*empty) {
      co_return fail(
          fmt::format("cannot make '{}' {} bytes: there is data behind that; shrink its partitions first", path, size));
    }
  }
  Result<> done;
  if (auto* vhdx_image = dynamic_cast<vhdx::VhdxDisk*>(&disk)) {
    done = co_await vhdx_image->resize(size);
  } else if (auto* vhd_image = dynamic_cast<vhd::VhdDisk*>(&disk)) {
    done = co_await vhd_image->resize(size);
  } else if (auto* raw = dynamic_cast<RawDisk*>(&disk)) {
    done = co_await raw->resize(size);
  }
  if (done) {
    done = co_await disk.close();
  }
  co_return done;
}

}  // namespace bulkhead::disk
