// SPDX-License-Identifier: Apache-2.0
#include "tests/vdev/fakes.hpp"
#include "vdev/debug_exit.hpp"
#include "vdev/isa_interrupts.hpp"
#include "vdev/post_code.hpp"
#include "vdev/reset_control.hpp"

namespace bulkhead::vdev {
namespace {

TEST(ResetControl, TheFadtsValueResets) {
  FakeMachine machine;
  ResetControl control(machine);
  control.write_port(0xcf9, 1, 0x02);  // Linux' CF9 method first chooses the kind
  EXPECT_TRUE(machine.resets.empty());
  control.write_port(0xcf9, 1, ResetControl::kFullReset);
  EXPECT_EQ(machine.resets, std::vector<std::string>{"reset control register"});
  EXPECT_EQ(control.read_port(0xcf9, 1), 0x02u);
}

TEST(ResetControl, SystemControlPortAResetsAndKeepsA20) {
  FakeMachine machine;
  ResetControl control(machine);
  control.write_port(0x92, 1, 0x00);
  EXPECT_EQ(control.read_port(0x92, 1), 0x00u);
  control.write_port(0x92, 1, 0x03);
  EXPECT_EQ(machine.resets, std::vector<std::string>{"system control port A"});
  EXPECT_EQ(control.read_port(0x92, 1), 0x02u);
}

TEST(ResetControl, GoesOnInAnotherInstance) {
  FakeMachine machine;
  ResetControl control(machine);
  control.write_port(0xcf9, 1, 0x0a);
  control.write_port(0x92, 1, 0x00);
  ResetControl other(machine);
  transplant(control, other);
  EXPECT_EQ(other.read_port(0xcf9, 1), 0x0au);
  expect_foreign_state_refused(other);
}

TEST(DebugExit, AnyWriteIsAnOddNumber) {
  FakeMachine machine;
  DebugExit exit(DebugExit::kUsualPort, machine);
  exit.write_port(0x501, 1, 0);
  exit.write_port(0x501, 4, 21);
  exit.write_port(0x501, 4, UINT32_MAX);
  EXPECT_EQ(machine.exits, (std::vector<std::uint32_t>{1, 43, UINT32_MAX}));
  expect_foreign_state_refused(exit);
}

TEST(PostCode, ShowsTheLastCode) {
  PostCode post;
  post.write_port(0x80, 1, 0x55);
  PostCode other;
  transplant(post, other);
  EXPECT_EQ(other.read_port(0x80, 1), 0x55u);
  expect_foreign_state_refused(other);
}

class Listener final : public InterruptMessageSink, public LevelMessageListener {
 public:
  void send(InterruptMessage message) override { sent.push_back(message); }
  void set_level_messages(std::span<const InterruptMessage>) override {}
  std::vector<InterruptMessage> sent;
};

TEST(IsaInterrupts, GoToBothControllersAndTheTimerToInput2) {
  FakeLine output;
  Listener listener;
  Pic pic(output);
  IoApic ioapic(listener, listener);
  IsaInterrupts lines(pic, ioapic);
  for (const auto& [port, value] : {std::pair{0x20, 0x11}, {0x21, 0x30}, {0x21, 4}, {0x21, 1}, {0x21, 0}}) {
    pic.write_port(static_cast<std::uint16_t>(port), 1, static_cast<std::uint32_t>(value));
  }
  ioapic.write_mmio(0, 0, 4, 0x14);
  ioapic.write_mmio(0, 0x10, 4, 0x40);  // input 2
  ioapic.write_mmio(0, 0, 4, 0x18);
  ioapic.write_mmio(0, 0x10, 4, 0x44);  // input 4
  lines.line(0).pulse();
  lines.line(4).pulse();
  ASSERT_EQ(listener.sent.size(), 2u);
  EXPECT_EQ(listener.sent[0].vector(), 0x40);
  EXPECT_EQ(listener.sent[1].vector(), 0x44);
  EXPECT_EQ(pic.acknowledge(), 0x30);
}

}  // namespace
}  // namespace bulkhead::vdev
