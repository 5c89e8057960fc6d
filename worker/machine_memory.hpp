// SPDX-License-Identifier: Apache-2.0
//
// Where a machine's memory lies, and the room for more that dynamic memory may fill:
//
//   0          start-up      (128 MiB)      3 GiB       4 GiB                       (the rest)
//   ├── memory ──┤  not used  ├── room ───────┤           ├── memory or room ──────────┤
//
// Guests take new memory in blocks of 128 MiB, so the room begins at a multiple of that.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "engine/engine.hpp"
#include "vsp/memory/dynamic_memory.hpp"
#include "worker/dynamic_memory_settings.hpp"

namespace bulkhead::worker {

/// For a machine that starts with `startup` bytes and may get `maximum`.
std::vector<engine::GuestMemory::Range> memory_ranges(std::uint64_t startup, std::uint64_t maximum);

/// Errors: sizes that are not multiples of 2 MiB, and those of vsp::memory::check_limits.
Result<vsp::memory::MemoryLimits> memory_limits(std::uint64_t startup, const DynamicMemorySettings& settings);

/// The machine's memory for its dynamic memory, and the host's. It outlives the partition: while there is none, memory that is
/// taken goes to the host all the same, and none is given.
class MachineMemoryPort final : public vsp::memory::MemoryPort {
 public:
  explicit MachineMemoryPort(engine::GuestMemory& memory) : memory_(memory) {}

  /// With the machine's lock held, as all calls.
  void connect(engine::Partition& partition) { partition_ = &partition; }
  void disconnect() { partition_ = nullptr; }

  void release(const vsp::memory::PageRun& run) override;
  bool provide(const vsp::memory::PageRun& run) override;
  vsp::memory::Pages used_again(const vsp::memory::PageRun& run) const override;
  vsp::memory::HostMemory host() const override;

  vsp::memory::MemoryAccount account();

 private:
  engine::GuestMemory& memory_;
  engine::Partition* partition_ = nullptr;
};

}  // namespace bulkhead::worker
