// SPDX-License-Identifier: Apache-2.0
#include "local_apic.hpp"

#include "instructions.hpp"

namespace bulkhead::guest::local_apic {

bool is_x2() { return read_msr(kBaseMsr) & kBaseX2; }

std::uint32_t read(Register reg) {
  return is_x2() ? static_cast<std::uint32_t>(read_msr(kX2Msr + reg / 16)) : memory_read<std::uint32_t>(kBase + reg);
}

void write(Register reg, std::uint32_t value) {
  if (is_x2())
    write_msr(kX2Msr + reg / 16, value);
  else
    memory_write(kBase + reg, value);
}

void send(std::uint32_t command, std::uint32_t destination) {
  if (is_x2()) return write_msr(kX2Msr + kCommandLow / 16, std::uint64_t{destination} << 32 | command);
  constexpr std::uint32_t kPending = 1u << 12;
  while (memory_read<std::uint32_t>(kBase + kCommandLow) & kPending) pause();
  memory_write(kBase + kCommandHigh, destination << 24);
  memory_write(kBase + kCommandLow, command);
}

std::uint32_t id() { return is_x2() ? read(kId) : read(kId) >> 24; }

void enable() { write(kSpurious, 0x1ff); }

}  // namespace bulkhead::guest::local_apic
