// SPDX-License-Identifier: Apache-2.0
//
// What a device sees of its machine, in the hands of a test: lines that remember, a machine that notes what is asked of it.
#pragma once

#include <gtest/gtest.h>
#include <algorithm>
#include <string>
#include <vector>

#include "tests/state/fake_clock.hpp"
#include "vdev/device.hpp"
#include "vdev/uart16550.hpp"

namespace bulkhead::vdev {

using state::FakeClock;
using state::FakeWallClock;

class FakeLine final : public InterruptLine {
 public:
  void set_level(bool high) override {
    if (high && !high_) ++rises_;
    high_ = high;
  }
  bool high() const { return high_; }
  /// How often it went from low to high.
  unsigned rises() const { return rises_; }

 private:
  bool high_ = false;
  unsigned rises_ = 0;
};

class FakeMachine final : public MachineControl {
 public:
  void request_reset(std::string_view why) override { resets.emplace_back(why); }
  void request_power_off(std::string_view why) override { power_offs.emplace_back(why); }
  void request_exit(std::uint32_t value) override { exits.push_back(value); }
  void report_panic(std::string_view why) override { panics.emplace_back(why); }

  std::vector<std::string> resets;
  std::vector<std::string> power_offs;
  std::vector<std::string> panics;
  std::vector<std::uint32_t> exits;
};

class FakeSerialBackend final : public SerialBackend {
 public:
  std::size_t transmit(std::span<const std::uint8_t> bytes) override {
    const std::size_t taken = std::min(bytes.size(), room);
    sent.append(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(taken));
    room -= taken;
    return taken;
  }
  void receive_ready() override {
    ++asked;
    if (uart) offer();
  }
  /// Gives the UART what it takes of `to_send`.
  void offer() {
    const std::string_view rest = std::string_view(to_send).substr(offered);
    offered += uart->receive({reinterpret_cast<const std::uint8_t*>(rest.data()), rest.size()});
  }

  Uart16550* uart = nullptr;
  std::size_t room = SIZE_MAX;
  std::string sent;
  std::string to_send;
  std::size_t offered = 0;
  unsigned asked = 0;
};

/// The state through its byte form into `to`, as saved state travels.
inline void transplant(const state::StateUnit& from, state::StateUnit& to) {
  const auto saved = from.save();
  const auto parsed = state::SavedUnit::parse(saved.serialize());
  ASSERT_TRUE(parsed.has_value()) << parsed.error().message();
  const auto restored = to.restore(*parsed);
  ASSERT_TRUE(restored.has_value()) << restored.error().message();
  EXPECT_EQ(to.save(), saved);
}

/// Saved state of another version, with a field missing, and with one more is refused, and changes nothing.
inline void expect_foreign_state_refused(state::StateUnit& unit) {
  const auto good = unit.save();
  state::SavedUnit of_other_version(good.version() + 1);
  EXPECT_FALSE(unit.restore(of_other_version).has_value());
  state::SavedUnit with_more = good;
  with_more.number("no_such_field", 1);
  EXPECT_FALSE(unit.restore(with_more).has_value());
  for (const auto& [missing, value] : good.fields()) {
    state::SavedUnit without(good.version());
    for (const auto& [name, kept] : good.fields()) {
      if (name == missing) continue;
      if (const auto* number = std::get_if<std::uint64_t>(&kept)) without.number(name, *number);
      if (const auto* bytes = std::get_if<state::SavedBytes>(&kept)) without.bytes(name, *bytes);
      if (const auto* list = std::get_if<state::SavedList>(&kept)) without.list(name, *list);
    }
    EXPECT_FALSE(unit.restore(without).has_value()) << "without " << missing;
  }
  EXPECT_EQ(unit.save(), good);
}

}  // namespace bulkhead::vdev
