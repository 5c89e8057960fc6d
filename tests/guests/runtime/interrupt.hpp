// SPDX-License-Identifier: Apache-2.0
//
// Exceptions and interrupts. An exception that no one waits for ends the guest with a FAIL line; `attempt` waits for one.
#pragma once

#include <cstdint>

namespace bulkhead::guest {

enum Exception : std::uint8_t {
  kDivideError = 0,
  kDebug = 1,
  kNmi = 2,
  kBreakpoint = 3,
  kInvalidOpcode = 6,
  kDoubleFault = 8,
  kInvalidTss = 10,
  kSegmentNotPresent = 11,
  kStackFault = 12,
  kGeneralProtection = 13,
  kPageFault = 14,
  kAlignmentCheck = 17,
};
/// `attempt` found none.
inline constexpr std::uint32_t kNoException = 0xffffffff;

/// What the processor and the entry code leave on the stack.
struct InterruptFrame {
  std::uint64_t r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax;
  std::uint64_t vector, error_code;
  std::uint64_t rip, cs, rflags, rsp, ss;
};

using InterruptHandler = void (*)(InterruptFrame& frame);

/// From now on, on every processor. Exceptions too, instead of what is described above.
void set_interrupt_handler(std::uint8_t vector, InterruptHandler handler);

/// The interrupt descriptor table on this processor. The runtime and the start of further processors call it.
void load_interrupt_table();

/// From now on the PIC's interrupts do not come.
void mask_pic();

/// The exception that ended an attempt.
struct Fault {
  std::uint32_t vector;  // or kNoException
  std::uint32_t error_code;
  std::uint64_t address;  // of a page fault (CR2)
  InterruptFrame frame;
};

/// Calls `function(argument)`. An exception in it ends it, and that is told. On one processor at a time.
Fault attempt(void (*function)(void*), void* argument);

template <typename Function>
Fault attempt(Function function) {
  return attempt([](void* argument) { (*static_cast<Function*>(argument))(); }, &function);
}

}  // namespace bulkhead::guest
