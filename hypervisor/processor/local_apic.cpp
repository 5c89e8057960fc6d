// SPDX-License-Identifier: Apache-2.0
#include "hypervisor/processor/local_apic.hpp"

#include "hypervisor/machine.hpp"
#include "hypervisor/processor/privileged.hpp"

namespace bulkhead::hypervisor::local_apic {
namespace {

constexpr std::uint32_t kMsrApicBase = 0x1b;
constexpr std::uint64_t kExtended = 1u << 10;
constexpr std::uint32_t kMsrX2Apic = 0x800;
constexpr std::uint32_t kMsrInterruptCommand = 0x830;
constexpr std::uint32_t kNmi = 4u << 8, kAssert = 1u << 14;
constexpr std::uint32_t kMasked = 1u << 16;

volatile std::uint32_t* memory_register(std::uint32_t offset) {
  return reinterpret_cast<volatile std::uint32_t*>(machine::frame_pointer(Frame::at(kAddress)) + offset);
}

}  // namespace

bool is_x2apic() { return privileged::read_msr(kMsrApicBase) & kExtended; }

std::uint32_t read(std::uint32_t offset) {
  if (is_x2apic()) return static_cast<std::uint32_t>(privileged::read_msr(kMsrX2Apic + offset / 16));
  return *memory_register(offset);
}

void write(std::uint32_t offset, std::uint32_t value) {
  if (is_x2apic()) {
    privileged::write_msr(kMsrX2Apic + offset / 16, value);
  } else {
    *memory_register(offset) = value;
  }
}

std::uint32_t id() { return is_x2apic() ? read(kId) : read(kId) >> 24; }

void send(std::uint32_t destination, std::uint32_t low) {
  if (is_x2apic()) {
    privileged::write_msr(kMsrInterruptCommand, (std::uint64_t{destination} << 32) | low);
    return;
  }
  // The root may be between its own two writes: its destination comes back afterwards.
  while (*memory_register(kInterruptCommandLow) & kDeliveryPending) privileged::pause();
  const std::uint32_t old = *memory_register(kInterruptCommandHigh);
  *memory_register(kInterruptCommandHigh) = destination << 24;
  *memory_register(kInterruptCommandLow) = low;
  while (*memory_register(kInterruptCommandLow) & kDeliveryPending) privileged::pause();
  *memory_register(kInterruptCommandHigh) = old;
}

void send_nmi(std::uint32_t apic_id) { send(apic_id, kNmi | kAssert); }

void reset() {
  for (std::uint32_t vector :
       {kTimerVector, kThermalVector, kPerformanceVector, kLocal0Vector, kLocal1Vector, kErrorVector}) {
    write(vector, kMasked);
  }
  write(kTimerInitialCount, 0);
  write(kTaskPriority, 0);
  // In service bits go away only by EOI, each for the highest.
  for (unsigned patience = 0; patience < 256; ++patience) {
    std::uint32_t in_service = 0;
    for (std::uint32_t word = 0; word < 8; ++word) in_service |= read(kInService + word * 16);
    if (in_service == 0) break;
    write(kEoi, 0);
  }
  if (!is_x2apic()) {
    write(kDestinationFormat, 0xffffffff);
    write(kLogicalDestination, 0);
  }
  write(kSpurious, 0xff);
}

}  // namespace bulkhead::hypervisor::local_apic
