// SPDX-License-Identifier: Apache-2.0
//
// String instructions on ports and devices without end: the largest counts, over borders of memory, forwards and backwards.
// Interrupts must still come in between, and the guest must be able to go on after them.
#include "guest.hpp"
#include "instructions.hpp"
#include "interrupt.hpp"
#include "local_apic.hpp"
#include "time.hpp"

using namespace bulkhead::guest;

namespace {

constexpr std::uint64_t kEndless = ~0ull;
constexpr std::uint8_t kVector = 0x60;
constexpr std::uint16_t kPort = 0x80;
constexpr std::uint64_t kBuffer = 0x300000, kIoApic = 0xfec00000, kHole = 0xd0000000;

volatile std::uint64_t count_at_interrupt;

/// Ends the string instruction that it finds under way: it goes on with a count of one.
void on_timer(InterruptFrame& frame) {
  constexpr std::uint8_t kRep = 0xf3;
  if (memory_read<std::uint8_t>(frame.rip) == kRep && frame.rcx != kEndless && !count_at_interrupt) {
    count_at_interrupt = frame.rcx;
    frame.rcx = 1;
  }
  local_apic::end_of_interrupt();
}

template <typename Instruction>
void check_interruptible(const char* what, Instruction instruction) {
  count_at_interrupt = 0;
  local_apic::write(local_apic::kTimer, kVector | local_apic::kTimerPeriodic);
  local_apic::write(local_apic::kTimerInitial, 2000000);
  enable_interrupts();
  const Fault fault = attempt(instruction);
  disable_interrupts();
  local_apic::write(local_apic::kTimerInitial, 0);
  take_interrupts();
  check(fault.vector == kNoException && count_at_interrupt > 1 && count_at_interrupt < kEndless, what,
        fault.vector == kNoException ? "no interrupt came in between" : "it faults");
}

void output(std::uint64_t from, std::uint64_t count) {
  asm volatile("rep outsb" : "+S"(from), "+c"(count) : "d"(kPort) : "memory");
}
void input(std::uint64_t to, std::uint64_t count) {
  asm volatile("rep insl" : "+D"(to), "+c"(count) : "d"(kPort) : "memory");
}

}  // namespace

void bulkhead::guest::run() {
  mask_pic();
  set_interrupt_handler(kVector, on_timer);
  local_apic::enable();
  local_apic::write(local_apic::kTimerDivide, 0xb);
  check_interruptible("REP OUTS from memory without end", [] { output(kBuffer, kEndless); });
  check_interruptible("REP OUTS from a hole without end", [] { output(kHole, kEndless); });
  check_interruptible("REP INS to a hole without end", [] { input(kHole, kEndless); });
  check_interruptible("REP STOS to a device without end", [] {
    std::uint64_t to = kHole, count = kEndless;
    asm volatile("rep stosl" : "+D"(to), "+c"(count) : "a"(0) : "memory");
  });
  check_interruptible("REP MOVS from device to device without end", [] {
    std::uint64_t from = kHole, to = kHole + 0x1000000, count = kEndless;
    asm volatile("rep movsb" : "+S"(from), "+D"(to), "+c"(count)::"memory");
  });
  check_interruptible("REP LODS backwards from a device without end", [] {
    std::uint64_t from = kHole + 0x1000000, count = kEndless;
    asm volatile("std; rep lodsb; cld" : "+S"(from), "+c"(count)::"rax", "memory", "cc");
  });

  // To the end of what is mapped: the fault comes with the registers where it came.
  std::uint64_t to = (1ull << 32) - 64;
  const Fault fault = attempt([=] { input(to, 1000); });
  check_equal(fault.vector, kPageFault, "REP INS beyond what is mapped faults");
  check_equal(fault.address, 1ull << 32, "and says where");
  check_equal(fault.frame.rcx, 1000 - 16, "with the count of what is left");
  // Not canonical; over the end of the address space; no count at all.
  check_equal(attempt([] { output(1ull << 62, 1); }).vector, kGeneralProtection,
              "REP OUTS from an address that is none faults");
  attempt([] { input(~0ull - 2, 2); });
  check_equal(attempt([] { input(1ull << 62, 0); }).vector, kNoException, "REP INS of nothing touches nothing");
  // The local APIC's page, and across it.
  attempt([] { input(0xfee00000 - 8, 4); });
  attempt([] { output(0xfee00ff0, 64); });
  attempt([] { input(kIoApic, 64); });
  pass("string instructions on the interrupt controllers end");
}
