// SPDX-License-Identifier: Apache-2.0
//
// The local APIC's x2APIC mode: MSRs instead of memory, a 64-bit ICR, and what must fault.
#include "guest.hpp"
#include "instructions.hpp"
#include "interrupt.hpp"
#include "local_apic.hpp"
#include "time.hpp"

using namespace bulkhead::guest;

namespace {

constexpr std::uint8_t kVector = 0x50;
constexpr std::uint32_t kSelfIpiMsr = 0x83f;
volatile std::uint32_t received;

void on_interrupt(InterruptFrame&) {
  received = received + 1;
  local_apic::end_of_interrupt();
}

bool arrives() {
  enable_interrupts();
  const bool arrived = wait_until([] { return received != 0; }, 2000000);
  disable_interrupts();
  return arrived;
}

std::uint32_t write_fault(std::uint32_t msr, std::uint64_t value) {
  return attempt([=] { write_msr(msr, value); }).vector;
}
std::uint32_t read_fault(std::uint32_t msr) {
  return attempt([=] { read_msr(msr); }).vector;
}

void test_faults() {
  using namespace local_apic;
  check_equal(write_fault(kX2Msr + kId / 16, 0), kGeneralProtection, "the id cannot be written");
  // KVM, as of Linux 6.1, takes both of these.
  if (!command_line_has("lenient")) {
    check_equal(write_fault(kX2Msr + kEoi / 16, 1), kGeneralProtection, "an EOI that is not 0 faults");
    check_equal(write_fault(kX2Msr + kTaskPriority / 16, 0x100), kGeneralProtection, "reserved bits of the TPR fault");
  }
  check_equal(read_fault(kX2Msr + kEoi / 16), kGeneralProtection, "EOI cannot be read");
  check_equal(read_fault(kX2Msr + kCommandHigh / 16), kGeneralProtection, "there is no high half of the ICR");
  check_equal(read_fault(kX2Msr + kDestinationFormat / 16), kGeneralProtection, "there is no destination format");
  check_equal(read_fault(kSelfIpiMsr), kGeneralProtection, "self IPI cannot be read");
  check_equal(write_fault(kX2Msr + kSpurious / 16, 0x1ffull << 32 | 0x1ff), kGeneralProtection,
              "high halves must be 0");
  const std::uint64_t base = read_msr(kBaseMsr);
  check_equal(write_fault(kBaseMsr, base & ~kBaseX2), kGeneralProtection, "x2APIC to xAPIC faults");
  check_equal(write_fault(kBaseMsr, (base & ~kBaseEnable) | kBaseX2), kGeneralProtection,
              "x2APIC without enable faults");
  check_equal(read_msr(kBaseMsr), base, "a refused write changes nothing");
}

void test_timer() {
  received = 0;
  local_apic::write(local_apic::kTimerDivide, 3);
  local_apic::write(local_apic::kTimer, kVector);
  local_apic::write(local_apic::kTimerInitial, 100000);
  check(arrives(), "the timer fires in x2APIC mode", "no interrupt in 2 s");
}

}  // namespace

void bulkhead::guest::run() {
  constexpr std::uint32_t kHasX2 = 1u << 21;
  if (!(cpuid(1).ecx & kHasX2)) return skip("x2APIC", "the processor has none");
  set_interrupt_handler(kVector, on_interrupt);
  mask_pic();
  const std::uint32_t old_id = local_apic::id();
  write_msr(local_apic::kBaseMsr, read_msr(local_apic::kBaseMsr) | local_apic::kBaseX2);
  check(local_apic::is_x2(), "x2APIC mode can be entered", "the bit is not set");
  check_equal(local_apic::id(), old_id, "the id is the same in both modes");
  local_apic::enable();
  check_equal(local_apic::read(local_apic::kSpurious), 0x1ff, "the spurious vector register reads back");
  check_equal(local_apic::read(local_apic::kLogicalDestination), (old_id >> 4) << 16 | 1u << (old_id & 15),
              "the logical id follows from the id");

  received = 0;
  write_msr(kSelfIpiMsr, kVector);
  check(arrives(), "self IPI by its own register", "no interrupt in 2 s");
  received = 0;
  local_apic::send(kVector, local_apic::id());
  check(arrives(), "self by id", "no interrupt in 2 s");
  received = 0;
  local_apic::send(local_apic::kToSelf | kVector, 0);
  check(arrives(), "self by shorthand", "no interrupt in 2 s");
  test_timer();
  test_faults();
}
