// SPDX-License-Identifier: Apache-2.0
//
// The local APIC's timer: that it fires, as often and as late as it was asked to. How late is compared with the TSC, with wide
// margins, because the machine below may be busy; no interrupt may be early and none may be lost.
#include "guest.hpp"
#include "instructions.hpp"
#include "interrupt.hpp"
#include "local_apic.hpp"
#include "time.hpp"

using namespace bulkhead::guest;

namespace {

constexpr std::uint8_t kVector = 0x40;
constexpr std::uint32_t kDivideBy16 = 3;
volatile std::uint32_t ticks;
std::uint64_t volatile last_tick;

void tick(InterruptFrame&) {
  last_tick = tsc();
  ticks = ticks + 1;
  local_apic::end_of_interrupt();
}

/// Halts until there were `count` ticks or the time is up.
bool halt_until_ticks(std::uint32_t count, std::uint64_t microseconds) {
  const std::uint64_t end = tsc() + microseconds_to_tsc(microseconds);
  // Only the timer wakes us, so a lost interrupt must not be waited for with HLT: the PIT is not there to help.
  while (ticks < count && tsc() < end) {
    take_interrupts();
  }
  return ticks >= count;
}

/// Stops the timer. A tick that the local APIC holds already comes all the same: it is taken here, or the next test counted it.
void stop_timer() {
  local_apic::write(local_apic::kTimerInitial, 0);
  take_interrupts();
}

/// TSC ticks per timer tick with the divider at 16, times 1024. Being held up between two reads only makes it larger.
std::uint64_t measure_ratio_once() {
  local_apic::write(local_apic::kTimerDivide, kDivideBy16);
  local_apic::write(local_apic::kTimer, kVector | local_apic::kMasked);
  const std::uint64_t start = tsc();
  local_apic::write(local_apic::kTimerInitial, 0xffffffff);
  delay_microseconds(20000);
  const std::uint32_t current = local_apic::read(local_apic::kTimerCurrent);
  const std::uint64_t elapsed = tsc() - start;
  local_apic::write(local_apic::kTimerInitial, 0);
  return current == 0xffffffff ? 0 : elapsed * 1024 / (0xffffffffu - current);
}

std::uint64_t measure_ratio() {
  std::uint64_t least = measure_ratio_once();
  for (int again = 0; again < 4; ++again) {
    const std::uint64_t ratio = measure_ratio_once();
    if (ratio < least) least = ratio;
  }
  return least;
}

void test_one_shot(std::uint64_t ratio) {
  const std::uint64_t wanted = microseconds_to_tsc(10000);
  ticks = 0;
  local_apic::write(local_apic::kTimer, kVector | local_apic::kTimerOneShot);
  const std::uint64_t start = tsc();
  local_apic::write(local_apic::kTimerInitial, static_cast<std::uint32_t>(wanted * 1024 / ratio));
  check(halt_until_ticks(1, 2000000), "one-shot timer fires", "no interrupt in 2 s");
  const std::uint64_t took = last_tick - start;
  check(took >= wanted - wanted / 20, "one-shot timer is not early", "the interrupt came more than 5 % early");
  check(!halt_until_ticks(2, 50000), "one-shot timer fires once", "a second interrupt came");
  check_equal(local_apic::read(local_apic::kTimerCurrent), 0, "one-shot timer stands at 0 afterwards");
}

void test_stop(std::uint64_t ratio) {
  ticks = 0;
  local_apic::write(local_apic::kTimer, kVector | local_apic::kTimerOneShot);
  local_apic::write(local_apic::kTimerInitial, static_cast<std::uint32_t>(microseconds_to_tsc(20000) * 1024 / ratio));
  local_apic::write(local_apic::kTimerInitial, 0);
  check(!halt_until_ticks(1, 60000), "a stopped timer does not fire", "an interrupt came");
}

void test_periodic(std::uint64_t ratio) {
  constexpr std::uint32_t kTicks = 50;
  const std::uint64_t period = microseconds_to_tsc(4000);
  ticks = 0;
  local_apic::write(local_apic::kTimer, kVector | local_apic::kTimerPeriodic);
  const std::uint64_t start = tsc();
  local_apic::write(local_apic::kTimerInitial, static_cast<std::uint32_t>(period * 1024 / ratio));
  check(halt_until_ticks(kTicks, 5000000), "periodic timer fires 50 times", "fewer in 5 s");
  const std::uint64_t took = last_tick - start;
  check(took >= period * kTicks - period * kTicks / 20, "periodic timer is not early",
        "50 periods were over 5 % too early");
  local_apic::write(local_apic::kTimer, kVector | local_apic::kMasked);
  const std::uint32_t before = ticks;
  check(!halt_until_ticks(before + 2, 50000), "a masked timer does not fire", "interrupts came");
  stop_timer();
}

void test_halted(std::uint64_t ratio) {
  ticks = 0;
  local_apic::write(local_apic::kTimer, kVector | local_apic::kTimerPeriodic);
  const std::uint64_t start = tsc();
  local_apic::write(local_apic::kTimerInitial, static_cast<std::uint32_t>(microseconds_to_tsc(4000) * 1024 / ratio));
  while (ticks < 25) wait_for_interrupt();
  check(tsc() - start < microseconds_to_tsc(10000000), "HLT is woken by the timer",
        "25 periods of 4 ms took over 10 s");
  stop_timer();
}

void test_deadline() {
  constexpr std::uint32_t kHasDeadline = 1u << 24;
  if (!(cpuid(1).ecx & kHasDeadline)) return skip("TSC-deadline timer", "the processor has none");
  ticks = 0;
  local_apic::write(local_apic::kTimer, kVector | local_apic::kTimerDeadline);
  const std::uint64_t deadline = tsc() + microseconds_to_tsc(10000);
  write_msr(local_apic::kDeadlineMsr, deadline);
  check_equal(read_msr(local_apic::kDeadlineMsr), deadline, "the deadline reads back while it is armed");
  check(halt_until_ticks(1, 2000000), "TSC-deadline timer fires", "no interrupt in 2 s");
  check(last_tick >= deadline, "TSC-deadline timer is not early", "the interrupt came before the deadline");
  check_equal(read_msr(local_apic::kDeadlineMsr), 0, "the deadline reads 0 afterwards");
  ticks = 0;
  write_msr(local_apic::kDeadlineMsr, tsc() - 1);
  check(halt_until_ticks(1, 2000000), "a deadline in the past fires at once", "no interrupt in 2 s");
  ticks = 0;
  write_msr(local_apic::kDeadlineMsr, tsc() + microseconds_to_tsc(20000));
  write_msr(local_apic::kDeadlineMsr, 0);
  check(!halt_until_ticks(1, 60000), "a deadline of 0 disarms", "an interrupt came");
}

}  // namespace

void bulkhead::guest::run() {
  set_interrupt_handler(kVector, tick);
  local_apic::enable();
  mask_pic();
  const std::uint64_t ratio = measure_ratio();
  check(ratio > 0, "the timer counts", "it stands still");
  if (ratio == 0) return;
  test_one_shot(ratio);
  test_stop(ratio);
  test_periodic(ratio);
  test_halted(ratio);
  test_deadline();
}
