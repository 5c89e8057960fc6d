// SPDX-License-Identifier: Apache-2.0
#include "cli/size.hpp"

#include <fmt/format.h>

#include <charconv>
#include <string>

namespace bulkhead::cli {
namespace {

std::string lower_case(std::string_view text) {
  std::string lower(text);
  for (char& letter : lower) {
    if (letter >= 'A' && letter <= 'Z') letter = static_cast<char>(letter - 'A' + 'a');
  }
  return lower;
}

/// How far left the number is shifted; negative for a suffix that is none.
int shift_of(std::string suffix) {
  if (suffix.ends_with("ib")) {
    suffix.resize(suffix.size() - 2);
    if (suffix.empty()) return -1;
  } else if (suffix.ends_with('b')) {
    suffix.pop_back();
  }
  if (suffix.empty()) return 0;
  if (suffix.size() > 1) return -1;
  switch (suffix.front()) {
    case 'k': return 10;
    case 'm': return 20;
    case 'g': return 30;
    case 't': return 40;
    default: return -1;
  }
}

}  // namespace

Result<std::uint64_t> parse_size(std::string_view text) {
  const auto wrong = [&] { return fail(fmt::format("'{}' is not a size; write for example 512M or 2G", text)); };
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc()) return wrong();
  const int shift = shift_of(lower_case(text.substr(static_cast<std::size_t>(end - text.data()))));
  if (shift < 0 || number == 0 || number > (UINT64_MAX >> shift)) return wrong();
  return number << shift;
}

}  // namespace bulkhead::cli
