// SPDX-License-Identifier: Apache-2.0
//
// The real-time clock and its battery-backed memory: Motorola MC146818, with the century byte of the ACPI FADT.
//
// The clock runs with the host's wall clock, also while the machine is stopped; a guest that sets the time moves the
// distance between the two. All three interrupts (periodic, alarm, update-ended) go to one line, IRQ 8.
#pragma once

#include <array>
#include <memory>
#include <optional>

#include "vdev/byte_port_device.hpp"

namespace bulkhead::vdev {

/// What the firmware has noted of the machine in the battery-backed memory, in bytes.
struct RtcMemorySizes {
  std::uint64_t below_4_gib = 0;
  std::uint64_t above_4_gib = 0;
};

class Rtc final : public BytePortDevice, public state::StateUnit {
 public:
  static constexpr std::uint8_t kCenturyIndex = 0x32;

  Rtc(InterruptLine& line, Clock& clock, const WallClock& wall_clock, const RtcMemorySizes& memory);

  std::span<const PortRange> ports() const override;

  std::string_view name() const override { return "rtc"; }
  void start() override;
  void stop() override;
  /// The clock and the memory have a battery: only the interrupts and the index are reset.
  void reset() override;
  state::SavedUnit save() const override;
  Result<> restore(const state::SavedUnit& saved) override;
  void inspect(state::Inspection& node) const override;

 private:
  /// A time of the guest: seconds since 1970 and the nanoseconds of the second.
  struct Moment {
    std::int64_t seconds;
    std::int64_t nanoseconds;
  };

  std::uint8_t read_byte(std::uint16_t port) override;
  void write_byte(std::uint16_t port, std::uint8_t value) override;

  Moment now() const;
  bool frozen() const;
  std::uint8_t read_register(std::uint8_t index);
  void write_register(std::uint8_t index, std::uint8_t value);
  void write_control(std::uint8_t index, std::uint8_t value);
  void note_memory(const RtcMemorySizes& memory);

  std::uint8_t encode(unsigned value) const;
  unsigned decode(std::uint8_t value) const;
  std::uint8_t encode_hour(unsigned hour) const;
  void time_to_registers(std::int64_t seconds);
  std::int64_t registers_to_time() const;
  void set_time(Moment to);

  std::optional<std::int64_t> next_alarm(std::int64_t after) const;
  std::int64_t period_cycles() const;
  static std::int64_t cycles(Moment moment);
  void catch_up();
  void restart_counting();
  std::optional<std::int64_t> nanoseconds_to_next_event() const;
  void set_line(bool high);
  void update();

  InterruptLine& line_;
  Clock& clock_;
  const WallClock& wall_clock_;
  std::unique_ptr<Timer> timer_;
  bool running_ = false;
  bool line_high_ = false;

  std::uint8_t index_ = 0;
  std::array<std::uint8_t, 128> registers_{};  // the time bytes are current only while the clock is frozen
  Moment ahead_{0, 0};                         // of the host's clock
  std::int64_t seen_second_ = 0;               // flags are up to date until here
  std::int64_t seen_cycle_ = 0;
};

}  // namespace bulkhead::vdev
