// SPDX-License-Identifier: Apache-2.0
#include "disk/operation/info.hpp"

#include "disk/vhd/vhd_disk.hpp"
#include "disk/vhdx/vhdx_disk.hpp"

namespace bulkhead::disk {
namespace {

constexpr int kDeepest = 64;

Task<Result<std::uint64_t>> allocated_bytes(Disk& disk) {
  std::uint64_t allocated = 0;
  const auto size = disk.properties().size;
  for (std::uint64_t offset = 0; offset < size;) {
    auto extent = co_await disk.query(offset, size - offset);
    if (!extent) {
      co_return std::unexpected(extent.error());
    }
    allocated += extent->content == Content::data ? extent->length : 0;
    offset += extent->length;
  }
  co_return allocated;
}

Task<Result<ImageInfo>> image_info(Disk& disk, std::string path) {
  ImageInfo info;
  info.path = std::move(path);
  info.properties = disk.properties();
  auto allocated = co_await allocated_bytes(disk);
  if (!allocated) {
    co_return std::unexpected(allocated.error());
  }
  info.allocated = *allocated;
  info.file_size = disk.properties().size;
  info.parent = parent_reference(disk);
  if (auto* image = dynamic_cast<vhdx::VhdxDisk*>(&disk)) {
    info.file_size = image->file().size();
    info.data_write_guid = image->header().data_write_guid;
    info.recovered = image->was_recovered();
  } else if (auto* old = dynamic_cast<vhd::VhdDisk*>(&disk)) {
    info.file_size = old->file().size();
  }
  co_return info;
}

}  // namespace

Task<Result<ChainInfo>> chain_info(ImageStore& store, std::string path, std::optional<Format> format) {
  ChainInfo chain;
  OpenOptions options;
  options.format = format;
  options.with_parents = false;
  auto opened = co_await open_disk(store, path, options);
  if (!opened) {
    co_return std::unexpected(opened.error());
  }
  auto disk = std::move(*opened);
  for (int depth = 0; depth < kDeepest; ++depth) {
    auto info = co_await image_info(*disk, path);
    if (!info) {
      co_return std::unexpected(info.error());
    }
    chain.images.push_back(std::move(*info));
    if (!chain.images.back().parent) {
      break;
    }
    auto parent = co_await open_parent_of(store, path, *disk, options);
    if (!parent) {
      chain.problem = parent.error();
      break;
    }
    path = parent->path;
    disk = std::move(parent->disk);
  }
  co_return chain;
}

}  // namespace bulkhead::disk
