// SPDX-License-Identifier: Apache-2.0
//
// The frames that a partition's parent deposited for it, and the only memory that the hypervisor uses on its behalf. Free
// frames form a list through their own first bytes, so the pool itself needs no memory.
#pragma once

#include <cstdint>
#include <optional>

#include "hypervisor/memory/frame.hpp"

namespace bulkhead::hypervisor {

class MemoryPool {
 public:
  /// A free frame, zeroed.
  std::optional<Frame> allocate();
  /// A frame that `allocate` gave.
  void free(Frame frame);

  /// A frame comes into the pool, or leaves it (zeroed; none if no frame is free).
  void add(Frame frame);
  std::optional<Frame> remove();

  std::uint64_t available() const { return available_; }
  std::uint64_t used() const { return used_; }

 private:
  Frame first_;
  std::uint64_t available_ = 0;
  std::uint64_t used_ = 0;
};

}  // namespace bulkhead::hypervisor
