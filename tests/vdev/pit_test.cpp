// SPDX-License-Identifier: Apache-2.0
#include "vdev/pit.hpp"

#include "tests/vdev/fakes.hpp"

namespace bulkhead::vdev {
namespace {

using namespace std::chrono_literals;

constexpr Nanoseconds ticks(std::int64_t count) {
  return Nanoseconds((count * 1'000'000'000 + Pit::kFrequency - 1) / Pit::kFrequency);
}

class PitTest : public ::testing::Test {
 protected:
  PitTest() { pit_.start(); }
  std::uint32_t in(std::uint16_t port) { return pit_.read_port(port, 1); }
  void out(std::uint16_t port, std::uint32_t value) { pit_.write_port(port, 1, value); }
  void program(unsigned channel, std::uint32_t control, std::uint16_t count) {
    out(0x43, channel << 6 | 0x30 | control);
    out(static_cast<std::uint16_t>(0x40 + channel), count & 0xff);
    out(static_cast<std::uint16_t>(0x40 + channel), count >> 8);
  }
  std::uint32_t latched(unsigned channel) {
    out(0x43, channel << 6);
    return read_16(channel);
  }
  std::uint32_t read_16(unsigned channel) {
    const std::uint32_t low = in(static_cast<std::uint16_t>(0x40 + channel));
    return low | in(static_cast<std::uint16_t>(0x40 + channel)) << 8;
  }
  bool output_2() { return in(0x61) & 0x20; }

  FakeClock clock_;
  FakeLine line_;
  Pit pit_{line_, clock_};
};

TEST_F(PitTest, RateGeneratorTicksAtItsFrequency) {
  program(0, 0x04, 11932);  // 100 Hz
  clock_.advance(1s);
  EXPECT_NEAR(line_.rises(), 100, 1);
}

TEST_F(PitTest, SquareWaveTicksOncePerPeriod) {
  program(0, 0x06, 0);  // 18.2 Hz, as firmware leaves it
  clock_.advance(10s);
  EXPECT_NEAR(line_.rises(), 182, 1);
}

// Linux' pit clock event device in one-shot mode, and its shutdown.
TEST_F(PitTest, SoftwareStrobeInterruptsOnce) {
  program(0, 0x08, 1193);
  const unsigned at_start = line_.rises();  // the control word makes the output high
  clock_.advance(900us);
  EXPECT_EQ(line_.rises(), at_start);
  clock_.advance(200us);
  EXPECT_EQ(line_.rises(), at_start + 1);
  clock_.advance(1s);
  EXPECT_EQ(line_.rises(), at_start + 1);
  program(0, 0x00, 0);
  EXPECT_EQ(clock_.armed_timers(), 1u);
}

TEST_F(PitTest, InterruptOnTerminalCountStaysHigh) {
  program(0, 0x00, 1193);
  EXPECT_FALSE(line_.high());
  clock_.advance(1001us);
  EXPECT_TRUE(line_.high());
  program(0, 0x00, 1193);
  EXPECT_FALSE(line_.high());
}

TEST_F(PitTest, LatchKeepsTheCountUntilBothBytesAreRead) {
  program(0, 0x04, 1000);
  clock_.advance(ticks(101));
  out(0x43, 0x00);
  clock_.advance(ticks(50));
  out(0x43, 0x00);  // a second latch is ignored
  EXPECT_NEAR(read_16(0), 900, 1);
  EXPECT_NEAR(read_16(0), 850, 1);  // without a latch: as it runs
}

TEST_F(PitTest, ReadBackGivesStatusThenCount) {
  program(2, 0x06, 5000);
  clock_.advance(ticks(1));
  out(0x43, 0xc8);                           // count and status of channel 2
  EXPECT_EQ(in(0x42), 0x80u | 0x30 | 0x06);  // output high, both bytes, mode 3
  EXPECT_EQ(read_16(2), 5000u);
  program(2, 0x02, 5000);
  clock_.advance(ticks(1));
  out(0x43, 0xe8);
  EXPECT_EQ(in(0x42), 0x80u | 0x40 | 0x30 | 0x02);  // this mode takes the count over when its gate rises
  out(0x43, 0xe2);                                  // status of channel 0
  const std::uint32_t status = in(0x40);
  EXPECT_TRUE(status & 0x40);
}

TEST_F(PitTest, ByteFormats) {
  out(0x43, 0x14);  // channel 0, low byte, mode 2
  out(0x40, 100);
  EXPECT_EQ(in(0x40), 100u);
  out(0x43, 0x24);  // high byte
  out(0x40, 0x10);
  EXPECT_EQ(in(0x40), 0x10u);
}

TEST_F(PitTest, CountsInBcd) {
  out(0x43, 0x31);  // mode 0
  out(0x40, 0x00);
  out(0x40, 0x10);  // 1000
  clock_.advance(ticks(2));
  EXPECT_EQ(latched(0), 0x0999u);
  clock_.advance(ticks(1001));
  EXPECT_EQ(latched(0) >> 12, 0x9u);  // and on from 9999
}

// quick_pit_calibrate and pit_calibrate_tsc in Linux: channel 2 with the gate of port 61h, mode 0.
TEST_F(PitTest, Channel2CountsWithItsGateAndShowsItsOutput) {
  out(0x61, 0x00);
  program(2, 0x00, 11932);
  clock_.advance(100ms);
  EXPECT_FALSE(output_2());
  EXPECT_EQ(latched(2), 11932u);
  out(0x61, 0x01);
  clock_.advance(9ms);
  EXPECT_FALSE(output_2());
  out(0x61, 0x00);  // the gate pauses the count
  clock_.advance(100ms);
  EXPECT_FALSE(output_2());
  out(0x61, 0x01);
  clock_.advance(1100us);
  EXPECT_TRUE(output_2());
  EXPECT_EQ(in(0x61) & 0x0f, 0x01u);
}

TEST_F(PitTest, RefreshToggleMoves) {
  const std::uint32_t before = in(0x61) & 0x10;
  clock_.advance(ticks(18));
  EXPECT_NE(in(0x61) & 0x10, before);
}

TEST_F(PitTest, HardwareOneShotAndStrobeBeginWithTheGate) {
  out(0x61, 0x00);
  program(2, 0x02, 1000);
  EXPECT_TRUE(output_2());
  out(0x61, 0x01);
  clock_.advance(ticks(500));
  EXPECT_FALSE(output_2());
  out(0x61, 0x00);
  out(0x61, 0x01);  // again from the start
  clock_.advance(ticks(900));
  EXPECT_FALSE(output_2());
  clock_.advance(ticks(200));
  EXPECT_TRUE(output_2());

  out(0x61, 0x00);
  program(2, 0x0a, 1000);
  out(0x61, 0x01);
  clock_.advance(ticks(500));
  EXPECT_TRUE(output_2());
}

TEST_F(PitTest, ANewCountTakesOverAtTheEndOfThePeriod) {
  program(0, 0x04, 10000);
  clock_.advance(ticks(5000));
  out(0x40, 0xe8);
  out(0x40, 0x03);  // 1000
  EXPECT_NEAR(latched(0), 5000, 2);
  clock_.advance(ticks(5200));
  EXPECT_NEAR(latched(0), 800, 2);
}

TEST_F(PitTest, AShortPeriodDoesNotKeepTheHostBusy) {
  program(0, 0x04, 2);
  const std::size_t before = clock_.fired();
  clock_.advance(1s);
  EXPECT_LE(clock_.fired() - before, 20'001u);
  program(0, 0x04, 1);  // no count for this mode
  clock_.advance(1s);
  EXPECT_EQ(clock_.armed_timers(), 0u);
}

TEST_F(PitTest, AnyGuestInput) {
  std::uint32_t random = 1;
  for (int i = 0; i < 200'000; ++i) {
    random = random * 1664525 + 1013904223;
    static constexpr std::uint16_t kPorts[] = {0x40, 0x41, 0x42, 0x43, 0x61};
    const std::uint16_t port = kPorts[random >> 24 & 0xff ? (random >> 24) % 5 : 3];
    if (random & 0x100) {
      in(port);
    } else {
      out(port, random >> 16 & 0xff);
    }
    if (random % 64 == 0) clock_.advance(Nanoseconds(random >> 8 & 0xffff));
    if (random % 4096 == 0) {
      FakeLine line;
      Pit other(line, clock_);
      transplant(pit_, other);
    }
  }
}

TEST_F(PitTest, StandsStillWhileStopped) {
  program(0, 0x04, 11932);
  pit_.stop();
  EXPECT_EQ(clock_.armed_timers(), 0u);
  pit_.start();
  EXPECT_EQ(clock_.armed_timers(), 1u);
}

TEST_F(PitTest, GoesOnInAnotherInstance) {
  program(0, 0x04, 11932);
  program(2, 0x00, 0x8000);
  out(0x61, 0x01);
  clock_.advance(3ms);
  const std::uint32_t count_0 = latched(0);
  const std::uint32_t count_2 = latched(2);
  pit_.stop();

  FakeClock clock;  // of a machine that has just been made
  FakeLine line;
  Pit other(line, clock);
  const auto saved = pit_.save();
  ASSERT_TRUE(other.restore(saved).has_value());
  EXPECT_EQ(other.save(), saved);
  other.start();
  const auto read = [&](unsigned channel) {
    other.write_port(0x43, 1, channel << 6);
    const auto port = static_cast<std::uint16_t>(0x40 + channel);
    const std::uint32_t low = other.read_port(port, 1);
    return low | other.read_port(port, 1) << 8;
  };
  EXPECT_EQ(read(0), count_0);
  EXPECT_EQ(read(2), count_2);
  clock.advance(8ms);
  EXPECT_EQ(line.rises(), 1u);
  expect_foreign_state_refused(other);
}

}  // namespace
}  // namespace bulkhead::vdev
