// SPDX-License-Identifier: Apache-2.0
#include "vdev/pit.hpp"

#include <algorithm>

namespace bulkhead::vdev {
namespace {

constexpr std::uint16_t kControl = 0x43;
constexpr std::uint16_t kSystemControl = 0x61;
constexpr std::uint8_t kGate2 = 1 << 0;
constexpr std::uint8_t kRefreshToggle = 1 << 4;
constexpr std::uint8_t kOutput2 = 1 << 5;
constexpr std::int64_t kRefreshPeriod = 18;  // ticks between two refreshes of memory, 15 us

constexpr std::int64_t kNanosecondsPerSecond = 1'000'000'000;

// The first moment of a tick.
Nanoseconds moment_of(PitChannel::Ticks ticks) {
  const std::int64_t rest = ticks % Pit::kFrequency;
  return Nanoseconds(ticks / Pit::kFrequency * kNanosecondsPerSecond +
                     (rest * kNanosecondsPerSecond + Pit::kFrequency - 1) / Pit::kFrequency);
}

}  // namespace

Pit::Pit(InterruptLine& timer_line, Clock& clock)
    : timer_line_(timer_line), clock_(clock), timer_(clock.make_timer([this] { rising_edge(); })) {
  channels_[2].set_gate(false, 0);
}

std::span<const PortRange> Pit::ports() const {
  static constexpr std::array<PortRange, 2> kPorts{{{0x40, kControl}, {kSystemControl, kSystemControl}}};
  return kPorts;
}

PitChannel::Ticks Pit::ticks() const {
  const std::int64_t now = clock_.now().count();
  return now / kNanosecondsPerSecond * kFrequency + now % kNanosecondsPerSecond * kFrequency / kNanosecondsPerSecond;
}

std::uint8_t Pit::read_byte(std::uint16_t port) {
  if (port == kSystemControl) return read_system_control();
  if (port == kControl) return 0xff;  // write-only
  return channels_[port & 3].read(ticks());
}

void Pit::write_byte(std::uint16_t port, std::uint8_t value) {
  if (port == kSystemControl) {
    system_control_ = value & 0x0f;
    channels_[2].set_gate(value & kGate2, ticks());
    return;
  }
  if (port == kControl) {
    write_control(value);
  } else {
    channels_[port & 3].write(value, ticks());
  }
  follow_output();
}

void Pit::write_control(std::uint8_t value) {
  const PitChannel::Ticks now = ticks();
  const unsigned selected = value >> 6;
  if (selected == 3) {  // read-back; a 0 bit asks for the latch
    for (unsigned i = 0; i < channels_.size(); ++i) {
      if (!(value & 2u << i)) continue;
      if (!(value & 1 << 5)) channels_[i].latch_count(now);
      if (!(value & 1 << 4)) channels_[i].latch_status(now);
    }
  } else if ((value & 0x30) == 0) {
    channels_[selected].latch_count(now);
  } else {
    channels_[selected].write_control(value, now);
  }
}

std::uint8_t Pit::read_system_control() {
  const PitChannel::Ticks now = ticks();
  std::uint8_t value = system_control_;
  if (now / kRefreshPeriod & 1) value |= kRefreshToggle;
  if (channels_[2].output(now)) value |= kOutput2;
  return value;
}

void Pit::follow_output() {
  const bool high = channels_[0].output(ticks());
  if (high != line_high_) {
    line_high_ = high;
    timer_line_.set_level(high);
  }
  arm();
}

void Pit::arm() {
  if (!running_) return;
  if (const auto edge = channels_[0].next_rising_edge(ticks())) {
    timer_->arm(std::max(moment_of(*edge), not_before_));
  } else {
    timer_->disarm();
  }
}

// Edges that were missed because the host was late are one edge; a guest reads the time elsewhere.
void Pit::rising_edge() {
  if (!running_) return;
  if (line_high_) timer_line_.set_level(false);
  line_high_ = true;
  timer_line_.set_level(true);
  not_before_ = clock_.now() + kShortestInterruptPeriod;
  follow_output();
}

void Pit::start() {
  running_ = true;
  not_before_ = clock_.now();
  arm();
}

void Pit::stop() {
  running_ = false;
  timer_->disarm();
}

void Pit::reset() {
  system_control_ = 0;
  channels_ = {};
  channels_[2].set_gate(false, 0);
  follow_output();
}

state::SavedUnit Pit::save() const {
  const PitChannel::Ticks now = ticks();
  state::SavedList channels;
  for (const PitChannel& channel : channels_) channels.push_back(channel.save(now));
  state::SavedUnit saved(1);
  saved.number("system_control", system_control_).number("line", line_high_).list("channels", std::move(channels));
  return saved;
}

Result<> Pit::restore(const state::SavedUnit& saved) {
  state::SavedReader reader(saved, name(), 1);
  const auto system_control = static_cast<std::uint8_t>(reader.number("system_control", 0x0f));
  const bool line_high = reader.flag("line");
  const auto saved_channels = reader.list("channels", channels_.size());
  if (auto ok = reader.finish(); !ok) return ok;
  std::array<PitChannel, 3> channels;
  for (std::size_t i = 0; i < channels.size(); ++i) {
    auto channel = PitChannel::restore(saved_channels[i], ticks());
    if (!channel) return std::unexpected(channel.error());
    if (channel->gate() != (i != 2 || (system_control & kGate2))) {
      return fail("saved state of pit: a channel's gate is not what its register says");
    }
    channels[i] = *channel;
  }
  system_control_ = system_control;
  line_high_ = line_high;
  channels_ = channels;
  return {};
}

void Pit::inspect(state::Inspection& node) const {
  node.value("system_control", std::uint64_t{system_control_}).value("line", line_high_);
  static constexpr std::array<std::string_view, 3> kNames{"channel0", "channel1", "channel2"};
  for (std::size_t i = 0; i < channels_.size(); ++i) channels_[i].inspect(node.child(kNames[i]));
}

}  // namespace bulkhead::vdev
