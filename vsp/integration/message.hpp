// SPDX-License-Identifier: Apache-2.0
//
// The frame of the integration services' messages, put together and taken apart. Pure functions.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "abi/integration/frame.hpp"
#include "error/error.hpp"
#include "vsp/bytes.hpp"

namespace bulkhead::vsp::integration {

using Bytes = std::vector<std::uint8_t>;

/// The two versions that guest and host speak.
struct Versions {
  abi::integration::Version framework = {};
  abi::integration::Version message = {};

  bool operator==(const Versions&) const = default;
};

/// A request of the host's.
Bytes frame(abi::integration::MessageType type, const Versions& versions, std::uint8_t transaction,
            std::span<const std::uint8_t> body);
/// The host's offer of versions, newest first.
Bytes frame_negotiation(std::uint8_t transaction, std::span<const abi::integration::Version> frameworks,
                        std::span<const abi::integration::Version> messages);

/// A message of the guest's. The body points into the bytes that were taken apart.
struct Message {
  abi::integration::MessageHeader header;
  std::span<const std::uint8_t> body;
};
/// Errors: no pipe data, cut short, longer than the packet.
Result<Message> parse(std::span<const std::uint8_t> payload);

/// What the guest has chosen; nothing if it found no version that it knows.
/// Errors: cut short, or versions that were not offered.
Result<std::optional<Versions>> parse_choice(std::span<const std::uint8_t> body,
                                             std::span<const abi::integration::Version> frameworks,
                                             std::span<const abi::integration::Version> messages);

}  // namespace bulkhead::vsp::integration
