// SPDX-License-Identifier: Apache-2.0
//
// A SynIC in the hands of an enemy: its pages anywhere, over each other and over what else the hypervisor writes to; timers without
// end whose messages never find a slot; interrupts to oneself without end; sends and posts in floods. The guest gets on, or ends itself.
#include "guest.hpp"
#include "hypervisor.hpp"
#include "instructions.hpp"
#include "interrupt.hpp"
#include "local_apic.hpp"
#include "time.hpp"

using namespace bulkhead::guest;
using namespace bulkhead::guest::hypervisor;

namespace {

alignas(4096) std::uint8_t page[4096];
alignas(4096) std::uint64_t input[512];
volatile std::uint64_t interrupts;

std::uint64_t address() { return reinterpret_cast<std::uint64_t>(page); }

void write(std::uint32_t msr, std::uint64_t value) {
  attempt([=] { write_msr(msr, value); });
}

constexpr std::uint64_t kPlaces[] = {0,          0xfee00000, 0xfec00000,    0xd0000000,
                                     1ull << 38, 1ull << 51, ~0xfffull,     0x00ff'ffff'ffff'f000,
                                     0x1000,     0xf0000,    0xffff'0000ull};

/// Four timers as quick as they go, all with messages for a slot that nobody frees.
void flood_of_messages(std::uint64_t place) {
  write(kSimp, place | 1);
  write(kSiefp, place | 1);
  write(kVpAssistPage, place | 1);
  write(kScontrol, 1);
  for (std::uint32_t sint = 0; sint < 16; ++sint) write(kSint0 + sint, 0x40 + sint);
  for (std::uint32_t timer = 0; timer < 4; ++timer) {
    write(kTimer0Config + 2 * timer, 0);
    write(kTimer0Count + 2 * timer, 1);
    write(kTimer0Config + 2 * timer, 3 | (timer + 1ull) << 16);
  }
  const std::uint64_t end = tsc() + microseconds_to_tsc(20000);
  while (tsc() < end) {
    take_interrupts();
    write(kEom, 0);
  }
  for (std::uint32_t timer = 0; timer < 4; ++timer) write(kTimer0Config + 2 * timer, 0);
}

/// The page moves and goes while messages come.
void moving_pages() {
  for (std::uint32_t timer = 0; timer < 4; ++timer) {
    write(kTimer0Count + 2 * timer, 1);
    write(kTimer0Config + 2 * timer, 3 | (timer + 1ull) << 16);
  }
  for (int round = 0; round < 300; ++round) {
    for (const std::uint64_t place : {address(), kPlaces[3], kPlaces[5]}) {
      write(kSimp, place | 1);
      write(kVpAssistPage, place | 1);
      take_interrupts();
      write(kScontrol, static_cast<std::uint64_t>(round & 1));
    }
    write(kSimp, 0);
  }
  for (std::uint32_t timer = 0; timer < 4; ++timer) write(kTimer0Config + 2 * timer, 0);
}

/// Whatever the hypervisor writes to our page is turned over at once.
void page_of_lies() {
  write(kSimp, address() | 1);
  write(kVpAssistPage, address() | 1);
  write(kScontrol, 1);
  write(kTimer0Count, 1);
  write(kTimer0Config, 3 | 1 << 16);
  for (int round = 0; round < 2000; ++round) {
    for (std::uint32_t at = 0; at < sizeof page; at += 256) page[at] = static_cast<std::uint8_t>(round);
    page[5] = 0xff;
    take_interrupts();
  }
  write(kTimer0Config, 0);
}

void flood_of_calls() {
  for (int round = 0; round < 2000; ++round) {
    call(kClusterIpi | kFast, 0x40 + round % 0x80, ~0ull);
    call(kLongSpinWait | kFast, 1);
    call(kFlushSpace | kFast, 0, 0);
    call(kSignalEvent | kFast, static_cast<std::uint64_t>(round) << 5);
    input[0] = static_cast<std::uint64_t>(round);
    input[1] = 1 | 300ull << 32;
    call(kPostMessage, reinterpret_cast<std::uint64_t>(input));
    take_interrupts();
  }
}

}  // namespace

void bulkhead::guest::run() {
  if (!is_there() || !(privileges() & kHasSynic)) return skip("SynIC", "not offered");
  mask_pic();
  for (unsigned vector = 0x20; vector < 0x100; ++vector) {
    set_interrupt_handler(static_cast<std::uint8_t>(vector), [](InterruptFrame&) {
      interrupts = interrupts + 1;
      local_apic::end_of_interrupt();
    });
  }
  local_apic::enable();
  enable_calls();
  for (const std::uint64_t place : kPlaces) flood_of_messages(place);
  flood_of_messages(address());
  pass("timers whose messages find no slot");
  moving_pages();
  pass("pages that move while messages come");
  page_of_lies();
  pass("a page that is overwritten while it is used");
  write(kScontrol, 0);
  write(kVpAssistPage, 0);
  flood_of_calls();
  pass("floods of calls");
  const Fault fault = attempt([] { asm volatile("ud2"); });
  check_equal(fault.vector, kInvalidOpcode, "exceptions work as before");
}
