// SPDX-License-Identifier: Apache-2.0
//
// The keyboard controller (Intel 8042, ports 60h and 64h) of a machine to which no keyboard or mouse is connected.
// It is there for what else hangs on it: the processor's reset, the A20 line, and guests that expect a controller.
// What is sent to the absent devices is answered as a controller answers a device that does not: with a timeout.
#pragma once

#include <array>

#include "vdev/byte_port_device.hpp"

namespace bulkhead::vdev {

class I8042 final : public BytePortDevice, public state::StateUnit {
 public:
  /// `keyboard_line` is IRQ 1.
  I8042(InterruptLine& keyboard_line, MachineControl& machine);

  std::span<const PortRange> ports() const override;

  std::string_view name() const override { return "i8042"; }
  void start() override {}
  void stop() override {}
  void reset() override;
  state::SavedUnit save() const override;
  Result<> restore(const state::SavedUnit& saved) override;
  void inspect(state::Inspection& node) const override;

 private:
  std::uint8_t read_byte(std::uint16_t port) override;
  void write_byte(std::uint16_t port, std::uint8_t value) override;
  void write_command(std::uint8_t command);
  void write_data(std::uint8_t value);
  void answer(std::uint8_t value, std::uint8_t status = 0);
  void write_output_port(std::uint8_t value);
  void update_line();

  InterruptLine& keyboard_line_;
  MachineControl& machine_;
  bool line_high_ = false;
  std::uint8_t status_ = 0;
  std::uint8_t output_ = 0;        // the output buffer
  std::uint8_t command_byte_ = 0;  // byte 0 of the controller's memory
  std::uint8_t output_port_ = 0;
  std::uint8_t awaited_command_ = 0;  // the command whose data byte comes next; 0: none
  std::array<std::uint8_t, 32> memory_{};
};

}  // namespace bulkhead::vdev
