// SPDX-License-Identifier: Apache-2.0
#include "hypervisor/processor/logical_processor.hpp"

#include "hypervisor/processor/local_apic.hpp"
#include "hypervisor/processor/privileged.hpp"

extern "C" bool wait_for_nmi(const std::atomic<std::uint32_t>* signals);

namespace bulkhead::hypervisor::processors {
namespace {

/// Of a panic elsewhere: this processor is to do nothing any more.
void stop_if_told(std::uint32_t signals) {
  if (!(signals & kSignalStop)) return;
  for (;;) privileged::halt();
}

}  // namespace

LogicalProcessor* all[kMaximum];
std::uint32_t count;

void signal(LogicalProcessor& processor, std::uint32_t bits) {
  // The bit comes before the NMI, so whoever takes the NMI finds it.
  if (processor.signals.post(bits)) local_apic::send_nmi(processor.apic_id);
}

Signals::Taken take_nmi(LogicalProcessor& processor) {
  // The NMI is still held. With the global flag set for a moment it comes in, and its handler does nothing.
  asm volatile("stgi; nop; clgi" : : : "memory");
  const Signals::Taken taken = processor.signals.take(true);
  stop_if_told(taken.bits);
  return taken;
}

void take_signals(LogicalProcessor& processor) {
  const Signals::Taken taken = processor.signals.take(false);
  stop_if_told(taken.bits);
  if (taken.bits & kSignalNmi) processor.root_nmi = true;
}

void wait(LogicalProcessor& processor) {
  privileged::disable_interrupts();
  const bool nmi = wait_for_nmi(&processor.signals.word());
  stop_if_told(processor.signals.take(nmi).bits);
}

}  // namespace bulkhead::hypervisor::processors
