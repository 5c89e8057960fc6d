// SPDX-License-Identifier: Apache-2.0
#include "firmware/memory_map.hpp"

#include <fmt/format.h>
#include <algorithm>

#include "firmware/memory_layout.hpp"

namespace bulkhead::firmware {
namespace {

constexpr std::uint64_t kSmallest = 2 << 20;

}  // namespace

Result<MemoryMap> build_memory_map(const engine::GuestMemory& memory) {
  MemoryMap map{{}, 0};
  for (const engine::MemoryRegion& region : memory.regions()) {
    if (region.base == map.low_end && region.writable && region.at_start) map.low_end += region.bytes.size();
  }
  map.low_end = std::min(map.low_end, kFourGib);
  if (map.low_end < kSmallest) {
    return fail(fmt::format("the machine's memory begins with {} KiB, at least {} are needed", map.low_end / 1024,
                            kSmallest / 1024));
  }
  map.ranges = {
      {0, kExtendedBiosDataArea, AddressRangeType::Memory},
      {kExtendedBiosDataArea, kVideoMemory - kExtendedBiosDataArea, AddressRangeType::Reserved},
      {kAcpiTables, kHighMemory - kAcpiTables, AddressRangeType::Reserved},
  };
  for (const engine::MemoryRegion& region : memory.regions()) {
    if (!region.at_start) continue;
    const std::uint64_t base = std::max(region.base, kHighMemory);
    const std::uint64_t end = region.base + region.bytes.size();
    if (base >= end) continue;
    const auto type = region.writable ? AddressRangeType::Memory : AddressRangeType::Reserved;
    AddressRange& last = map.ranges.back();
    if (last.type == type && last.base + last.size == base) {
      last.size += end - base;
    } else {
      map.ranges.push_back({base, end - base, type});
    }
  }
  return map;
}

}  // namespace bulkhead::firmware
