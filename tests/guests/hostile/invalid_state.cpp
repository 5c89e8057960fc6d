// SPDX-License-Identifier: Apache-2.0
//
// A state that no processor can be in: paging without protection, or with "cr0" or "cr4" on the command line, a reserved bit
// of that register. A processor refuses the way there with #GP; QEMU's emulation lets it happen, and then the machine below
// must end this guest and nothing else.
#include "guest.hpp"
#include "instructions.hpp"
#include "interrupt.hpp"

using namespace bulkhead::guest;

void bulkhead::guest::run() {
  constexpr std::uint64_t kReserved = 1ull << 63;
  expect("invalid state, or a fault");
  const Fault fault = command_line_has("cr0")   ? attempt([] { write_cr0(read_cr0() | kReserved); })
                      : command_line_has("cr4") ? attempt([] { write_cr4(read_cr4() | kReserved); })
                                                : attempt([] { write_cr0(read_cr0() & ~1ull); });
  check(fault.vector == kGeneralProtection || (read_cr0() & 1 && !((read_cr0() | read_cr4()) & kReserved)),
        "no invalid state", "it is one");
}
