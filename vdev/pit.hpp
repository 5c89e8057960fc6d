// SPDX-License-Identifier: Apache-2.0
//
// The interval timer of a PC, an Intel 8254 at ports 40h to 43h, and the bits of port 61h that go with it.
//
//   channel 0 ──▶ IRQ 0
//   channel 1     (memory refresh on the first PCs; its tick is the toggling bit 4 of port 61h)
//   channel 2 ──▶ speaker; gate: bit 0, output: bit 5 of port 61h
#pragma once

#include <array>
#include <memory>

#include "vdev/byte_port_device.hpp"
#include "vdev/pit_channel.hpp"

namespace bulkhead::vdev {

class Pit final : public BytePortDevice, public state::StateUnit {
 public:
  static constexpr std::int64_t kFrequency = 1'193'182;  // Hz
  /// A guest that programs a shorter period gets fewer interrupts, so that it cannot keep the host busy.
  static constexpr Nanoseconds kShortestInterruptPeriod = std::chrono::microseconds(50);

  Pit(InterruptLine& timer_line, Clock& clock);

  std::span<const PortRange> ports() const override;

  std::string_view name() const override { return "pit"; }
  void start() override;
  void stop() override;
  void reset() override;
  state::SavedUnit save() const override;
  Result<> restore(const state::SavedUnit& saved) override;
  void inspect(state::Inspection& node) const override;

 private:
  std::uint8_t read_byte(std::uint16_t port) override;
  void write_byte(std::uint16_t port, std::uint8_t value) override;

  PitChannel::Ticks ticks() const;
  void write_control(std::uint8_t value);
  std::uint8_t read_system_control();
  void follow_output();
  void arm();
  void rising_edge();

  InterruptLine& timer_line_;
  Clock& clock_;
  std::unique_ptr<Timer> timer_;
  bool running_ = false;
  bool line_high_ = false;
  Nanoseconds not_before_{0};
  std::uint8_t system_control_ = 0;  // bits 0 to 3 of port 61h
  std::array<PitChannel, 3> channels_;
};

}  // namespace bulkhead::vdev
