// SPDX-License-Identifier: Apache-2.0
//
// A message-signalled interrupt: what a write of `data` to `address` (0xFEExxxxx) means.
// AMD64 APM volume 2 and Intel SDM volume 3, "Message Address Register Format", "Message Data Register Format":
//
//   address  31..20 0xFEE   19..12 destination APIC id   3 redirection hint   2 logical destination mode
//   data     7..0 vector    10..8 delivery mode          14 level (assert)    15 trigger mode (1: level)
#pragma once

#include <cstdint>

namespace bulkhead::abi {

struct InterruptMessage {
  std::uint64_t address;
  std::uint32_t data;

  constexpr std::uint8_t vector() const { return static_cast<std::uint8_t>(data); }
  constexpr std::uint8_t delivery_mode() const { return (data >> 8) & 7; }
  constexpr bool level_triggered() const { return data & (1u << 15); }
  constexpr std::uint8_t destination() const { return static_cast<std::uint8_t>(address >> 12); }
  constexpr bool logical_destination() const { return address & 4; }

  bool operator==(const InterruptMessage&) const = default;
};

}  // namespace bulkhead::abi
