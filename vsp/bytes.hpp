// SPDX-License-Identifier: Apache-2.0
//
// Structures of abi/ as bytes, and bytes as copies of them.
#pragma once

#include <cstdint>
#include <cstring>
#include <optional>
#include <span>

namespace bulkhead::vsp {

/// The bytes of a structure of abi/.
template <typename Structure>
std::span<const std::uint8_t> bytes_of(const Structure& structure) {
  return {static_cast<const std::uint8_t*>(static_cast<const void*>(&structure)), sizeof structure};
}

/// A copy of the structure that the bytes begin with; nothing if they are fewer.
template <typename Structure>
std::optional<Structure> front_of(std::span<const std::uint8_t> bytes) {
  if (bytes.size() < sizeof(Structure)) return std::nullopt;
  Structure structure;
  std::memcpy(&structure, bytes.data(), sizeof structure);
  return structure;
}

}  // namespace bulkhead::vsp
