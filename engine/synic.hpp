// SPDX-License-Identifier: Apache-2.0
//
// The synthetic interrupt controllers of a partition, as the partition's owner uses them: TLFS, "Virtual Interrupt
// Controller" and "Inter-Partition Communication".
//
//   owner ── post_message, signal_event ──▶ Partition ──▶ slots and flags in guest memory, SINT
//   owner ◀── SynicListener ── Partition ◀── HvCallPostMessage, HvCallSignalEvent, EOM
#pragma once

#include <cstdint>
#include <span>

#include "abi/hypercall.h"
#include "abi/synic.hpp"

namespace bulkhead::engine {

enum class SynicStatus : std::uint8_t {
  Delivered,
  /// The slot is full, or the guest's SynIC is off. SynicListener::message_slot_freed tells when to try again.
  Busy,
  /// There is no such VP or SINT.
  Refused,
};

/// Who hears what the guest sends. Called from the threads that run its processors, outside of all of the engine's
/// locks, while the guest waits. The return values are hypercall status values (abi/hypercall.h).
class SynicListener {
 public:
  virtual ~SynicListener() = default;
  virtual std::uint16_t message_posted(abi::ConnectionId connection, abi::SynicMessageType type,
                                       std::span<const std::uint8_t> payload) = 0;
  virtual std::uint16_t event_signaled(abi::ConnectionId connection, std::uint16_t flag) = 0;
  /// The guest may have freed a slot of this VP, or switched its SynIC on.
  virtual void message_slot_freed(abi::VpIndex vp) = 0;
};

}  // namespace bulkhead::engine
