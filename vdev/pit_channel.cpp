// SPDX-License-Identifier: Apache-2.0
#include "vdev/pit_channel.hpp"

#include <algorithm>

namespace bulkhead::vdev {
namespace {

// A channel that nobody touches for longer than this is far into its count all the same; saved ages stay below it.
constexpr PitChannel::Ticks kOldest = PitChannel::Ticks{1} << 50;

}  // namespace

void PitChannel::write_control(std::uint8_t control, Ticks) {
  const unsigned mode = control >> 1 & 7;
  mode_ = static_cast<Mode>(mode > 5 ? mode - 4 : mode);  // 6 and 7 are other names of 2 and 3
  format_ = static_cast<Format>(control >> 4 & 3);
  bcd_ = control & 1;
  loaded_ = false;
  counting_ = false;
  paused_elapsed_ = 0;
  next_initial_.reset();
  written_low_.reset();
  read_high_next_ = false;
  latched_count_.reset();
  latched_status_.reset();
}

void PitChannel::write(std::uint8_t value, Ticks now) {
  settle(now);
  switch (format_) {
    case Format::LowByte: load(value, now); break;
    case Format::HighByte: load(static_cast<std::uint16_t>(value << 8), now); break;
    case Format::LowThenHigh:
      if (!written_low_) {
        written_low_ = value;
        // In mode 0 the first byte stops the count.
        if (mode_ == Mode::InterruptOnTerminalCount && loaded_) {
          counting_ = false;
          loaded_ = false;
        }
      } else {
        const std::uint8_t low = *written_low_;
        written_low_.reset();
        load(static_cast<std::uint16_t>(value << 8 | low), now);
      }
      break;
  }
}

void PitChannel::load(std::uint16_t value, Ticks now) {
  const std::uint32_t initial = decode(value);
  if (periodic() && counting_) {
    // The period that runs is finished first. Until it is, later writes only replace the count.
    if (!next_initial_) next_start_ = start_ + (elapsed(now) / initial_ + 1) * initial_;
    next_initial_ = initial;
    return;
  }
  if (triggered_by_gate() && counting_) {
    next_initial_ = initial;
    return;
  }
  initial_ = initial;
  loaded_ = true;
  paused_elapsed_ = 0;
  counting_ = false;
  if (!triggered_by_gate() && gate_) begin(now);
}

// A count is taken over with the next tick of the clock.
void PitChannel::begin(Ticks now) {
  if (next_initial_) {
    initial_ = *next_initial_;
    next_initial_.reset();
  }
  start_ = now + 1;
  counting_ = true;
}

void PitChannel::settle(Ticks now) {
  if (!periodic() || !counting_ || !next_initial_ || now < next_start_) return;
  initial_ = *next_initial_;
  start_ = next_start_;
  next_initial_.reset();
}

void PitChannel::set_gate(bool high, Ticks now) {
  settle(now);
  if (high == gate_) return;
  const Ticks at = elapsed(now);
  gate_ = high;
  if (!loaded_) return;
  if (triggered_by_gate()) {
    if (high) begin(now);
  } else if (!high) {
    paused_elapsed_ = at;
    counting_ = false;
  } else if (periodic()) {
    begin(now);
  } else {
    start_ = now + 1 - paused_elapsed_;
    counting_ = true;
  }
}

PitChannel::Ticks PitChannel::elapsed(Ticks now) const {
  return counting_ ? std::max<Ticks>(now - start_, 0) : paused_elapsed_;
}

bool PitChannel::output(Ticks now) {
  settle(now);
  const Ticks at = elapsed(now);
  switch (mode_) {
    case Mode::InterruptOnTerminalCount: return loaded_ && at >= initial_;
    case Mode::HardwareOneShot: return !counting_ || at >= initial_;
    case Mode::RateGenerator: return !counting_ || !gate_ || at % initial_ != initial_ - 1;
    case Mode::SquareWave: return !counting_ || !gate_ || at % initial_ < (initial_ + 1) / 2;
    case Mode::SoftwareStrobe:
    case Mode::HardwareStrobe: return !counting_ || at != initial_;
  }
  return true;
}

std::optional<PitChannel::Ticks> PitChannel::next_rising_edge(Ticks now) {
  settle(now);
  if (!counting_) return std::nullopt;
  const Ticks end = start_ + initial_;
  switch (mode_) {
    case Mode::InterruptOnTerminalCount:
    case Mode::HardwareOneShot: return now < end ? std::optional(end) : std::nullopt;
    case Mode::RateGenerator:
    case Mode::SquareWave:
      if (initial_ < 2) return std::nullopt;  // the output does not move
      return start_ + (elapsed(now) / initial_ + 1) * initial_;
    case Mode::SoftwareStrobe:
    case Mode::HardwareStrobe: return now < end + 1 ? std::optional(end + 1) : std::nullopt;
  }
  return std::nullopt;
}

/// What the counting element holds.
std::uint16_t PitChannel::count(Ticks now) const {
  const Ticks at = elapsed(now);
  if (mode_ == Mode::RateGenerator) return encode(static_cast<std::uint32_t>(initial_ - at % initial_));
  if (mode_ == Mode::SquareWave) {
    // Counts by two, twice in a period; an odd count makes the first half one tick longer.
    const std::uint32_t first_half = (initial_ + 1) / 2;
    const auto in_period = static_cast<std::uint32_t>(at % initial_);
    const std::uint32_t in_half = in_period < first_half ? in_period : in_period - first_half;
    return encode((initial_ & ~1u) - 2 * std::min(in_half, initial_ / 2));
  }
  // The others go on through zero.
  const std::uint32_t past = static_cast<std::uint32_t>(at % modulus());
  return encode((initial_ + modulus() - past) % modulus());
}

std::uint32_t PitChannel::decode(std::uint16_t value) const {
  if (value == 0) return modulus();
  if (!bcd_) return value;
  // Digits above 9 count as what they are worth.
  return (value >> 12) * 1000u + (value >> 8 & 15) * 100u + (value >> 4 & 15) * 10u + (value & 15);
}

std::uint16_t PitChannel::encode(std::uint32_t value) const {
  if (!bcd_) return static_cast<std::uint16_t>(value);
  value %= 10000;
  return static_cast<std::uint16_t>((value / 1000) << 12 | (value / 100 % 10) << 8 | (value / 10 % 10) << 4 |
                                    value % 10);
}

std::uint8_t PitChannel::read(Ticks now) {
  settle(now);
  if (latched_status_) {
    const std::uint8_t status = *latched_status_;
    latched_status_.reset();
    return status;
  }
  const std::uint16_t value = latched_count_ ? *latched_count_ : count(now);
  if (format_ == Format::LowThenHigh && !read_high_next_) {
    read_high_next_ = true;
    return static_cast<std::uint8_t>(value);
  }
  read_high_next_ = false;
  latched_count_.reset();
  return static_cast<std::uint8_t>(format_ == Format::LowByte ? value : value >> 8);
}

void PitChannel::latch_count(Ticks now) {
  settle(now);
  if (!latched_count_) latched_count_ = count(now);
}

void PitChannel::latch_status(Ticks now) {
  if (latched_status_) return;
  // The count that was written last is not yet in the counting element.
  const bool waits_for_trigger = triggered_by_gate() && !counting_;
  const bool null_count = !loaded_ || next_initial_ || waits_for_trigger || (counting_ && now < start_);
  latched_status_ = static_cast<std::uint8_t>(output(now) << 7 | null_count << 6 | static_cast<unsigned>(format_) << 4 |
                                              static_cast<unsigned>(mode_) << 1 | bcd_);
}

// Moments are saved as their distance to now, since the clock of another machine reads differently.
state::SavedUnit PitChannel::save(Ticks now) const {
  const auto absent_or = [](const auto& value) { return value ? std::uint64_t{*value} + 1 : 0; };
  state::SavedUnit saved(1);
  saved.number("mode", static_cast<std::uint64_t>(mode_))
      .number("format", static_cast<std::uint64_t>(format_))
      .number("bcd", bcd_)
      .number("gate", gate_)
      .number("loaded", loaded_)
      .number("counting", counting_)
      .number("initial", initial_)
      .number("age", static_cast<std::uint64_t>(counting_ ? std::clamp<Ticks>(now + 1 - start_, 0, kOldest) : 0))
      .number("paused_elapsed", static_cast<std::uint64_t>(std::min(paused_elapsed_, kOldest)))
      .number("next_initial", absent_or(next_initial_))
      .number("next_start_in",
              static_cast<std::uint64_t>(next_initial_ ? std::clamp<Ticks>(next_start_ - now, 0, 65536) : 0))
      .number("written_low", absent_or(written_low_))
      .number("read_high_next", read_high_next_)
      .number("latched_count", absent_or(latched_count_))
      .number("latched_status", absent_or(latched_status_));
  return saved;
}

Result<PitChannel> PitChannel::restore(const state::SavedUnit& saved, Ticks now) {
  state::SavedReader reader(saved, "pit's channel", 1);
  const auto optional = [&]<typename T>(std::string_view field, std::uint64_t maximum, std::optional<T>& to) {
    if (const std::uint64_t value = reader.number(field, maximum + 1)) to = static_cast<T>(value - 1);
  };
  PitChannel channel;
  const std::uint64_t mode = reader.number("mode", 5);
  const std::uint64_t format = reader.number("format", 3);
  channel.mode_ = static_cast<Mode>(mode);
  channel.format_ = static_cast<Format>(format);
  channel.bcd_ = reader.flag("bcd");
  channel.gate_ = reader.flag("gate");
  channel.loaded_ = reader.flag("loaded");
  channel.counting_ = reader.flag("counting");
  channel.initial_ = static_cast<std::uint32_t>(reader.number("initial", 65536));
  channel.start_ = now + 1 - static_cast<Ticks>(reader.number("age", kOldest));
  channel.paused_elapsed_ = static_cast<Ticks>(reader.number("paused_elapsed", kOldest));
  optional("next_initial", 65536, channel.next_initial_);
  channel.next_start_ = now + static_cast<Ticks>(reader.number("next_start_in", 65536));
  optional("written_low", 0xff, channel.written_low_);
  channel.read_high_next_ = reader.flag("read_high_next");
  optional("latched_count", 0xffff, channel.latched_count_);
  optional("latched_status", 0xff, channel.latched_status_);
  if (auto ok = reader.finish(); !ok) return std::unexpected(ok.error());
  if (channel.initial_ == 0 || format == 0 || channel.next_initial_ == 0u) {
    return fail("saved state of pit's channel: a count or a format is 0, which cannot be");
  }
  return channel;
}

void PitChannel::inspect(state::Inspection& node) const {
  node.value("mode", static_cast<std::uint64_t>(mode_))
      .value("initial_count", std::uint64_t{initial_})
      .value("gate", gate_)
      .value("counting", counting_);
}

}  // namespace bulkhead::vdev
