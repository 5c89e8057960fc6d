// SPDX-License-Identifier: Apache-2.0
//
// The ring that the host writes and the guest reads.
//
// A guest that asks for a completion must get it, so the room for it is set aside when its packet is taken (`reserve`):
//
//   │◀───────────── free ─────────────▶│
//   │ completions owed │ for the rest   │
//
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

#include "vmbus/ring_memory.hpp"

namespace bulkhead::vmbus {

/// A packet to be written: the parts follow each other.
struct OutgoingPacket {
  abi::vmbus::PacketType type = abi::vmbus::PacketType::InBand;
  bool completion_requested = false;
  std::uint64_t transaction = 0;
  std::span<const std::uint8_t> header = {};  // of the type, a multiple of 8 bytes
  std::span<const std::uint8_t> payload = {};

  /// Bytes in the ring, with padding and trailer.
  std::uint64_t ring_size() const {
    return sizeof(abi::vmbus::PacketDescriptor) + header.size() + ((payload.size() + 7) & ~std::size_t{7}) +
           abi::vmbus::kTrailerSize;
  }
};

enum class WriteStatus : std::uint8_t {
  Written,
  WrittenAndToSignal,  // the guest sleeps: signal it
  Full,                // the guest will signal when there may be room
  TooLarge,            // never fits into this ring
  Broken,              // the guest has broken the ring
};

class OutgoingRing {
 public:
  /// Begins at the write index that the ring shows, which the guest has just set up.
  explicit OutgoingRing(RingMemory memory);

  /// Writes a packet into the room that is not set aside.
  WriteStatus write(const OutgoingPacket& packet);
  /// Writes a packet into room that was set aside as `reserved` bytes, which are given back. Full only if the guest has
  /// moved its index backwards.
  WriteStatus write_reserved(const OutgoingPacket& packet, std::uint32_t reserved);

  /// Sets room aside. False: there is not that much now; the guest will signal when there may be.
  bool reserve(std::uint32_t bytes);
  void release(std::uint32_t bytes) { reserved_ -= std::min(bytes, reserved_); }

  std::uint32_t size() const { return memory_.size(); }
  std::uint32_t reserved() const { return reserved_; }
  std::uint32_t write_index() const { return write_index_; }
  bool is_broken() const { return broken_; }
  /// From saved state. False if it cannot be an index of this ring.
  bool set_write_index(std::uint32_t index);
  void set_reserved(std::uint32_t bytes) { reserved_ = bytes; }

 private:
  enum class Room : std::uint8_t { Enough, Full, Broken };
  /// Whether there are `bytes`; if not, says in the ring that we wait for them.
  Room look_for(std::uint64_t bytes);
  WriteStatus put(const OutgoingPacket& packet);

  RingMemory memory_;
  std::uint32_t write_index_ = 0;
  std::uint32_t reserved_ = 0;
  bool broken_ = false;
};

}  // namespace bulkhead::vmbus
