// SPDX-License-Identifier: Apache-2.0
//
// The port by which a guest's kernel says that it has panicked: QEMU's "pvpanic" ISA device (docs/specs/pvpanic), for
// which Linux and others have a driver. The DSDT shows it to the guest as the device QEMU0001.
//
//   read    the events that the machine takes       write   an event
//   bit 0   panicked, and nothing else will deal with it
//   bit 1   panicked, but a crash kernel is loaded and will run: no affair of the machine
#pragma once

#include <array>

#include "vdev/byte_port_device.hpp"

namespace bulkhead::vdev {

class PanicNotification final : public BytePortDevice, public state::StateUnit {
 public:
  static constexpr std::uint16_t kPort = 0x505;
  static constexpr std::uint8_t kPanicked = 1 << 0;
  static constexpr std::uint8_t kCrashKernelLoaded = 1 << 1;

  explicit PanicNotification(MachineControl& machine) : machine_(machine) {}

  std::span<const PortRange> ports() const override {
    static constexpr std::array<PortRange, 1> kPorts{{{kPort, kPort}}};
    return kPorts;
  }

  std::string_view name() const override { return "panic-notification"; }
  void start() override {}
  void stop() override {}
  void reset() override {}
  state::SavedUnit save() const override { return state::SavedUnit(1); }
  Result<> restore(const state::SavedUnit& saved) override { return state::SavedReader(saved, name(), 1).finish(); }
  void inspect(state::Inspection& node) const override { node.value("port", std::uint64_t{kPort}); }

 private:
  std::uint8_t read_byte(std::uint16_t) override { return kPanicked | kCrashKernelLoaded; }
  void write_byte(std::uint16_t, std::uint8_t value) override {
    if (value & kPanicked) machine_.report_panic("panic notification port");
  }

  MachineControl& machine_;
};

}  // namespace bulkhead::vdev
