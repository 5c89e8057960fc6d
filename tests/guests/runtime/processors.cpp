// SPDX-License-Identifier: Apache-2.0
#include "processors.hpp"

#include "guest.hpp"
#include "instructions.hpp"
#include "local_apic.hpp"
#include "time.hpp"

extern "C" {
extern volatile std::uint32_t processors_started;
extern const char processor_start_code[];
extern const char processor_start_code_end[];
void* memcpy(void* destination, const void* source, std::size_t size);
}

namespace bulkhead::guest {
namespace {

using Work = void (*)();
Work volatile work_of[kMaximumProcessors];
std::uint32_t volatile apic_ids[kMaximumProcessors];
bool volatile ready[kMaximumProcessors];

}  // namespace

[[noreturn]] void serve_work(std::uint32_t number) {
  local_apic::enable();
  apic_ids[number] = local_apic::id();
  ready[number] = true;
  for (;;) {
    if (Work work = work_of[number]) {
      work();
      work_of[number] = nullptr;
    }
    pause();
  }
}

std::uint32_t start_processors() {
  memcpy(reinterpret_cast<void*>(kStartPage), processor_start_code,
         static_cast<std::size_t>(processor_start_code_end - processor_start_code));
  local_apic::enable();
  local_apic::send(local_apic::kToOthers | local_apic::kAssert | local_apic::kInit << 8, 0);
  delay_microseconds(10000);
  const std::uint32_t start_up =
      local_apic::kToOthers | local_apic::kAssert | local_apic::kStartUp << 8 | kStartPage >> 12;
  local_apic::send(start_up, 0);
  delay_microseconds(200);
  local_apic::send(start_up, 0);
  apic_ids[0] = local_apic::id();
  // Nobody says how many there are: wait until no more come.
  std::uint32_t count;
  do {
    count = processors_started;
    delay_microseconds(200000);
  } while (count != processors_started);
  if (count >= kMaximumProcessors) count = kMaximumProcessors - 1;
  for (std::uint32_t number = 1; number <= count; ++number) wait_until([=] { return ready[number]; }, 1000000);
  return count + 1;
}

void start_work(std::uint32_t number, void (*work)()) { work_of[number] = work; }
bool is_idle(std::uint32_t number) { return work_of[number] == nullptr; }
std::uint32_t apic_id_of(std::uint32_t number) { return apic_ids[number]; }

}  // namespace bulkhead::guest
