// SPDX-License-Identifier: Apache-2.0
#include "vdev/rtc.hpp"

#include <algorithm>
#include <chrono>
#include <utility>

namespace bulkhead::vdev {
namespace {

constexpr std::uint16_t kIndexPort = 0x70;
constexpr std::uint16_t kDataPort = 0x71;

// Registers.
constexpr std::uint8_t kSeconds = 0;
constexpr std::uint8_t kSecondsAlarm = 1;
constexpr std::uint8_t kMinutes = 2;
constexpr std::uint8_t kMinutesAlarm = 3;
constexpr std::uint8_t kHours = 4;
constexpr std::uint8_t kHoursAlarm = 5;
constexpr std::uint8_t kWeekday = 6;
constexpr std::uint8_t kDay = 7;
constexpr std::uint8_t kMonth = 8;
constexpr std::uint8_t kYear = 9;
constexpr std::uint8_t kA = 10;
constexpr std::uint8_t kB = 11;
constexpr std::uint8_t kC = 12;
constexpr std::uint8_t kD = 13;

constexpr std::uint8_t kUpdateInProgress = 1 << 7;  // A
constexpr std::uint8_t kDividerReset = 0x60;        // A: 11x holds the divider in reset
constexpr std::uint8_t kSet = 1 << 7;               // B
constexpr std::uint8_t kPeriodic = 1 << 6;          // B and C
constexpr std::uint8_t kAlarm = 1 << 5;
constexpr std::uint8_t kUpdateEnded = 1 << 4;
constexpr std::uint8_t kInterruptSources = kPeriodic | kAlarm | kUpdateEnded;
constexpr std::uint8_t kBinary = 1 << 2;     // B
constexpr std::uint8_t k24Hours = 1 << 1;    // B
constexpr std::uint8_t kInterrupt = 1 << 7;  // C
constexpr std::uint8_t kValid = 1 << 7;      // D
constexpr std::uint8_t kAfternoon = 1 << 7;  // hours in 12-hour mode
constexpr std::uint8_t kAnyAlarm = 0xc0;     // an alarm byte that matches always

constexpr std::int64_t kNanosecondsPerSecond = 1'000'000'000;
constexpr std::int64_t kUpdateTime = 244'000;  // ns before the second ends
constexpr std::int64_t kSecondsPerDay = 86'400;
constexpr std::int64_t kCyclesPerSecond = 32'768;
// 0000-01-01 and the end of 9999, in seconds since 1970.
constexpr std::int64_t kFirstSecond = -62'167'219'200;
constexpr std::int64_t kLastSecond = 253'402'300'799;

bool is_time(std::uint8_t index) {
  return index == kSeconds || index == kMinutes || index == kHours || (index >= kWeekday && index <= kYear) ||
         index == Rtc::kCenturyIndex;
}

}  // namespace

Rtc::Rtc(InterruptLine& line, Clock& clock, const WallClock& wall_clock, const RtcMemorySizes& memory)
    : line_(line), clock_(clock), wall_clock_(wall_clock), timer_(clock.make_timer([this] { update(); })) {
  registers_[kA] = 0x26;  // 32.768 kHz, 1024 Hz
  registers_[kB] = k24Hours;
  note_memory(memory);
  restart_counting();
}

// Where a PC's firmware notes the memory's size for older software.
void Rtc::note_memory(const RtcMemorySizes& memory) {
  const auto note = [this](std::uint8_t index, std::uint64_t value, unsigned bytes) {
    for (unsigned i = 0; i < bytes; ++i) registers_[index + i] = static_cast<std::uint8_t>(value >> (8 * i));
  };
  constexpr std::uint64_t kKib = 1024;
  constexpr std::uint64_t kMib = 1024 * kKib;
  const auto beyond = [&](std::uint64_t start) { return memory.below_4_gib > start ? memory.below_4_gib - start : 0; };
  note(0x15, 640, 2);                                                               // KiB of base memory
  note(0x17, std::min<std::uint64_t>(beyond(kMib) / kKib, 0xffff), 2);              // KiB above 1 MiB
  note(0x30, std::min<std::uint64_t>(beyond(kMib) / kKib, 0xffff), 2);              // the same
  note(0x34, std::min<std::uint64_t>(beyond(16 * kMib) / (64 * kKib), 0xffff), 2);  // 64 KiB above 16 MiB
  note(0x5b, std::min<std::uint64_t>(memory.above_4_gib / (64 * kKib), 0xff'ffff), 3);
}

std::span<const PortRange> Rtc::ports() const {
  static constexpr std::array<PortRange, 1> kPorts{{{kIndexPort, kDataPort}}};
  return kPorts;
}

std::uint8_t Rtc::read_byte(std::uint16_t port) { return port == kIndexPort ? 0xff : read_register(index_); }

void Rtc::write_byte(std::uint16_t port, std::uint8_t value) {
  if (port == kIndexPort) {
    index_ = value & 0x7f;  // bit 7 masks NMI, of which the machine has none
  } else {
    write_register(index_, value);
  }
}

Rtc::Moment Rtc::now() const {
  const std::int64_t host = wall_clock_.now().count();
  Moment moment{host / kNanosecondsPerSecond + ahead_.seconds, host % kNanosecondsPerSecond + ahead_.nanoseconds};
  if (moment.nanoseconds >= kNanosecondsPerSecond) {
    ++moment.seconds;
    moment.nanoseconds -= kNanosecondsPerSecond;
  }
  return moment;
}

void Rtc::set_time(Moment to) {
  const std::int64_t host = wall_clock_.now().count();
  ahead_ = {to.seconds - host / kNanosecondsPerSecond, to.nanoseconds - host % kNanosecondsPerSecond};
  if (ahead_.nanoseconds < 0) {
    --ahead_.seconds;
    ahead_.nanoseconds += kNanosecondsPerSecond;
  }
}

bool Rtc::frozen() const { return (registers_[kB] & kSet) || (registers_[kA] & kDividerReset) == kDividerReset; }

std::uint8_t Rtc::read_register(std::uint8_t index) {
  if (is_time(index)) {
    if (!frozen()) time_to_registers(now().seconds);
    return registers_[index];
  }
  switch (index) {
    case kA: {
      const bool updating = !frozen() && now().nanoseconds >= kNanosecondsPerSecond - kUpdateTime;
      return registers_[kA] | (updating ? kUpdateInProgress : 0);
    }
    case kC: {
      catch_up();
      const std::uint8_t flags = registers_[kC];
      registers_[kC] = 0;
      // It falls even if the next event has come by now: without an edge an interrupt controller would not see that one.
      set_line(false);
      update();
      return flags | ((flags & registers_[kB] & kInterruptSources) ? kInterrupt : 0);
    }
    case kD: return kValid;
    default: return registers_[index];
  }
}

void Rtc::write_register(std::uint8_t index, std::uint8_t value) {
  catch_up();
  if (is_time(index)) {
    if (frozen()) {
      registers_[index] = value;
    } else {
      const Moment before = now();
      time_to_registers(before.seconds);
      registers_[index] = value;
      set_time({registers_to_time(), before.nanoseconds});
      restart_counting();
    }
  } else if (index == kA || index == kB) {
    write_control(index, value);
  } else if (index != kC && index != kD) {
    registers_[index] = value;
  }
  update();
}

void Rtc::write_control(std::uint8_t index, std::uint8_t value) {
  const bool was_frozen = frozen();
  const bool was_in_reset = (registers_[kA] & kDividerReset) == kDividerReset;
  const Moment before = now();
  if (index == kA) {
    registers_[kA] = value & static_cast<std::uint8_t>(~kUpdateInProgress);
  } else {
    registers_[kB] = (value & kSet) ? value & static_cast<std::uint8_t>(~kUpdateEnded) : value;
  }
  const bool in_reset = (registers_[kA] & kDividerReset) == kDividerReset;
  if (!was_frozen && frozen()) time_to_registers(before.seconds);
  // Out of its reset the divider begins in the middle of a second (MC146818, "Divider Control").
  if (was_in_reset && !in_reset) set_time({before.seconds, kNanosecondsPerSecond / 2});
  if (was_frozen && !frozen()) set_time({registers_to_time(), now().nanoseconds});
  if (was_frozen != frozen() || index == kA) restart_counting();
}

std::uint8_t Rtc::encode(unsigned value) const {
  return static_cast<std::uint8_t>((registers_[kB] & kBinary) ? value : value / 10 << 4 | value % 10);
}

unsigned Rtc::decode(std::uint8_t value) const {
  return (registers_[kB] & kBinary) ? value : (value >> 4) * 10u + (value & 15);
}

std::uint8_t Rtc::encode_hour(unsigned hour) const {
  if (registers_[kB] & k24Hours) return encode(hour);
  const std::uint8_t of_twelve = encode(hour % 12 == 0 ? 12 : hour % 12);
  return of_twelve | (hour >= 12 ? kAfternoon : 0);
}

void Rtc::time_to_registers(std::int64_t seconds) {
  using namespace std::chrono;
  seconds = std::clamp(seconds, kFirstSecond, kLastSecond);
  const sys_seconds moment{std::chrono::seconds(seconds)};
  const auto day = floor<days>(moment);
  const year_month_day date(day);
  const auto second_of_day = static_cast<unsigned>((moment - day).count());
  const auto year = static_cast<unsigned>(static_cast<int>(date.year()));
  registers_[kSeconds] = encode(second_of_day % 60);
  registers_[kMinutes] = encode(second_of_day / 60 % 60);
  registers_[kHours] = encode_hour(second_of_day / 3600);
  registers_[kWeekday] = encode(weekday(day).c_encoding() + 1);
  registers_[kDay] = encode(static_cast<unsigned>(date.day()));
  registers_[kMonth] = encode(static_cast<unsigned>(date.month()));
  registers_[kYear] = encode(year % 100);
  registers_[kCenturyIndex] = encode(year / 100);
}

// A guest may write anything; what is no date becomes the nearest that is one.
std::int64_t Rtc::registers_to_time() const {
  using namespace std::chrono;
  std::int64_t hour = decode(registers_[kHours]);
  if (!(registers_[kB] & k24Hours)) {
    hour = decode(registers_[kHours] & static_cast<std::uint8_t>(~kAfternoon)) % 12;
    if (registers_[kHours] & kAfternoon) hour += 12;
  }
  const auto two_digits = [this](std::uint8_t index) {
    return std::min(static_cast<int>(decode(registers_[index])), 99);
  };
  const year year_of(two_digits(kCenturyIndex) * 100 + two_digits(kYear));
  const month month_of(std::clamp(decode(registers_[kMonth]), 1u, 12u));
  const unsigned last = static_cast<unsigned>((year_of / month_of / std::chrono::last).day());
  const std::chrono::day day_of(std::clamp(decode(registers_[kDay]), 1u, last));
  const sys_days day = year_of / month_of / day_of;
  const std::int64_t minute = std::min(decode(registers_[kMinutes]), 59u);
  const std::int64_t second = std::min(decode(registers_[kSeconds]), 59u);
  return std::int64_t{day.time_since_epoch().count()} * kSecondsPerDay + std::min<std::int64_t>(hour, 23) * 3600 +
         minute * 60 + second;
}

/// The first second after `after` at which all three alarm bytes match.
std::optional<std::int64_t> Rtc::next_alarm(std::int64_t after) const {
  const auto first_match = [](std::uint8_t alarm, unsigned from, unsigned end,
                              auto encoded) -> std::optional<unsigned> {
    for (unsigned value = from; value < end; ++value) {
      if (alarm >= kAnyAlarm || encoded(value) == alarm) return value;
    }
    return std::nullopt;
  };
  const auto plain = [this](unsigned value) { return encode(value); };
  const auto second_from = [&](unsigned from) { return first_match(registers_[kSecondsAlarm], from, 60, plain); };
  const auto minute_from = [&](unsigned from) { return first_match(registers_[kMinutesAlarm], from, 60, plain); };
  const auto hour_from = [&](unsigned from) {
    return first_match(registers_[kHoursAlarm], from, 24, [this](unsigned value) { return encode_hour(value); });
  };
  const auto first_second = second_from(0);
  const auto first_minute = minute_from(0);
  if (!first_second || !first_minute || !hour_from(0)) return std::nullopt;

  const std::int64_t begin = after + 1;
  const std::int64_t second_of_day = ((begin % kSecondsPerDay) + kSecondsPerDay) % kSecondsPerDay;
  const std::int64_t day = begin - second_of_day;
  const auto hour = static_cast<unsigned>(second_of_day / 3600);
  const auto minute = static_cast<unsigned>(second_of_day / 60 % 60);
  const auto at = [day](std::int64_t h, std::int64_t m, std::int64_t s) { return day + h * 3600 + m * 60 + s; };
  if (hour_from(hour) == hour) {
    const auto second = second_from(static_cast<unsigned>(second_of_day % 60));
    if (second && minute_from(minute) == minute) return at(hour, minute, *second);
    if (const auto later = minute_from(minute + 1)) return at(hour, *later, *first_second);
  }
  if (const auto later = hour_from(hour + 1)) return at(*later, *first_minute, *first_second);
  return at(*hour_from(0), *first_minute, *first_second) + kSecondsPerDay;
}

/// Cycles of the 32.768 kHz oscillator between two periodic interrupts; 0: none.
std::int64_t Rtc::period_cycles() const {
  const unsigned rate = registers_[kA] & 0x0f;
  if (rate == 0 || (registers_[kA] & kDividerReset) == kDividerReset) return 0;
  return std::int64_t{1} << (rate <= 2 ? rate + 6 : rate - 1);
}

std::int64_t Rtc::cycles(Moment moment) {
  return moment.seconds * kCyclesPerSecond + moment.nanoseconds * kCyclesPerSecond / kNanosecondsPerSecond;
}

/// Sets the flags of what has happened since they were last up to date.
void Rtc::catch_up() {
  const Moment moment = now();
  if (!frozen() && moment.seconds > seen_second_) {
    registers_[kC] |= kUpdateEnded;
    if (const auto alarm = next_alarm(seen_second_); alarm && *alarm <= moment.seconds) registers_[kC] |= kAlarm;
  }
  const std::int64_t period = period_cycles();
  const std::int64_t cycle = cycles(moment);
  if (period != 0 && cycle > seen_cycle_ && cycle / period != seen_cycle_ / period) registers_[kC] |= kPeriodic;
  seen_second_ = moment.seconds;
  seen_cycle_ = cycle;
}

/// After a jump of the time: it is no event.
void Rtc::restart_counting() {
  seen_second_ = now().seconds;
  seen_cycle_ = cycles(now());
}

std::optional<std::int64_t> Rtc::nanoseconds_to_next_event() const {
  const std::uint8_t wanted = registers_[kB] & kInterruptSources;
  const Moment moment = now();
  std::optional<std::int64_t> next;
  const auto consider = [&next](std::int64_t candidate) { next = std::min(next.value_or(candidate), candidate); };
  if (!frozen() && (wanted & kUpdateEnded)) consider(kNanosecondsPerSecond - moment.nanoseconds);
  if (!frozen() && (wanted & kAlarm)) {
    if (const auto alarm = next_alarm(moment.seconds)) {
      consider((*alarm - moment.seconds) * kNanosecondsPerSecond - moment.nanoseconds);
    }
  }
  if (const std::int64_t period = period_cycles(); period != 0 && (wanted & kPeriodic)) {
    const std::int64_t left = period - cycles(moment) % period;
    consider(left * kNanosecondsPerSecond / kCyclesPerSecond + 1);
  }
  return next;
}

void Rtc::set_line(bool high) {
  if (std::exchange(line_high_, high) != high) line_.set_level(high);
}

void Rtc::update() {
  catch_up();
  const bool high = registers_[kC] & registers_[kB] & kInterruptSources;
  set_line(high);
  // While an interrupt waits to be read there is no need for another.
  const auto next = running_ && !high ? nanoseconds_to_next_event() : std::nullopt;
  if (next) {
    timer_->arm(clock_.now() + Nanoseconds(*next));
  } else {
    timer_->disarm();
  }
}

void Rtc::start() {
  running_ = true;
  update();
}

void Rtc::stop() {
  running_ = false;
  timer_->disarm();
}

void Rtc::reset() {
  index_ = 0;
  registers_[kB] &= static_cast<std::uint8_t>(~(kInterruptSources | 1 << 3));
  registers_[kC] = 0;
  update();
}

state::SavedUnit Rtc::save() const {
  state::SavedUnit saved(1);
  // The seconds may be negative; as a two's complement they are a number like any other.
  saved.number("index", index_)
      .bytes("registers", registers_)
      .number("ahead_seconds", static_cast<std::uint64_t>(ahead_.seconds))
      .number("ahead_nanoseconds", static_cast<std::uint64_t>(ahead_.nanoseconds))
      .number("line", line_high_);
  return saved;
}

Result<> Rtc::restore(const state::SavedUnit& saved) {
  state::SavedReader reader(saved, name(), 1);
  const auto index = static_cast<std::uint8_t>(reader.number("index", 0x7f));
  const auto registers = reader.bytes("registers", registers_.size());
  const auto ahead_seconds = static_cast<std::int64_t>(reader.number("ahead_seconds"));
  const auto ahead_nanoseconds =
      static_cast<std::int64_t>(reader.number("ahead_nanoseconds", kNanosecondsPerSecond - 1));
  const bool line_high = reader.flag("line");
  if (auto ok = reader.finish(); !ok) return ok;
  // No guest can set the clock further ahead or back than the years it can write.
  if (ahead_seconds < -2 * kLastSecond || ahead_seconds > 2 * kLastSecond) {
    return fail("saved state of rtc: the time is outside of the years 0 to 9999");
  }
  index_ = index;
  std::copy(registers.begin(), registers.end(), registers_.begin());
  registers_[kA] &= static_cast<std::uint8_t>(~kUpdateInProgress);
  registers_[kC] &= kInterruptSources;
  ahead_ = {ahead_seconds, ahead_nanoseconds};
  line_high_ = line_high;
  restart_counting();
  return {};
}

void Rtc::inspect(state::Inspection& node) const {
  node.value("index", std::uint64_t{index_})
      .value("control_a", std::uint64_t{registers_[kA]})
      .value("control_b", std::uint64_t{registers_[kB]})
      .value("flags", std::uint64_t{registers_[kC]})
      .value("seconds_since_1970", static_cast<std::uint64_t>(now().seconds))
      .value("interrupt", line_high_);
}

}  // namespace bulkhead::vdev
