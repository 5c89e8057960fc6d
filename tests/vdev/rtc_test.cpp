// SPDX-License-Identifier: Apache-2.0
#include "vdev/rtc.hpp"

#include "tests/vdev/fakes.hpp"

namespace bulkhead::vdev {
namespace {

using namespace std::chrono_literals;

constexpr std::int64_t kMoment = 1'709'164'799;  // Wednesday, 2024-02-28 23:59:59 UTC
constexpr std::uint64_t kGib = 1ull << 30;

class RtcTest : public ::testing::Test {
 protected:
  RtcTest() { rtc_.start(); }
  std::uint32_t in(std::uint32_t index) {
    rtc_.write_port(0x70, 1, index);
    return rtc_.read_port(0x71, 1);
  }
  void out(std::uint32_t index, std::uint32_t value) {
    rtc_.write_port(0x70, 1, index);
    rtc_.write_port(0x71, 1, value);
  }
  void expect_date(std::vector<std::uint32_t> century_to_second) {
    std::vector<std::uint32_t> read;
    for (std::uint32_t index : {0x32, 9, 8, 7, 4, 2, 0}) read.push_back(in(index));
    EXPECT_EQ(read, century_to_second);
  }

  FakeClock clock_;
  FakeWallClock wall_clock_{clock_, kMoment};
  FakeLine line_;
  Rtc rtc_{line_, clock_, wall_clock_, {3 * kGib, kGib}};
};

TEST_F(RtcTest, ShowsTheHostsTimeInBcd) {
  expect_date({0x20, 0x24, 0x02, 0x28, 0x23, 0x59, 0x59});
  EXPECT_EQ(in(6), 4u);  // Wednesday; Sunday is 1
  clock_.advance(1s);
  expect_date({0x20, 0x24, 0x02, 0x29, 0x00, 0x00, 0x00});
  EXPECT_EQ(in(13), 0x80u);
}

TEST_F(RtcTest, BinaryAndTwelveHours) {
  out(11, 0x06);
  expect_date({20, 24, 2, 28, 23, 59, 59});
  out(11, 0x04);
  EXPECT_EQ(in(4), 0x80u | 11);
  clock_.advance(1s);
  EXPECT_EQ(in(4), 12u);  // midnight
  out(11, 0x00);
  clock_.advance(12h);
  EXPECT_EQ(in(4), 0x80u | 0x12);  // noon
}

TEST_F(RtcTest, UpdateIsInProgressAtTheEndOfASecond) {
  EXPECT_EQ(in(10) & 0x80, 0u);
  clock_.advance(999'900us);
  EXPECT_EQ(in(10) & 0x80, 0x80u);
  clock_.advance(200us);
  EXPECT_EQ(in(10) & 0x80, 0u);
}

// mc146818_set_time of Linux; the next second begins half a second after the divider is released.
TEST_F(RtcTest, LinuxSetsTheTime) {
  const std::uint32_t control = in(11);
  out(11, control | 0x80);
  const std::uint32_t frequency = in(10);
  out(10, frequency | 0x70);
  const std::pair<std::uint32_t, std::uint32_t> values[] = {{9, 0x99}, {8, 0x12}, {7, 0x31},   {4, 0x23},
                                                            {2, 0x59}, {0, 0x58}, {0x32, 0x19}};
  for (const auto& [index, value] : values) out(index, value);
  clock_.advance(5s);  // time stands still meanwhile
  out(11, control);
  out(10, frequency);
  expect_date({0x19, 0x99, 0x12, 0x31, 0x23, 0x59, 0x58});
  clock_.advance(600ms);
  EXPECT_EQ(in(0), 0x59u);
  clock_.advance(1s);
  expect_date({0x20, 0x00, 0x01, 0x01, 0x00, 0x00, 0x00});
}

TEST_F(RtcTest, ADateThatIsNoneBecomesOne) {
  for (std::uint32_t value : {0xffu, 0x00u, 0x7fu}) {
    out(11, 0x82);
    for (std::uint32_t index : {0, 2, 4, 6, 7, 8, 9, 0x32}) out(index, value);
    out(11, 0x02);
    in(0);
    out(11, 0x06);
    in(0);
    EXPECT_GE(in(8), 1u);
    EXPECT_LE(in(8), 12u);
    EXPECT_LE(in(4), 23u);
  }
}

TEST_F(RtcTest, PeriodicInterruptAtItsRate) {
  out(10, 0x26);  // 1024 Hz
  out(11, 0x42);
  unsigned interrupts = 0;
  for (int i = 0; i < 10'000; ++i) {
    clock_.advance(100us);
    if (line_.high()) {
      EXPECT_EQ(in(12) & 0xc0, 0xc0u);
      EXPECT_FALSE(line_.high());
      ++interrupts;
    }
  }
  EXPECT_NEAR(interrupts, 1024, 2);
}

// An interrupt controller in edge mode would wait for ever.
TEST_F(RtcTest, TheLineFallsWhenItsFlagsAreReadEvenIfTheNextPeriodHasEndedMeanwhile) {
  out(10, 0x26);  // 1024 Hz
  out(11, 0x42);
  clock_.advance(2ms);
  ASSERT_TRUE(line_.high());
  const unsigned rises = line_.rises();
  clock_.let_time_pass_between_looks(1ms);
  EXPECT_EQ(in(12) & 0xc0, 0xc0u);
  EXPECT_TRUE(line_.high());
  EXPECT_EQ(line_.rises(), rises + 1);
}

TEST_F(RtcTest, UnreadPeriodicInterruptsDoNotPileUp) {
  out(10, 0x23);  // 8192 Hz
  out(11, 0x42);
  clock_.advance(10s);
  EXPECT_LE(clock_.fired(), 2u);
  EXPECT_EQ(line_.rises(), 1u);
}

TEST_F(RtcTest, AlarmAtItsTimeAndWithAnything) {
  out(1, 0x05);
  out(3, 0x00);
  out(5, 0x00);
  out(11, 0x22);
  clock_.advance(5s);
  EXPECT_FALSE(line_.high());
  clock_.advance(1s);
  EXPECT_TRUE(line_.high());
  EXPECT_EQ(in(12) & 0xb0, 0xb0u);  // alarm, and an update has ended as well
  out(5, 0xff);
  out(3, 0xc0);
  clock_.advance(1min);
  EXPECT_TRUE(line_.high());
  in(12);
  out(1, 0x77);  // a second that never comes
  clock_.advance(48h);
  EXPECT_FALSE(line_.high());
}

TEST_F(RtcTest, UpdateEndedInterruptEachSecond) {
  out(11, 0x12);
  for (int i = 0; i < 3; ++i) {
    clock_.advance(1s);
    EXPECT_TRUE(line_.high());
    EXPECT_EQ(in(12) & 0x90, 0x90u);
  }
}

TEST_F(RtcTest, FlagsAreSetWithoutInterrupts) {
  clock_.advance(1100ms);
  EXPECT_EQ(in(12) & 0x90, 0x10u);
  EXPECT_EQ(in(12), 0u);
}

TEST_F(RtcTest, KnowsTheMemoryAndKeepsItsOwn) {
  EXPECT_EQ(in(0x15) | in(0x16) << 8, 640u);
  EXPECT_EQ(in(0x34) | in(0x35) << 8, (3 * kGib - (16u << 20)) >> 16);
  EXPECT_EQ(in(0x5b) | in(0x5c) << 8 | in(0x5d) << 16, kGib >> 16);
  out(0x7f, 0x5a);
  rtc_.reset();
  EXPECT_EQ(in(0xff), 0x5au);  // bit 7 of the index is the NMI mask
}

TEST_F(RtcTest, ResetStopsInterruptsAndKeepsTheTime) {
  out(11, 0x12);
  clock_.advance(1s);
  EXPECT_TRUE(line_.high());
  rtc_.reset();
  EXPECT_FALSE(line_.high());
  expect_date({0x20, 0x24, 0x02, 0x29, 0x00, 0x00, 0x00});
}

TEST_F(RtcTest, GoesOnInAnotherInstanceWithTheTimeOfItsHost) {
  out(11, 0x92);
  out(4, 0x12);
  out(11, 0x12);
  rtc_.stop();
  FakeClock clock;
  FakeWallClock wall_clock(clock, kMoment + 3600);  // saved for an hour
  FakeLine line;
  Rtc other(line, clock, wall_clock, {});
  transplant(rtc_, other);
  other.start();
  other.write_port(0x70, 1, 4);
  EXPECT_EQ(other.read_port(0x71, 1), 0x13u);
  clock.advance(1s);
  EXPECT_TRUE(line.high());
  expect_foreign_state_refused(other);
}

TEST_F(RtcTest, AnyGuestInput) {
  std::uint32_t random = 7;
  for (int i = 0; i < 100'000; ++i) {
    random = random * 1664525 + 1013904223;
    const std::uint32_t index = random >> 8 & ((random & 1) ? 0x0f : 0x7f);
    if (random & 0x80) {
      in(index);
    } else {
      out(index, random >> 16 & 0xff);
    }
    if (random % 32 == 0) clock_.advance(Nanoseconds(random >> 4));
    if (random % 1024 == 0) wall_clock_.jump(Nanoseconds(std::int64_t{random} * 1000 - 2'000'000'000'000));
  }
}

}  // namespace
}  // namespace bulkhead::vdev
