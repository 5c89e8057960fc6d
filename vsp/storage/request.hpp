// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <compare>
#include <cstdint>

#include "abi/storage.hpp"
#include "abi/vmbus.hpp"
#include "vmbus/packet.hpp"
#include "vsp/storage/scsi_command.hpp"

namespace bulkhead::vsp::storage {

/// What a controller's units are addressed by.
struct Address {
  std::uint8_t path = 0;
  std::uint8_t target = 0;
  std::uint8_t lun = 0;

  auto operator<=>(const Address&) const = default;
};

/// One packet of the guest that waits for its completion.
struct Request {
  /// Who owns it now: the limiter's queue, the unit and its disk, nobody until the machine goes on, or the answer.
  enum class Stage : std::uint8_t { Waiting, Running, Parked, Finished };

  Request(abi::vmbus::ChannelId from, vmbus::Packet received) : channel(from), packet(std::move(received)) {}

  abi::vmbus::ChannelId channel;
  vmbus::Packet packet;
  /// The guest's request, and after its end the answer, of `size` bytes.
  abi::storage::Packet wire = {};
  std::size_t size = sizeof(abi::storage::Packet);
  Address address = {};
  /// Of EXECUTE_SRB.
  ScsiCommand command = {};
  Stage stage = Stage::Waiting;
  /// Requests are numbered as they come: a reset is for those before it.
  std::uint64_t number = 0;

  abi::storage::Operation operation() const { return wire.header.operation; }
};

}  // namespace bulkhead::vsp::storage
