// SPDX-License-Identifier: Apache-2.0
//
// Exceptions in exceptions, NMIs in NMIs, and single steps over the instructions that the machine below completes.
// "forever" on the command line: a page fault whose delivery leads to the next one, and no instruction is ever executed.
#include "guest.hpp"
#include "instructions.hpp"
#include "interrupt.hpp"
#include "local_apic.hpp"
#include "time.hpp"

using namespace bulkhead::guest;

extern "C" std::uint64_t page_map[512];

namespace {

constexpr std::uint64_t kNotMapped = 1ull << 40;
constexpr std::uint64_t kTrapFlag = 0x100;

volatile std::uint32_t nmis, depth, deepest;

void send_nmi_to_self() {
  // The shorthand for self knows no NMI; so by number.
  local_apic::send(local_apic::kAssert | local_apic::kNmi << 8, local_apic::id());
}

void on_nmi(InterruptFrame&) {
  nmis = nmis + 1;
  depth = depth + 1;
  if (depth > deepest) deepest = depth;
  if (nmis < 3) {
    // Both become one that waits for the end of this.
    send_nmi_to_self();
    send_nmi_to_self();
    delay_microseconds(1000);
  }
  depth = depth - 1;
}

void nmis_in_nmis() {
  set_interrupt_handler(kNmi, on_nmi);
  send_nmi_to_self();
  wait_until([] { return nmis >= 3; }, 1000000);
  check_equal(nmis, 3, "an NMI in an NMI waits for its end, and is not lost");
  check_equal(deepest, 1, "no NMI interrupts another");
  set_interrupt_handler(kNmi, nullptr);
}

void double_faults() {
  for (int i = 0; i < 100; ++i) {
    const Fault fault = attempt([] { asm volatile("mov %0, %%rsp; push %%rax" ::"r"(kNotMapped) : "memory"); });
    if (fault.vector != kDoubleFault)
      return fail("a push to no stack", "is not a double fault", fault.vector, kDoubleFault);
  }
  pass("a hundred double faults");
  // A stack in a device: the processor pushes the exception's frame there.
  if (!command_line_has("device-stack")) return;
  expect("an exception that is delivered to a device, or a double fault");
  attempt([] { asm volatile("mov %0, %%rsp; ud2" ::"r"(0xfec00800ull) : "memory"); });
}

volatile std::uint32_t steps;
std::uint64_t step_places[16];

void on_step(InterruptFrame& frame) {
  if (steps < 16) step_places[steps] = frame.rip;
  steps = steps + 1;
}

/// Each instruction that is completed below takes one step, not none and not two.
void single_steps() {
  set_interrupt_handler(kDebug, on_step);
  std::uint64_t places[9];
  const std::uint64_t device = 0xfec00000;
  std::uint32_t low, high;
  asm volatile(
      "pushfq; orq %[trap], (%%rsp); popfq\n"
      "nop\n"
      "1: cpuid\n"
      "2: mov $0x1b, %%ecx; 3: rdmsr\n"
      "4: mov $0x80, %%dx; 5: in %%dx, %%al\n"
      "6: out %%al, %%dx\n"
      "7: mov (%[device]), %%eax\n"
      "8: pushfq; andq %[no_trap], (%%rsp); popfq\n"
      "9: lea 1b(%%rip), %%rax; mov %%rax, 0(%[places]); lea 2b(%%rip), %%rax; mov %%rax, 8(%[places])\n"
      "lea 3b(%%rip), %%rax; mov %%rax, 16(%[places]); lea 4b(%%rip), %%rax; mov %%rax, 24(%[places])\n"
      "lea 5b(%%rip), %%rax; mov %%rax, 32(%[places]); lea 6b(%%rip), %%rax; mov %%rax, 40(%[places])\n"
      "lea 7b(%%rip), %%rax; mov %%rax, 48(%[places]); lea 8b(%%rip), %%rax; mov %%rax, 56(%[places])\n"
      : "=&a"(low), "=&d"(high)
      : [trap] "i"(kTrapFlag), [no_trap] "i"(~kTrapFlag), [device] "r"(device), [places] "D"(places)
      : "rbx", "rcx", "memory", "cc");
  set_interrupt_handler(kDebug, nullptr);
  std::uint32_t wrong = 0;
  for (int i = 0; i < 8; ++i) wrong |= step_places[i] == places[i] ? 0 : 1u << i;
  check_equal(wrong, 0, "single steps over instructions that the machine completes");
  check_equal(steps, 11, "as many single steps as instructions");
}

volatile std::uint64_t interrupted_at;
void on_interrupt(InterruptFrame& frame) {
  if (!interrupted_at) interrupted_at = frame.rip;
  local_apic::end_of_interrupt();
}

/// After STI one more instruction is executed before an interrupt that waits; also if the machine completes it.
void interrupt_shadow() {
  set_interrupt_handler(0x50, on_interrupt);
  local_apic::enable();
  local_apic::send(local_apic::kToSelf | 0x50, 0);
  delay_microseconds(1000);
  std::uint64_t expected;
  std::uint32_t eax = 0, ecx = 0;
  asm volatile("sti; cpuid; 1: nop; nop; cli; lea 1b(%%rip), %[expected]"
               : [expected] "=&r"(expected), "+a"(eax), "+c"(ecx)::"rbx", "rdx", "memory");
  check_equal(interrupted_at, expected, "STI holds interrupts back over an instruction that the machine completes");
}

[[noreturn]] void fault_forever() {
  expect("an endless loop of page faults");
  struct [[gnu::packed]] {
    std::uint16_t offset_low, selector;
    std::uint8_t stack, type;
    std::uint16_t offset_middle;
    std::uint32_t offset_high, reserved;
  } gate = {0, 8, 1, 0x8e, 0, static_cast<std::uint32_t>(kNotMapped >> 32), 0};
  static_assert(sizeof(gate) == 16);
  // Every vector leads to where no memory is mapped, on a stack that begins anew each time.
  alignas(16) static std::uint64_t table[512];
  for (int vector = 0; vector < 256; ++vector) {
    table[2 * vector] = reinterpret_cast<const std::uint64_t*>(&gate)[0];
    table[2 * vector + 1] = reinterpret_cast<const std::uint64_t*>(&gate)[1];
  }
  load_idt({sizeof(table) - 1, reinterpret_cast<std::uint64_t>(table)});
  for (;;) asm volatile("ud2");
}

}  // namespace

void bulkhead::guest::run() {
  if (command_line_has("forever")) fault_forever();
  mask_pic();
  microseconds_to_tsc(1);
  local_apic::enable();
  nmis_in_nmis();
  single_steps();
  interrupt_shadow();
  double_faults();
}
