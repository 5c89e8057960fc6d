// SPDX-License-Identifier: Apache-2.0
//
// A guest that does anything at all with its local APIC. What must hold: a vector that is taken was requested and is above the
// processor's priority, vectors below 16 never come, and the timer never fires twice for one deadline.
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "hypervisor/apic/local_apic.hpp"

using namespace bulkhead::hypervisor;

namespace {

struct Step {
  std::uint8_t what;
  std::uint8_t where;
  std::uint32_t low;
  std::uint32_t high;
};

void deliver(LocalApic& apic) {
  const auto vector = apic.deliverable();
  if (!vector) return;
  if (*vector < 16) abort();
  if (apic.waiting() != vector) abort();
  apic.take(*vector);
  if (apic.deliverable() == vector) abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  LocalApic apic;
  apic.reset(3, true, true, 100);
  std::uint64_t now = 1;
  for (; size >= sizeof(Step); data += sizeof(Step), size -= sizeof(Step)) {
    Step step;
    std::memcpy(&step, data, sizeof step);
    const std::uint64_t wide = std::uint64_t{step.high} << 32 | step.low;
    LocalApic::Outcome outcome;
    switch (step.what % 8) {
      case 0: outcome = apic.write(step.where * 16u, step.low, now); break;
      case 1: (void)apic.read(step.where * 16u + (step.low & 15), now); break;
      case 2: outcome = apic.write_x2(step.where, wide, now); break;
      case 3: (void)apic.read_x2(step.where, now); break;
      case 4: outcome = apic.set_base(step.where & 1 ? wide : 0xfee00000 | (step.low & 0xd00)); break;
      case 5: apic.accept(static_cast<std::uint8_t>(step.low), step.where & 1); break;
      case 6: deliver(apic); break;
      case 7: now += step.low; break;
    }
    if (outcome.send && outcome.send->mode == DeliveryMode::Fixed && outcome.send->vector < 16) abort();
    if (now >= apic.timer().deadline()) {
      apic.fire_timer(now);
      if (apic.timer().deadline() <= now) abort();
    }
    (void)apic.address().matches({.destination = step.low});
  }
  return 0;
}
