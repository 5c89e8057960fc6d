// SPDX-License-Identifier: Apache-2.0
#include "engine/guest_memory.hpp"

#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace bulkhead::engine {
namespace {

constexpr std::uint64_t kPageSize = 4096;
constexpr std::uint64_t kLargePageSize = 0x200000;

/// Room for `size` bytes whose place in a large page is that of `base`: only then can the guest's large pages be made
/// of the host's. Gives back what it took too much.
Result<std::span<std::uint8_t>> reserve(GuestPhysicalAddress base, std::uint64_t size) {
  const std::uint64_t room = size + kLargePageSize;
  void* start = mmap(nullptr, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (start == MAP_FAILED) {
    return std::unexpected(Error::from_errno(fmt::format("cannot allocate {} MiB of guest memory", size >> 20), errno));
  }
  auto* bytes = static_cast<std::uint8_t*>(start);
  const auto address = reinterpret_cast<std::uintptr_t>(bytes);
  const std::uint64_t before = (base - address) & (kLargePageSize - 1);
  if (before != 0) munmap(bytes, before);
  if (before != kLargePageSize) munmap(bytes + before + size, kLargePageSize - before);
  // Large pages and staying out of forks and core dumps are wishes: a kernel without them serves as well.
  madvise(bytes + before, size, MADV_HUGEPAGE);
  madvise(bytes + before, size, MADV_DONTFORK);
  madvise(bytes + before, size, MADV_DONTDUMP);
  return std::span(bytes + before, size);
}

Result<> check(std::span<const GuestMemory::Range> ranges) {
  for (const auto& range : ranges) {
    if (range.size == 0 || range.size % kPageSize != 0 || range.base % kPageSize != 0 ||
        range.base + range.size < range.base) {
      return fail(
          fmt::format("guest memory at {:#x} of {:#x} bytes is not a range of whole pages", range.base, range.size));
    }
  }
  for (std::size_t index = 1; index < ranges.size(); ++index) {
    if (ranges[index - 1].base + ranges[index - 1].size > ranges[index].base) {
      return fail(
          fmt::format("guest memory at {:#x} overlaps that at {:#x}", ranges[index].base, ranges[index - 1].base));
    }
  }
  return {};
}

}  // namespace

Result<std::unique_ptr<GuestMemory>> GuestMemory::allocate(std::span<const Range> ranges) {
  std::vector<Range> sorted(ranges.begin(), ranges.end());
  std::ranges::sort(sorted, {}, &Range::base);
  if (auto checked = check(sorted); !checked) return std::unexpected(checked.error());

  std::unique_ptr<GuestMemory> memory(new GuestMemory());
  for (const auto& range : sorted) {
    auto bytes = reserve(range.base, range.size);
    if (!bytes) return std::unexpected(bytes.error());
    memory->regions_.push_back(
        {.base = range.base, .bytes = *bytes, .writable = range.writable, .at_start = range.at_start});
  }
  return memory;
}

GuestMemory::~GuestMemory() {
  for (const auto& region : regions_) munmap(region.bytes.data(), region.bytes.size());
}

std::uint64_t GuestMemory::size() const {
  std::uint64_t sum = 0;
  for (const auto& region : regions_) sum += region.bytes.size();
  return sum;
}

std::optional<std::span<std::uint8_t>> GuestMemory::at(GuestPhysicalAddress address, std::uint64_t size) const {
  const MemoryRegion* region = find(address);
  if (region == nullptr) return std::nullopt;
  const std::uint64_t offset = address - region->base;
  if (size > region->bytes.size() - offset) return std::nullopt;
  return region->bytes.subspan(offset, size);
}

std::optional<std::span<std::uint8_t>> GuestMemory::front_of(GuestPhysicalAddress address, std::uint64_t size) const {
  const MemoryRegion* region = find(address);
  if (region == nullptr) return std::nullopt;
  const std::uint64_t offset = address - region->base;
  return region->bytes.subspan(offset, std::min<std::uint64_t>(size, region->bytes.size() - offset));
}

bool GuestMemory::covers(GuestPhysicalAddress address, std::uint64_t size) const {
  while (size > 0) {
    const auto part = front_of(address, size);
    if (!part) return false;
    address += part->size();
    size -= part->size();
  }
  return true;
}

bool GuestMemory::read(GuestPhysicalAddress address, std::span<std::uint8_t> to) const {
  while (!to.empty()) {
    const auto part = front_of(address, to.size());
    if (!part) return false;
    std::memcpy(to.data(), part->data(), part->size());
    address += part->size();
    to = to.subspan(part->size());
  }
  return true;
}

bool GuestMemory::write(GuestPhysicalAddress address, std::span<const std::uint8_t> from) {
  if (!covers(address, from.size())) return false;
  while (!from.empty()) {
    const auto part = front_of(address, from.size());
    std::memcpy(part->data(), from.data(), part->size());
    address += part->size();
    from = from.subspan(part->size());
  }
  return true;
}

Result<> GuestMemory::discard(GuestPhysicalAddress address, std::uint64_t size) {
  if (address % kPageSize != 0 || size % kPageSize != 0 || !covers(address, size)) {
    return fail(fmt::format("guest memory at {:#x} of {:#x} bytes is not all there to be discarded", address, size));
  }
  while (size > 0) {
    const auto part = front_of(address, size);
    if (madvise(part->data(), part->size(), MADV_DONTNEED) != 0) {
      return std::unexpected(Error::from_errno("cannot give guest memory back", errno));
    }
    address += part->size();
    size -= part->size();
  }
  return {};
}

std::uint64_t GuestMemory::resident_pages(GuestPhysicalAddress address, std::uint64_t size) const {
  std::uint64_t count = 0;
  std::vector<unsigned char> map;
  while (size > 0) {
    const auto part = front_of(address, size);
    if (!part) return count;
    map.assign(part->size() / kPageSize, 0);
    if (mincore(part->data(), part->size(), map.data()) != 0) return count;
    for (const unsigned char page : map) count += page & 1;
    address += part->size();
    size -= part->size();
  }
  return count;
}

}  // namespace bulkhead::engine
