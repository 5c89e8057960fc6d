// SPDX-License-Identifier: Apache-2.0
#include "vdev/power_management.hpp"

namespace bulkhead::vdev {
namespace {

// PM1 status and enable.
constexpr std::uint16_t kTimerOverflow = 1 << 0;
constexpr std::uint16_t kPowerButton = 1 << 8;
constexpr std::uint16_t kWake = 1 << 15;
constexpr std::uint16_t kStatusBits = kTimerOverflow | 1 << 4 | 1 << 5 | kPowerButton | 1 << 9 | 1 << 10 | kWake;
constexpr std::uint16_t kEnableBits = kTimerOverflow | 1 << 5 | kPowerButton | 1 << 9 | 1 << 10;
// PM1 control.
constexpr std::uint16_t kSciEnable = 1 << 0;
constexpr std::uint16_t kControlBits = 0x1c03;  // SLP_TYP, BM_RLD, SCI_EN; the others are write-only
constexpr std::uint16_t kSleepEnable = 1 << 13;

constexpr unsigned kHalfTurnShift = 31;  // the overflow status follows the timer's highest bit
constexpr std::int64_t kNanosecondsPerSecond = 1'000'000'000;

}  // namespace

PowerManagement::PowerManagement(InterruptLine& system_control_line, Clock& clock, MachineControl& machine)
    : line_(system_control_line), clock_(clock), machine_(machine), timer_(clock.make_timer([this] { update(); })) {
  ticks_at_zero_ = timer_ticks();
}

std::span<const PortRange> PowerManagement::ports() const {
  static constexpr std::array<PortRange, 2> kPorts{
      {{kEventBlock, kTimerBlock + 3}, {kGeneralEventBlock, kGeneralEventBlock + 3}}};
  return kPorts;
}

/// Ticks of the timer since it was 0, without the turn at 32 bits.
std::int64_t PowerManagement::timer_ticks() const {
  const std::int64_t now = clock_.now().count();
  return now / kNanosecondsPerSecond * kTimerFrequency +
         now % kNanosecondsPerSecond * kTimerFrequency / kNanosecondsPerSecond - ticks_at_zero_;
}

std::uint32_t PowerManagement::read_port(std::uint16_t port, unsigned size) {
  note_timer_overflow();
  const std::int64_t ticks = timer_ticks();  // once, so that all bytes are of one moment
  std::uint32_t value = 0;
  for (unsigned i = 0; i < size; ++i) {
    value |= std::uint32_t{register_byte(static_cast<std::uint16_t>(port + i), ticks)} << (8 * i);
  }
  return value;
}

std::uint8_t PowerManagement::register_byte(std::uint16_t port, std::int64_t ticks) const {
  const unsigned shift = 8 * (port & 1);
  switch (port & ~1) {
    case kEventBlock: return static_cast<std::uint8_t>(status_ >> shift);
    case kEventBlock + 2: return static_cast<std::uint8_t>(enable_ >> shift);
    case kControlBlock: return static_cast<std::uint8_t>((control_ | kSciEnable) >> shift);
    case kTimerBlock: return static_cast<std::uint8_t>(ticks >> shift);
    case kTimerBlock + 2: return static_cast<std::uint8_t>(ticks >> (16 + shift));
    case kGeneralEventBlock: return static_cast<std::uint8_t>(general_status_ >> shift);
    case kGeneralEventBlock + 2: return static_cast<std::uint8_t>(general_enable_ >> shift);
    default: return port >= kEventBlock + 6 && port < kTimerBlock ? 0 : 0xff;
  }
}

void PowerManagement::write_port(std::uint16_t port, unsigned size, std::uint32_t value) {
  note_timer_overflow();
  for (unsigned i = 0; i < size; ++i) {
    write_register_byte(static_cast<std::uint16_t>(port + i), static_cast<std::uint8_t>(value >> (8 * i)));
  }
  update();
}

void PowerManagement::write_register_byte(std::uint16_t port, std::uint8_t value) {
  const unsigned shift = 8 * (port & 1);
  const auto bits = static_cast<std::uint16_t>(value << shift);
  const auto replaced = [&](std::uint16_t old, std::uint16_t writable) {
    return static_cast<std::uint16_t>((old & ~(0xffu << shift)) | (bits & writable));
  };
  switch (port & ~1) {
    case kEventBlock:  // a status bit is cleared by writing 1
      status_ &= static_cast<std::uint16_t>(~bits);
      break;
    case kEventBlock + 2: enable_ = replaced(enable_, kEnableBits); break;
    case kControlBlock:
      control_ = replaced(control_, kControlBits);
      // Soft-off is the only sleep that the tables offer; a request for another does nothing.
      if ((bits & kSleepEnable) && (control_ >> 10 & 7) == kSleepTypeSoftOff) {
        machine_.request_power_off("ACPI soft-off");
      }
      break;
    case kGeneralEventBlock: general_status_ &= static_cast<std::uint16_t>(~bits); break;
    case kGeneralEventBlock + 2: general_enable_ = replaced(general_enable_, 0xffff); break;
    default: break;  // the timer is read-only
  }
}

void PowerManagement::press_power_button() {
  status_ |= kPowerButton;
  update();
}

void PowerManagement::raise_general_event(unsigned event) {
  if (event >= kGeneralEventCount) return;
  general_status_ |= static_cast<std::uint16_t>(1u << event);
  update();
}

void PowerManagement::note_timer_overflow() {
  const std::int64_t half_turns = timer_ticks() >> kHalfTurnShift;
  if (half_turns != seen_half_turns_) status_ |= kTimerOverflow;
  seen_half_turns_ = half_turns;
}

void PowerManagement::update() {
  note_timer_overflow();
  const bool high = (status_ & enable_) || (general_status_ & general_enable_);
  if (high != line_high_) {
    line_high_ = high;
    line_.set_level(high);
  }
  if (running_ && (enable_ & kTimerOverflow) && !(status_ & kTimerOverflow)) {
    const std::int64_t ticks_left = ((seen_half_turns_ + 1) << kHalfTurnShift) - timer_ticks();
    timer_->arm(clock_.now() + Nanoseconds(ticks_left * kNanosecondsPerSecond / kTimerFrequency + 1));
  } else {
    timer_->disarm();
  }
}

void PowerManagement::start() {
  running_ = true;
  update();
}

void PowerManagement::stop() {
  running_ = false;
  timer_->disarm();
}

void PowerManagement::reset() {
  status_ = enable_ = control_ = general_status_ = general_enable_ = 0;
  ticks_at_zero_ += timer_ticks();
  seen_half_turns_ = 0;
  update();
}

state::SavedUnit PowerManagement::save() const {
  state::SavedUnit saved(1);
  saved.number("status", status_)
      .number("enable", enable_)
      .number("control", control_)
      .number("general_status", general_status_)
      .number("general_enable", general_enable_)
      .number("timer", static_cast<std::uint64_t>(timer_ticks()))
      .number("seen_half_turns", static_cast<std::uint64_t>(seen_half_turns_));
  return saved;
}

Result<> PowerManagement::restore(const state::SavedUnit& saved) {
  state::SavedReader reader(saved, name(), 1);
  const auto status = static_cast<std::uint16_t>(reader.number("status", kStatusBits));
  const auto enable = static_cast<std::uint16_t>(reader.number("enable", kEnableBits));
  const auto control = static_cast<std::uint16_t>(reader.number("control", kControlBits));
  const auto general_status = static_cast<std::uint16_t>(reader.number("general_status", 0xffff));
  const auto general_enable = static_cast<std::uint16_t>(reader.number("general_enable", 0xffff));
  const auto ticks = static_cast<std::int64_t>(reader.number("timer", std::uint64_t{1} << 60));
  const auto seen_half_turns = static_cast<std::int64_t>(reader.number("seen_half_turns", std::uint64_t{1} << 30));
  if (auto ok = reader.finish(); !ok) return ok;
  status_ = status & kStatusBits;
  enable_ = enable & kEnableBits;
  control_ = control & kControlBits;
  general_status_ = general_status;
  general_enable_ = general_enable;
  ticks_at_zero_ += timer_ticks() - ticks;
  seen_half_turns_ = seen_half_turns;
  line_high_ = (status_ & enable_) || (general_status_ & general_enable_);
  return {};
}

void PowerManagement::inspect(state::Inspection& node) const {
  node.value("status", std::uint64_t{status_})
      .value("enable", std::uint64_t{enable_})
      .value("control", std::uint64_t{control_})
      .value("general_status", std::uint64_t{general_status_})
      .value("general_enable", std::uint64_t{general_enable_})
      .value("timer", static_cast<std::uint64_t>(timer_ticks()) & 0xffff'ffff)
      .value("system_control_interrupt", line_high_);
}

}  // namespace bulkhead::vdev
