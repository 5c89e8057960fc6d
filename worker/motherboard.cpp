// SPDX-License-Identifier: Apache-2.0
#include "worker/motherboard.hpp"

#include <chrono>
#include <type_traits>

namespace bulkhead::worker {
namespace {

constexpr std::chrono::milliseconds kFlushLimit{2000};

}  // namespace

vdev::Nanoseconds Motherboard::HostWallClock::now() const {
  return std::chrono::duration_cast<vdev::Nanoseconds>(std::chrono::system_clock::now().time_since_epoch());
}

Result<std::unique_ptr<Motherboard>> Motherboard::create(boost::asio::io_context& event_loop, std::mutex& machine_lock,
                                                         vdev::MachineControl& machine, MotherboardSettings settings) {
  std::unique_ptr<Motherboard> motherboard(new Motherboard(event_loop, machine_lock, machine, std::move(settings)));
  if (auto assembled = motherboard->assemble(); !assembled) return std::unexpected(assembled.error());
  motherboard->com1_connection_.connect(motherboard->com1_);
  motherboard->com2_connection_.connect(motherboard->com2_);
  return motherboard;
}

Motherboard::Motherboard(boost::asio::io_context& event_loop, std::mutex& machine_lock, vdev::MachineControl& machine,
                         MotherboardSettings settings)
    : clock_(event_loop, machine_lock),
      com1_connection_(event_loop, machine_lock, std::move(settings.com1)),
      com2_connection_(event_loop, machine_lock, std::move(settings.com2)),
      pic_(interrupts_),
      ioapic_(interrupts_, interrupts_),
      lines_(pic_, ioapic_),
      pit_(lines_.line(0), clock_),
      rtc_(lines_.line(8), clock_, wall_clock_, settings.memory),
      com1_("com1", vdev::Uart16550::kCom1, lines_.line(4), com1_connection_),
      com2_("com2", vdev::Uart16550::kCom2, lines_.line(3), com2_connection_),
      keyboard_controller_(lines_.line(1), machine),
      power_management_(lines_.line(vdev::PowerManagement::kSystemControlInterrupt), clock_, machine),
      reset_control_(machine),
      panic_notification_(machine) {
  if (settings.bios_memory != nullptr) firmware_configuration_.emplace(*settings.bios_memory);
  if (settings.debug_exit) debug_exit_.emplace(vdev::DebugExit::kUsualPort, machine);
}

template <typename Device>
Result<> Motherboard::add(Device& device, std::initializer_list<std::string_view> uses) {
  if constexpr (std::is_base_of_v<vdev::PortDevice, Device>) {
    if (auto added = ports_.add(device); !added) return added;
  }
  if constexpr (std::is_base_of_v<vdev::MmioDevice, Device>) {
    if (auto added = mmio_.add(device); !added) return added;
  }
  return units_.add(device, uses);
}

Result<> Motherboard::assemble() {
  Result<> assembled;
  const auto place = [&](auto& device, std::initializer_list<std::string_view> uses) {
    if (assembled) assembled = add(device, uses);
  };
  place(clock_, {});
  place(pic_, {});
  place(ioapic_, {});
  place(pit_, {"clock", "pic", "ioapic"});
  place(rtc_, {"clock", "pic", "ioapic"});
  place(com1_, {"pic", "ioapic"});
  place(com2_, {"pic", "ioapic"});
  place(keyboard_controller_, {"pic", "ioapic"});
  place(power_management_, {"clock", "pic", "ioapic"});
  place(reset_control_, {});
  place(post_code_, {});
  place(panic_notification_, {});
  if (debug_exit_) place(*debug_exit_, {});
  if (firmware_configuration_) place(*firmware_configuration_, {});
  return assembled;
}

void Motherboard::flush_serial_ports() {
  com1_connection_.flush(kFlushLimit);
  com2_connection_.flush(kFlushLimit);
}

}  // namespace bulkhead::worker
