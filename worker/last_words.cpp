// SPDX-License-Identifier: Apache-2.0
#include "worker/last_words.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <string_view>

namespace bulkhead::worker {
namespace {

constexpr std::size_t kLineMaximum = 200;

std::string printable(std::string text) {
  std::ranges::replace_if(text, [](char letter) { return letter != '\n' && (letter < ' ' || letter > '~'); }, '?');
  return text;
}

std::string_view line_at(std::string_view text, std::size_t start) {
  return text.substr(start, std::min(text.find('\n', start) - start, kLineMaximum));
}

std::string_view why(std::string_view text) {
  if (const std::size_t panic = text.find("Kernel panic"); panic != text.npos) return line_at(text, panic);
  const std::size_t end = text.find_last_not_of("\n ");
  if (end == text.npos) return {};
  const std::size_t before = text.rfind('\n', end);
  return line_at(text.substr(0, end + 1), before == text.npos ? 0 : before + 1);
}

}  // namespace

Ending ending_of(const engine::CrashExit& crash) {
  Ending ending{.kind = EndingKind::Panicked, .text = printable(crash.text)};
  ending.detail = why(ending.text);
  if (ending.detail.empty()) ending.detail = fmt::format("crash registers {:#x}", fmt::join(crash.parameters, " "));
  return ending;
}

}  // namespace bulkhead::worker
