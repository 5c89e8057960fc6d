// SPDX-License-Identifier: Apache-2.0
//
// A port by which a test guest ends its machine with a number, as QEMU's isa-debug-exit: a write of v asks for an exit
// with v * 2 + 1, so that no guest can look as if the worker itself had ended well.
#pragma once

#include <array>

#include "vdev/device.hpp"

namespace bulkhead::vdev {

class DebugExit final : public PortDevice, public state::StateUnit {
 public:
  static constexpr std::uint16_t kUsualPort = 0x501;

  DebugExit(std::uint16_t port, MachineControl& machine) : ports_{{{port, port}}}, machine_(machine) {}

  std::span<const PortRange> ports() const override { return ports_; }
  std::uint32_t read_port(std::uint16_t, unsigned) override { return UINT32_MAX; }
  void write_port(std::uint16_t, unsigned, std::uint32_t value) override { machine_.request_exit(value * 2 + 1); }

  std::string_view name() const override { return "debug-exit"; }
  void start() override {}
  void stop() override {}
  void reset() override {}
  state::SavedUnit save() const override { return state::SavedUnit(1); }
  Result<> restore(const state::SavedUnit& saved) override { return state::SavedReader(saved, name(), 1).finish(); }
  void inspect(state::Inspection& node) const override { node.value("port", std::uint64_t{ports_[0].first}); }

 private:
  const std::array<PortRange, 1> ports_;
  MachineControl& machine_;
};

}  // namespace bulkhead::vdev
