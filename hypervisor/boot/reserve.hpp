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

  /// `count` frames in a row, the first one's number a multiple of `alignment`.
  std::optional<Frame> allocate(std::uint64_t count, std::uint64_t alignment) {
    const Frame first{(next_.number + alignment - 1) / alignment * alignment};
    if (first + count > end_) return std::nullopt;
    next_ = first + count;
    std::memset(machine::frame_pointer(first), 0, count * kPageSize);
    return first;
  }
  std::uint64_t left() const { return end_.number - next_.number; }

 private:
  Frame next_, end_;
};

}  // namespace bulkhead::hypervisor::boot
