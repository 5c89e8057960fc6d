// SPDX-License-Identifier: Apache-2.0
//
// Several processors: they start, and interrupts between them arrive, each once, in every way to address them.
#include "guest.hpp"
#include "instructions.hpp"
#include "interrupt.hpp"
#include "local_apic.hpp"
#include "processors.hpp"
#include "time.hpp"

using namespace bulkhead::guest;

namespace {

constexpr std::uint8_t kVector = 0x50;
constexpr std::uint8_t kReplyVector = 0x51;
constexpr std::uint32_t kRounds = 500;
constexpr std::uint64_t kPatience = 5000000;

volatile std::uint32_t received[256];  // by APIC id
volatile std::uint32_t replies;
volatile std::uint32_t nmis;
volatile bool stop_work;
std::uint32_t count;

void on_interrupt(InterruptFrame&) {
  const std::uint32_t id = local_apic::id();
  received[id] = received[id] + 1;
  local_apic::end_of_interrupt();
}

void on_call(InterruptFrame&) {
  local_apic::end_of_interrupt();
  local_apic::send(kReplyVector, apic_id_of(0));
}

void on_reply(InterruptFrame&) {
  replies = replies + 1;
  local_apic::end_of_interrupt();
}

void on_nmi(InterruptFrame&) { nmis = nmis + 1; }

/// What the other processors do: take interrupts, halted or not.
void sleep_work() {
  while (!stop_work) wait_for_interrupt();
}
void spin_work() {
  enable_interrupts();
  while (!stop_work) pause();
  disable_interrupts();
}

void all_work(void (*work)()) {
  stop_work = false;
  for (std::uint32_t number = 1; number < count; ++number) start_work(number, work);
  delay_microseconds(10000);
}

void end_work() {
  stop_work = true;
  // A sleeper looks only when it is woken, and may fall asleep just after this.
  const auto all_idle = [] {
    local_apic::send(local_apic::kToOthers | kReplyVector, 0);
    delay_microseconds(1000);
    for (std::uint32_t number = 1; number < count; ++number)
      if (!is_idle(number)) return false;
    return true;
  };
  check(wait_until(all_idle, kPatience), "the other processors end their work", "one does not");
}

void clear_received() {
  for (auto& counter : received) counter = 0;
}

/// Sends one interrupt and waits until each of the others, if `others`, and this processor, if `self`, has got it.
void test_send(std::uint32_t command, std::uint32_t destination, bool self, bool others, const char* what) {
  clear_received();
  local_apic::send(command, destination);
  const auto arrived = [=] {
    take_interrupts();
    if (self && received[apic_id_of(0)] == 0) return false;
    if (others)
      for (std::uint32_t number = 1; number < count; ++number)
        if (received[apic_id_of(number)] == 0) return false;
    return true;
  };
  if (!wait_until(arrived, kPatience)) return fail(what, "an interrupt did not arrive");
  delay_microseconds(2000);
  take_interrupts();
  for (std::uint32_t number = 0; number < count; ++number) {
    const std::uint32_t expected = (number == 0 ? self : others) ? 1 : 0;
    if (received[apic_id_of(number)] != expected) return fail(what, "count", received[apic_id_of(number)], expected);
  }
  pass(what);
}

void test_ping_pong(const char* what) {
  replies = 0;
  const std::uint32_t target = apic_id_of(1);
  for (std::uint32_t round = 1; round <= kRounds; ++round) {
    local_apic::send(kVector + 2, target);
    enable_interrupts();
    const bool answered = wait_until([=] { return replies == round; }, kPatience);
    disable_interrupts();
    if (!answered) return fail(what, "round without an answer", replies, round);
  }
  pass(what);
}

void test_nmi() {
  nmis = 0;
  local_apic::send(local_apic::kToOthers | local_apic::kNmi << 8, 0);
  check(wait_until([] { return nmis == count - 1; }, kPatience), "NMI to all others", "not every processor got it");
}

void set_logical_id(std::uint32_t bit) {
  local_apic::write(local_apic::kDestinationFormat, 0xffffffff);
  local_apic::write(local_apic::kLogicalDestination, 1u << bit << 24);
}

void test_logical() {
  // Each processor takes the bit of its number; processors up to 7 have one.
  set_logical_id(0);
  static std::uint32_t volatile number_for_work;
  for (std::uint32_t number = 1; number < count; ++number) {
    number_for_work = number;
    start_work(number, [] { set_logical_id(number_for_work); });
    wait_until([=] { return is_idle(number); }, kPatience);
  }
  all_work(spin_work);
  test_send(local_apic::kLogical | kVector, 0xff, true, true, "logical destination: all");
  test_send(local_apic::kLogical | kVector, 0xfe, false, true, "logical destination: others");
  test_send(local_apic::kLogical | kVector, 0x01, true, false, "logical destination: self");
  end_work();
}

}  // namespace

void bulkhead::guest::run() {
  mask_pic();
  set_interrupt_handler(kVector, on_interrupt);
  set_interrupt_handler(kReplyVector, on_reply);
  set_interrupt_handler(kVector + 2, on_call);
  set_interrupt_handler(kNmi, on_nmi);
  count = start_processors();
  print("processors: ");
  print_number(count);
  print("\n");
  test_send(local_apic::kToSelf | kVector, 0, true, false, "self by shorthand");
  test_send(kVector, local_apic::id(), true, false, "self by id");
  if (count == 1) return skip("interrupts between processors", "there is only one");

  all_work(spin_work);
  test_send(local_apic::kToOthers | kVector, 0, false, true, "all others, spinning");
  test_send(local_apic::kToAll | kVector, 0, true, true, "all, spinning");
  test_ping_pong("500 calls of a spinning processor and its answers");
  test_nmi();
  end_work();
  all_work(sleep_work);
  test_send(local_apic::kToOthers | kVector, 0, false, true, "all others, halted");
  test_ping_pong("500 calls of a halted processor and its answers");
  end_work();
  if (!local_apic::is_x2()) test_logical();
}
