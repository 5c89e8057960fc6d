// SPDX-License-Identifier: Apache-2.0
//
// A guest that is saved at any moment and restored in a new partition goes on there and is none the wiser.
#include <chrono>
#include <thread>

#include "tests/engine/conformance/conformance.hpp"

namespace bulkhead::engine {
namespace {

using abi::RegisterName;

class SavedState : public EngineTest {
 protected:
  void SetUp() override {
    EngineTest::SetUp();
    if (IsSkipped()) return;
    ASSERT_TRUE(engine_->capabilities().saved_state);
  }

  /// Runs until the guest says `word`, and stops it there.
  void run_until(GuestMachine& machine, std::uint32_t word) {
    machine.on_port_write = [&machine, word](const PortExit& exit) {
      if (exit.data == word) machine.vp().cancel();
    };
    const auto exit = machine.run();
    ASSERT_TRUE(exit.has_value()) << exit.error().message();
    ASSERT_TRUE(std::holds_alternative<CancelledExit>(*exit)) << exit->index();
    machine.on_port_write = [](const PortExit&) {};
  }
  /// Runs the guest into its HLT.
  void run_until_halted(GuestMachine& machine) {
    constexpr std::uint64_t kHalted = 2;
    while ((register_number(machine.vp(), RegisterName::InternalActivityState) & kHalted) == 0) {
      std::jthread canceller([&machine] {
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
        machine.vp().cancel();
      });
      const auto exit = machine.run();
      ASSERT_TRUE(exit.has_value()) << exit.error().message();
      ASSERT_TRUE(std::holds_alternative<CancelledExit>(*exit)) << exit->index();
    }
  }
};
INSTANTIATE_TEST_SUITE_P(Engines, SavedState, every_engine(), engine_name);

TEST_P(SavedState, RegistersTimersAndTimeGoOnInANewPartition) {
  const auto machine = make();
  machine->start_long_mode(guests::survivor_guest());
  machine->set_gate(0x50, kCode + 1024);
  run_until(*machine, 1);
  const auto moved = machine->move(*engine_);
  ASSERT_NE(moved, nullptr);
  moved->run_to_the_end();

  EXPECT_EQ(moved->read<std::uint64_t>(0x100100) & 0x201, 1u) << "carry, and interrupts off";
  EXPECT_EQ(moved->read<std::uint64_t>(0x100108), 0x8888888888888888u);
  EXPECT_EQ(moved->read<std::uint64_t>(0x100110), 0xffffffffffffffffu);
  EXPECT_EQ(moved->read<std::uint64_t>(0x100118), 0x777u);
  EXPECT_EQ(moved->read<std::uint64_t>(0x100120), 0x1234567u) << "debug register";
  EXPECT_EQ(moved->read<std::uint64_t>(0x100128), 0x1234567u) << "CR2";
  EXPECT_EQ(moved->read<double>(0x100130), 3.141592653589793) << "x87";
  EXPECT_EQ(moved->read<std::uint64_t>(0x100148), 0x0123456789abcdefu) << "XMM9";
  EXPECT_EQ(moved->read<std::uint64_t>(0x100160), 0x112233445566u);
  EXPECT_EQ(moved->read<std::uint64_t>(0x100168), 0x112233445566u);
  EXPECT_EQ(moved->read<std::uint32_t>(0x100170), 0x30u) << "task priority";
  EXPECT_EQ(moved->read<std::uint32_t>(0x100174) & ~0x1000u, 0x20050u);
  EXPECT_EQ(moved->read<std::uint32_t>(0x100178), 5000000u);
  EXPECT_GE(moved->read<std::uint64_t>(0x100180), moved->read<std::uint64_t>(0x100000)) << "reference time";
  EXPECT_GE(moved->read<std::uint64_t>(0x100188), moved->read<std::uint64_t>(0x100008)) << "time stamp counter";
}

TEST_P(SavedState, IsTheSameAfterTimeInWhichTimeStood) {
  const auto machine = make();
  machine->start_long_mode(guests::survivor_guest());
  machine->set_gate(0x50, kCode + 1024);
  run_until(*machine, 1);
  ASSERT_TRUE(machine->partition().freeze_time().has_value());
  const auto before = machine->partition().save();
  const auto vp_before = machine->vp().save();
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  const auto after = machine->partition().save();
  const auto vp_after = machine->vp().save();
  ASSERT_TRUE(before && after && vp_before && vp_after);
  EXPECT_TRUE(*before == *after);
  EXPECT_TRUE(*vp_before == *vp_after);
  ASSERT_TRUE(machine->partition().thaw_time().has_value());
  machine->run_to_the_end();
}

TEST_P(SavedState, IsTakenAtAnyMomentWithoutTheGuestsNoticing) {
  auto machine = make();
  machine->start_long_mode(guests::traveller_guest());
  machine->set_gate(0x50, kCode + 1024);
  Words said;  // on all its machines
  bool done = false;
  for (int journey = 0; journey < 12; ++journey) {
    std::jthread canceller([&machine, journey] {
      std::this_thread::sleep_for(std::chrono::microseconds(900 * (1 + journey % 4)));
      machine->vp().cancel();
    });
    const auto exit = machine->run();
    canceller.join();
    ASSERT_TRUE(exit.has_value()) << exit.error().message();
    const auto words = machine->words();
    said.insert(said.end(), words.begin(), words.end());
    done = std::holds_alternative<PortExit>(*exit);
    if (done) break;  // it was quicker
    ASSERT_TRUE(std::holds_alternative<CancelledExit>(*exit)) << exit->index();
    machine = machine->move(*engine_);
    ASSERT_NE(machine, nullptr);
  }
  if (!done) {
    machine->run_to_the_end();
    const auto words = machine->words();
    said.insert(said.end(), words.begin(), words.end());
  }
  EXPECT_EQ(said, (Words{1}));
}

TEST_P(SavedState, OfAHaltedProcessorIsHalted) {
  const auto machine = make();
  machine->start_long_mode(guests::interrupts_guest());
  machine->set_gate(0x60, kCode + 64);
  run_until_halted(*machine);
  const auto moved = machine->move(*engine_);
  ASSERT_NE(moved, nullptr);
  EXPECT_EQ(register_number(moved->vp(), RegisterName::InternalActivityState) & 2, 2u);
  moved->partition().send_interrupt(fixed(0x60));
  run_until(*moved, 0x22);
  EXPECT_EQ(moved->words(), (Words{0x21, 0x22}));
}

TEST_P(SavedState, HoldsInterruptsThatWait) {
  const auto machine = make();
  machine->start_long_mode(guests::interrupts_guest());
  machine->set_gate(0x60, kCode + 64);
  run_until(*machine, 0x11);
  machine->partition().send_interrupt(fixed(0x60));
  const auto moved = machine->move(*engine_);
  ASSERT_NE(moved, nullptr);
  run_until(*moved, 0x22);
  EXPECT_EQ(moved->words(), (Words{0x21, 0x22}));
}

TEST_P(SavedState, HoldsANmiThatWaits) {
  const auto machine = make();
  machine->start_long_mode(guests::interrupts_guest());
  machine->set_gate(2, kCode + 192);
  run_until(*machine, 0x11);
  machine->partition().send_interrupt(nmi());
  const auto moved = machine->move(*engine_);
  ASSERT_NE(moved, nullptr);
  run_until(*moved, 0x41);
  EXPECT_EQ(moved->words(), (Words{0x41}));
}

TEST_P(SavedState, HoldsThePicsInterruptThatWasInjected) {
  const auto machine = make();
  machine->start_long_mode(guests::window_guest());
  machine->set_gate(0x70, kCode + 128);
  machine->on_port_write = [&](const PortExit& exit) {
    if (exit.data == 0x11) machine->vp().request_interrupt_window(true);
  };
  const auto window = machine->run();
  ASSERT_TRUE(window.has_value()) << window.error().message();
  ASSERT_TRUE(std::holds_alternative<InterruptWindowExit>(*window)) << window->index();
  ASSERT_TRUE(machine->vp().inject_external_interrupt(0x70).has_value());
  const auto moved = machine->move(*engine_);
  ASSERT_NE(moved, nullptr);
  moved->run_to_the_end();
  EXPECT_EQ(moved->words(), (Words{0x31, 0x13}));
}

TEST_P(SavedState, ALevelTriggeredInterruptEndsInTheNewPartition) {
  const auto machine = make();
  machine->start_long_mode(guests::interrupts_guest());
  machine->set_gate(0x61, kCode + 64);
  const abi::InterruptMessage message = level(0x61);
  machine->partition().set_level_messages(std::span(&message, 1));
  machine->on_port_write = [&](const PortExit& exit) {
    if (exit.data == 0x11) machine->partition().send_interrupt(message);
    if (exit.data == 0x21) machine->vp().cancel();  // in service now
  };
  const auto stopped = machine->run();
  ASSERT_TRUE(stopped.has_value()) << stopped.error().message();
  ASSERT_TRUE(std::holds_alternative<CancelledExit>(*stopped)) << stopped->index();
  const auto moved = machine->move(*engine_);
  ASSERT_NE(moved, nullptr);
  moved->partition().set_level_messages(std::span(&message, 1));
  const auto exit = moved->run();
  ASSERT_TRUE(exit.has_value()) << exit.error().message();
  ASSERT_TRUE(std::holds_alternative<EoiExit>(*exit)) << exit->index();
  EXPECT_EQ(std::get<EoiExit>(*exit).vector, 0x61);
}

TEST_P(SavedState, OfAProcessorThatWaitsForItsStart) {
  const auto machine = make({.vp_count = 2});
  machine->start_long_mode(guests::start_second_guest());
  machine->write(kSecondCode, guests::second_guest());
  const auto moved = machine->move(*engine_);
  ASSERT_NE(moved, nullptr);
  {
    std::jthread runner([&] { (void)moved->vp(1).run(); });
    moved->run_to_the_end();
    moved->vp(1).cancel();
  }
  EXPECT_EQ(moved->words(), (Words{0x77}));
}

TEST_P(SavedState, TheMachineItWasTakenFromGoesOnToo) {
  const auto machine = make();
  machine->start_long_mode(guests::survivor_guest());
  machine->set_gate(0x50, kCode + 1024);
  run_until(*machine, 1);
  ASSERT_NE(machine->move(*engine_), nullptr);
  machine->run_to_the_end();
  EXPECT_EQ(machine->read<std::uint64_t>(0x100118), 0x777u);
}

TEST_P(SavedState, WithSynicsKeepsPagesAndInterruptSources) {
  if (!engine_->capabilities().synic) GTEST_SKIP() << "no SynICs here";
  const auto machine = make({.synic = true});
  machine->start_long_mode(guests::message_taker_guest());
  machine->set_gate(0x52, kCode + 256);
  run_until(*machine, 0x11);
  const auto moved = machine->move(*engine_);
  ASSERT_NE(moved, nullptr);
  abi::SynicMessage message = {};
  message.type = abi::SynicMessageType::VmbusChannel;
  message.payload_size = 4;
  message.payload[0] = 0x99;
  ASSERT_EQ(moved->partition().post_message(abi::VpIndex{0}, abi::Sint{2}, message), SynicStatus::Delivered);
  run_until(*moved, 0);
  EXPECT_EQ(moved->words(), (Words{0x99, 0}));
}

TEST_P(SavedState, IsTakenOnlyWhileTimeStands) {
  const auto machine = make();
  EXPECT_FALSE(machine->partition().save().has_value());
  EXPECT_FALSE(machine->vp().save().has_value());
  EXPECT_FALSE(machine->vp().restore(state::SavedUnit(1)).has_value());
}

TEST_P(SavedState, OfAnotherMachineIsRefusedWithAReason) {
  const auto machine = make({.vp_count = 2});
  ASSERT_TRUE(machine->partition().freeze_time().has_value());
  const auto vp = machine->vp(0).save();
  const auto partition = machine->partition().save();
  ASSERT_TRUE(vp.has_value() && partition.has_value());

  EXPECT_FALSE(machine->vp(1).restore(*vp).has_value()) << "another processor's";
  const auto small = make();
  ASSERT_TRUE(small->partition().freeze_time().has_value());
  EXPECT_FALSE(small->partition().restore(*partition).has_value()) << "another number of processors";
  const auto other = small->vp().restore(*vp);
  ASSERT_FALSE(other.has_value()) << "another topology";
  EXPECT_NE(other.error().message().find("CPUID"), std::string::npos) << other.error().message();
}

TEST_P(SavedState, ThatIsDamagedIsRefused) {
  const auto machine = make();
  ASSERT_TRUE(machine->partition().freeze_time().has_value());
  const auto saved = machine->vp().save();
  ASSERT_TRUE(saved.has_value());
  for (const auto& [left_out, value] : saved->fields()) {
    state::SavedUnit damaged(saved->version());
    for (const auto& [name, field] : saved->fields()) {
      if (name == left_out) continue;
      if (const auto* number = std::get_if<std::uint64_t>(&field)) damaged.number(name, *number);
      if (const auto* bytes = std::get_if<state::SavedBytes>(&field)) damaged.bytes(name, *bytes);
      if (const auto* list = std::get_if<state::SavedList>(&field)) damaged.list(name, *list);
    }
    EXPECT_FALSE(machine->vp().restore(damaged).has_value()) << left_out;
  }
  EXPECT_FALSE(machine->vp().restore(state::SavedUnit(99)).has_value());
}

}  // namespace
}  // namespace bulkhead::engine
