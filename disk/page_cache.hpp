// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <unordered_map>
#include <vector>

#include "disk/file/file.hpp"
#include "disk/synchronization.hpp"

namespace bulkhead::disk {

/// An image's tables (block allocation table, sector bitmaps), page by page, in bounded memory: a 64 TB disk has half a
/// gigabyte of them. A page is named by its offset in the file, a multiple of the page size plus `base`.
///
/// A page goes: clean -> (modify) dirty -> (the format's commit takes its content) clean, or kept pinned until the
/// log's copy has been written home. Only clean pages are given up.
class PageCache {
 public:
  PageCache(File& file, std::uint32_t page_size, std::uint64_t base, std::size_t capacity)
      : file_(&file), page_size_(page_size), base_(base), capacity_(capacity) {}

  std::uint32_t page_size() const { return page_size_; }
  /// The offset of the page that holds the byte at `offset`.
  std::uint64_t page_of(std::uint64_t offset) const { return offset - (offset - base_) % page_size_; }

  /// The bytes of the page at `page`, if they are in memory. The span is good until the next co_await.
  std::span<const std::byte> find(std::uint64_t page);
  /// The same, read from the file if need be.
  Task<Result<std::span<const std::byte>>> load(std::uint64_t page);
  /// For changing a page that find() or load() has just given.
  std::span<std::byte> modify(std::uint64_t page);
  /// A page whose old content in the file does not count: all zeros, dirty.
  void create(std::uint64_t page);

  std::size_t dirty() const { return dirty_.size(); }
  /// Takes the content of all dirty pages, the one that lies last in the file first; they become clean but stay in
  /// memory until release() of each.
  struct Taken {
    std::uint64_t page;
    std::shared_ptr<std::vector<std::byte>> content;
  };
  std::vector<Taken> take_dirty();
  void release(std::uint64_t page);
  /// Forgets pages of [start, end): the area is used for something else now.
  void forget(std::uint64_t start, std::uint64_t end);

 private:
  struct Page {
    std::unique_ptr<std::byte[]> bytes;
    std::uint32_t pins = 0;
    bool dirty = false;
    std::list<std::uint64_t>::iterator use;
  };
  Page& insert(std::uint64_t page, std::unique_ptr<std::byte[]> bytes);
  void touch(Page& page);
  void shrink();

  File* file_;
  std::uint32_t page_size_;
  std::uint64_t base_;
  std::size_t capacity_;
  std::unordered_map<std::uint64_t, Page> pages_;
  std::list<std::uint64_t> uses_;  // the page used last is in front
  std::map<std::uint64_t, Page*> dirty_;
  Gate loading_;
};

}  // namespace bulkhead::disk
