// SPDX-License-Identifier: Apache-2.0
//
// The motherboard of a machine: which devices it has, where in the port and memory space they lie, which interrupt
// lines they drive, and what serial ports are connected to.
//
//   port 20 A0 4D0  PIC ◀───────────┐
//   FEC00000        IOAPIC ◀────────┤ ISA lines
//   port 40 61      PIT ─── IRQ 0 ──┤
//   port 60 64      i8042 ─ IRQ 1 ──┤      port 80   POST code
//   port 2F8        COM2 ── IRQ 3 ──┤      port 92 CF9  reset control
//   port 3F8        COM1 ── IRQ 4 ──┤      port 501  debug exit, if asked for
//   port 70         RTC ─── IRQ 8 ──┤      port 505  panic notification
//   port 600        ACPI ── IRQ 9 ──┘      port 510  firmware configuration, with a BIOS
#pragma once

#include <boost/asio/io_context.hpp>
#include <memory>
#include <mutex>
#include <optional>

#include "engine/engine.hpp"
#include "vdev/debug_exit.hpp"
#include "vdev/device.hpp"
#include "vdev/firmware_configuration.hpp"
#include "vdev/i8042.hpp"
#include "vdev/ioapic.hpp"
#include "vdev/isa_interrupts.hpp"
#include "vdev/panic_notification.hpp"
#include "vdev/pic.hpp"
#include "vdev/pit.hpp"
#include "vdev/post_code.hpp"
#include "vdev/power_management.hpp"
#include "vdev/reset_control.hpp"
#include "vdev/rtc.hpp"
#include "vdev/uart16550.hpp"
#include "worker/interrupt_bus.hpp"
#include "worker/machine_clock.hpp"
#include "worker/mmio_map.hpp"
#include "worker/port_map.hpp"
#include "worker/serial_connection.hpp"
#include "worker/unit_tree.hpp"

namespace bulkhead::worker {

struct MotherboardSettings {
  vdev::RtcMemorySizes memory = {};
  bool debug_exit = false;
  engine::GuestMemory* bios_memory = nullptr;  // what a BIOS is told goes there; null: there is no BIOS
  engine::FileDescriptor com1 = {};            // may be none
  engine::FileDescriptor com2 = {};
};

/// All calls but `create` and those that say otherwise are made with the machine's lock held.
class Motherboard {
 public:
  /// Error: two devices want the same place.
  static Result<std::unique_ptr<Motherboard>> create(boost::asio::io_context& event_loop, std::mutex& machine_lock,
                                                     vdev::MachineControl& machine, MotherboardSettings settings);

  PortMap& ports() { return ports_; }
  MmioMap& mmio() { return mmio_; }
  UnitTree& units() { return units_; }
  InterruptBus& interrupts() { return interrupts_; }
  MachineClock& clock() { return clock_; }
  const vdev::WallClock& wall_clock() const { return wall_clock_; }
  vdev::IoApic& ioapic() { return ioapic_; }
  vdev::Pic& pic() { return pic_; }
  vdev::PowerManagement& power_management() { return power_management_; }
  /// Null without a BIOS.
  vdev::FirmwareConfiguration* firmware_configuration() {
    return firmware_configuration_ ? &*firmware_configuration_ : nullptr;
  }

  /// Without the machine's lock: gives the peers of the serial ports a moment to take what the guest has sent.
  void flush_serial_ports();

 private:
  Motherboard(boost::asio::io_context& event_loop, std::mutex& machine_lock, vdev::MachineControl& machine,
              MotherboardSettings settings);
  Result<> assemble();
  template <typename Device>
  Result<> add(Device& device, std::initializer_list<std::string_view> uses);

  class HostWallClock final : public vdev::WallClock {
   public:
    vdev::Nanoseconds now() const override;
  };

  InterruptBus interrupts_;
  MachineClock clock_;
  HostWallClock wall_clock_;
  SerialConnection com1_connection_;
  SerialConnection com2_connection_;

  vdev::Pic pic_;
  vdev::IoApic ioapic_;
  vdev::IsaInterrupts lines_;
  vdev::Pit pit_;
  vdev::Rtc rtc_;
  vdev::Uart16550 com1_;
  vdev::Uart16550 com2_;
  vdev::I8042 keyboard_controller_;
  vdev::PowerManagement power_management_;
  vdev::ResetControl reset_control_;
  vdev::PostCode post_code_;
  vdev::PanicNotification panic_notification_;
  std::optional<vdev::DebugExit> debug_exit_;
  std::optional<vdev::FirmwareConfiguration> firmware_configuration_;

  PortMap ports_;
  MmioMap mmio_;
  UnitTree units_;
};

}  // namespace bulkhead::worker
