// SPDX-License-Identifier: Apache-2.0
//
// Writes the little-endian tables of firmware byte by byte, so that no compiler's layout rules are in between.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace bulkhead::firmware {

using Bytes = std::vector<std::uint8_t>;

class ByteWriter {
 public:
  ByteWriter& u8(std::uint64_t value) { return number(value, 1); }
  ByteWriter& u16(std::uint64_t value) { return number(value, 2); }
  ByteWriter& u32(std::uint64_t value) { return number(value, 4); }
  ByteWriter& u64(std::uint64_t value) { return number(value, 8); }
  ByteWriter& zeros(std::size_t count) {
    bytes_.insert(bytes_.end(), count, 0);
    return *this;
  }
  ByteWriter& text(std::string_view characters) {
    bytes_.insert(bytes_.end(), characters.begin(), characters.end());
    return *this;
  }
  ByteWriter& bytes(std::span<const std::uint8_t> more) {
    bytes_.insert(bytes_.end(), more.begin(), more.end());
    return *this;
  }
  /// Zeros until the size is a multiple of `alignment`.
  ByteWriter& align(std::size_t alignment) { return zeros((alignment - bytes_.size() % alignment) % alignment); }

  std::size_t size() const { return bytes_.size(); }
  const Bytes& content() const { return bytes_; }

 private:
  ByteWriter& number(std::uint64_t value, unsigned size) {
    for (unsigned i = 0; i < size; ++i) bytes_.push_back(static_cast<std::uint8_t>(value >> (8 * i)));
    return *this;
  }

  Bytes bytes_;
};

/// What makes the sum of `bytes` zero when added: the checksum of ACPI and SMBIOS.
inline std::uint8_t checksum(std::span<const std::uint8_t> bytes) {
  unsigned sum = 0;
  for (std::uint8_t byte : bytes) sum += byte;
  return static_cast<std::uint8_t>(0 - sum);
}

/// Puts `value` into the `size` bytes at `offset`, little endian.
inline void put(std::span<std::uint8_t> bytes, std::size_t offset, std::uint64_t value, unsigned size) {
  for (unsigned i = 0; i < size; ++i) bytes[offset + i] = static_cast<std::uint8_t>(value >> (8 * i));
}

/// The little-endian number in the `size` bytes at `offset`; they must be there.
inline std::uint64_t get(std::span<const std::uint8_t> bytes, std::size_t offset, unsigned size) {
  std::uint64_t value = 0;
  for (unsigned i = 0; i < size; ++i) value |= std::uint64_t{bytes[offset + i]} << (8 * i);
  return value;
}

}  // namespace bulkhead::firmware
