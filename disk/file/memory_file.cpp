// SPDX-License-Identifier: Apache-2.0
#include "disk/file/memory_file.hpp"

#include <algorithm>
#include <cstring>

namespace bulkhead::disk {

void SparseBytes::read(std::uint64_t offset, std::span<std::byte> bytes) const {
  while (!bytes.empty()) {
    const auto within = offset % kPage;
    const auto part = std::min<std::uint64_t>(bytes.size(), kPage - within);
    const auto found = pages_.find(offset / kPage);
    if (found == pages_.end()) {
      std::memset(bytes.data(), 0, part);
    } else {
      std::memcpy(bytes.data(), found->second->data() + within, part);
    }
    bytes = bytes.subspan(part);
    offset += part;
  }
}

void SparseBytes::write(std::uint64_t offset, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const auto within = offset % kPage;
    const auto part = std::min<std::uint64_t>(bytes.size(), kPage - within);
    auto& page = pages_[offset / kPage];
    if (!page) {
      page = std::make_shared<Page>();
    } else if (page.use_count() > 1) {
      page = std::make_shared<Page>(*page);
    }
    std::memcpy(page->data() + within, bytes.data(), part);
    bytes = bytes.subspan(part);
    offset += part;
  }
}

void SparseBytes::zero(std::uint64_t offset, std::uint64_t length) {
  static constexpr Page kZeros{};
  const auto end = offset + length;
  auto page = pages_.lower_bound(offset / kPage);
  while (page != pages_.end() && page->first * kPage < end) {
    const auto start = std::max(offset, page->first * kPage);
    const auto stop = std::min(end, (page->first + 1) * kPage);
    if (stop - start == kPage) {
      page = pages_.erase(page);
    } else {
      ++page;
      write(start, std::span(kZeros).first(stop - start));
    }
  }
}

File::Extent SparseBytes::query(std::uint64_t offset, std::uint64_t length) const {
  auto page = pages_.lower_bound(offset / kPage);
  if (page == pages_.end()) {
    return {length, true};
  }
  if (page->first > offset / kPage) {
    return {std::min(length, page->first * kPage - offset), true};
  }
  auto end = offset / kPage;
  while (page != pages_.end() && page->first == end && end * kPage < offset + length) {
    ++page;
    ++end;
  }
  return {std::min(length, end * kPage - offset), false};
}

Task<Result<>> MemoryFile::read(std::uint64_t offset, Buffers buffers) {
  for (const auto& part : buffers) {
    bytes_.read(offset, {static_cast<std::byte*>(part.iov_base), part.iov_len});
    offset += part.iov_len;
  }
  co_return Result<>();
}

Task<Result<>> MemoryFile::write(std::uint64_t offset, Buffers buffers) {
  if (!writable_) {
    co_return fail("cannot write to '" + name_ + "': it is read-only");
  }
  for (const auto& part : buffers) {
    bytes_.write(offset, {static_cast<const std::byte*>(part.iov_base), part.iov_len});
    offset += part.iov_len;
  }
  size_ = std::max(size_, offset);
  co_return Result<>();
}

Task<Result<>> MemoryFile::flush() { co_return Result<>(); }

Task<Result<>> MemoryFile::zero(std::uint64_t offset, std::uint64_t length, Zeroing) {
  if (!writable_) {
    co_return fail("cannot write to '" + name_ + "': it is read-only");
  }
  bytes_.zero(offset, length);
  co_return Result<>();
}

Task<Result<>> MemoryFile::resize(std::uint64_t size) {
  if (!writable_) {
    co_return fail("cannot change the size of '" + name_ + "': it is read-only");
  }
  if (size < size_) {
    bytes_.zero(size, size_ - size);
  }
  size_ = size;
  co_return Result<>();
}

Task<Result<File::Extent>> MemoryFile::query(std::uint64_t offset, std::uint64_t length) {
  co_return bytes_.query(offset, length);
}

}  // namespace bulkhead::disk
