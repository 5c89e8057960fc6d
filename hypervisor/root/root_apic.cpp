// SPDX-License-Identifier: Apache-2.0
//
// The root's local APIC is the real one. Its page is read-only for the root, so that each write comes here; all but the
// interrupt commands that concern the hypervisor go on to the hardware.
#include "hypervisor/apic/interrupt_request.hpp"
#include "hypervisor/machine.hpp"
#include "hypervisor/processor/console.hpp"
#include "hypervisor/processor/local_apic.hpp"
#include "hypervisor/processor/privileged.hpp"
#include "hypervisor/root/root_partition.hpp"

namespace bulkhead::hypervisor::root {
namespace {

using local_apic::Register;

void tell(LogicalProcessor& target, const InterruptRequest& request, const LogicalProcessor& self) {
  const bool to_self = &target == &self;
  switch (request.mode) {
    case DeliveryMode::Nmi:
      if (to_self) {
        target.root_nmi = true;
      } else {
        processors::signal(target, kSignalNmi);
      }
      return;
    case DeliveryMode::Init:
      if (target.startup.send_init() && !to_self) processors::signal(target, kSignalStartup);
      return;
    case DeliveryMode::StartUp:
      if (target.startup.send_sipi(request.vector) && !to_self) processors::signal(target, kSignalStartup);
      return;
    default: return;
  }
}

void write_register(LogicalProcessor& processor, Register name, std::uint32_t value) {
  switch (name) {
    case Register::CommandLow:
      send_interrupt_command(processor, value, local_apic::read(Register::CommandHigh) >> 24, false);
      return;
    case Register::LogicalDestination: processor.logical_destination = value; break;
    case Register::DestinationFormat: processor.destination_format = value; break;
    default: break;
  }
  local_apic::write(name, value);
}

}  // namespace

void send_interrupt_command(LogicalProcessor& processor, std::uint32_t low, std::uint32_t destination, bool x2apic) {
  const InterruptRequest request = InterruptRequest::from_command(low, destination, x2apic);
  if (is_for_hardware(request.mode)) {
    if (x2apic) {
      privileged::try_write_msr(0x830, (std::uint64_t{destination} << 32) | low);
    } else {
      local_apic::write(Register::CommandLow, low);
    }
    return;
  }
  if (is_init_deassert(low)) return;
  for (std::uint32_t index = 0; index < processors::count; ++index) {
    LogicalProcessor& target = *processors::all[index];
    const ApicAddress address{.id = target.apic_id,
                              .x2apic = x2apic,
                              .cluster_model = target.destination_format >> 28 != 0xf,
                              .logical_id = static_cast<std::uint8_t>(target.logical_destination >> 24)};
    if (address.matches(request, processor.apic_id)) tell(target, request, processor);
  }
}

void handle_apic_write(LogicalProcessor& processor, VpHardware& root, std::uint64_t gpa) {
  const std::optional<Instruction> decoded = fetch(root);
  const auto offset = static_cast<std::uint32_t>(gpa % kPageSize);
  const bool simple =
      decoded && decoded->memory_size == 4 && offset % 16 == 0 && !local_apic::is_x2apic() &&
      ((decoded->operation == Operation::Move && decoded->to_memory) || decoded->operation == Operation::Exchange);
  if (!simple) {
    machine::log("the root writes to its local APIC with an instruction that is not supported", root.rip);
    inject_general_protection(root);
    return;
  }
  const auto name = static_cast<Register>(offset / 16);
  const auto value =
      static_cast<std::uint32_t>(decoded->has_immediate ? decoded->immediate : root.general[decoded->register_index]);
  if (decoded->operation == Operation::Exchange) root.general[decoded->register_index] = local_apic::read(name);
  write_register(processor, name, value);
  root.rip += decoded->length;
  root.interrupt_shadow = false;
}

}  // namespace bulkhead::hypervisor::root
