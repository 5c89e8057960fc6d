// SPDX-License-Identifier: Apache-2.0
#include "disk/guid.hpp"

#include <fmt/format.h>
#include <sys/random.h>

#include <algorithm>
#include <exception>

namespace bulkhead::disk {
namespace {

/// Where the n-th byte of the text lies in Guid::bytes.
constexpr std::array<std::size_t, 16> kTextOrder = {3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15};

int hexadecimal_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

Guid Guid::random() {
  Guid guid;
  if (getrandom(guid.bytes.data(), guid.bytes.size(), 0) != static_cast<ssize_t>(guid.bytes.size())) {
    std::terminate();  // 16 bytes are never refused once the kernel is up
  }
  guid.bytes[7] = static_cast<std::uint8_t>((guid.bytes[7] & 0x0f) | 0x40);
  guid.bytes[8] = static_cast<std::uint8_t>((guid.bytes[8] & 0x3f) | 0x80);
  return guid;
}

std::optional<Guid> Guid::parse(std::string_view text) {
  if (text.size() == 38 && text.front() == '{' && text.back() == '}') {
    text = text.substr(1, 36);
  }
  if (text.size() != 36) {
    return std::nullopt;
  }
  Guid guid;
  std::size_t position = 0;
  for (std::size_t i = 0; i < text.size();) {
    if (i == 8 || i == 13 || i == 18 || i == 23) {
      if (text[i++] != '-') {
        return std::nullopt;
      }
      continue;
    }
    const int high = hexadecimal_digit(text[i]);
    const int low = hexadecimal_digit(text[i + 1]);
    if (high < 0 || low < 0) {
      return std::nullopt;
    }
    guid.bytes[kTextOrder[position++]] = static_cast<std::uint8_t>(high * 16 + low);
    i += 2;
  }
  return guid;
}

Guid Guid::from_big_endian(const std::array<std::uint8_t, 16>& bytes) {
  Guid guid;
  for (std::size_t i = 0; i < 16; ++i) {
    guid.bytes[kTextOrder[i]] = bytes[i];
  }
  return guid;
}

std::array<std::uint8_t, 16> Guid::big_endian() const {
  std::array<std::uint8_t, 16> result{};
  for (std::size_t i = 0; i < 16; ++i) {
    result[i] = bytes[kTextOrder[i]];
  }
  return result;
}

std::string Guid::text() const {
  std::string result;
  for (std::size_t i = 0; i < 16; ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) {
      result += '-';
    }
    result += fmt::format("{:02x}", bytes[kTextOrder[i]]);
  }
  return result;
}

}  // namespace bulkhead::disk
