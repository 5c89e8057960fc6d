// SPDX-License-Identifier: Apache-2.0
//
// Processors that take turns at a ticket lock. Where there are more of them than the machine below runs at a time, the one whose turn it
// is may not be running, and the others spin in vain. With "notify" on the command line they say so, as CPUID asks them to, and
// give their time away. Tells how long all turns took.
#include "guest.hpp"
#include "hypervisor.hpp"
#include "instructions.hpp"
#include "processors.hpp"

using namespace bulkhead::guest;
using namespace bulkhead::guest::hypervisor;

namespace {

constexpr std::uint32_t kTurns = 100;   // of each processor
constexpr std::uint32_t kWork = 40000;  // rounds with the lock, and about as many without it

volatile std::uint32_t next_ticket, serving, notices;
volatile std::uint32_t begun, ended;  // processors
std::uint32_t processor_count;
std::uint32_t spins_before_notice;  // 0: never

void add(volatile std::uint32_t& number, std::uint32_t by) { __atomic_fetch_add(&number, by, __ATOMIC_SEQ_CST); }

/// Spins until the number has that value.
void wait_for(const volatile std::uint32_t& number, std::uint32_t value) {
  for (std::uint32_t spins = 1; number != value; ++spins) {
    pause();
    if (spins_before_notice != 0 && spins % spins_before_notice == 0) {
      add(notices, 1);
      call(kLongSpinWait | kFast, spins);
    }
  }
}

void work(std::uint32_t rounds) {
  for (std::uint32_t round = 0; round < rounds; ++round) asm volatile("");
}

void take_turns() {
  add(begun, 1);
  wait_for(begun, processor_count);
  for (std::uint32_t turn = 0; turn < kTurns; ++turn) {
    wait_for(serving, __atomic_fetch_add(&next_ticket, 1u, __ATOMIC_SEQ_CST));
    work(kWork);
    serving = serving + 1;
    // Never quite as long: else the machine below might take the processor away at the same point of each turn.
    work(kWork + turn * 7919 % kWork);
  }
  add(ended, 1);
}

}  // namespace

void bulkhead::guest::run() {
  if (!is_there()) return skip("long spins", "there is no hypervisor with the interface Hv#1");
  enable_calls();
  const std::uint32_t asked = cpuid(0x40000004).ebx;
  if (command_line_has("notify") && asked != 0xffffffff) spins_before_notice = asked;
  processor_count = start_processors();
  for (std::uint32_t number = 1; number < processor_count; ++number) start_work(number, take_turns);
  const std::uint64_t start = read_msr(kTimeReferenceCount);
  take_turns();
  wait_for(ended, processor_count);
  print("turns: ");
  print_number(serving);
  print(" in ");
  print_number((read_msr(kTimeReferenceCount) - start) / 10000);
  print(" ms, notices: ");
  print_number(notices);
  print("\n");
  check_equal(serving, processor_count * kTurns, "every turn was taken");
}
