// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace bulkhead::disk {

/// 16 bytes in the order in which VHDX stores a GUID (the first three fields little-endian). VHD stores its identity
/// big-endian throughout; from_big_endian() and big_endian() translate, so that both print the same.
struct Guid {
  std::array<std::uint8_t, 16> bytes{};

  static Guid random();
  /// "caa16737-fa36-4d43-b3b6-33f0aa44e76b", braces around it or not, either case.
  static std::optional<Guid> parse(std::string_view text);
  static Guid from_big_endian(const std::array<std::uint8_t, 16>& bytes);
  std::array<std::uint8_t, 16> big_endian() const;
  /// Lower case, without braces.
  std::string text() const;
  bool is_zero() const { return *this == Guid{}; }

  auto operator<=>(const Guid&) const = default;

  /// A constant from its usual notation; a malformed one does not compile.
  static consteval Guid of(const char (&text)[37]) {
    constexpr std::array<int, 16> kOrder = {3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15};
    Guid guid;
    int position = 0;
    for (std::size_t i = 0; i < 36; ++i) {
      if (text[i] == '-') {
        continue;
      }
      const int value = digit(text[i]) * 16 + digit(text[i + 1]);
      guid.bytes[static_cast<std::size_t>(kOrder[static_cast<std::size_t>(position++)])] =
          static_cast<std::uint8_t>(value);
      ++i;
    }
    return guid;
  }

 private:
  static consteval int digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    throw "not a hexadecimal digit";
  }
};

}  // namespace bulkhead::disk
