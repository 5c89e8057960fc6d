// SPDX-License-Identifier: Apache-2.0
#include "vdev/pic.hpp"

#include "tests/vdev/fakes.hpp"

namespace bulkhead::vdev {
namespace {

class PicTest : public ::testing::Test {
 protected:
  std::uint32_t in(std::uint16_t port) { return pic_.read_port(port, 1); }
  void out(std::uint16_t port, std::uint32_t value) { pic_.write_port(port, 1, value); }
  /// As Linux' init_8259A: vectors 30h and 38h, then all unmasked.
  void initialize(std::uint8_t word4 = 0x01) {
    out(0x20, 0x11);
    out(0x21, 0x30);
    out(0x21, 0x04);
    out(0x21, word4);
    out(0xa0, 0x11);
    out(0xa1, 0x38);
    out(0xa1, 0x02);
    out(0xa1, 0x01);
    out(0x21, 0);
    out(0xa1, 0);
  }
  void pulse(unsigned irq) {
    pic_.set_input(irq, true);
    pic_.set_input(irq, false);
  }

  FakeLine output_;
  Pic pic_{output_};
};

TEST_F(PicTest, LinuxFindsIt) {
  out(0xa1, 0xff);
  out(0x21, 0xfb);
  EXPECT_EQ(in(0x21), 0xfbu);
}

TEST_F(PicTest, IsSilentBeforeItIsInitialized) {
  pulse(0);
  EXPECT_FALSE(output_.high());
}

TEST_F(PicTest, DeliversInOrderOfPriority) {
  initialize();
  pulse(4);
  pulse(0);
  pulse(12);
  EXPECT_TRUE(output_.high());
  EXPECT_EQ(pic_.acknowledge(), 0x30);
  EXPECT_FALSE(output_.high());  // 4 and 12 rank lower than what is in service
  out(0x20, 0x20);
  EXPECT_EQ(pic_.acknowledge(), 0x3c);
  out(0xa0, 0x64);
  out(0x20, 0x62);
  EXPECT_EQ(pic_.acknowledge(), 0x34);
  out(0x20, 0x64);
  EXPECT_FALSE(output_.high());
}

TEST_F(PicTest, AMaskedRequestWaits) {
  initialize();
  out(0x21, 0x10);
  pulse(4);
  EXPECT_FALSE(output_.high());
  EXPECT_EQ(in(0x20), 0x10u);  // IRR
  out(0x21, 0x00);
  EXPECT_EQ(pic_.acknowledge(), 0x34);
}

TEST_F(PicTest, ARequestThatWentAwayIsSpurious) {
  initialize();
  pulse(3);
  out(0x21, 0x08);
  EXPECT_FALSE(output_.high());
  EXPECT_EQ(pic_.acknowledge(), 0x37);
  out(0x20, 0x0b);
  EXPECT_EQ(in(0x20), 0u);  // ISR bit 7 is not set: that is how software tells
}

TEST_F(PicTest, ASlavesLevelThatFallsGivesNothingToAcknowledge) {
  initialize();
  out(0x4d1, 0x08);
  pic_.set_input(11, true);
  EXPECT_TRUE(output_.high());
  pic_.set_input(11, false);
  EXPECT_FALSE(output_.high());
}

TEST_F(PicTest, ALevelIsDeliveredUntilItFalls) {
  initialize();
  out(0x4d1, 0x08);
  pic_.set_input(11, true);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(pic_.acknowledge(), 0x3b);
    out(0xa0, 0x63);
    out(0x20, 0x62);
  }
  pic_.set_input(11, false);
  EXPECT_FALSE(output_.high());
}

TEST_F(PicTest, AnEdgeIsDeliveredOnce) {
  initialize();
  pic_.set_input(4, true);
  EXPECT_EQ(pic_.acknowledge(), 0x34);
  out(0x20, 0x20);
  EXPECT_FALSE(output_.high());
}

TEST_F(PicTest, EdgeLevelRegistersKeepTheFixedInputs) {
  out(0x4d0, 0xff);
  out(0x4d1, 0xff);
  EXPECT_EQ(in(0x4d0), 0xf8u);
  EXPECT_EQ(in(0x4d1), 0xdeu);
}

TEST_F(PicTest, AutomaticEndLeavesNothingInService) {
  initialize(0x03);
  pulse(1);
  pulse(1);
  EXPECT_EQ(pic_.acknowledge(), 0x31);
  pulse(1);
  EXPECT_EQ(pic_.acknowledge(), 0x31);
  out(0x20, 0x0b);
  EXPECT_EQ(in(0x20), 0u);
}

TEST_F(PicTest, RotatingEndMakesTheServedOneLast) {
  initialize();
  pulse(3);
  EXPECT_EQ(pic_.acknowledge(), 0x33);
  out(0x20, 0xa0);
  pulse(3);
  pulse(4);
  pulse(0);
  EXPECT_EQ(pic_.acknowledge(), 0x34);  // 4 is now first, then 5, 6, 7, 0, ... 3
  out(0x20, 0x20);
  EXPECT_EQ(pic_.acknowledge(), 0x30);
  out(0x20, 0x20);
  EXPECT_EQ(pic_.acknowledge(), 0x33);
}

TEST_F(PicTest, SetPriorityCommand) {
  initialize();
  out(0x20, 0xc0 | 4);  // 5 is first
  pulse(1);
  pulse(5);
  EXPECT_EQ(pic_.acknowledge(), 0x35);
}

TEST_F(PicTest, SpecialMaskLetsLowerOnesThrough) {
  initialize();
  pulse(1);
  EXPECT_EQ(pic_.acknowledge(), 0x31);
  pulse(6);
  EXPECT_FALSE(output_.high());
  out(0x21, 0x02);
  out(0x20, 0x68);
  EXPECT_EQ(pic_.acknowledge(), 0x36);
  out(0x20, 0x48);
}

TEST_F(PicTest, SpecialFullyNestedSlaveInterruptsItself) {
  initialize(0x11);
  pulse(12);
  EXPECT_EQ(pic_.acknowledge(), 0x3c);
  pulse(9);
  EXPECT_EQ(pic_.acknowledge(), 0x39);
}

TEST_F(PicTest, PollAcknowledges) {
  initialize();
  out(0x20, 0x0c);
  EXPECT_EQ(in(0x20) & 0x80, 0u);
  pulse(5);
  out(0x20, 0x0c);
  EXPECT_EQ(in(0x20), 0x85u);
  EXPECT_FALSE(output_.high());
  out(0x20, 0x0b);
  EXPECT_EQ(in(0x20), 0x20u);
}

TEST_F(PicTest, InitializationForgetsMaskAndService) {
  initialize();
  pulse(2);  // the cascade is no input
  EXPECT_FALSE(output_.high());
  pulse(1);
  pic_.acknowledge();
  out(0x21, 0xff);
  initialize();
  out(0x20, 0x0b);
  EXPECT_EQ(in(0x20), 0u);
  EXPECT_EQ(in(0x21), 0u);
}

TEST_F(PicTest, GoesOnInAnotherInstance) {
  initialize();
  out(0x4d1, 0x02);
  pic_.set_input(9, true);
  pulse(1);
  EXPECT_EQ(pic_.acknowledge(), 0x31);
  FakeLine output;
  Pic other(output);
  transplant(pic_, other);
  EXPECT_FALSE(output.high());
  other.write_port(0x20, 1, 0x20);
  EXPECT_TRUE(output.high());
  EXPECT_EQ(other.acknowledge(), 0x39);
  other.set_input(9, false);
  other.reset();
  EXPECT_FALSE(output.high());
  expect_foreign_state_refused(other);
}

}  // namespace
}  // namespace bulkhead::vdev
