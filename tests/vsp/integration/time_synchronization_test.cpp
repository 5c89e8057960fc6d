// SPDX-License-Identifier: Apache-2.0
#include "vsp/integration/time_synchronization.hpp"

#include <gtest/gtest.h>

#include "tests/vsp/integration/service_guest.hpp"

namespace bulkhead::vsp::integration {
namespace {

using namespace std::chrono_literals;
using abi::integration::TimeBefore4_0;
using abi::integration::TimeFlags;
using abi::integration::TimeReference;

constexpr std::int64_t kNow = 1'700'000'000;  // 2023-11-14 22:13:20 UTC
/// The same in 100 ns since 1601.
constexpr std::uint64_t kNowOnTheWire = 133'444'736'000'000'000;

class MovingReferenceTime final : public ReferenceTime {
 public:
  std::optional<std::uint64_t> reference_time() const override { return time; }
  std::optional<std::uint64_t> time = 5'000;
};

class TimeTest : public testing::Test {
 protected:
  /// The flags of the message that has come, if one has; it is answered.
  std::optional<std::uint8_t> told() {
    const auto message = rig().guest.receive();
    if (!message) return std::nullopt;
    rig().guest.answer(*message, message->body);
    if (message->header.message_version >= Version{4, 0}) return message->as<TimeReference>().flags;
    return message->as<TimeBefore4_0>().flags;
  }
  struct Parts {
    FakeClock clock;
    FakeWallClock wall{clock, kNow};
    MovingReferenceTime reference;
    TimeSynchronization service{clock, wall, &reference};
    vmbus::FakeGuest fake;
    ServiceDriver guest{clock, service, fake};
  };
  Parts& rig() { return parts; }

  Parts parts;
};

TEST_F(TimeTest, TheDriversFirstMessageIsTheOrderToSetTheClock) {
  parts.guest.connect({4, 0});
  const auto message = parts.guest.receive();
  ASSERT_EQ(message->body.size(), 24u);
  const auto body = message->as<TimeReference>();
  EXPECT_EQ(body.host_time, kNowOnTheWire);
  EXPECT_EQ(body.reference_time, 5'000u);
  EXPECT_EQ(body.flags, TimeFlags::kSynchronize);
}

TEST_F(TimeTest, OldVersionsGetTheOldMessage) {
  for (const Version version : {Version{3, 0}, Version{1, 0}}) {
    parts.guest.connect(version);
    const auto message = parts.guest.receive();
    ASSERT_EQ(message->body.size(), 28u);
    EXPECT_EQ(message->as<TimeBefore4_0>().host_time, kNowOnTheWire);
    EXPECT_EQ(message->as<TimeBefore4_0>().flags, TimeFlags::kSynchronize);
    parts.guest.close();
  }
}

TEST_F(TimeTest, ASampleEveryFiveSeconds) {
  parts.guest.connect({4, 0});
  EXPECT_EQ(told(), TimeFlags::kSynchronize);
  for (unsigned count = 0; count < 10; ++count) {
    parts.clock.advance(4999ms);
    EXPECT_EQ(told(), std::nullopt);
    parts.clock.advance(1ms);
    EXPECT_EQ(told(), TimeFlags::kSample);
  }
}

TEST_F(TimeTest, ASteppedHostClockIsFollowed) {
  parts.guest.connect({4, 0});
  told();
  for (const auto step : {state::Nanoseconds(3600s), state::Nanoseconds(-7200s), state::Nanoseconds(600ms)}) {
    parts.wall.jump(step);
    parts.clock.advance(5s);
    EXPECT_EQ(told(), TimeFlags::kSynchronize) << step.count();
    parts.clock.advance(5s);
    EXPECT_EQ(told(), TimeFlags::kSample);
  }
}

TEST_F(TimeTest, DriftIsLeftToTheGuestsDiscipline) {
  parts.guest.connect({4, 0});
  told();
  parts.wall.jump(400ms);
  parts.clock.advance(5s);
  EXPECT_EQ(told(), TimeFlags::kSample);
}

TEST_F(TimeTest, AMachineThatStoodStillIsToldToSetItsClock) {
  parts.guest.connect({4, 0});
  told();
  // The machine's clock stands still, the host's time of day does not.
  parts.wall.jump(90s);
  parts.clock.advance(5s);
  EXPECT_EQ(told(), TimeFlags::kSynchronize);
}

TEST_F(TimeTest, AnOrderThatWasNotAnsweredIsGivenAgain) {
  parts.guest.connect({4, 0});
  EXPECT_TRUE(parts.guest.receive());  // and says nothing
  parts.clock.advance(5s);
  EXPECT_EQ(told(), TimeFlags::kSynchronize);
}

TEST_F(TimeTest, WithoutAReferenceTimeOnlyVersionsBefore4AreOffered) {
  FakeClock clock;
  FakeWallClock wall(clock, kNow);
  TimeSynchronization service(clock, wall, nullptr);
  vmbus::FakeGuest fake;
  ServiceDriver guest(clock, service, fake);
  guest.open();
  EXPECT_EQ(offered_in(*guest.receive()).messages, (std::vector<Version>{{3, 0}, {1, 0}}));
}

TEST_F(TimeTest, WhileThereIsNoPartitionNothingIsSaid) {
  parts.reference.time.reset();
  parts.guest.connect({4, 0});
  EXPECT_FALSE(parts.guest.receive());
  parts.reference.time = 7;
  parts.clock.advance(5s);
  EXPECT_EQ(told(), TimeFlags::kSynchronize);
}

}  // namespace
}  // namespace bulkhead::vsp::integration
