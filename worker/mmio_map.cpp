// SPDX-License-Identifier: Apache-2.0
#include "worker/mmio_map.hpp"

#include <fmt/format.h>
#include <algorithm>

namespace bulkhead::worker {

Result<> MmioMap::add(vdev::MmioDevice& device) {
  auto entries = entries_;
  const auto ranges = device.mmio_ranges();
  for (std::size_t i = 0; i < ranges.size(); ++i) {
    entries.push_back({ranges[i].base, ranges[i].size, &device, i});
  }
  std::ranges::sort(entries, {}, &Entry::base);
  for (std::size_t i = 0; i < entries.size(); ++i) {
    const auto& entry = entries[i];
    const std::uint64_t limit = i + 1 < entries.size() ? entries[i + 1].base : UINT64_MAX;
    if (entry.size == 0 || entry.size > limit - entry.base) {
      return fail(fmt::format("the device memory at {:#x} is empty or overlaps another's", entry.base));
    }
  }
  entries_ = std::move(entries);
  return {};
}

const MmioMap::Entry* MmioMap::find(std::uint64_t address, unsigned size) const {
  auto next = std::ranges::upper_bound(entries_, address, {}, &Entry::base);
  if (next == entries_.begin()) return nullptr;
  const Entry& entry = *std::prev(next);
  const std::uint64_t offset = address - entry.base;
  return offset < entry.size && size <= entry.size - offset ? &entry : nullptr;
}

std::uint64_t MmioMap::read(std::uint64_t address, unsigned size) {
  const Entry* entry = find(address, size);
  if (!entry) return UINT64_MAX >> (64 - 8 * size);
  return entry->device->read_mmio(entry->range, address - entry->base, size);
}

void MmioMap::write(std::uint64_t address, unsigned size, std::uint64_t value) {
  if (const Entry* entry = find(address, size)) {
    entry->device->write_mmio(entry->range, address - entry->base, size, value);
  }
}

}  // namespace bulkhead::worker
