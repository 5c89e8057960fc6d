// SPDX-License-Identifier: Apache-2.0
#include "vmbus/ring_memory.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

namespace bulkhead::vmbus {

using abi::vmbus::kRingPageSize;

Result<RingMemory> RingMemory::map(const engine::GuestMemory& memory, std::span<const std::uint64_t> page_numbers) {
  if (page_numbers.size() < 2) return fail("a ring needs a control page and a data page");
  std::vector<std::uint8_t*> pages;
  pages.reserve(page_numbers.size());
  for (const std::uint64_t number : page_numbers) {
    if (number > UINT64_MAX / kRingPageSize) return fail(fmt::format("page {:#x} of a ring is not memory", number));
    const auto* region = memory.find(number * kRingPageSize);
    const auto bytes = memory.at(number * kRingPageSize, kRingPageSize);
    if (!bytes || !region->writable) return fail(fmt::format("page {:#x} of a ring is not writable memory", number));
    pages.push_back(bytes->data());
  }
  return RingMemory(std::move(pages));
}

void RingMemory::copy_out(std::uint32_t offset, std::span<std::uint8_t> to) const {
  while (!to.empty()) {
    const std::size_t within = offset % kRingPageSize;
    const std::size_t count = std::min(to.size(), kRingPageSize - within);
    std::memcpy(to.data(), pages_[1 + offset / kRingPageSize] + within, count);
    to = to.subspan(count);
    offset = advance(offset, static_cast<std::uint32_t>(count));
  }
}

void RingMemory::copy_in(std::uint32_t offset, std::span<const std::uint8_t> from) {
  while (!from.empty()) {
    const std::size_t within = offset % kRingPageSize;
    const std::size_t count = std::min(from.size(), kRingPageSize - within);
    std::memcpy(pages_[1 + offset / kRingPageSize] + within, from.data(), count);
    from = from.subspan(count);
    offset = advance(offset, static_cast<std::uint32_t>(count));
  }
}

}  // namespace bulkhead::vmbus
