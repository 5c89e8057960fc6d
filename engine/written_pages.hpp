// SPDX-License-Identifier: Apache-2.0
//
// The pages that an engine itself wrote in the guest's name, for an engine whose hypervisor does not see that.
#pragma once

#include <atomic>
#include <mutex>
#include <optional>

#include "engine/dirty_pages.hpp"

namespace bulkhead::engine {

class WrittenPages {
 public:
  /// Begins with a clean map of these regions.
  void track(std::span<const MemoryRegion> regions) {
    const std::lock_guard lock(mutex_);
    pages_.emplace(regions);
    tracks_.store(true);
  }
  void stop() {
    const std::lock_guard lock(mutex_);
    tracks_.store(false);
    pages_.reset();
  }

  /// From any thread, after the write: whoever copies the page after the harvest that tells it has what was written.
  void note(GuestPhysicalAddress address) {
    if (!tracks_.load(std::memory_order_relaxed)) [[likely]]
      return;
    const std::lock_guard lock(mutex_);
    if (pages_) pages_->mark(address);
  }

  /// Adds what was noted since the last time.
  void harvest(std::span<const MemoryRegion> regions, DirtyPages& into) {
    const std::lock_guard lock(mutex_);
    if (!pages_) return;
    into.add(*pages_);
    pages_.emplace(regions);
  }

 private:
  std::atomic<bool> tracks_ = false;
  std::mutex mutex_;
  std::optional<DirtyPages> pages_;
};

}  // namespace bulkhead::engine
