// SPDX-License-Identifier: Apache-2.0
//
// Two more ways by which a PC's software resets it: the reset control register at CF9h (Intel ICH, "RST_CNT"), which
// the FADT names, and system control port A at 92h (PS/2). The A20 bit of port 92h is kept; the line itself is always
// open.
#pragma once

#include "vdev/byte_port_device.hpp"

namespace bulkhead::vdev {

class ResetControl final : public BytePortDevice, public state::StateUnit {
 public:
  static constexpr std::uint16_t kPort = 0xcf9;
  static constexpr std::uint8_t kFullReset = 0x06;  // the value that resets

  explicit ResetControl(MachineControl& machine) : machine_(machine) {}

  std::span<const PortRange> ports() const override;

  std::string_view name() const override { return "reset-control"; }
  void start() override {}
  void stop() override {}
  void reset() override;
  state::SavedUnit save() const override;
  Result<> restore(const state::SavedUnit& saved) override;
  void inspect(state::Inspection& node) const override;

 private:
  std::uint8_t read_byte(std::uint16_t port) override;
  void write_byte(std::uint16_t port, std::uint8_t value) override;

  MachineControl& machine_;
  std::uint8_t reset_control_ = 0;
  std::uint8_t system_control_a_ = 2;
};

}  // namespace bulkhead::vdev
