// SPDX-License-Identifier: Apache-2.0
//
// What Hv#1 offers a processor for itself, used as guests use it: reference time, synthetic timers by interrupt and by message, the
// SynIC's slots, EOI assist, idling. What is not offered is skipped.
#include "guest.hpp"
#include "hypervisor.hpp"
#include "instructions.hpp"
#include "interrupt.hpp"
#include "local_apic.hpp"
#include "time.hpp"

using namespace bulkhead::guest;
using namespace bulkhead::guest::hypervisor;

namespace {

constexpr std::uint8_t kTimerVector = 0xed, kMessageVector = 0x60, kAssistVector = 0x70;
constexpr std::uint64_t kEnable = 1, kPeriodic = 2, kAutoEnable = 8, kDirect = 1 << 12;
constexpr std::uint32_t kSint = 4;
constexpr std::uint64_t kMillisecond = 10000;  // of reference time
constexpr std::uint64_t kPatience = 3000000;

struct ReferencePage {
  volatile std::uint32_t sequence, reserved;
  volatile std::uint64_t scale, offset;
};
struct Message {
  volatile std::uint32_t type;
  volatile std::uint8_t size, flags;
  volatile std::uint16_t reserved;
  volatile std::uint64_t sender;
  volatile std::uint32_t timer, reserved2;
  volatile std::uint64_t expiration, delivery;
  volatile std::uint64_t rest[27];
};
static_assert(sizeof(Message) == 256);

alignas(4096) ReferencePage reference_page;
alignas(4096) Message messages[16];
alignas(4096) std::uint32_t assist_page[1024];

volatile std::uint32_t ticks, message_interrupts, assisted, ended;
volatile std::uint64_t last_tick;

std::uint64_t time() { return read_msr(kTimeReferenceCount); }

void on_timer(InterruptFrame&) {
  last_tick = time();
  ticks = ticks + 1;
  local_apic::end_of_interrupt();
}
void on_message(InterruptFrame&) {
  message_interrupts = message_interrupts + 1;
  local_apic::end_of_interrupt();
}
void on_assist(InterruptFrame&) {
  ended = ended + 1;
  std::uint32_t word = 0;
  asm volatile("xchg %0, %1" : "+r"(word), "+m"(assist_page[0])::"memory");
  if (word & 1)
    assisted = assisted + 1;
  else
    write_msr(kEoi, 0);
}

template <typename Condition>
bool interrupts_until(Condition done, std::uint64_t microseconds = kPatience) {
  const std::uint64_t end = tsc() + microseconds_to_tsc(microseconds);
  while (!done() && tsc() < end) take_interrupts();
  return done();
}

void test_reference_time() {
  const std::uint64_t before = time();
  delay_microseconds(10000);
  check(time() - before >= 9 * kMillisecond, "the reference counter counts", "it is too slow");
  if (!(privileges() & kHasReferenceTsc)) return skip("reference TSC page", "not offered");
  write_msr(kReferenceTsc, reinterpret_cast<std::uint64_t>(&reference_page) | 1);
  if (reference_page.sequence == 0) return skip("reference TSC page", "it is invalid here");
  bool agrees = true;
  for (int round = 0; round < 1000; ++round) {
    const std::uint64_t low = time();
    const std::uint64_t counter = tsc();
    std::uint64_t rest, high_half = counter;
    asm("mulq %[scale]" : "+a"(high_half), "=d"(rest) : [scale] "r"(reference_page.scale) : "cc");
    const std::uint64_t now = rest + reference_page.offset;
    if (now + 1 < low || now > time() + 1) agrees = false;
  }
  check(agrees, "the reference TSC page agrees with the counter", "a time lies outside of two counter readings");
}

void test_direct_timer() {
  if (!(features() & kHasDirectTimers)) return skip("timers in direct mode", "not offered");
  ticks = 0;
  write_msr(kTimer0Config, kAutoEnable | kDirect | std::uint64_t{kTimerVector} << 4);
  const std::uint64_t due = time() + 10 * kMillisecond;
  write_msr(kTimer0Count, due);
  check(interrupts_until([] { return ticks > 0; }), "a one-shot timer fires", "no interrupt in 3 s");
  check(last_tick >= due, "a one-shot timer is not early", "it came before its time");
  check(!interrupts_until([] { return ticks > 1; }, 40000), "a one-shot timer fires once", "a second interrupt came");
  check_equal(read_msr(kTimer0Config) & kEnable, 0, "a one-shot timer is off afterwards");
  ticks = 0;
  write_msr(kTimer0Count, 1);
  check(interrupts_until([] { return ticks == 1; }), "a time that has passed fires at once", "no interrupt in 3 s");
  ticks = 0;
  write_msr(kTimer0Count, time() + 10 * kMillisecond);
  write_msr(kTimer0Count, 0);
  check(!interrupts_until([] { return ticks > 0; }, 40000), "a count of 0 stops it", "an interrupt came");

  write_msr(kTimer0Config, 0);
  write_msr(kTimer0Count, 4 * kMillisecond);
  const std::uint64_t start = time();
  write_msr(kTimer0Config, kEnable | kPeriodic | kDirect | std::uint64_t{kTimerVector} << 4);
  check(interrupts_until([] { return ticks >= 20; }), "a periodic timer fires 20 times", "fewer in 3 s");
  check(last_tick - start >= 80 * kMillisecond, "a periodic timer is not early", "20 periods were too short");
  write_msr(kTimer0Config, 0);
}

bool set_up_synic() {
  write_msr(kSimp, reinterpret_cast<std::uint64_t>(messages) | 1);
  write_msr(kSint0 + kSint, kMessageVector);
  write_msr(kScontrol, 1);
  return messages[kSint].type == 0;
}

/// Frees the slot as the specification asks for: type, fence, flag, EOM.
void free_slot() {
  messages[kSint].type = 0;
  asm volatile("mfence" ::: "memory");
  if (messages[kSint].flags & 1) write_msr(kEom, 0);
}

void test_messages() {
  if (!(privileges() & kHasSynic) || !(privileges() & kHasTimers)) return skip("timers' messages", "not offered");
  check(set_up_synic(), "a message page is empty at first", "something is in a slot");
  constexpr std::uint32_t kTimer = 1;
  constexpr std::uint32_t kExpired = 0x80000010;
  write_msr(kTimer0Config + 2 * kTimer, kAutoEnable | kSint << 16);
  const std::uint64_t due = time() + 5 * kMillisecond;
  write_msr(kTimer0Count + 2 * kTimer, due);
  check(interrupts_until([] { return message_interrupts > 0; }), "a timer's message interrupts", "not in 3 s");
  check_equal(messages[kSint].type, kExpired, "the message is of a timer");
  check_equal(messages[kSint].timer, kTimer, "the message tells which");
  check_equal(messages[kSint].expiration, due, "the message tells when it was due");
  check(messages[kSint].delivery >= due, "the message was not early", "it says it was");

  // The slot is still full: the next one has to wait, and to say so.
  message_interrupts = 0;
  write_msr(kTimer0Config + 4, kAutoEnable | kSint << 16);
  write_msr(kTimer0Count + 4, 1);
  const bool told = wait_until([] { return (messages[kSint].flags & 1) != 0; }, kPatience);
  check(told, "a message that waits for the slot marks it", "the flag is not set");
  check_equal(messages[kSint].timer, kTimer, "the first message stays meanwhile");
  free_slot();
  check(interrupts_until([] { return message_interrupts > 0; }), "EOM lets the next message come", "not in 3 s");
  check_equal(messages[kSint].timer, 2, "it is the other timer's");
  free_slot();

  // Masked, the message comes without an interrupt.
  message_interrupts = 0;
  write_msr(kSint0 + kSint, kMessageVector | 1 << 16);
  write_msr(kTimer0Count + 4, 1);
  check(interrupts_until([] { return messages[kSint].type == kExpired; }), "a masked SINT gets its message",
        "not in 3 s");
  check_equal(message_interrupts, 0, "and no interrupt");
  free_slot();
  write_msr(kScontrol, 0);
}

void test_auto_eoi() {
  if (!(privileges() & kHasSynic) || !(features() & kHasDirectTimers)) return skip("AutoEOI", "not offered");
  // The timer's own vector belongs to a SINT that ends by itself: handlers that send no EOI get the next one still.
  write_msr(kSint0 + 5, (kAssistVector + 1) | 1 << 17);
  set_interrupt_handler(kAssistVector + 1, [](InterruptFrame&) { ticks = ticks + 1; });
  ticks = 0;
  for (std::uint32_t round = 1; round <= 3; ++round) {
    write_msr(kInterruptCommand, 1 << 18 | (kAssistVector + 1));
    interrupts_until([=] { return ticks >= round; }, 100000);
  }
  check_equal(ticks, 3, "interrupts of an AutoEOI SINT end with their delivery");
  write_msr(kSint0 + 5, 1 << 16);
}

void test_assist() {
  if (!(privileges() & kHasApicMsrs)) return skip("EOI assist", "not offered");
  constexpr std::uint32_t kRounds = 200;
  write_msr(kVpAssistPage, reinterpret_cast<std::uint64_t>(assist_page) | 1);
  for (std::uint32_t round = 1; round <= kRounds; ++round) {
    write_msr(kInterruptCommand, 1 << 18 | kAssistVector);
    if (!interrupts_until([=] { return ended == round; }))
      return fail("interrupts end with or without an EOI", "one did not come", ended, round);
  }
  pass("interrupts end with or without an EOI");
  print("EOIs without an exit: ");
  print_number(assisted);
  print(" of 200\n");
  check_equal(local_apic::read(static_cast<local_apic::Register>(local_apic::kInService + (kAssistVector / 32) * 16)),
              0, "nothing is in service afterwards");
  write_msr(kVpAssistPage, 0);
}

void test_task_priority() {
  if (!(privileges() & kHasApicMsrs)) return;
  write_msr(kTaskPriority, 0x80);
  check_equal(local_apic::read(local_apic::kTaskPriority), 0x80, "the task priority register is the APIC's");
  write_msr(kTaskPriority, 0);
}

void test_idle() {
  if (!(privileges() & kHasGuestIdle)) return skip("guest idle", "not offered");
  ticks = 0;
  write_msr(kTimer0Config, kAutoEnable | kDirect | std::uint64_t{kTimerVector} << 4);
  const std::uint64_t due = time() + 20 * kMillisecond;
  write_msr(kTimer0Count, due);
  // With interrupts disabled: it comes back when one is pending.
  check_equal(read_msr(kGuestIdle), 0, "idling reads 0");
  check(time() >= due, "idling lasts until an interrupt is pending", "it came back before");
  check_equal(ticks, 0, "and delivers none by itself");
  take_interrupts();
  check_equal(ticks, 1, "the interrupt is there afterwards");
}

}  // namespace

void bulkhead::guest::run() {
  if (!is_there()) return skip("the synthetic interface", "there is no hypervisor with the interface Hv#1");
  mask_pic();
  set_interrupt_handler(kTimerVector, on_timer);
  set_interrupt_handler(kMessageVector, on_message);
  set_interrupt_handler(kAssistVector, on_assist);
  local_apic::enable();
  enable_calls();
  test_reference_time();
  test_direct_timer();
  test_messages();
  test_auto_eoi();
  test_assist();
  test_task_priority();
  test_idle();
}
