// SPDX-License-Identifier: Apache-2.0
//
// The DSDT: what of the machine software cannot find by itself.
#include <fmt/format.h>

#include "firmware/acpi.hpp"
#include "firmware/aml.hpp"
#include "firmware/memory_layout.hpp"
#include "vdev/panic_notification.hpp"
#include "vdev/power_management.hpp"
#include "vdev/reset_control.hpp"
#include "vdev/uart16550.hpp"

namespace bulkhead::firmware {
namespace {

using vdev::PowerManagement;

// The value of SLP_TYP in PM1a and PM1b control for the state, then two reserved elements.
aml::Term soft_off() {
  const aml::Term type = aml::integer(PowerManagement::kSleepTypeSoftOff);
  return aml::name("\\_S5_", aml::package({type, type, aml::integer(0), aml::integer(0)}));
}

aml::Term isa_device(std::string_view segment, std::string_view identifier, const aml::Term& resources) {
  return aml::device(segment,
                     aml::sequence({aml::name("_HID", aml::eisa_id(identifier)), aml::name("_CRS", resources)}));
}

aml::Term serial_port(unsigned number, std::uint16_t base, unsigned irq) {
  return aml::device(fmt::format("COM{}", number),
                     aml::sequence({aml::name("_HID", aml::eisa_id("PNP0501")), aml::name("_UID", aml::integer(number)),
                                    aml::name("_CRS", aml::resources({aml::io_ports(base, 8), aml::irq(irq)}))}));
}

// Processors as devices; _UID is what the MADT calls the processor by.
aml::Term processors(std::uint32_t count) {
  ByteWriter writer;
  for (std::uint32_t vp = 0; vp < count; ++vp) {
    writer.bytes(aml::device(fmt::format("P{:03X}", vp), aml::sequence({aml::name("_HID", aml::string("ACPI0007")),
                                                                        aml::name("_UID", aml::integer(vp))})));
  }
  return writer.content();
}

aml::Term motherboard() {
  return isa_device(
      "MBRD", "PNP0C02",
      aml::resources({aml::io_ports(0x80, 1), aml::io_ports(0x92, 1), aml::io_ports(0x4d0, 2),
                      aml::io_ports(vdev::ResetControl::kPort, 1), aml::io_ports(PowerManagement::kEventBlock, 12),
                      aml::io_ports(PowerManagement::kGeneralEventBlock, 4)}));
}

// A module device whose window the drivers look for when they place memory of VMBus devices, and the bus in it.
aml::Term vmbus() {
  constexpr std::uint64_t kPresent = 0xf;
  const aml::Term bus = aml::device(
      "VMBS", aml::sequence({aml::name("_HID", aml::string("VMBus")), aml::name("_UID", aml::integer(0)),
                             aml::name("_DDN", aml::string("VMBUS")), aml::name("_STA", aml::integer(kPresent))}));
  const aml::Term window =
      aml::resources({aml::memory_window(static_cast<std::uint32_t>(kVmbusWindow), kVmbusWindowSize)});
  return aml::device("VMOD", aml::sequence({aml::name("_HID", aml::string("ACPI0004")),
                                            aml::name("_UID", aml::integer(0)), aml::name("_CRS", window), bus}));
}

// The identifier that the drivers for such a port look for.
aml::Term panic_notification() {
  return aml::device(
      "PEVT", aml::sequence({aml::name("_HID", aml::string("QEMU0001")),
                             aml::name("_CRS", aml::resources({aml::io_ports(vdev::PanicNotification::kPort, 1)}))}));
}

}  // namespace

Bytes build_dsdt(const MachineDescription& machine) {
  ByteWriter devices;
  devices.bytes(processors(machine.vp_count));
  devices.bytes(motherboard());
  devices.bytes(
      isa_device("PIC_", "PNP0000", aml::resources({aml::io_ports(0x20, 2), aml::io_ports(0xa0, 2), aml::irq(2)})));
  devices.bytes(isa_device("PIT_", "PNP0100", aml::resources({aml::io_ports(0x40, 4), aml::irq(0)})));
  devices.bytes(isa_device("SPKR", "PNP0800", aml::resources({aml::io_ports(0x61, 1)})));
  devices.bytes(isa_device("RTC_", "PNP0B00", aml::resources({aml::io_ports(0x70, 2), aml::irq(8)})));
  devices.bytes(panic_notification());
  if (machine.vmbus) devices.bytes(vmbus());
  if (machine.serial_port_1) devices.bytes(serial_port(1, vdev::Uart16550::kCom1, 4));
  if (machine.serial_port_2) devices.bytes(serial_port(2, vdev::Uart16550::kCom2, 3));
  if (machine.keyboard_controller) {
    devices.bytes(
        isa_device("KBD_", "PNP0303", aml::resources({aml::io_ports(0x60, 1), aml::io_ports(0x64, 1), aml::irq(1)})));
  }
  const Bytes body = aml::sequence({soft_off(), aml::scope("\\_SB_", devices.content())});
  return system_description_table("DSDT", 2, body);
}

}  // namespace bulkhead::firmware
