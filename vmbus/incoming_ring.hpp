// SPDX-License-Identifier: Apache-2.0
//
// The ring that the guest writes and the host reads.
#pragma once

#include <cstdint>
#include <vector>

#include "vmbus/ring_memory.hpp"

namespace bulkhead::vmbus {

enum class ReadStatus : std::uint8_t {
  Packet,
  Empty,
  /// The guest has broken the ring. It stays broken until the channel is closed.
  Broken,
};

class IncomingRing {
 public:
  /// Begins at the read index that the ring shows, which the guest has just set up.
  explicit IncomingRing(RingMemory memory);

  /// Copies the next packet, from its descriptor to the end of its padding, into `packet`, and leaves it in the ring:
  /// `consume` takes it out. The copy is at least as long as a descriptor and as its data offset.
  ReadStatus peek(std::vector<std::uint8_t>& packet);
  /// Takes the packet that was last peeked out of the ring. True if the guest waited for the room and is to be
  /// signalled.
  bool consume();

  /// Tells the guest whether it is to signal new packets. After `true` a packet may have come unnoticed: look again.
  void want_signals(bool wanted);
  bool is_empty() const;
  bool is_broken() const { return broken_; }

  std::uint32_t size() const { return memory_.size(); }
  std::uint32_t read_index() const { return read_index_; }
  /// From saved state. False if it cannot be an index of this ring.
  bool set_read_index(std::uint32_t index);

 private:
  ReadStatus broken();

  RingMemory memory_;
  std::uint32_t read_index_ = 0;
  std::uint32_t peeked_ = 0;  // bytes of the packet that was last peeked, with its trailer
  bool broken_ = false;
};

}  // namespace bulkhead::vmbus
