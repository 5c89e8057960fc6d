// SPDX-License-Identifier: Apache-2.0
#include "disk/crc32c.hpp"

#include <nmmintrin.h>

#include <array>
#include <cstring>

namespace bulkhead::disk {
namespace {

constexpr std::uint32_t kPolynomial = 0x82f63b78;

constexpr std::array<std::uint32_t, 256> make_table() {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t i = 0; i < 256; ++i) {
    std::uint32_t value = i;
    for (int bit = 0; bit < 8; ++bit) {
      value = (value >> 1) ^ ((value & 1) != 0 ? kPolynomial : 0);
    }
    table[i] = value;
  }
  return table;
}
constexpr auto kTable = make_table();

std::uint32_t by_table(std::span<const std::byte> bytes, std::uint32_t crc) {
  for (const auto byte : bytes) {
    crc = kTable[(crc ^ static_cast<std::uint32_t>(byte)) & 0xff] ^ (crc >> 8);
  }
  return crc;
}

/// One instruction for eight bytes, where the processor has SSE4.2.
[[gnu::target("sse4.2")]] std::uint32_t by_instruction(std::span<const std::byte> bytes, std::uint32_t crc) {
  std::uint64_t wide = crc;
  while (bytes.size() >= 8) {
    std::uint64_t word = 0;
    std::memcpy(&word, bytes.data(), 8);
    wide = _mm_crc32_u64(wide, word);
    bytes = bytes.subspan(8);
  }
  auto narrow = static_cast<std::uint32_t>(wide);
  for (const auto byte : bytes) {
    narrow = _mm_crc32_u8(narrow, static_cast<std::uint8_t>(byte));
  }
  return narrow;
}

}  // namespace

std::uint32_t crc32c(std::span<const std::byte> bytes, std::uint32_t previous) {
  static const bool has_instruction = __builtin_cpu_supports("sse4.2");
  const std::uint32_t start = ~previous;
  return ~(has_instruction ? by_instruction(bytes, start) : by_table(bytes, start));
}

}  // namespace bulkhead::disk
