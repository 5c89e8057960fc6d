// SPDX-License-Identifier: Apache-2.0
#include "engine/guest_crash.hpp"

#include <algorithm>

namespace bulkhead::engine {

CrashExit read_crash(const GuestMemory* memory, const std::array<std::uint64_t, 5>& parameters, std::uint64_t control) {
  CrashExit crash{.parameters = parameters, .text = {}};
  if (memory == nullptr || (control & kCrashMessage) == 0) return crash;
  std::string text(std::min<std::uint64_t>(parameters[4], kCrashTextMaximum), '\0');
  if (memory->read(parameters[3], std::span(reinterpret_cast<std::uint8_t*>(text.data()), text.size()))) {
    text.resize(std::min(text.size(), text.find('\0')));
    crash.text = std::move(text);
  }
  return crash;
}

}  // namespace bulkhead::engine
