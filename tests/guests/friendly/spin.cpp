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

constexpr std::uint32_t kTurns = 500;  // of each processor
constexpr std::uint32_t kHeld = 2000;  // rounds of work with the lock

volatile std::uint32_t next_ticket, serving, working, notices;
std::uint32_t spins_before_notice;  // 0: never

void add(volatile std::uint32_t& number, std::uint32_t by) { __atomic_fetch_add(&number, by, __ATOMIC_SEQ_CST); }

void lock() {
  const std::uint32_t ticket = __atomic_fetch_add(&next_ticket, 1u, __ATOMIC_SEQ_CST);
  for (std::uint32_t spins = 1; serving != ticket; ++spins) {
    pause();
    if (spins_before_notice != 0 && spins % spins_before_notice == 0) {
      add(notices, 1);
      call(kLongSpinWait | kFast, spins);
    }
  }
}

void take_turns() {
  for (std::uint32_t turn = 0; turn < kTurns; ++turn) {
    lock();
    for (std::uint32_t round = 0; round < kHeld; ++round) asm volatile("");
    serving = serving + 1;
  }
  add(working, ~0u);
}

}  // namespace

void bulkhead::guest::run() {
  if (!is_there()) return skip("long spins", "there is no hypervisor with the interface Hv#1");
  enable_calls();
  const std::uint32_t asked = cpuid(0x40000004).ebx;
  if (command_line_has("notify") && asked != 0xffffffff) spins_before_notice = asked;
  const std::uint32_t count = start_processors();
  working = count;
  const std::uint64_t start = read_msr(kTimeReferenceCount);
  for (std::uint32_t number = 1; number < count; ++number) start_work(number, take_turns);
  take_turns();
  while (working != 0) pause();
  print("turns: ");
  print_number(serving);
  print(" in ");
  print_number((read_msr(kTimeReferenceCount) - start) / 10000);
  print(" ms, notices: ");
  print_number(notices);
  print("\n");
  check_equal(serving, count * kTurns, "every turn was taken");
}
