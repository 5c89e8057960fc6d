// SPDX-License-Identifier: Apache-2.0
#include "vmbus/outgoing_ring.hpp"

#include <cstring>

namespace bulkhead::vmbus {

using namespace abi::vmbus;

OutgoingRing::OutgoingRing(RingMemory memory) : memory_(std::move(memory)) {
  const auto index = memory_.checked(memory_.write_index().load(std::memory_order_relaxed));
  if (index)
    write_index_ = *index;
  else
    broken_ = true;
}

OutgoingRing::Room OutgoingRing::look_for(std::uint64_t bytes) {
  for (const bool last_try : {false, true}) {
    // Acquire: the guest is through with what it has read before we write over it.
    const auto read_index = memory_.checked(memory_.read_index().load(std::memory_order_acquire));
    if (!read_index) {
      broken_ = true;
      return Room::Broken;
    }
    const std::uint64_t room = memory_.size() - memory_.used(*read_index, write_index_);
    if (room > bytes) {
      memory_.pending_send_size().store(0, std::memory_order_relaxed);
      return Room::Enough;
    }
    if (last_try) break;
    memory_.pending_send_size().store(static_cast<std::uint32_t>(bytes), std::memory_order_relaxed);
    // We say what we wait for and then look at the guest's index once more; the guest stores its index and then looks
    // at what we wait for. With a full fence on both sides one of us sees the other, and no wake-up is lost.
    std::atomic_thread_fence(std::memory_order_seq_cst);
  }
  return Room::Full;
}

bool OutgoingRing::reserve(std::uint32_t bytes) {
  if (broken_ || std::uint64_t{reserved_} + bytes >= memory_.size()) return false;
  if (look_for(std::uint64_t{reserved_} + bytes) != Room::Enough) return false;
  reserved_ += bytes;
  return true;
}

WriteStatus OutgoingRing::write(const OutgoingPacket& packet) {
  if (broken_) return WriteStatus::Broken;
  const std::uint64_t needed = packet.ring_size();
  if (needed >= memory_.size() || needed / 8 > UINT16_MAX) return WriteStatus::TooLarge;
  // What completions may take up altogether bounds what there is for the rest.
  if (needed + reserved_ >= memory_.size()) return WriteStatus::Full;
  switch (look_for(needed + reserved_)) {
    case Room::Enough: return put(packet);
    case Room::Full: return WriteStatus::Full;
    case Room::Broken: break;
  }
  return WriteStatus::Broken;
}

WriteStatus OutgoingRing::write_reserved(const OutgoingPacket& packet, std::uint32_t reserved) {
  release(reserved);
  return write(packet);
}

WriteStatus OutgoingRing::put(const OutgoingPacket& packet) {
  const auto length = static_cast<std::uint32_t>(packet.ring_size() - kTrailerSize);
  const PacketDescriptor descriptor = {
      .type = packet.type,
      .data_offset = static_cast<std::uint16_t>((sizeof descriptor + packet.header.size()) / 8),
      .length = static_cast<std::uint16_t>(length / 8),
      .flags = packet.completion_requested ? kCompletionRequested : std::uint16_t{0},
      .transaction = packet.transaction};
  const std::uint32_t before = write_index_;
  std::uint32_t at = before;
  const auto append = [&](const void* bytes, std::size_t count) {
    memory_.copy_in(at, {static_cast<const std::uint8_t*>(bytes), count});
    at = memory_.advance(at, static_cast<std::uint32_t>(count));
  };
  append(&descriptor, sizeof descriptor);
  append(packet.header.data(), packet.header.size());
  append(packet.payload.data(), packet.payload.size());
  const std::uint64_t zero = 0;
  append(&zero, (8 - packet.payload.size() % 8) % 8);
  const std::uint64_t trailer = std::uint64_t{before} << 32;
  append(&trailer, sizeof trailer);

  write_index_ = at;
  // Release: the packet is there before the index that says so.
  memory_.write_index().store(write_index_, std::memory_order_release);
  // The guest clears its mask, and when it has read everything it looks for more before it sleeps. Our store of the
  // index must come before our loads of its mask and index; else both could miss the other, and it would sleep on.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (memory_.interrupt_mask().load(std::memory_order_relaxed) != 0) return WriteStatus::Written;
  const bool was_empty = memory_.read_index().load(std::memory_order_relaxed) == before;
  return was_empty ? WriteStatus::WrittenAndToSignal : WriteStatus::Written;
}

bool OutgoingRing::set_write_index(std::uint32_t index) {
  if (!memory_.checked(index)) return false;
  write_index_ = index;
  return true;
}

}  // namespace bulkhead::vmbus
