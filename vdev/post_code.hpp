// SPDX-License-Identifier: Apache-2.0
//
// Port 80h: firmware shows there how far it has come, and software writes there to let an I/O cycle pass.
#pragma once

#include <array>

#include "vdev/byte_port_device.hpp"

namespace bulkhead::vdev {

class PostCode final : public BytePortDevice, public state::StateUnit {
 public:
  std::span<const PortRange> ports() const override {
    static constexpr std::array<PortRange, 1> kPorts{{{0x80, 0x80}}};
    return kPorts;
  }

  std::string_view name() const override { return "post-code"; }
  void start() override {}
  void stop() override {}
  void reset() override { code_ = 0; }
  state::SavedUnit save() const override {
    state::SavedUnit saved(1);
    saved.number("code", code_);
    return saved;
  }
  Result<> restore(const state::SavedUnit& saved) override {
    state::SavedReader reader(saved, name(), 1);
    const auto code = static_cast<std::uint8_t>(reader.number("code", 0xff));
    if (auto ok = reader.finish(); !ok) return ok;
    code_ = code;
    return {};
  }
  void inspect(state::Inspection& node) const override { node.value("code", std::uint64_t{code_}); }

 private:
  std::uint8_t read_byte(std::uint16_t) override { return code_; }
  void write_byte(std::uint16_t, std::uint8_t value) override { code_ = value; }

  std::uint8_t code_ = 0;
};

}  // namespace bulkhead::vdev
