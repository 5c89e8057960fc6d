// SPDX-License-Identifier: Apache-2.0
#include "vsp/memory/memory_policy.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace bulkhead::vsp::memory {
namespace {

constexpr std::uint32_t kLargestBuffer = 2000;
constexpr std::uint32_t kLargestWeight = 10000;
constexpr Pages kReserveDivisor = 20;  // a twentieth of the host's memory

constexpr Pages to_mebibytes(Pages pages) { return pages / 256; }

}  // namespace

Result<> check_limits(const MemoryLimits& limits, Pages startup) {
  if (limits.minimum == 0 || limits.minimum > startup) {
    return fail(fmt::format("the least memory, {} MiB, must be more than 0 and no more than the {} MiB at the start",
                            to_mebibytes(limits.minimum), to_mebibytes(startup)));
  }
  if (limits.maximum < startup) {
    return fail(fmt::format("the most memory, {} MiB, is less than the {} MiB at the start",
                            to_mebibytes(limits.maximum), to_mebibytes(startup)));
  }
  if (limits.buffer_percent > kLargestBuffer) return fail("the memory buffer is 0 to 2000 percent");
  if (limits.weight > kLargestWeight) return fail("the memory weight is 0 to 10000");
  return {};
}

Pages host_reserve(const HostMemory& host, std::uint32_t weight) {
  const Pages least = host.total / kReserveDivisor;
  return least + least * (kLargestWeight - std::min(weight, kLargestWeight)) / kLargestWeight;
}

Pages target(const MemoryLimits& limits, Pages demand, const HostMemory& host) {
  demand = std::min(demand, limits.maximum);  // a guest may say any number
  Pages buffer = demand * limits.buffer_percent / 100;
  if (host.available < host_reserve(host, kLargestWeight)) buffer = buffer * limits.weight / kLargestWeight;
  return std::clamp(demand + buffer, limits.minimum, limits.maximum);
}

Pages affordable(const MemoryLimits& limits, Pages wanted, const HostMemory& host) {
  const Pages reserve = host_reserve(host, limits.weight);
  return host.available > reserve ? std::min(wanted, host.available - reserve) : 0;
}

}  // namespace bulkhead::vsp::memory
