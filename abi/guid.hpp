// SPDX-License-Identifier: Apache-2.0
//
// A GUID as it lies in memory: the first three groups of its text are little-endian integers, the rest are bytes in
// the order of the text. `Guid::of("ba6163d9-04a1-4d29-b605-72e2ffb1dc7f")` is checked when it is compiled.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>

namespace bulkhead::abi {

struct Guid {
  std::uint32_t first;
  std::uint16_t second;
  std::uint16_t third;
  std::uint8_t rest[8];

  bool operator==(const Guid&) const = default;
  constexpr bool is_zero() const { return *this == Guid{}; }

  static consteval Guid of(const char (&text)[37]) {
    for (const unsigned dash : {8u, 13u, 18u, 23u}) {
      if (text[dash] != '-') malformed();
    }
    Guid guid{static_cast<std::uint32_t>(number(text, 8)),
              static_cast<std::uint16_t>(number(text + 9, 4)),
              static_cast<std::uint16_t>(number(text + 14, 4)),
              {}};
    for (unsigned index = 0; index < 8; ++index) {
      guid.rest[index] = static_cast<std::uint8_t>(number(text + (index < 2 ? 19 : 20) + 2 * index, 2));
    }
    return guid;
  }

 private:
  /// Not constexpr: a text that is no GUID does not compile.
  static void malformed();

  static constexpr std::uint64_t number(const char* digits, unsigned count) {
    std::uint64_t value = 0;
    for (unsigned index = 0; index < count; ++index) {
      const char digit = digits[index];
      if (digit >= '0' && digit <= '9')
        value = value * 16 + static_cast<unsigned>(digit - '0');
      else if (digit >= 'a' && digit <= 'f')
        value = value * 16 + static_cast<unsigned>(digit - 'a') + 10;
      else
        malformed();
    }
    return value;
  }
};
static_assert(sizeof(Guid) == 16 && offsetof(Guid, rest) == 8);

}  // namespace bulkhead::abi
