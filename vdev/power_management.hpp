// SPDX-License-Identifier: Apache-2.0
//
// The fixed hardware of ACPI (ACPI 6.5, section 4.8): events, soft-off, the power management timer and one block of
// general-purpose events. There is no legacy mode to leave: SCI_EN is always set and there is no SMI command port.
//
//   600  PM1 status (2), PM1 enable (2)
//   604  PM1 control (2)
//   608  power management timer (4), 3.579545 MHz, 32 bits
//   620  GPE0 status (2), GPE0 enable (2)
#pragma once

#include <array>
#include <memory>

#include "vdev/device.hpp"

namespace bulkhead::vdev {

class PowerManagement final : public PortDevice, public state::StateUnit {
 public:
  static constexpr std::uint16_t kEventBlock = 0x600;
  static constexpr std::uint16_t kControlBlock = 0x604;
  static constexpr std::uint16_t kTimerBlock = 0x608;
  static constexpr std::uint16_t kGeneralEventBlock = 0x620;
  static constexpr unsigned kGeneralEventCount = 16;
  static constexpr unsigned kSystemControlInterrupt = 9;  // IRQ of the SCI, level-triggered
  static constexpr std::uint8_t kSleepTypeSoftOff = 5;    // SLP_TYP of S5, for \_S5 in the DSDT
  static constexpr std::int64_t kTimerFrequency = 3'579'545;

  PowerManagement(InterruptLine& system_control_line, Clock& clock, MachineControl& machine);

  /// Asks the guest's operating system to shut down.
  void press_power_button();
  /// `event` is below kGeneralEventCount.
  void raise_general_event(unsigned event);

  std::span<const PortRange> ports() const override;
  std::uint32_t read_port(std::uint16_t port, unsigned size) override;
  void write_port(std::uint16_t port, unsigned size, std::uint32_t value) override;

  std::string_view name() const override { return "power-management"; }
  void start() override;
  void stop() override;
  void reset() override;
  state::SavedUnit save() const override;
  Result<> restore(const state::SavedUnit& saved) override;
  void inspect(state::Inspection& node) const override;

 private:
  std::int64_t timer_ticks() const;
  std::uint8_t register_byte(std::uint16_t port, std::int64_t ticks) const;
  void write_register_byte(std::uint16_t port, std::uint8_t value);
  void note_timer_overflow();
  void update();

  InterruptLine& line_;
  Clock& clock_;
  MachineControl& machine_;
  std::unique_ptr<Timer> timer_;
  bool running_ = false;
  bool line_high_ = false;

  std::uint16_t status_ = 0;
  std::uint16_t enable_ = 0;
  std::uint16_t control_ = 0;
  std::uint16_t general_status_ = 0;
  std::uint16_t general_enable_ = 0;
  std::int64_t ticks_at_zero_ = 0;    // of the machine's clock when the timer was 0
  std::int64_t seen_half_turns_ = 0;  // of bit 31
};

}  // namespace bulkhead::vdev
