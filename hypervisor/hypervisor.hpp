// SPDX-License-Identifier: Apache-2.0
//
// The hypervisor without the machine: what is known about memory and partitions. The machine side sets it up once,
// before the root runs, by hypervisor::start.
#pragma once

#include <cstdint>
#include <span>

#include "hypervisor/memory/frame.hpp"

namespace bulkhead::hypervisor {

struct FrameRange {
  Frame first;
  std::uint64_t count;
};

struct StartSettings {
  /// The root's second-level table, filled in: the identity, but the hypervisor's frames, which show `zero_frame`.
  Frame root_table;
  /// Read-only for the root, in the place of each frame that is hidden from it.
  Frame zero_frame;
  /// Two frames of the hypervisor's own, zeroed: the first tables for splitting the root's large pages.
  Frame reserve[2];
  /// What the root may deposit or map to a child: its RAM, in ascending order. The array must stay. Frames outside (devices' memory,
  /// the hypervisor's own) are refused.
  std::span<const FrameRange> ram;
  /// Room for one counter for each 2 MiB of the address space up to the end of RAM, zeroed; it must stay.
  std::span<std::uint16_t> region_counters;
  /// For call 0x7f00.
  std::uint64_t image_bytes;
  std::uint64_t memory_bytes;
};

/// Once, on the boot processor, before any other function of the rooms but machine's.
void start(const StartSettings& settings);

}  // namespace bulkhead::hypervisor
