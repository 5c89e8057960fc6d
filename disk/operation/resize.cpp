// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "disk/operation/change.hpp"
#include "disk/operation/copy.hpp"
#include "disk/raw/raw_disk.hpp"
#include "disk/vhd/vhd_disk.hpp"
#include "disk/vhdx/vhdx_disk.hpp"

namespace bulkhead::disk {

Task<Result<>> resize_disk(Disk& disk, std::uint64_t size) {
  if (auto* vhdx_image = dynamic_cast<vhdx::VhdxDisk*>(&disk)) {
    co_return co_await vhdx_image->resize(size);
  }
  if (auto* vhd_image = dynamic_cast<vhd::VhdDisk*>(&disk)) {
    co_return co_await vhd_image->resize(size);
  }
  if (auto* raw = dynamic_cast<RawDisk*>(&disk)) {
    co_return co_await raw->resize(size);
  }
  co_return fail(fmt::format("'{}' is of a kind that cannot be resized", disk.name()));
}

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
    auto empty = co_await holds_zeros(disk, CopyLayer::chain, size, old_size - size);
    if (!empty) {
      co_return std::unexpected(empty.error());
    }
    if (!*empty) {
      co_return fail(
          fmt::format("cannot make '{}' {} bytes: there is data behind that; shrink its partitions first", path, size));
    }
  }
  auto done = co_await resize_disk(disk, size);
  if (done) {
    done = co_await disk.close();
  }
  co_return done;
}

}  // namespace bulkhead::disk
