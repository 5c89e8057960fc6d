// SPDX-License-Identifier: Apache-2.0
//
// One of the three counters of an Intel 8254 Programmable Interval Timer, as a function of time: nothing happens
// between two calls, each works out what the counter has done until its moment. Times are ticks of the counter's clock.
#pragma once

#include <cstdint>
#include <optional>

#include "state/state_unit.hpp"

namespace bulkhead::vdev {

class PitChannel {
 public:
  using Ticks = std::int64_t;

  /// The control word of this channel: mode, read/write format and BCD. A latch command is `latch_count`.
  void write_control(std::uint8_t control, Ticks now);
  void write(std::uint8_t value, Ticks now);
  std::uint8_t read(Ticks now);
  void latch_count(Ticks now);
  void latch_status(Ticks now);
  void set_gate(bool high, Ticks now);

  bool gate() const { return gate_; }
  bool output(Ticks now);
  /// When the output next goes from low to high, later than `now`, if nobody touches the channel.
  std::optional<Ticks> next_rising_edge(Ticks now);

  state::SavedUnit save(Ticks now) const;
  static Result<PitChannel> restore(const state::SavedUnit& saved, Ticks now);
  void inspect(state::Inspection& node) const;

 private:
  enum class Mode : std::uint8_t {
    InterruptOnTerminalCount,
    HardwareOneShot,
    RateGenerator,
    SquareWave,
    SoftwareStrobe,
    HardwareStrobe
  };
  enum class Format : std::uint8_t { LowByte = 1, HighByte = 2, LowThenHigh = 3 };

  bool triggered_by_gate() const { return mode_ == Mode::HardwareOneShot || mode_ == Mode::HardwareStrobe; }
  bool periodic() const { return mode_ == Mode::RateGenerator || mode_ == Mode::SquareWave; }
  bool pausable() const { return mode_ == Mode::InterruptOnTerminalCount || mode_ == Mode::SoftwareStrobe; }
  std::uint32_t modulus() const { return bcd_ ? 10000 : 65536; }

  void settle(Ticks now);
  void load(std::uint16_t value, Ticks now);
  void begin(Ticks now);
  Ticks elapsed(Ticks now) const;
  std::uint16_t count(Ticks now) const;
  std::uint32_t decode(std::uint16_t value) const;
  std::uint16_t encode(std::uint32_t value) const;

  Mode mode_ = Mode::InterruptOnTerminalCount;
  Format format_ = Format::LowThenHigh;
  bool bcd_ = false;
  bool gate_ = true;

  bool loaded_ = false;    // a count was written since the control word
  bool counting_ = false;  // since start_; false: never begun, or paused by the gate
  std::uint32_t initial_ = 65536;
  Ticks start_ = 0;                            // when the counter held `initial_`
  Ticks paused_elapsed_ = 0;                   // of a paused count
  std::optional<std::uint32_t> next_initial_;  // takes over at next_start_ in periodic modes, at the trigger in others
  Ticks next_start_ = 0;

  std::optional<std::uint8_t> written_low_;
  bool read_high_next_ = false;
  std::optional<std::uint16_t> latched_count_;
  std::optional<std::uint8_t> latched_status_;
};

}  // namespace bulkhead::vdev
