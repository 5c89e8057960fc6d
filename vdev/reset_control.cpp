// SPDX-License-Identifier: Apache-2.0
#include "vdev/reset_control.hpp"

#include <array>

namespace bulkhead::vdev {
namespace {

constexpr std::uint16_t kSystemControlA = 0x92;
constexpr std::uint8_t kResetCpu = 1 << 2;     // of CF9h: its change from 0 to 1 resets
constexpr std::uint8_t kKeptResetBits = 0x0a;  // system reset, full reset
constexpr std::uint8_t kFastReset = 1 << 0;    // of 92h
constexpr std::uint8_t kKeptControlBits = 0x02;

}  // namespace

std::span<const PortRange> ResetControl::ports() const {
  static constexpr std::array<PortRange, 2> kPorts{{{kSystemControlA, kSystemControlA}, {kPort, kPort}}};
  return kPorts;
}

std::uint8_t ResetControl::read_byte(std::uint16_t port) { return port == kPort ? reset_control_ : system_control_a_; }

void ResetControl::write_byte(std::uint16_t port, std::uint8_t value) {
  if (port == kPort) {
    reset_control_ = value & kKeptResetBits;
    if (value & kResetCpu) machine_.request_reset("reset control register");
  } else {
    system_control_a_ = value & kKeptControlBits;
    if (value & kFastReset) machine_.request_reset("system control port A");
  }
}

void ResetControl::reset() {
  reset_control_ = 0;
  system_control_a_ = kKeptControlBits;
}

state::SavedUnit ResetControl::save() const {
  state::SavedUnit saved(1);
  saved.number("reset_control", reset_control_).number("system_control_a", system_control_a_);
  return saved;
}

Result<> ResetControl::restore(const state::SavedUnit& saved) {
  state::SavedReader reader(saved, name(), 1);
  const auto reset_control = static_cast<std::uint8_t>(reader.number("reset_control", kKeptResetBits) & kKeptResetBits);
  const auto system_control_a = static_cast<std::uint8_t>(reader.number("system_control_a", kKeptControlBits));
  if (auto ok = reader.finish(); !ok) return ok;
  reset_control_ = reset_control;
  system_control_a_ = system_control_a & kKeptControlBits;
  return {};
}

void ResetControl::inspect(state::Inspection& node) const {
  node.value("reset_control", std::uint64_t{reset_control_});
  node.value("system_control_a", std::uint64_t{system_control_a_});
}

}  // namespace bulkhead::vdev
