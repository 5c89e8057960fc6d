// SPDX-License-Identifier: Apache-2.0
#include "hypervisor/memory/memory_pool.hpp"

#include <cstring>

#include "hypervisor/machine.hpp"

namespace bulkhead::hypervisor {

void MemoryPool::add(Frame frame) {
  std::memcpy(machine::frame_pointer(frame), &first_, sizeof first_);
  first_ = frame;
  ++available_;
}

std::optional<Frame> MemoryPool::remove() {
  if (available_ == 0) return std::nullopt;
  const Frame frame = first_;
  std::byte* bytes = machine::frame_pointer(frame);
  std::memcpy(&first_, bytes, sizeof first_);
  std::memset(bytes, 0, kPageSize);
  --available_;
  return frame;
}

std::optional<Frame> MemoryPool::allocate() {
  const std::optional<Frame> frame = remove();
  if (frame) ++used_;
  return frame;
}

void MemoryPool::free(Frame frame) {
  add(frame);
  --used_;
}

}  // namespace bulkhead::hypervisor
