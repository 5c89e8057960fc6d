// SPDX-License-Identifier: Apache-2.0
// Both directions of making a differencing image independent of what it lies on: taking in all of it, or the part in
// which another parent differs.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "disk/byte_order.hpp"
#include "disk/operation/change.hpp"
#include "disk/operation/copy.hpp"
#include "disk/operation/locator.hpp"

namespace bulkhead::disk {
namespace {

constexpr std::uint64_t kFlushEvery = 256 * kMiB;

/// Writes what a stretch that shows the parent reads as into the image itself. With `other`, only where that one does
/// not have the same.
Task<Result<>> take_in(Disk& disk, std::uint64_t offset, std::uint64_t length, Disk* other,
                       std::array<PageBuffer, 2>& buffers) {
  while (length > 0) {
    auto extent = co_await query_chain(disk, offset, length);
    auto below =
        other != nullptr ? co_await query_chain(*other, offset, length) : Result<Extent>(Extent{length, Content::data});
    if (!extent || !below) {
      co_return std::unexpected(extent ? below.error() : extent.error());
    }
    auto part = std::min({extent->length, below->length, length});
    Result<> done;
    if (extent->content != Content::data && below->content != Content::data) {
      // zeros over zeros
    } else if (extent->content != Content::data && other == nullptr) {
      done = co_await disk.zero(offset, part);
    } else {
      part = std::min<std::uint64_t>(part, kMiB);
      const auto bytes = std::span(buffers[0]).first(part);
      const auto theirs = std::span(buffers[1]).first(part);
      done = co_await read_bytes(disk, offset, bytes);
      if (done && other != nullptr) {
        const iovec whole = piece(theirs);
        done = co_await read_padded(*other, offset, Buffers(&whole, 1));
      }
      if (done && (other == nullptr || !std::ranges::equal(bytes, theirs))) {
        done = all_zero(bytes) ? co_await disk.zero(offset, part) : co_await write_bytes(disk, offset, bytes);
      }
    }
    if (!done) {
      co_return done;
    }
    offset += part;
    length -= part;
  }
  co_return Result<>();
}

Task<Result<>> take_in_all(Disk& disk, Disk* other, const Progress& progress) {
  std::array<PageBuffer, 2> buffers{PageBuffer(kMiB), PageBuffer(kMiB)};
  const auto size = disk.properties().size;
  const std::uint64_t block = disk.properties().block;
  std::uint64_t flushed = 0;
  for (std::uint64_t offset = 0; offset < size;) {
    auto extent = co_await disk.query(offset, size - offset);
    if (!extent) {
      co_return std::unexpected(extent.error());
    }
    Result<> done;
    if (extent->content == Content::parent) {
      // Block by block, so that one that shows nothing but zeros becomes one entry of the table.
      extent->length = std::min(extent->length, (offset / block + 1) * block - offset);
      done = co_await take_in(disk, offset, extent->length, other, buffers);
    }
    offset += extent->length;
    if (done && offset - flushed >= kFlushEvery) {
      done = co_await disk.flush();
      flushed = offset;
    }
    if (!done) {
      co_return done;
    }
    if (progress && !progress(offset, size)) {
      done = co_await disk.flush();
      co_return done ? stopped() : done;
    }
  }
  co_return co_await disk.flush();
}

Task<Result<std::unique_ptr<Disk>>> open_child(ImageStore& store, std::string path, std::optional<Format> format,
                                               bool with_parents) {
  OpenOptions options;
  options.format = format;
  options.access = ImageStore::Access::write;
  options.with_parents = with_parents;
  auto disk = co_await open_disk(store, path, options);
  if (disk && (*disk)->properties().kind != Kind::differencing) {
    co_return fail(fmt::format("'{}' has no parent", path));
  }
  if (auto* image = disk ? dynamic_cast<vhdx::VhdxDisk*>(disk->get()) : nullptr) {
    image->keep_data_write_guid();  // the disk's content stays the same
  }
  co_return disk;
}

}  // namespace

Task<Result<>> flatten_image(ImageStore& store, std::string path, std::optional<Format> format, Progress progress) {
  auto disk = co_await open_child(store, path, format, true);
  if (!disk) {
    co_return std::unexpected(disk.error());
  }
  auto done = co_await take_in_all(**disk, nullptr, progress);
  if (auto* image = dynamic_cast<vhdx::VhdxDisk*>(disk->get()); done && image != nullptr) {
    done = co_await image->drop_parent();
  } else if (done) {
    done = co_await dynamic_cast<vhd::VhdDisk&>(**disk).drop_parent();
  }
  if (done) {
    done = co_await (*disk)->close();
  }
  co_return done;
}

Task<Result<>> rebase_image(ImageStore& store, std::string path, std::optional<Format> format, std::string parent_path,
                            Rebasing rebasing, Progress progress) {
  auto disk = co_await open_child(store, path, format, rebasing == Rebasing::copy);
  if (!disk) {
    co_return std::unexpected(disk.error());
  }
  OpenOptions options;
  options.format = (*disk)->properties().format;
  auto parent = co_await open_disk(store, parent_path, options);
  if (!parent) {
    co_return std::unexpected(parent.error().within("cannot use the new parent"));
  }
  Result<> done;
  if ((*parent)->properties().logical_sector != (*disk)->properties().logical_sector) {
    done = fail(fmt::format("'{}' has other logical sectors than '{}'", parent_path, path));
  } else if (rebasing == Rebasing::reconnect && !links_to(**disk, **parent)) {
    done = fail(fmt::format("'{}' is not the parent of '{}', or it has changed since", parent_path, path));
  } else if (rebasing == Rebasing::copy) {
    done = co_await take_in_all(**disk, parent->get(), progress);
  }
  if (done) {
    done = co_await set_parent_locator(store, path, **disk, parent_path, **parent);
  }
  if (done) {
    done = co_await (*disk)->close();
  }
  co_return done;
}

}  // namespace bulkhead::disk
