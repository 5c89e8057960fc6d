// SPDX-License-Identifier: Apache-2.0
//
// Paging without protection, a state that no processor can be in. A processor refuses the way there with #GP; QEMU's
// emulation lets it happen, and then the machine below must end this guest and nothing else.
#include "guest.hpp"
#include "instructions.hpp"
#include "interrupt.hpp"

using namespace bulkhead::guest;

void bulkhead::guest::run() {
  expect("invalid state, or a fault");
  const Fault fault = attempt([] { write_cr0(read_cr0() & ~1ull); });
  check_equal(fault.vector, kGeneralProtection, "paging without protection faults");
}
