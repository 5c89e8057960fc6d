// SPDX-License-Identifier: Apache-2.0
#include "vdev/ioapic.hpp"

#include "tests/vdev/fakes.hpp"

namespace bulkhead::vdev {
namespace {

constexpr std::uint32_t kLevel = 1 << 15;
constexpr std::uint32_t kMasked = 1 << 16;
constexpr std::uint32_t kRemoteIrr = 1 << 14;

class Processors final : public InterruptMessageSink, public LevelMessageListener {
 public:
  void send(InterruptMessage message) override { sent.push_back(message); }
  void set_level_messages(std::span<const InterruptMessage> messages) override {
    level.assign(messages.begin(), messages.end());
    ++told;
  }
  std::vector<InterruptMessage> sent;
  std::vector<InterruptMessage> level;
  unsigned told = 0;
};

class IoApicTest : public ::testing::Test {
 protected:
  std::uint32_t read(std::uint8_t index) {
    ioapic_.write_mmio(0, 0x00, 4, index);
    return static_cast<std::uint32_t>(ioapic_.read_mmio(0, 0x10, 4));
  }
  void write(std::uint8_t index, std::uint32_t value) {
    ioapic_.write_mmio(0, 0x00, 4, index);
    ioapic_.write_mmio(0, 0x10, 4, value);
  }
  void program(unsigned input, std::uint32_t low, std::uint32_t destination = 0) {
    write(static_cast<std::uint8_t>(0x11 + 2 * input), destination << 24);
    write(static_cast<std::uint8_t>(0x10 + 2 * input), low);
  }

