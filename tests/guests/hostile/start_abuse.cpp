// SPDX-License-Identifier: Apache-2.0
//
// INIT and SIPI used as no operating system does: to running processors, without each other, in any order, with every vector,
// many times. In the end the other processors must still be startable.
#include "guest.hpp"
#include "instructions.hpp"
#include "interrupt.hpp"
#include "local_apic.hpp"
#include "processors.hpp"
#include "time.hpp"

using namespace bulkhead::guest;

extern "C" volatile std::uint32_t processors_started;

namespace {

using namespace local_apic;

std::uint32_t start_up(std::uint32_t vector) { return kStartUp << 8 | kAssert | vector; }
constexpr std::uint32_t kInitCommand = kInit << 8 | kAssert;

/// Code for every SIPI: CLI, and a jump back to it.
void fill_low_memory() {
  for (std::uint64_t page = 0x20000; page < 0x80000; page += 4096) {
    memory_write<std::uint8_t>(page, 0xfa);
    memory_write<std::uint16_t>(page + 1, 0xfdeb);
  }
}

void abuse(std::uint32_t target_shorthand, std::uint32_t target) {
  send(target_shorthand | start_up(0x20), target);  // SIPI to who runs: ignored
  send(target_shorthand | kInitCommand, target);
  send(target_shorthand | kInitCommand, target);  // twice
  for (std::uint32_t vector = 0x20; vector < 0x80; ++vector) send(target_shorthand | start_up(vector), target);
  send(target_shorthand | kInitCommand | kLevel, target);
  send(target_shorthand | kInit << 8 | kLevel, target);  // the de-assert of old processors
  send(target_shorthand | kInitCommand, target);
  delay_microseconds(1000);
}

}  // namespace

void bulkhead::guest::run() {
  mask_pic();
  const std::uint32_t count = start_processors();
  fill_low_memory();
  // Whoever is not there.
  for (std::uint32_t target = 8; target < 255; ++target) {
    send(kInitCommand, target);
    send(start_up(0x20), target);
  }
  pass("INIT and SIPI to processors that are not there end");
  if (count == 1) return skip("INIT and SIPI between processors", "there is only one");
  for (std::uint32_t round = 0; round < 20; ++round) {
    for (std::uint32_t number = 1; number < count; ++number) abuse(0, apic_id_of(number));
    abuse(kToOthers, 0);
  }
  pass("INIT and SIPI in every order end");
  // SIPIs into nothing: the VGA hole, ROM, the page at 0.
  for (const std::uint32_t vector : {0xa0u, 0xb8u, 0xf0u, 0xffu, 0x00u}) {
    send(kToOthers | kInitCommand, 0);
    delay_microseconds(200);
    send(kToOthers | start_up(vector), 0);
    delay_microseconds(200);
  }
  send(kToOthers | kInitCommand, 0);
  delay_microseconds(10000);
  const std::uint32_t before = processors_started;
  send(kToOthers | start_up(kStartPage >> 12), 0);
  check(wait_until([=] { return processors_started == before + count - 1; }, 5000000),
        "all processors start once more after the abuse", "some do not");
}
