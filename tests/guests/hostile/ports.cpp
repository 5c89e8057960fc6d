// SPDX-License-Identifier: Apache-2.0
//
// Every port, read and written, in every size. Left out are those by which a guest rightly ends its own machine, and the
// console.
#include "guest.hpp"
#include "instructions.hpp"
#include "interrupt.hpp"

using namespace bulkhead::guest;

namespace {

constexpr struct {
  std::uint16_t first, last;
} kOurOwn[] = {
    {0x3f5, 0x3ff},    // COM1, and what reaches into it
    {0x61, 0x64},      // i8042: its commands reset the machine
    {0x8f, 0x92},      // port 92
    {0x4fe, 0x507},    // debug exit, panic notification
    {0x600, 0x607},    // PM1: sleep
    {0xaf00, 0xafff},  // QEMU's processor hotplug
    {0xcf6, 0xcf9},    // reset control
};

bool is_our_own(std::uint32_t port, std::uint32_t size) {
  for (const auto& range : kOurOwn)
    if (port + size > range.first && port <= range.last) return true;
  return false;
}

void sweep(bool write, std::uint32_t pattern) {
  for (std::uint32_t port = 0; port <= 0xffff; ++port) {
    const auto number = static_cast<std::uint16_t>(port);
    for (std::uint32_t size = 1; size <= 4; size *= 2) {
      // Of the wider ones not all, or the emulated machine would be at it for minutes.
      const std::uint32_t step = size == 1 || port < 0x1000 ? size : 256;
      if (port % step != 0 || is_our_own(port, size)) continue;
      if (write) {
        if (size == 1) out8(number, static_cast<std::uint8_t>(pattern));
        if (size == 2) out16(number, static_cast<std::uint16_t>(pattern));
        if (size == 4) out32(number, pattern);
      } else {
        if (size == 1) in8(number);
        if (size == 2) in16(number);
        if (size == 4) in32(number);
      }
    }
  }
}

}  // namespace

void bulkhead::guest::run() {
  sweep(false, 0);
  pass("every port was read");
  sweep(true, 0xffffffff);
  pass("every port was written");
}
