// SPDX-License-Identifier: Apache-2.0
#include "worker/machine_clock.hpp"

#include <gtest/gtest.h>

#include <thread>

namespace bulkhead::worker {
namespace {

using namespace std::chrono_literals;
using vdev::Nanoseconds;

class MachineClockTest : public testing::Test {
 protected:
  void run_events_for(std::chrono::milliseconds time) {
    event_loop_.restart();
    event_loop_.run_for(time);
  }

  boost::asio::io_context event_loop_;
  std::mutex lock_;
  MachineClock clock_{event_loop_, lock_};
};

TEST_F(MachineClockTest, TimeStandsStillWhileStopped) {
  EXPECT_EQ(clock_.now(), 0ns);
  clock_.start();
  std::this_thread::sleep_for(5ms);
  EXPECT_GE(clock_.now(), 5ms);
  clock_.stop();
  const auto stopped = clock_.now();
  std::this_thread::sleep_for(5ms);
  EXPECT_EQ(clock_.now(), stopped);
  clock_.start();
  EXPECT_GE(clock_.now(), stopped);
}

TEST_F(MachineClockTest, ATimerFiresOnceAtItsMoment) {
  int fired = 0;
  Nanoseconds fired_at{};
  auto timer = clock_.make_timer([&] {
    ++fired;
    fired_at = clock_.now();
  });
  clock_.start();
  timer->arm(10ms);
  run_events_for(100ms);
  EXPECT_EQ(fired, 1);
  EXPECT_GE(fired_at, 10ms);
}

TEST_F(MachineClockTest, ArmingAgainReplacesTheDeadlineWhetherEarlierOrLater) {
  std::vector<Nanoseconds> fired;
  auto earlier = clock_.make_timer([&] { fired.push_back(1ns); });
  auto later = clock_.make_timer([&] { fired.push_back(2ns); });
  clock_.start();
  earlier->arm(10h);
  later->arm(1ms);
  earlier->arm(2ms);
  later->arm(50ms);
  run_events_for(20ms);
  EXPECT_EQ(fired, (std::vector<Nanoseconds>{1ns}));
  run_events_for(100ms);
  EXPECT_EQ(fired, (std::vector<Nanoseconds>{1ns, 2ns}));
}

TEST_F(MachineClockTest, NeitherDisarmedNorDestroyedTimersFire) {
  int fired = 0;
  auto disarmed = clock_.make_timer([&] { ++fired; });
  auto destroyed = clock_.make_timer([&] { ++fired; });
  clock_.start();
  disarmed->arm(1ms);
  destroyed->arm(1ms);
  disarmed->disarm();
  destroyed.reset();
  run_events_for(20ms);
  EXPECT_EQ(fired, 0);
}

TEST_F(MachineClockTest, NoTimerFiresWhileStopped) {
  int fired = 0;
  auto timer = clock_.make_timer([&] { ++fired; });
  clock_.start();
  timer->arm(5ms);
  clock_.stop();
  run_events_for(30ms);
  EXPECT_EQ(fired, 0);
  clock_.start();
  run_events_for(30ms);
  EXPECT_EQ(fired, 1);
}

TEST_F(MachineClockTest, ATimerThatIsAlwaysDueLeavesTheEventLoopToOthers) {
  std::unique_ptr<vdev::Timer> greedy;
  greedy = clock_.make_timer([&] { greedy->arm(0ns); });
  bool other_ran = false;
  clock_.start();
  greedy->arm(0ns);
  boost::asio::steady_timer other(event_loop_, 5ms);
  other.async_wait([&](auto) { other_ran = true; });
  run_events_for(50ms);
  EXPECT_TRUE(other_ran);
}

TEST_F(MachineClockTest, ADeadlineBeyondTheHostsClockIsHarmless) {
  int fired = 0;
  auto timer = clock_.make_timer([&] { ++fired; });
  clock_.start();
  timer->arm(Nanoseconds::max());
  run_events_for(5ms);
  EXPECT_EQ(fired, 0);
}

TEST_F(MachineClockTest, TimeIsSavedAndRestored) {
  clock_.start();
  std::this_thread::sleep_for(2ms);
  clock_.stop();
  MachineClock other(event_loop_, lock_);
  ASSERT_TRUE(other.restore(clock_.save()));
  EXPECT_EQ(other.now(), clock_.now());
}

}  // namespace
}  // namespace bulkhead::worker
