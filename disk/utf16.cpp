// SPDX-License-Identifier: Apache-2.0
#include "disk/utf16.hpp"

#include <cstdint>

namespace bulkhead::disk {
namespace {

constexpr char32_t kReplacement = 0xfffd;

void append_utf8(std::string& text, char32_t c) {
  const auto add = [&text](char32_t byte) { text += static_cast<char>(byte); };
  if (c < 0x80) {
    add(c);
  } else if (c < 0x800) {
    add(0xc0 | (c >> 6));
    add(0x80 | (c & 0x3f));
  } else if (c < 0x10000) {
    add(0xe0 | (c >> 12));
    add(0x80 | ((c >> 6) & 0x3f));
    add(0x80 | (c & 0x3f));
  } else {
    add(0xf0 | (c >> 18));
    add(0x80 | ((c >> 12) & 0x3f));
    add(0x80 | ((c >> 6) & 0x3f));
    add(0x80 | (c & 0x3f));
  }
}

/// Takes one character off the front of `utf8`.
char32_t take_utf8(std::string_view& utf8) {
  const auto first = static_cast<unsigned char>(utf8.front());
  utf8.remove_prefix(1);
  if (first < 0x80) {
    return first;
  }
  const int more = first >= 0xf0 && first < 0xf8 ? 3 : first >= 0xe0 ? 2 : first >= 0xc0 ? 1 : 0;
  if (more == 0 || first >= 0xf8) {
    return kReplacement;
  }
  char32_t c = first & (0x3fu >> more);
  for (int i = 0; i < more; ++i) {
    if (utf8.empty() || (static_cast<unsigned char>(utf8.front()) & 0xc0) != 0x80) {
      return kReplacement;
    }
    c = (c << 6) | (static_cast<unsigned char>(utf8.front()) & 0x3f);
    utf8.remove_prefix(1);
  }
  return c < 0x110000 && (c < 0xd800 || c >= 0xe000) ? c : kReplacement;
}

}  // namespace

std::string utf8_from_utf16(std::span<const std::byte> utf16, std::endian order) {
  const auto unit = [&](std::size_t i) {
    const auto a = static_cast<char32_t>(utf16[2 * i]);
    const auto b = static_cast<char32_t>(utf16[2 * i + 1]);
    return order == std::endian::little ? a | (b << 8) : b | (a << 8);
  };
  std::string text;
  const auto units = utf16.size() / 2;
  for (std::size_t i = 0; i < units; ++i) {
    char32_t c = unit(i);
    if (c == 0) {
      break;
    }
    if (c >= 0xd800 && c < 0xdc00 && i + 1 < units && unit(i + 1) >= 0xdc00 && unit(i + 1) < 0xe000) {
      c = 0x10000 + ((c - 0xd800) << 10) + (unit(i + 1) - 0xdc00);
      ++i;
    } else if (c >= 0xd800 && c < 0xe000) {
      c = kReplacement;
    }
    append_utf8(text, c);
  }
  return text;
}

std::vector<std::byte> utf16_from_utf8(std::string_view utf8, std::endian order) {
  std::vector<std::byte> utf16;
  const auto add = [&](char32_t unit) {
    const auto low = static_cast<std::byte>(unit & 0xff);
    const auto high = static_cast<std::byte>(unit >> 8);
    utf16.push_back(order == std::endian::little ? low : high);
    utf16.push_back(order == std::endian::little ? high : low);
  };
  while (!utf8.empty()) {
    const char32_t c = take_utf8(utf8);
    if (c >= 0x10000) {
      add(0xd800 + ((c - 0x10000) >> 10));
      add(0xdc00 + ((c - 0x10000) & 0x3ff));
    } else {
      add(c);
    }
  }
  return utf16;
}

}  // namespace bulkhead::disk
