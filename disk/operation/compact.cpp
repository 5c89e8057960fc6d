// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>

#include "disk/byte_order.hpp"
#include "disk/operation/change.hpp"
#include "disk/operation/copy.hpp"
#include "disk/vhd/vhd_disk.hpp"
#include "disk/vhdx/vhdx_disk.hpp"

namespace bulkhead::disk {
namespace {

Task<Result<bool>> has_place(Disk& disk, std::uint64_t block) {
  if (auto* image = dynamic_cast<vhdx::VhdxDisk*>(&disk)) {
    auto entry = co_await image->payload_entry(block);
    co_return entry ? Result<bool>(entry->has_place()) : std::unexpected(entry.error());
  }
  auto place = co_await dynamic_cast<vhd::VhdDisk&>(disk).block_place(block);
  co_return place ? Result<bool>(place->has_value()) : std::unexpected(place.error());
}

Task<Result<>> release(Disk& disk, std::uint64_t block, std::uint64_t offset, std::uint64_t length) {
  auto* vhd_image = dynamic_cast<vhd::VhdDisk*>(&disk);
  if (vhd_image != nullptr && disk.properties().kind == Kind::dynamic) {
    co_return co_await vhd_image->reset_entry(block);
  }
  co_return co_await disk.zero(offset, length);
}

/// The first half of the work: blocks that hold nothing but zeros lose their place.
Task<Result<>> release_zeros(Disk& disk, const Progress& progress) {
  const auto& properties = disk.properties();
  const auto unit = properties.block != 0 ? properties.block : kMiB;
  for (std::uint64_t offset = 0; offset < properties.size; offset += unit) {
    const auto length = std::min<std::uint64_t>(unit, properties.size - offset);
    auto stored = properties.block != 0 ? co_await has_place(disk, offset / unit) : Result<bool>(true);
    if (stored && *stored) {
      stored = co_await holds_zeros(disk, CopyLayer::own, offset, length);
    }
    Result<> done;
    if (!stored) {
      done = std::unexpected(stored.error());
    } else if (*stored) {
      done = co_await release(disk, offset / unit, offset, length);
    }
    if (!done) {
      co_return done;
    }
    if (progress && !progress(offset, properties.size)) {
      co_return stopped();
    }
  }
  co_return co_await disk.flush();
}

}  // namespace

Task<Result<>> compact_image(ImageStore& store, std::string path, std::optional<Format> format, Progress progress) {
  OpenOptions options;
  options.access = ImageStore::Access::write;
  options.format = format;
  options.with_parents = false;
  auto opened = co_await open_disk(store, path, options);
  if (!opened) {
    co_return std::unexpected(opened.error());
  }
  auto& disk = **opened;
  if (disk.properties().kind == Kind::fixed && disk.properties().format != Format::raw) {
    co_return fail(fmt::format("'{}' is fixed: there is nothing to compact; convert it to a dynamic image", path));
  }
  auto* vhdx_image = dynamic_cast<vhdx::VhdxDisk*>(&disk);
  if (vhdx_image != nullptr) {
    vhdx_image->keep_data_write_guid();  // what the disk holds stays the same, and so do its children
  }
  auto done = co_await release_zeros(disk, progress);
  const auto size = disk.properties().size;
  // Each step is small beside the first half, so the bar stands at its end.
  const Progress moving = [&progress, size](std::uint64_t, std::uint64_t) { return !progress || progress(size, size); };
  if (done && vhdx_image != nullptr) {
    done = co_await vhdx_image->compact(moving);
  } else if (auto* vhd_image = dynamic_cast<vhd::VhdDisk*>(&disk); done && vhd_image != nullptr) {
    done = co_await vhd_image->compact(moving);
  }
  if (done) {
    done = co_await disk.close();
  }
  co_return done;
}

}  // namespace bulkhead::disk
