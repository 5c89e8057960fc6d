// SPDX-License-Identifier: Apache-2.0
//
// Interrupts to itself and to everybody, as fast as they can be sent, from all processors at once. With "forever" on the
// command line it never ends.
#include "guest.hpp"
#include "instructions.hpp"
#include "interrupt.hpp"
#include "local_apic.hpp"
#include "processors.hpp"
#include "time.hpp"

using namespace bulkhead::guest;

namespace {

volatile std::uint64_t received;
bool forever;

void on_interrupt(InterruptFrame&) {
  received = received + 1;
  local_apic::end_of_interrupt();
}

void storm() {
  constexpr std::uint32_t kShorthands[] = {local_apic::kToSelf, local_apic::kToAll, local_apic::kToOthers};
  const std::uint64_t end = tsc() + microseconds_to_tsc(5000000);
  for (std::uint32_t round = 0; forever || tsc() < end; ++round) {
    const std::uint32_t vector = 0x20 + round % 0xd0;
    local_apic::send(kShorthands[round % 3] | vector, 0);
    local_apic::send(vector, round);  // ids that are there and that are not
    local_apic::send(local_apic::kLogical | vector, round);
    local_apic::send(local_apic::kLowestPriority << 8 | local_apic::kLogical | vector, 0xff);
    take_interrupts();
  }
}

}  // namespace

void bulkhead::guest::run() {
  forever = command_line_has("forever");
  mask_pic();
  for (unsigned vector = 0x20; vector < 0x100; ++vector)
    set_interrupt_handler(static_cast<std::uint8_t>(vector), on_interrupt);
  microseconds_to_tsc(1);
  const std::uint32_t count = start_processors();
  for (std::uint32_t number = 1; number < count; ++number) start_work(number, storm);
  if (forever) expect("interrupt storm");
  storm();
  for (std::uint32_t number = 1; number < count; ++number)
    check(wait_until(
              [=] {
                take_interrupts();
                return is_idle(number);
              },
              20000000),
          "a processor comes out of the storm", "it does not");
  check(received > 0, "interrupts arrived in the storm", "none did");
}
