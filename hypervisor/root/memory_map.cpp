// SPDX-License-Identifier: Apache-2.0
#include "hypervisor/root/memory_map.hpp"

#include <algorithm>

namespace bulkhead::hypervisor::root {

bool MemoryMap::add(const MemoryRange& range) {
  if (range.size == 0) return true;
  if (range.base + range.size < range.base || count_ == kCapacity) return false;
  ranges_[count_++] = range;
  return true;
}

bool MemoryMap::retype(std::uint64_t start, std::uint64_t end, MemoryType type) {
  for (std::size_t index = 0; index < count_; ++index) {
    const MemoryRange old = ranges_[index];
    if (old.type != MemoryType::Usable || !old.contains(start, end)) continue;
    const MemoryRange parts[] = {{old.base, start - old.base, MemoryType::Usable},
                                 {start, end - start, type},
                                 {end, old.end() - end, MemoryType::Usable}};
    std::size_t needed = 0;
    for (const MemoryRange& part : parts) needed += part.size != 0;
    if (count_ - 1 + needed > kCapacity) return false;
    std::copy_backward(ranges_.begin() + index + 1, ranges_.begin() + count_, ranges_.begin() + count_ - 1 + needed);
    for (const MemoryRange& part : parts) {
      if (part.size != 0) ranges_[index++] = part;
    }
    count_ += needed - 1;
    return true;
  }
  return false;
}

std::optional<std::uint64_t> MemoryMap::find(bool highest, std::uint64_t size, std::uint64_t alignment,
                                             std::uint64_t floor, std::uint64_t ceiling) const {
  std::optional<std::uint64_t> best;
  for (const MemoryRange& range : ranges()) {
    if (range.type != MemoryType::Usable) continue;
    const std::uint64_t low = (std::max(range.base, floor) + alignment - 1) & ~(alignment - 1);
    const std::uint64_t high = std::min(range.end(), ceiling);
    if (high < low || high - low < size) continue;
    const std::uint64_t place = highest ? (high - size) & ~(alignment - 1) : low;
    if (!best || (highest ? place > *best : place < *best)) best = place;
  }
  return best;
}

bool MemoryMap::is_usable(std::uint64_t start, std::uint64_t end) const {
  return std::ranges::any_of(ranges(), [&](const MemoryRange& range) {
    return range.type == MemoryType::Usable && range.contains(start, end);
  });
}

std::uint64_t MemoryMap::end_of_memory() const {
  std::uint64_t end = 0;
  for (const MemoryRange& range : ranges()) {
    if (range.type == MemoryType::Usable) end = std::max(end, range.end());
  }
  return end;
}

}  // namespace bulkhead::hypervisor::root
