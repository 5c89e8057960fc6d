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

/// How many blocks from this one on have no place in the file; 0 if it has one.
Task<Result<std::uint64_t>> absent_blocks(Disk& disk, std::uint64_t block) {
  auto* image = dynamic_cast<BlockDisk*>(&disk);
  if (image == nullptr) {
    co_return 0;  // a raw image has no blocks
  }
  const auto absent = co_await image->absent_from(block);
  co_return absent ? Result<std::uint64_t>(absent->blocks) : std::unexpected(absent.error());
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
  for (std::uint64_t offset = 0; offset < properties.size;) {
    const auto absent = co_await absent_blocks(disk, offset / unit);
    if (!absent) {
      co_return std::unexpected(absent.error());
    }
    Result<> done;
    if (*absent == 0) {
      const auto length = std::min<std::uint64_t>(unit, properties.size - offset);
      const auto zeros = co_await holds_zeros(disk, CopyLayer::own, offset, length);
      if (!zeros) {
        done = std::unexpected(zeros.error());
      } else if (*zeros) {
        done = co_await release(disk, offset / unit, offset, length);
      }
    }
    offset += std::max<std::uint64_t>(*absent, 1) * unit;
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