  Processors processors_;
  IoApic ioapic_{processors_, processors_};
};

TEST_F(IoApicTest, HasTwentyFourMaskedEntriesAndAnEndOfInterruptRegister) {
  EXPECT_EQ(read(1), 0x0017'0020u);
  for (std::uint8_t input = 0; input < 24; ++input)
    EXPECT_EQ(read(static_cast<std::uint8_t>(0x10 + 2 * input)), kMasked);
  EXPECT_EQ(read(0x40), 0u);
  write(0, 0x0f00'0000);
  EXPECT_EQ(read(0), 0x0f00'0000u);
}

TEST_F(IoApicTest, AnEdgeSendsOnceWithDestinationAndMode) {
  program(4, 0x31 | 1 << 11 | 1 << 8, 0x03);  // logical, lowest priority
  ioapic_.set_input(4, true);
  ioapic_.set_input(4, true);
  ASSERT_EQ(processors_.sent.size(), 1u);
  const InterruptMessage message = processors_.sent[0];
  EXPECT_EQ(message.vector(), 0x31);
  EXPECT_EQ(message.delivery_mode(), 1);
  EXPECT_EQ(message.destination(), 3);
  EXPECT_TRUE(message.logical_destination());
  EXPECT_FALSE(message.level_triggered());
  EXPECT_EQ(message.address >> 20, 0xfeeu);
}

TEST_F(IoApicTest, AnEdgeOnAMaskedInputIsLost) {
  program(4, 0x31 | kMasked);
  ioapic_.set_input(4, true);
  program(4, 0x31);
  EXPECT_TRUE(processors_.sent.empty());
}

TEST_F(IoApicTest, ALevelIsSentAgainAfterItsEndWhileHigh) {
  program(9, 0x41 | kLevel);
  ioapic_.set_input(9, true);
  ioapic_.set_input(9, true);
  ASSERT_EQ(processors_.sent.size(), 1u);
  EXPECT_TRUE(processors_.sent[0].level_triggered());
  EXPECT_TRUE(read(0x10 + 2 * 9) & kRemoteIrr);
  ioapic_.end_of_interrupt(0x42);
  EXPECT_EQ(processors_.sent.size(), 1u);
  ioapic_.end_of_interrupt(0x41);
  EXPECT_EQ(processors_.sent.size(), 2u);
  ioapic_.set_input(9, false);
  ioapic_.end_of_interrupt(0x41);
  EXPECT_EQ(processors_.sent.size(), 2u);
  EXPECT_FALSE(read(0x10 + 2 * 9) & kRemoteIrr);
}

TEST_F(IoApicTest, AMaskedLevelIsSentWhenUnmasked) {
  program(9, 0x41 | kLevel | kMasked);
  ioapic_.set_input(9, true);
  EXPECT_TRUE(processors_.sent.empty());
  program(9, 0x41 | kLevel);
  EXPECT_EQ(processors_.sent.size(), 1u);
}

// Linux: __eoi_ioapic_pin with version 0x20, and clear_IO_APIC_pin.
TEST_F(IoApicTest, TheEndOfInterruptRegisterEndsAsABroadcastDoes) {
  program(9, 0x41 | kLevel);
  ioapic_.set_input(9, true);
  ioapic_.set_input(9, false);
  ioapic_.write_mmio(0, 0x40, 4, 0x41);
  EXPECT_FALSE(read(0x10 + 2 * 9) & kRemoteIrr);
}

TEST_F(IoApicTest, SwitchingToEdgeDropsTheRemoteIrr) {
  program(9, 0x41 | kLevel);
  ioapic_.set_input(9, true);
  program(9, 0x41 | kMasked);
  program(9, 0x41 | kLevel | kMasked);
  EXPECT_FALSE(read(0x10 + 2 * 9) & kRemoteIrr);
}

TEST_F(IoApicTest, SoftwareCannotWriteStatusBits) {
  program(9, 0x41 | kLevel | kMasked | kRemoteIrr | 1 << 12, 0x02);
  EXPECT_EQ(read(0x10 + 2 * 9), 0x41u | kLevel | kMasked);
  EXPECT_EQ(read(0x11 + 2 * 9), 0x0200'0000u);
}

TEST_F(IoApicTest, TellsWhichMessagesNeedTheirEndReported) {
  program(9, 0x41 | kLevel);
  program(10, 0x41 | kLevel);
  program(11, 0x51 | kLevel | kMasked);
  ASSERT_EQ(processors_.level.size(), 1u);
  EXPECT_EQ(processors_.level[0].vector(), 0x41);
  // Masked while in service: the end is still awaited.
  ioapic_.set_input(9, true);
  program(10, kMasked);
  program(9, 0x41 | kLevel | kMasked);
  EXPECT_EQ(processors_.level.size(), 1u);
  ioapic_.end_of_interrupt(0x41);
  EXPECT_TRUE(processors_.level.empty());
}

TEST_F(IoApicTest, NmiIsAnEdgeWhateverItsTriggerBit) {
  program(3, 4 << 8 | kLevel);
  ioapic_.set_input(3, true);
  ASSERT_EQ(processors_.sent.size(), 1u);
  EXPECT_EQ(processors_.sent[0].delivery_mode(), 4);
  EXPECT_FALSE(read(0x10 + 2 * 3) & kRemoteIrr);
}

TEST_F(IoApicTest, OddAccessesDoNothing) {
  program(3, 0x33);
  ioapic_.write_mmio(0, 0x00, 4, 0x16);
  ioapic_.write_mmio(0, 0x10, 1, 0xff);
  ioapic_.write_mmio(0, 0xff8, 8, ~0ull);
  EXPECT_EQ(read(0x16), 0x33u);
  EXPECT_EQ(ioapic_.read_mmio(0, 0x20, 4), 0u);
  EXPECT_EQ(ioapic_.read_mmio(0, 0x11, 1), 0u);
  ioapic_.set_input(24, true);
}

TEST_F(IoApicTest, GoesOnInAnotherInstance) {
  program(9, 0x41 | kLevel, 1);
  ioapic_.set_input(9, true);
  Processors processors;
  IoApic other(processors, processors);
  transplant(ioapic_, other);
  other.start();
  EXPECT_TRUE(processors.sent.empty());
  ASSERT_EQ(processors.level.size(), 1u);
  other.end_of_interrupt(0x41);
  EXPECT_EQ(processors.sent, processors_.sent);
  expect_foreign_state_refused(other);
  other.reset();
  EXPECT_TRUE(processors.level.empty());
}

TEST_F(IoApicTest, RefusesAnEntryThatCannotBe) {
  state::SavedList entries;
  for (int i = 0; i < 24; ++i) {
    state::SavedUnit entry(1);
    entry.number("redirection", i == 5 ? kRemoteIrr : kMasked);  // remote IRR of an edge
    entries.push_back(entry);
  }
  state::SavedUnit saved(1);
  saved.number("selected_register", 0).number("identifier", 0).number("inputs", 0).list("entries", entries);
  const auto restored = ioapic_.restore(saved);
  ASSERT_FALSE(restored.has_value());
  EXPECT_EQ(restored.error().message(), "saved state of ioapic: input 5 has the entry 0x4000, which cannot be");
}

}  // namespace
}  // namespace bulkhead::vdev
