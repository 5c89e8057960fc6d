// SPDX-License-Identifier: Apache-2.0
#include "hypervisor/processor/local_apic.hpp"

#include "hypervisor/machine.hpp"
#include "hypervisor/processor/privileged.hpp"

namespace bulkhead::hypervisor::local_apic {
namespace {

constexpr std::uint32_t kMsrApicBase = 0x1b;
constexpr std::uint64_t kExtended = 1u << 10;
constexpr std::uint32_t kMsrX2Apic = 0x800;
constexpr std::uint32_t kNmi = 4u << 8, kAssert = 1u << 14, kDeliveryPending = 1u << 12;
constexpr std::uint32_t kMasked = 1u << 16;

volatile std::uint32_t& memory_register(Register name) {
  std::byte* page = machine::frame_pointer(Frame::at(kApicBaseAddress));
  return *reinterpret_cast<volatile std::uint32_t*>(page + static_cast<unsigned>(name) * 16);
}
std::uint32_t msr_of(Register name) { return kMsrX2Apic + static_cast<unsigned>(name); }

}  // namespace

bool is_x2apic() { return privileged::read_msr(kMsrApicBase) & kExtended; }

std::uint32_t read(Register name) {
  return is_x2apic() ? static_cast<std::uint32_t>(privileged::read_msr(msr_of(name))) : memory_register(name);
}

void write(Register name, std::uint32_t value) {
  if (is_x2apic()) {
    privileged::write_msr(msr_of(name), value);
  } else {
    memory_register(name) = value;
  }
}

std::uint32_t id() { return read(Register::Id) >> (is_x2apic() ? 0 : 24); }

void send(std::uint32_t destination, std::uint32_t low) {
  if (is_x2apic()) {
    privileged::write_msr(msr_of(Register::CommandLow), (std::uint64_t{destination} << 32) | low);
    return;
  }
  // The root may be between its own two writes: its destination comes back afterwards.
  volatile std::uint32_t &command = memory_register(Register::CommandLow),
                         &high = memory_register(Register::CommandHigh);
  while (command & kDeliveryPending) privileged::pause();
  const std::uint32_t old = high;
  high = destination << 24;
  command = low;
  while (command & kDeliveryPending) privileged::pause();
  high = old;
}

void send_nmi(std::uint32_t apic_id) { send(apic_id, kNmi | kAssert); }

void reset() {
  for (const Register entry : {Register::LvtTimer, Register::LvtThermal, Register::LvtPerformance, Register::LvtLint0,
                               Register::LvtLint1, Register::LvtError}) {
    write(entry, kMasked);
  }
  write(Register::TimerInitialCount, 0);
  write(Register::TaskPriority, 0);
  // In service bits go away only by EOI, each for the highest.
  for (unsigned patience = 0; patience < 256; ++patience) {
    std::uint32_t in_service = 0;
    for (unsigned word = 0; word < 8; ++word) {
      in_service |= read(static_cast<Register>(static_cast<unsigned>(Register::InService) + word));
    }
    if (in_service == 0) break;
    write(Register::EndOfInterrupt, 0);
  }
  if (!is_x2apic()) {
    write(Register::DestinationFormat, 0xffffffff);
    write(Register::LogicalDestination, 0);
  }
  write(Register::SpuriousVector, 0xff);
}

}  // namespace bulkhead::hypervisor::local_apic
