// SPDX-License-Identifier: Apache-2.0
//
// Debug output: the second serial port, and the debug console port 0xE9 of emulators, whichever are there. COM1 is the root's.
#pragma once

#include <cstdint>
#include <string_view>

namespace bulkhead::hypervisor::console {

/// Looks which outputs are there. Until then nothing is printed.
void initialize();

/// "name=0x..": what a line says beside its text.
struct Field {
  std::string_view name;
  std::uint64_t value;
};

/// One line: "bulkhead: text name=0x1 name=0x2". Lines of several processors do not mix.
void write_line(std::string_view text, const Field* fields, unsigned count);
template <typename... Fields>
void line(std::string_view text, Fields... fields) {
  if constexpr (sizeof...(fields) == 0) {
    write_line(text, nullptr, 0);
  } else {
    const Field list[] = {fields...};
    write_line(text, list, sizeof...(fields));
  }
}

/// From here on lines are printed without waiting for a processor that may have died inside one.
void panic_mode();

}  // namespace bulkhead::hypervisor::console
