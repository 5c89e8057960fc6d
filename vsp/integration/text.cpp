// SPDX-License-Identifier: Apache-2.0
#include "vsp/integration/text.hpp"

#include <fmt/format.h>

#include <boost/locale/encoding_utf.hpp>
#include <cstring>

namespace bulkhead::vsp::integration {

namespace conversion = boost::locale::conv;

Result<std::u16string> to_utf16(std::string_view text, std::size_t maximum, std::string_view what) {
  if (text.find('\0') != std::string_view::npos) return fail(fmt::format("the {} has a zero character in it", what));
  std::u16string converted;
  try {
    converted = conversion::utf_to_utf<char16_t>(text.data(), text.data() + text.size(), conversion::stop);
  } catch (const conversion::conversion_error&) {
    return fail(fmt::format("the {} is not UTF-8 text", what));
  }
  if (converted.size() > maximum) {
    return fail(fmt::format("the {} has {} characters; {} are possible", what, converted.size(), maximum));
  }
  return converted;
}

std::string to_utf8(std::span<const std::uint8_t> utf16) {
  std::u16string text(utf16.size() / 2, u'\0');
  std::memcpy(text.data(), utf16.data(), text.size() * 2);
  text.resize(std::min(text.size(), text.find(u'\0')));
  return conversion::utf_to_utf<char>(text.data(), text.data() + text.size(), conversion::skip);
}

std::uint32_t put_text(std::span<std::uint8_t> field, std::u16string_view text) {
  std::memcpy(field.data(), text.data(), text.size() * 2);
  std::memset(field.data() + text.size() * 2, 0, 2);
  return static_cast<std::uint32_t>((text.size() + 1) * 2);
}

}  // namespace bulkhead::vsp::integration
