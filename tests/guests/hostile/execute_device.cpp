// SPDX-License-Identifier: Apache-2.0
//
// Jumps into a device: the IOAPIC, or with "nothing" on the command line to where there is nothing at all.
#include "guest.hpp"

using namespace bulkhead::guest;

void bulkhead::guest::run() {
  expect("execution outside of memory");
  const std::uint64_t target = command_line_has("nothing") ? 0xd0000000 : 0xfec00000;
  asm volatile("jmp *%0" ::"r"(target));
}
