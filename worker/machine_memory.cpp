// SPDX-License-Identifier: Apache-2.0
#include "worker/machine_memory.hpp"

#include <algorithm>

#include "firmware/memory_layout.hpp"
#include "worker/host_memory.hpp"

namespace bulkhead::worker {

using namespace vsp::memory;

namespace {

constexpr std::uint64_t kPageSize = 4096;
constexpr std::uint64_t kLargePageSize = 2 << 20;
constexpr std::uint64_t kBlockSize = 128 << 20;  // of memory that a guest adds

constexpr std::uint64_t round_up(std::uint64_t value, std::uint64_t to) { return (value + to - 1) / to * to; }

}  // namespace

std::vector<engine::GuestMemory::Range> memory_ranges(std::uint64_t startup, std::uint64_t maximum) {
  const std::uint64_t low = std::min(startup, firmware::kLowMemoryLimit);
  std::vector<engine::GuestMemory::Range> ranges{{.base = 0, .size = low}};
  const std::uint64_t high = startup - low;
  if (high > 0) ranges.push_back({.base = firmware::kFourGib, .size = high});
  std::uint64_t room = maximum - startup;
  const std::uint64_t low_room_begin = round_up(low, kBlockSize);
  if (low_room_begin < firmware::kLowMemoryLimit) {
    const std::uint64_t size = std::min(room, firmware::kLowMemoryLimit - low_room_begin);
    if (size > 0) ranges.push_back({.base = low_room_begin, .size = size, .at_start = false});
    room -= size;
  }
  if (room > 0) {
    ranges.push_back({.base = firmware::kFourGib + round_up(high, kBlockSize), .size = room, .at_start = false});
  }
  return ranges;
}

Result<MemoryLimits> memory_limits(std::uint64_t startup, const DynamicMemorySettings& settings) {
  for (const std::uint64_t size : {startup, settings.minimum, settings.maximum}) {
    if (size % kLargePageSize != 0) return fail("the sizes of dynamic memory must be multiples of 2 MiB");
  }
  const MemoryLimits limits{.minimum = settings.minimum / kPageSize,
                            .maximum = settings.maximum / kPageSize,
                            .buffer_percent = settings.buffer_percent,
                            .weight = settings.weight};
  if (auto checked = check_limits(limits, startup / kPageSize); !checked) return std::unexpected(checked.error());
  return limits;
}

void MachineMemoryPort::release(const PageRun& run) {
  // It is the machine's memory, as the account has it; a kernel that will not take it back keeps it in use.
  const std::uint64_t address = run.first * kPageSize, size = run.count * kPageSize;
  static_cast<void>(partition_ != nullptr ? partition_->take_memory(address, size) : memory_.discard(address, size));
}

bool MachineMemoryPort::provide(const PageRun& run) {
  return partition_ != nullptr && partition_->give_memory(run.first * kPageSize, run.count * kPageSize).has_value();
}

Pages MachineMemoryPort::used_again(const PageRun& run) const {
  const std::uint64_t address = run.first * kPageSize, size = run.count * kPageSize;
  return partition_ != nullptr ? partition_->used_again(address, size) : memory_.resident_pages(address, size);
}

vsp::memory::HostMemory MachineMemoryPort::host() const {
  // Where the kernel does not say, there is none to spare.
  const auto host = read_host_memory();
  if (!host) return {};
  return {.total = host->total / kPageSize, .available = host->available / kPageSize};
}

MemoryAccount MachineMemoryPort::account() {
  std::vector<PageRun> startup;
  std::vector<PageRun> more;
  for (const auto& region : memory_.regions()) {
    if (!region.writable) continue;
    (region.at_start ? startup : more)
        .push_back({.first = region.base / kPageSize, .count = region.bytes.size() / kPageSize});
  }
  return {std::move(startup), std::move(more), *this};
}

}  // namespace bulkhead::worker
