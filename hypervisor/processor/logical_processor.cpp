// SPDX-License-Identifier: Apache-2.0
#include "hypervisor/processor/logical_processor.hpp"

#include "hypervisor/processor/local_apic.hpp"
#include "hypervisor/processor/privileged.hpp"

extern "C" void wait_for_nmi(const std::atomic<std::uint32_t>* signals);

namespace bulkhead::hypervisor::processors {

LogicalProcessor* all[kMaximum];
std::uint32_t count;

void signal(LogicalProcessor& processor, std::uint32_t bits) {
  // The bit comes before the NMI, so whoever takes the NMI finds it.
  const std::uint32_t old = processor.signals.fetch_or(bits | kSignalSent);
  if (!(old & kSignalSent)) local_apic::send_nmi(processor.apic_id);
}

bool take_nmi(LogicalProcessor& processor, std::uint32_t& signals) {
  // The NMI is still held. With the global flag set for a moment it comes in, and its handler does nothing.
  asm volatile("stgi; nop; clgi" : : : "memory");
  signals = processor.signals.exchange(0);
  if (signals & kSignalStop) {
    for (;;) privileged::halt();
  }
  return signals & kSignalSent;
}

void wait(LogicalProcessor& processor) {
  privileged::disable_interrupts();
  wait_for_nmi(&processor.signals);
  if (processor.signals.exchange(0) & kSignalStop) {
    for (;;) privileged::halt();
  }
}

}  // namespace bulkhead::hypervisor::processors
