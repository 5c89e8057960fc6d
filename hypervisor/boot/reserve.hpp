// SPDX-License-Identifier: Apache-2.0
//
// The hypervisor's own memory: one piece at the top of RAM, measured and given out once, at boot.
//
//   base (2 MiB aligned)
//   | image | page tables | permission maps | stack, save areas and VMCB of each processor | counters |
#pragma once

#include <cstdint>
#include <cstring>
#include <optional>

#include "hypervisor/machine.hpp"
#include "hypervisor/memory/frame.hpp"

namespace bulkhead::hypervisor::boot {

class Reserve {
 public:
  Reserve() = default;
  Reserve(Frame first, std::uint64_t count) : next_(first), end_(first + count) {}

  /// A zeroed frame. This and `free` make it a page table's allocator.
  std::optional<Frame> allocate() { return allocate(1, 1); }
  void free(Frame) {}

  /// `count` frames in a row, the first one's number a multiple of `alignment`. A frame that is skipped for that is the
  /// next single one.
  std::optional<Frame> allocate(std::uint64_t count, std::uint64_t alignment) {
    Frame first{(next_.number + alignment - 1) / alignment * alignment};
    if (count == 1 && skipped_) {
      first = *skipped_;
      skipped_.reset();
    } else {
      if (first + count > end_) return std::nullopt;
      if (first.number != next_.number) skipped_ = next_;
      next_ = first + count;
    }
    std::memset(machine::frame_pointer(first), 0, count * kPageSize);
    return first;
  }
  std::uint64_t left() const { return end_.number - next_.number + (skipped_ ? 1 : 0); }

 private:
  Frame next_, end_;
  std::optional<Frame> skipped_;
};

}  // namespace bulkhead::hypervisor::boot
