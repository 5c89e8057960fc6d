// SPDX-License-Identifier: Apache-2.0
//
// The least: code runs, COM1 prints, an exception is delivered, and the guest can leave.
#include "guest.hpp"
#include "instructions.hpp"
#include "interrupt.hpp"

using namespace bulkhead::guest;

void bulkhead::guest::run() {
  print("hello from a guest");
  if (*command_line()) {
    print(", started with: ");
    print(command_line());
  }
  print("\n");
  pass("code runs");
  const Fault fault = attempt([] { asm volatile("ud2"); });
  check_equal(fault.vector, kInvalidOpcode, "UD2 raises #UD");
  const CpuidResult leaf = cpuid(0);
  check(leaf.eax >= 1, "CPUID has leaves", "CPUID leaf 0 says there is none");
  const std::uint64_t before = tsc();
  check(tsc() > before, "the TSC counts", "two readings are equal");
}
