// SPDX-License-Identifier: Apache-2.0
#include "vmbus/incoming_ring.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

namespace bulkhead::vmbus {

using namespace abi::vmbus;

IncomingRing::IncomingRing(RingMemory memory) : memory_(std::move(memory)) {
  const auto index = memory_.checked(memory_.read_index().load(std::memory_order_relaxed));
  if (index)
    read_index_ = *index;
  else
    broken_ = true;
  // The guest may wait for room instead of trying again and again: we look at what it waits for.
  memory_.feature_bits().fetch_or(kFeaturePendingSendSize, std::memory_order_relaxed);
}

ReadStatus IncomingRing::broken() {
  broken_ = true;
  peeked_ = 0;
  return ReadStatus::Broken;
}

ReadStatus IncomingRing::peek(std::vector<std::uint8_t>& packet) {
  if (broken_) return ReadStatus::Broken;
  // Acquire: the packet was written before the index that says so.
  const auto write_index = memory_.checked(memory_.write_index().load(std::memory_order_acquire));
  if (!write_index) return broken();
  const std::uint32_t used = memory_.used(read_index_, *write_index);
  if (used == 0) return ReadStatus::Empty;
  if (used < sizeof(PacketDescriptor) + kTrailerSize) return broken();

  PacketDescriptor descriptor;
  std::array<std::uint8_t, sizeof descriptor> head;
  memory_.copy_out(read_index_, head);
  std::memcpy(&descriptor, head.data(), sizeof descriptor);
  const std::uint32_t length = descriptor.length * 8u;
  const std::uint32_t offset = descriptor.data_offset * 8u;
  if (offset < sizeof descriptor || length < offset || length + kTrailerSize > used) return broken();

  packet.resize(length);
  memory_.copy_out(read_index_, packet);
  // The guest may have changed the descriptor since: what was checked is what counts.
  std::memcpy(packet.data(), head.data(), sizeof descriptor);
  peeked_ = length + kTrailerSize;
  return ReadStatus::Packet;
}

bool IncomingRing::consume() {
  if (broken_ || peeked_ == 0) return false;
  const std::uint32_t taken = std::exchange(peeked_, 0);
  read_index_ = memory_.advance(read_index_, taken);
  // Release: we are through with the packet before the guest may write over it.
  memory_.read_index().store(read_index_, std::memory_order_release);
  // A guest that finds no room stores what it waits for and then loads our index. We store our index and then load what
  // it waits for. With a full fence between the two on both sides at least one of us sees the other's store.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  const std::uint32_t wanted = memory_.pending_send_size().load(std::memory_order_relaxed) & kPendingSendSizeMask;
  if (wanted == 0) return false;
  const auto write_index = memory_.checked(memory_.write_index().load(std::memory_order_relaxed));
  if (!write_index) return false;
  const std::uint32_t room = memory_.size() - memory_.used(read_index_, *write_index);
  const std::uint32_t room_before = room - std::min(room, taken);
  // Room is counted as the guest does, without the eight bytes that stay free.
  return room > wanted && room_before <= wanted;
}

void IncomingRing::want_signals(bool wanted) {
  memory_.interrupt_mask().store(wanted ? 0 : 1, std::memory_order_relaxed);
  // The guest stores its index and then loads the mask; we store the mask and then, in is_empty or peek, load the
  // index. The fence keeps that order, so a packet that is not signalled is seen.
  std::atomic_thread_fence(std::memory_order_seq_cst);
}

bool IncomingRing::is_empty() const { return memory_.write_index().load(std::memory_order_acquire) == read_index_; }

bool IncomingRing::set_read_index(std::uint32_t index) {
  if (!memory_.checked(index)) return false;
  read_index_ = index;
  return true;
}

}  // namespace bulkhead::vmbus
