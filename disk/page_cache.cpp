// SPDX-License-Identifier: Apache-2.0
#include "disk/page_cache.hpp"

#include <algorithm>

namespace bulkhead::disk {

void PageCache::touch(Page& page) {
  if (page.use != uses_.begin()) {
    uses_.splice(uses_.begin(), uses_, page.use);
  }
}

std::span<const std::byte> PageCache::find(std::uint64_t page) {
  const auto found = pages_.find(page);
  if (found == pages_.end()) {
    return {};
  }
  touch(found->second);
  return {found->second.bytes.get(), page_size_};
}

Task<Result<std::span<const std::byte>>> PageCache::load(std::uint64_t page) {
  if (const auto bytes = find(page); !bytes.empty()) {
    co_return bytes;
  }
  // Of those who want the same page, one reads it; the others wait for the gate and then find it.
  auto held = co_await loading_.own(page);
  if (const auto bytes = find(page); !bytes.empty()) {
    co_return bytes;
  }
  auto bytes = std::make_unique<std::byte[]>(page_size_);
  auto read = co_await read_bytes(*file_, page, std::span(bytes.get(), page_size_));
  if (!read) {
    co_return std::unexpected(read.error());
  }
  if (const auto made = find(page); !made.empty()) {  // create() was faster
    co_return made;
  }
  auto& entry = insert(page, std::move(bytes));
  co_return std::span<const std::byte>(entry.bytes.get(), page_size_);
}

PageCache::Page& PageCache::insert(std::uint64_t page, std::unique_ptr<std::byte[]> bytes) {
  shrink();
  uses_.push_front(page);
  auto& entry = pages_[page];
  entry.bytes = std::move(bytes);
  entry.use = uses_.begin();
  return entry;
}

std::span<std::byte> PageCache::modify(std::uint64_t page) {
  auto& entry = pages_.find(page)->second;
  touch(entry);
  if (!entry.dirty) {
    entry.dirty = true;
    dirty_[page] = &entry;
  }
  return {entry.bytes.get(), page_size_};
}

void PageCache::create(std::uint64_t page) {
  if (const auto found = pages_.find(page); found != pages_.end()) {
    std::fill_n(found->second.bytes.get(), page_size_, std::byte{0});
  } else {
    insert(page, std::make_unique<std::byte[]>(page_size_));
  }
  modify(page);
}

std::vector<PageCache::Taken> PageCache::take_dirty() {
  std::vector<Taken> taken;
  taken.reserve(dirty_.size());
  for (auto dirty = dirty_.rbegin(); dirty != dirty_.rend(); ++dirty) {
    const auto [page, entry] = *dirty;
    entry->dirty = false;
    ++entry->pins;
    taken.push_back(
        {page, std::make_shared<std::vector<std::byte>>(entry->bytes.get(), entry->bytes.get() + page_size_)});
  }
  dirty_.clear();
  return taken;
}

void PageCache::release(std::uint64_t page) {
  if (const auto found = pages_.find(page); found != pages_.end()) {
    --found->second.pins;
  }
}

void PageCache::forget(std::uint64_t start, std::uint64_t end) {
  for (auto page = page_of(start); page < end; page += page_size_) {
    const auto found = pages_.find(page);
    if (found != pages_.end()) {
      dirty_.erase(page);
      uses_.erase(found->second.use);
      pages_.erase(found);
    }
  }
}

void PageCache::shrink() {
  auto candidate = uses_.end();
  while (pages_.size() >= capacity_ && candidate != uses_.begin()) {
    --candidate;
    const auto found = pages_.find(*candidate);
    if (found->second.dirty || found->second.pins > 0) {
      continue;
    }
    pages_.erase(found);
    candidate = uses_.erase(candidate);
  }
}

}  // namespace bulkhead::disk
