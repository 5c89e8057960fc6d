// SPDX-License-Identifier: Apache-2.0
//
// The old interrupt path: PIT channel 0 through the PIC (IRQ 0), to the processor by LINT0 as ExtINT; and the same through
// the IOAPIC (input 2).
#include "guest.hpp"
#include "instructions.hpp"
#include "interrupt.hpp"
#include "local_apic.hpp"
#include "time.hpp"

using namespace bulkhead::guest;

namespace {

constexpr std::uint8_t kPicVector = 0x20;
constexpr std::uint8_t kIoapicVector = 0x60;
constexpr std::uint64_t kIoapic = 0xfec00000;
constexpr std::uint32_t kExtInt = 0x700;
volatile std::uint32_t pic_ticks, ioapic_ticks;

void on_pic(InterruptFrame&) {
  pic_ticks = pic_ticks + 1;
  out8(0x20, 0x20);
}
void on_ioapic(InterruptFrame&) {
  ioapic_ticks = ioapic_ticks + 1;
  local_apic::end_of_interrupt();
}

void start_pic() {
  out8(0x20, 0x11);
  out8(0xa0, 0x11);
  out8(0x21, kPicVector);
  out8(0xa1, kPicVector + 8);
  out8(0x21, 4);
  out8(0xa1, 2);
  out8(0x21, 1);
  out8(0xa1, 1);
  out8(0x21, 0xfe);
  out8(0xa1, 0xff);
}

void start_pit(std::uint16_t count) {
  out8(0x43, 0x34);  // channel 0, both bytes, rate generator
  out8(0x40, count & 0xff);
  out8(0x40, count >> 8);
}

void write_ioapic(std::uint32_t index, std::uint32_t value) {
  memory_write<std::uint32_t>(kIoapic, index);
  memory_write<std::uint32_t>(kIoapic + 0x10, value);
}
std::uint32_t read_ioapic(std::uint32_t index) {
  memory_write<std::uint32_t>(kIoapic, index);
  return memory_read<std::uint32_t>(kIoapic + 0x10);
}

void wait_for_ticks(volatile std::uint32_t& counter, const char* what) {
  constexpr std::uint32_t kTicks = 50;
  counter = 0;
  const std::uint64_t start = tsc();
  while (counter < kTicks && tsc() - start < microseconds_to_tsc(5000000)) {
    take_interrupts();
  }
  if (counter < kTicks) return fail(what, "ticks in 5 s", counter, kTicks);
  // 50 periods of 4 ms; the first may be short.
  check(tsc() - start >= microseconds_to_tsc(49 * 4000 * 19 / 20), what, "the ticks came too fast");
}

}  // namespace

void bulkhead::guest::run() {
  set_interrupt_handler(kPicVector, on_pic);
  set_interrupt_handler(kIoapicVector, on_ioapic);
  local_apic::enable();
  local_apic::write(local_apic::kLint0, kExtInt);
  start_pic();
  start_pit(4773);  // 250 Hz
  wait_for_ticks(pic_ticks, "PIT through the PIC");
  pic_ticks = 0;
  while (pic_ticks < 10) wait_for_interrupt();
  pass("PIT through the PIC wakes HLT");
  out8(0x21, 0xff);
  check_equal(in8(0x21), 0xff, "the PIC's mask reads back");

  check((read_ioapic(1) >> 16 & 0xff) >= 23, "the IOAPIC has 24 inputs", "its version register says fewer");
  write_ioapic(0x11 + 2 * 2, local_apic::id() << 24);
  write_ioapic(0x10 + 2 * 2, kIoapicVector);
  wait_for_ticks(ioapic_ticks, "PIT through the IOAPIC");
  write_ioapic(0x10 + 2 * 2, local_apic::kMasked);
  // One that was sent before may wait in the local APIC.
  enable_interrupts();
  delay_microseconds(1000);
  disable_interrupts();
  ioapic_ticks = 0;
  enable_interrupts();
  delay_microseconds(30000);
  disable_interrupts();
  check_equal(ioapic_ticks, 0, "a masked input of the IOAPIC is silent");
}
