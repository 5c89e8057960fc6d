// SPDX-License-Identifier: Apache-2.0
//
// How much memory a machine shall have. A pure function: demand and limits in, a wish out.
//
//   minimum        demand   target = demand + buffer                       maximum
//   ├──────────────┼────────┼──────────────────────────────────────────────┤
//                                    ▲ assigned: more than the target, and for a while: give back
//                  ▲ assigned: less: take more, if the host can spare it
//
// The words mean what they mean to users of Hyper-V. Start-up memory is what the machine begins with. Demand is what the
// guest has committed. The buffer, in percent of the demand, is room for what comes next and for the guest's caches.
// The weight says whose wishes count when the host is short of memory: a machine of weight 10000 may take all that is
// free but a small reserve, one of weight 0 leaves twice that; and when the host is below its reserve, buffers shrink,
// those of low weight first. Every worker keeps to this by itself; a manager can move the limits.
#pragma once

#include <cstdint>

#include "error/error.hpp"

namespace bulkhead::vsp::memory {

using Pages = std::uint64_t;  // of 4 KiB

struct MemoryLimits {
  Pages minimum = 0;
  Pages maximum = 0;
  std::uint32_t buffer_percent = 20;  // 0 to 2000
  std::uint32_t weight = 5000;        // 0 to 10000

  bool operator==(const MemoryLimits&) const = default;
};

/// Errors: limits that contradict each other or the start-up memory, or numbers out of range.
Result<> check_limits(const MemoryLimits& limits, Pages startup);

struct HostMemory {
  Pages total = 0;
  Pages available = 0;
};

/// Pages that the host keeps free from a machine of this weight.
Pages host_reserve(const HostMemory& host, std::uint32_t weight);

/// What a machine with this demand shall have, within its limits.
Pages target(const MemoryLimits& limits, Pages demand, const HostMemory& host);

/// What of `wanted` more pages the host can spare.
Pages affordable(const MemoryLimits& limits, Pages wanted, const HostMemory& host);

}  // namespace bulkhead::vsp::memory
