// SPDX-License-Identifier: Apache-2.0
#include "hypervisor/memory/memory_pool.hpp"

#include <cstring>

#include "hypervisor/machine.hpp"

namespace bulkhead::hypervisor {

void MemoryPool::push(Frame frame) {
  std::memcpy(machine::frame_pointer(frame), &first_, sizeof first_);
  first_ = frame;
  ++available_;
}

std::optional<Frame> MemoryPool::pop() {
  if (available_ == 0) return std::nullopt;
  const Frame frame = first_;
  std::byte* bytes = machine::frame_pointer(frame);
  std::memcpy(&first_, bytes, sizeof first_);
  std::memset(bytes, 0, kPageSize);
  --available_;
  return frame;
}

std::optional<Frame> MemoryPool::allocate() {
  const std::optional<Frame> frame = pop();
  if (frame) ++used_;
  return frame;
}

void MemoryPool::free(Frame frame) {
  push(frame);
  --used_;
}

void MemoryPool::add(Frame frame) { push(frame); }

std::optional<Frame> MemoryPool::remove() { return pop(); }

}  // namespace bulkhead::hypervisor
