// SPDX-License-Identifier: Apache-2.0
//
// A timer that fires as often as it can, on all processors at once, for ever. With "untaken" on the command line the
// processors never take its interrupt, and do what ends a run of theirs all the time: each begins with an interrupt that
// waits.
#include "guest.hpp"
#include "instructions.hpp"
#include "interrupt.hpp"
#include "local_apic.hpp"
#include "processors.hpp"
#include "time.hpp"

using namespace bulkhead::guest;

namespace {

constexpr std::uint8_t kVector = 0x40;
constexpr std::uint32_t kDivideBy1 = 0xb;
bool untaken;

void on_interrupt(InterruptFrame&) { local_apic::end_of_interrupt(); }

void storm() {
  local_apic::enable();
  local_apic::write(local_apic::kTimerDivide, kDivideBy1);
  local_apic::write(local_apic::kTimer, kVector | local_apic::kTimerPeriodic);
  local_apic::write(local_apic::kTimerInitial, 1);
  for (;;) {
    if (untaken) {
      cpuid(0);
    } else {
      take_interrupts();
    }
  }
}

}  // namespace

void bulkhead::guest::run() {
  untaken = command_line_has("untaken");
  mask_pic();
  set_interrupt_handler(kVector, on_interrupt);
  const std::uint32_t count = start_processors();
  for (std::uint32_t number = 1; number < count; ++number) start_work(number, storm);
  expect("a storm of timer interrupts");
  storm();
}
