// SPDX-License-Identifier: Apache-2.0
//
// The local APIC's registers, read and written in every size, at every offset, with every kind of value; its base moved and
// switched off; the timer with the smallest periods. In the end it must still work.
#include "guest.hpp"
#include "instructions.hpp"
#include "interrupt.hpp"
#include "local_apic.hpp"
#include "time.hpp"

using namespace bulkhead::guest;

namespace {

using namespace local_apic;
volatile std::uint64_t received;

void on_interrupt(InterruptFrame&) {
  received = received + 1;
  end_of_interrupt();
}

/// The command register sends: its garbage is limited to what does not end or restart this processor.
bool sends(std::uint32_t offset) { return (offset & ~0xfu) == kCommandLow; }

/// As interrupts these vectors come without the error code that our entry points expect. Those below 16 must not come at
/// all, but do in QEMU.
bool expects_error_code(std::uint32_t vector) {
  return vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21 || vector == 29 || vector == 30;
}

/// Garbage makes the APIC send the vectors of exceptions too.
void handle_exception_vectors(void (*handler)(InterruptFrame&)) {
  for (unsigned vector = 0; vector < 32; ++vector) set_interrupt_handler(static_cast<std::uint8_t>(vector), handler);
}

void quieten() {
  for (const std::uint32_t lvt : {0x2f0u, 0x320u, 0x330u, 0x340u, 0x350u, 0x360u, 0x370u})
    memory_write<std::uint32_t>(kBase + lvt, kMasked);
  write(kTimerInitial, 0);
  write(kTaskPriority, 0);
  enable();
  for (int i = 0; i < 256; ++i) end_of_interrupt();
}

void sweep_values() {
  constexpr std::uint32_t kValues[] = {0,       1,       0xf,     0x10,    0xff,       0x100,      0x7ff,
                                       0x10000, 0x20000, 0x40000, 0x60000, 0x7fffffff, 0xffffffff, 0x12345678};
  for (std::uint32_t offset = 0; offset < 0x1000; offset += 4) {
    if (sends(offset)) continue;
    for (const std::uint32_t value : kValues) {
      attempt([=] { memory_write<std::uint32_t>(kBase + offset, value); });
      attempt([=] { memory_read<std::uint32_t>(kBase + offset); });
    }
    take_interrupts();
  }
  quieten();
  pass("every register takes every value");
}

void sweep_sizes() {
  for (std::uint32_t offset = 0; offset < 0xff8; ++offset) {
    if (sends(offset) || sends(offset + 7)) continue;
    attempt([=] { memory_read<std::uint8_t>(kBase + offset); });
    attempt([=] { memory_read<std::uint16_t>(kBase + offset); });
    attempt([=] { memory_read<std::uint32_t>(kBase + offset); });
    attempt([=] { memory_read<std::uint64_t>(kBase + offset); });
    attempt([=] { memory_write<std::uint8_t>(kBase + offset, 0); });
    attempt([=] { memory_write<std::uint16_t>(kBase + offset, 0); });
    attempt([=] { memory_write<std::uint64_t>(kBase + offset, 0); });
  }
  quieten();
  pass("every register in every size ends");
}

/// Instructions other than MOV.
void strange_instructions() {
  attempt([] { asm volatile("lock orl $0, (%0)" ::"r"(kBase + kTaskPriority) : "memory", "cc"); });
  attempt([] { asm volatile("xchgl %%eax, (%0)" ::"r"(kBase + kTaskPriority), "a"(0) : "memory"); });
  attempt([] { asm volatile("incl (%0)" ::"r"(kBase + kTaskPriority) : "memory", "cc"); });
  attempt([] {
    std::uint64_t from = kBase, to = 0x200000 - 4096, count = 1024;
    asm volatile("rep movsl" : "+S"(from), "+D"(to), "+c"(count)::"memory");
  });
  attempt([] { asm volatile("push (%0); pop %%rax" ::"r"(kBase + kId) : "rax", "memory"); });
  quieten();
  pass("strange instructions on the registers end");
}

void test_commands() {
  // Reserved delivery modes, vectors below 16, every shorthand: to nobody or to self, as fixed and lowest priority.
  for (std::uint32_t command = 0; command < 0x100000; command += 0x0b3) {
    const std::uint32_t mode = command >> 8 & 7;
    if (expects_error_code(command & 0xff)) continue;
    if (mode == kInit || mode == kStartUp || mode == local_apic::kNmi || mode == 2) continue;
    write(kCommandHigh, command << 12);
    write(kCommandLow, command);
    take_interrupts();
  }
  quieten();
  pass("strange commands end");
}

void test_timer() {
  write(kTimerDivide, 0xb);
  write(kTimer, 0x40 | kTimerPeriodic);
  for (const std::uint32_t initial : {1u, 2u, 3u, 10u}) {
    write(kTimerInitial, initial);
    enable_interrupts();
    delay_microseconds(20000);
    disable_interrupts();
  }
  write(kTimerInitial, 0);
  quieten();
  pass("a timer with the smallest periods lets the guest go on");
}

void test_base() {
  handle_exception_vectors(nullptr);  // what does not work is a fault now
  const std::uint64_t old = read_msr(kBaseMsr);
  for (const std::uint64_t base : {0ull, 0xfec00000ull, 0xd0000000ull, 0x100000ull, 1ull << 38, ~0xfffull})
    attempt([=] { write_msr(kBaseMsr, base | (old & 0xfff)); });
  attempt([=] { write_msr(kBaseMsr, old | 0xff); });
  attempt([=] { write_msr(kBaseMsr, (old | kBaseX2) & ~kBaseEnable); });
  attempt([=] { write_msr(kBaseMsr, old); });
  // Off and on again.
  attempt([=] { write_msr(kBaseMsr, old & ~(kBaseEnable | kBaseX2)); });
  attempt([] { memory_read<std::uint32_t>(kBase + kId); });
  attempt([=] { write_msr(kBaseMsr, old); });
  quieten();
  pass("a base that is moved and switched off lets the guest go on");
}

}  // namespace

void bulkhead::guest::run() {
  mask_pic();
  for (unsigned vector = 0x20; vector < 0x100; ++vector)
    set_interrupt_handler(static_cast<std::uint8_t>(vector), on_interrupt);
  handle_exception_vectors(on_interrupt);
  microseconds_to_tsc(1);
  enable();
  test_commands();
  sweep_values();
  sweep_sizes();
  strange_instructions();
  test_timer();
  test_base();
  received = 0;
  send(kToSelf | 0x50, 0);
  check(wait_until(
            [] {
              take_interrupts();
              return received != 0;
            },
            2000000),
        "the local APIC still works", "no interrupt");
}
