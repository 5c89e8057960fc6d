// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "error/error.hpp"

namespace bulkhead::worker {

/// The memory of this host, in bytes.
struct HostMemory {
  std::uint64_t total;
  std::uint64_t available;  // without swapping: MemAvailable of /proc/meminfo
};

/// Error: the kernel does not say.
Result<HostMemory> read_host_memory();

/// Whether a machine of this size can be started now. The error says how much there is.
Result<> check_memory_is_available(std::uint64_t size);

}  // namespace bulkhead::worker
