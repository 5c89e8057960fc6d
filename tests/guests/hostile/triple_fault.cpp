// SPDX-License-Identifier: Apache-2.0
//
// An exception with no way to deliver it: the machine shuts down.
#include "guest.hpp"
#include "instructions.hpp"

using namespace bulkhead::guest;

void bulkhead::guest::run() {
  expect("triple fault");
  while (!(in8(0x3fd) & 0x40)) pause();
  load_idt({0, 0});
  asm volatile("ud2");
}
