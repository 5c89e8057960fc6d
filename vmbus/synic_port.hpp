// SPDX-License-Identifier: Apache-2.0
//
// The narrow door between VMBus and whatever carries its messages and events: the SynIC of a partition, or a test.
//
//   bus ── post_message, signal_event ──▶ SynicPort            (to the guest)
//   bus ◀── message_posted, event_signaled, slot_freed ── …    (from the guest: calls into the bus)
#pragma once

#include <cstdint>

#include "abi/synic.hpp"

namespace bulkhead::vmbus {

enum class PostStatus : std::uint8_t {
  Delivered,
  /// The slot is full, or the guest's SynIC is off: the bus tries again when it is told of a free slot.
  Busy,
  /// There is no such VP.
  Refused,
};

/// May be called from any thread.
class SynicPort {
 public:
  virtual ~SynicPort() = default;
  /// Puts the message into the slot of the VP's SINT if that is free, and interrupts the VP.
  virtual PostStatus post_message(abi::VpIndex vp, abi::Sint sint, const abi::SynicMessage& message) = 0;
  /// Sets the flag, and interrupts the VP if it was clear. A VP whose SynIC is off misses it.
  virtual void signal_event(abi::VpIndex vp, abi::Sint sint, std::uint16_t flag) = 0;
};

}  // namespace bulkhead::vmbus
