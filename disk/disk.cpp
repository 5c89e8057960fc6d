// SPDX-License-Identifier: Apache-2.0
#include "disk/disk.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace bulkhead::disk {

const char* name_of(Format format) {
  switch (format) {
    case Format::raw: return "raw";
    case Format::vhd: return "vhd";
    case Format::vhdx: return "vhdx";
  }
  return "unknown";
}

const char* name_of(Kind kind) {
  switch (kind) {
    case Kind::fixed: return "fixed";
    case Kind::dynamic: return "dynamic";
    case Kind::differencing: return "differencing";
  }
  return "unknown";
}

Result<> check_request(const Disk& disk, std::uint64_t offset, std::uint64_t length) {
  const auto& properties = disk.properties();
  if (offset % properties.logical_sector != 0 || length % properties.logical_sector != 0) {
    return fail(fmt::format("request at {} of {} bytes is not in whole sectors of {} bytes", offset, length,
                            properties.logical_sector));
  }
  if (offset > properties.size || length > properties.size - offset) {
    return fail(
        fmt::format("request at {} of {} bytes lies outside of the disk of {} bytes", offset, length, properties.size));
  }
  return {};
}

Task<Result<Extent>> query_chain(Disk& disk, std::uint64_t offset, std::uint64_t length) {
  Disk* layer = &disk;
  for (;;) {
    if (offset >= layer->properties().size) {
      co_return Extent{length, Content::hole};  // below a child that was made larger
    }
    const auto inside = std::min(length, layer->properties().size - offset);
    auto extent = co_await layer->query(offset, inside);
    if (!extent || extent->content != Content::parent) {
      co_return extent;
    }
    length = extent->length;
    layer = layer->parent();
    if (layer == nullptr) {
      co_return fail(fmt::format("'{}' was opened without its parent", disk.name()));
    }
  }
}

Task<Result<>> read_padded(Disk& disk, std::uint64_t offset, Buffers buffers) {
  const auto size = disk.properties().size;
  const auto length = total_length(buffers);
  const auto sector = disk.properties().logical_sector;
  const auto inside = offset < size ? std::min(length, size - offset) : 0;
  if (inside < length) {
    fill_zero(buffers, inside, length - inside);
  }
  if (inside == 0) {
    co_return Result<>();
  }
  if (inside == length && offset % sector == 0 && length % sector == 0) {
    co_return co_await disk.read(offset, buffers);
  }
  // A child with smaller sectors than its parent, or a ragged end: read whole sectors of the parent, copy what counts.
  const auto start = offset / sector * sector;
  const auto end = std::min(size, (offset + inside + sector - 1) / sector * sector);
  std::vector<std::byte> bytes(end - start);
  auto read = co_await read_bytes(disk, start, bytes);
  if (!read) {
    co_return read;
  }
  auto from = bytes.begin() + static_cast<std::ptrdiff_t>(offset - start);
  for (const auto& part : slice(buffers, 0, inside)) {
    std::copy_n(from, part.iov_len, static_cast<std::byte*>(part.iov_base));
    from += static_cast<std::ptrdiff_t>(part.iov_len);
  }
  co_return Result<>();
}

}  // namespace bulkhead::disk
