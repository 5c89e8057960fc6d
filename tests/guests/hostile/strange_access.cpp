// SPDX-License-Identifier: Apache-2.0
//
// Instructions that no driver uses on a device, on the IOAPIC: FXSAVE, or CMPXCHG8B with "cmpxchg8b" on the command line. The
// machine completes them, or ends this guest and says which instruction it was.
#include "guest.hpp"
#include "instructions.hpp"
#include "interrupt.hpp"

using namespace bulkhead::guest;

void bulkhead::guest::run() {
  constexpr std::uint64_t kDevice = 0xfec00000;
  expect("an instruction that cannot be completed");
  if (command_line_has("cmpxchg8b")) {
    attempt([] { asm volatile("cmpxchg8b (%0)" ::"r"(kDevice) : "rax", "rdx", "memory", "cc"); });
  } else {
    attempt([] { asm volatile("fxsave (%0)" ::"r"(kDevice) : "memory"); });
  }
  pass("a strange instruction on a device ends");
}
