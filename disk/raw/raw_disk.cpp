// SPDX-License-Identifier: Apache-2.0
#include "disk/raw/raw_disk.hpp"

#include "disk/block_disk.hpp"
#include "disk/byte_order.hpp"

namespace bulkhead::disk {

Result<std::unique_ptr<RawDisk>> RawDisk::open(std::unique_ptr<File> file, std::uint32_t sector) {
  Properties properties;
  properties.format = Format::raw;
  properties.size = align_up(file->size(), sector);
  properties.logical_sector = sector;
  properties.physical_sector = std::max(sector, 4096u);
  properties.writable = file->writable();
  return std::unique_ptr<RawDisk>(new RawDisk(std::move(file), properties));
}

Task<Result<>> RawDisk::read(std::uint64_t offset, Buffers buffers) {
  if (auto allowed = check_request(*this, offset, total_length(buffers)); !allowed) {
    co_return allowed;
  }
  co_return co_await file_->read(offset, buffers);
}

Task<Result<>> RawDisk::write(std::uint64_t offset, Buffers buffers) {
  if (auto allowed = check_request(*this, offset, total_length(buffers)); !allowed) {
    co_return allowed;
  }
  co_return co_await file_->write(offset, buffers);
}

Task<Result<>> RawDisk::zero(std::uint64_t offset, std::uint64_t length) {
  if (auto allowed = check_request(*this, offset, length); !allowed) {
    co_return allowed;
  }
  co_return co_await file_->zero(offset, length, File::Zeroing::give_space_back);
}

Task<Result<>> RawDisk::discard(std::uint64_t offset, std::uint64_t length) { return zero(offset, length); }

Task<Result<Extent>> RawDisk::query(std::uint64_t offset, std::uint64_t length) {
  if (auto allowed = check_request(*this, offset, length); !allowed) {
    co_return std::unexpected(allowed.error());
  }
  co_return co_await query_stored(*file_, offset, length, properties_.logical_sector);
}

Task<Result<>> RawDisk::resize(std::uint64_t size) {
  auto resized = co_await file_->resize(size);
  if (resized) {
    properties_.size = size;
  }
  co_return resized;
}

}  // namespace bulkhead::disk
