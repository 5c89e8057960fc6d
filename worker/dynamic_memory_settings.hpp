// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace bulkhead::worker {

/// What users say of a machine whose memory changes; docs/integration.md has Hyper-V's words for it. What the machine
/// starts with is said apart.
struct DynamicMemorySettings {
  std::uint64_t minimum = 0;  // bytes
  std::uint64_t maximum = 0;
  std::uint32_t buffer_percent = 20;
  std::uint32_t weight = 5000;

  bool operator==(const DynamicMemorySettings&) const = default;
};

}  // namespace bulkhead::worker
