// SPDX-License-Identifier: Apache-2.0
#include "worker/motherboard.hpp"

#include <gtest/gtest.h>

#include "engine/fake/fake_engine.hpp"

namespace bulkhead::worker {
namespace {

class QuietMachine final : public vdev::MachineControl {
 public:
  void request_reset(std::string_view why) override { last = "reset: " + std::string(why); }
  void request_power_off(std::string_view why) override { last = "power off: " + std::string(why); }
  void request_exit(std::uint32_t value) override { last = "exit: " + std::to_string(value); }
  void report_panic(std::string_view) override { last = "panic"; }
  std::string last;
};

class MotherboardTest : public testing::Test {
 protected:
  MotherboardTest() {
    board_ = *Motherboard::create(event_loop_, lock_, machine_, {.memory = {}, .debug_exit = true});
    board_->interrupts().connect(*partition_, *vp_);
    board_->units().start();
  }

  void write(std::uint16_t port, std::uint32_t value, unsigned size = 1) { board_->ports().write(port, size, value); }
  void write_ioapic(std::uint32_t index, std::uint32_t value) {
    board_->mmio().write(0xfec00000, 4, index);
    board_->mmio().write(0xfec00010, 4, value);
  }
  /// Both PICs at vectors 0x20 and 0x28 with all inputs open.
  void initialize_pic() {
    for (const std::uint16_t base : {0x20, 0xa0}) {
      write(base, 0x11);
      write(base + 1, base == 0x20 ? 0x20 : 0x28);
      write(base + 1, base == 0x20 ? 4 : 2);
      write(base + 1, 1);
      write(base + 1, 0);
    }
  }
  /// COM1 asks for an interrupt because its transmitter is empty.
  void raise_com1() {
    write(0x3fc, 8);  // OUT2
    write(0x3f9, 2);
  }

  boost::asio::io_context event_loop_;
  std::mutex lock_;
  QuietMachine machine_;
  std::shared_ptr<engine::FakeGuest> guest_ = std::make_shared<engine::FakeGuest>();
  engine::FakeEngine engine_{guest_};
  std::unique_ptr<engine::Partition> partition_ = *engine_.create_partition({});
  std::unique_ptr<engine::VirtualProcessor> vp_ = *partition_->create_vp(0);
  std::unique_ptr<Motherboard> board_;
};

TEST_F(MotherboardTest, ADeviceInterruptsTheProcessorThroughThePic) {
  initialize_pic();
  EXPECT_FALSE(guest_->vp(0).window_wanted());
  raise_com1();
  EXPECT_TRUE(guest_->vp(0).window_wanted());

  ASSERT_TRUE(board_->interrupts().open_window(*vp_, board_->pic()));
  EXPECT_EQ(guest_->vp(0).external_interrupts(), (std::vector<std::uint8_t>{0x24}));
}

TEST_F(MotherboardTest, AnInterruptThatWasTakenBackIsNotInjected) {
  initialize_pic();
  raise_com1();
  write(0x21, 0xff);
  EXPECT_FALSE(guest_->vp(0).window_wanted());
  ASSERT_TRUE(board_->interrupts().open_window(*vp_, board_->pic()));
  EXPECT_TRUE(guest_->vp(0).external_interrupts().empty());
}

TEST_F(MotherboardTest, ADeviceInterruptsTheProcessorThroughTheIoapic) {
  write_ioapic(0x10 + 2 * 4 + 1, 0);
  write_ioapic(0x10 + 2 * 4, 0x34);
  raise_com1();
  ASSERT_EQ(guest_->interrupts().size(), 1u);
  EXPECT_EQ(guest_->interrupts()[0].vector(), 0x34);
}

TEST_F(MotherboardTest, ALevelTriggeredInterruptComesAgainUntilItsLineFalls) {
  write_ioapic(0x10 + 2 * 9 + 1, 0);
  write_ioapic(0x10 + 2 * 9, 0x8059);
  EXPECT_EQ(guest_->level_messages().size(), 1u);
  write(0x602, 0x100, 2);  // power button enabled
  board_->power_management().press_power_button();
  EXPECT_EQ(guest_->interrupts().size(), 1u);
  board_->ioapic().end_of_interrupt(0x59);
  EXPECT_EQ(guest_->interrupts().size(), 2u);
  write(0x600, 0x100, 2);  // power button seen
  board_->ioapic().end_of_interrupt(0x59);
  EXPECT_EQ(guest_->interrupts().size(), 2u);
}

TEST_F(MotherboardTest, WithoutAPartitionInterruptsGoNowhere) {
  board_->interrupts().disconnect();
  initialize_pic();
  raise_com1();
  EXPECT_FALSE(guest_->vp(0).window_wanted());
}

TEST_F(MotherboardTest, TheGuestCanEndItsMachineInEachWay) {
  write(0x64, 0xfe);
  EXPECT_TRUE(machine_.last.starts_with("reset")) << machine_.last;
  machine_.last.clear();
  write(0xcf9, 6);
  EXPECT_TRUE(machine_.last.starts_with("reset")) << machine_.last;
  write(0x604, 0x2000 | 5 << 10, 2);
  EXPECT_TRUE(machine_.last.starts_with("power off")) << machine_.last;
  write(0x501, 3);
  EXPECT_EQ(machine_.last, "exit: 7");
  EXPECT_EQ(board_->ports().read(0x505, 1), 3u);
  write(0x505, 1);
  EXPECT_EQ(machine_.last, "panic");
}

TEST_F(MotherboardTest, ACrashThatTheGuestHandlesItselfIsNoPanic) {
  write(0x505, 2);
  EXPECT_EQ(machine_.last, "");
}

TEST_F(MotherboardTest, TheDebugExitPortIsThereOnlyIfAskedFor) {
  auto board = *Motherboard::create(event_loop_, lock_, machine_, {});
  board->ports().write(0x501, 1, 3);
  EXPECT_EQ(machine_.last, "");
}

TEST_F(MotherboardTest, AllUnitsGoOnInAnotherMotherboard) {
  initialize_pic();
  raise_com1();
  write(0x43, 0x34);
  write(0x40, 0x12);
  board_->units().stop();
  const auto saved = board_->units().save();

  auto other = *Motherboard::create(event_loop_, lock_, machine_, {.memory = {}, .debug_exit = true});
  auto restored = other->units().restore(saved);
  ASSERT_TRUE(restored.has_value()) << restored.error().message();
  EXPECT_EQ(other->units().save(), saved);

  auto without_debug_exit = *Motherboard::create(event_loop_, lock_, machine_, {});
  EXPECT_FALSE(without_debug_exit->units().restore(saved).has_value());
}

}  // namespace
}  // namespace bulkhead::worker
