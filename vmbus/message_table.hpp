// SPDX-License-Identifier: Apache-2.0
//
// The control messages that there are: number, direction, the version they came with, and their least size.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "abi/vmbus.hpp"

namespace bulkhead::vmbus {

enum class Direction : std::uint8_t { FromGuest, FromHost };

struct MessageKind {
  abi::vmbus::MessageType type;
  std::string_view name;
  Direction direction;
  abi::vmbus::Version smallest_version;
  std::uint16_t smallest_size;  // bytes, with the header
};

/// All kinds, by number.
std::span<const MessageKind> message_kinds();
/// The kind of that number, or null.
const MessageKind* find_message_kind(abi::vmbus::MessageType type);

/// The versions that this host speaks: 0.13, 1.1, and 2.4 to 5.3.
bool is_supported(abi::vmbus::Version version);

}  // namespace bulkhead::vmbus
