// SPDX-License-Identifier: Apache-2.0
#include "hypervisor/processor/console.hpp"

#include <atomic>

#include "hypervisor/processor/privileged.hpp"

namespace bulkhead::hypervisor::console {
namespace {

constexpr std::uint16_t kSerialPort = 0x2f8;
constexpr std::uint16_t kDebugPort = 0xe9;
constexpr unsigned kTransmitPatience = 100000;

std::atomic<bool> busy;
bool serial_present;
bool debug_port_present;
bool panicking;

void put(char character) {
  if (debug_port_present) privileged::out8(kDebugPort, static_cast<std::uint8_t>(character));
  if (!serial_present) return;
  for (unsigned wait = 0; wait < kTransmitPatience && !(privileged::in8(kSerialPort + 5) & 0x20); ++wait) {
    privileged::pause();
  }
  privileged::out8(kSerialPort, static_cast<std::uint8_t>(character));
}

void put(std::string_view text) {
  for (char character : text) put(character);
}

void put_number(std::uint64_t value) {
  put("0x");
  int shift = 60;
  while (shift > 0 && (value >> shift) == 0) shift -= 4;
  for (; shift >= 0; shift -= 4) put("0123456789abcdef"[(value >> shift) & 15]);
}

}  // namespace

void initialize() {
  debug_port_present = privileged::in8(kDebugPort) == kDebugPort;
  // The scratch register tells a UART from an empty bus.
  privileged::out8(kSerialPort + 7, 0x5a);
  serial_present = privileged::in8(kSerialPort + 7) == 0x5a;
  if (!serial_present) return;
  privileged::out8(kSerialPort + 1, 0x00);  // no interrupts
  privileged::out8(kSerialPort + 3, 0x80);  // divisor latch
  privileged::out8(kSerialPort + 0, 1);     // 115200 baud
  privileged::out8(kSerialPort + 1, 0);
  privileged::out8(kSerialPort + 3, 0x03);  // 8n1
  privileged::out8(kSerialPort + 2, 0x07);  // FIFO on
  privileged::out8(kSerialPort + 4, 0x03);  // DTR, RTS
}

void write_line(std::string_view text, const Field* fields, unsigned count) {
  bool locked = false;
  for (unsigned attempt = 0; !locked; ++attempt) {
    locked = !busy.exchange(true, std::memory_order_acquire);
    if (!locked && panicking && attempt > kTransmitPatience) break;
    if (!locked) privileged::pause();
  }
  put("bulkhead: ");
  put(text);
  for (unsigned index = 0; index < count; ++index) {
    put(' ');
    put(fields[index].name);
    put('=');
    put_number(fields[index].value);
  }
  put("\r\n");
  if (locked) busy.store(false, std::memory_order_release);
}

void panic_mode() { panicking = true; }

}  // namespace bulkhead::hypervisor::console
