// SPDX-License-Identifier: Apache-2.0
#include "vsp/integration/heartbeat.hpp"

#include <gtest/gtest.h>

#include "tests/vsp/integration/service_guest.hpp"

namespace bulkhead::vsp::integration {
namespace {

using namespace std::chrono_literals;
using abi::integration::ApplicationState;
using Body = abi::integration::Heartbeat;

class HeartbeatTest : public testing::Test {
 protected:
  /// Answers the beat that has come; whether one had.
  bool answer_beat(ApplicationState state = ApplicationState::Unknown) {
    const auto beat = rig.guest.receive();
    if (!beat) return false;
    auto body = beat->as<Body>();
    ++body.sequence;
    body.application_state = state;
    rig.guest.answer_with(*beat, body);
    return true;
  }

  std::vector<HeartbeatState> changes;
  Rig<Heartbeat> rig{[this](HeartbeatState state) { changes.push_back(state); }};
};

TEST_F(HeartbeatTest, IsOkWithTheFirstAnswerAndAsksEveryTwoSeconds) {
  rig.guest.connect({3, 0});
  EXPECT_EQ(rig.service.heartbeat(), HeartbeatState::NoContact);
  ASSERT_TRUE(answer_beat());
  EXPECT_EQ(rig.service.heartbeat(), HeartbeatState::Ok);
  rig.clock.advance(1999ms);
  EXPECT_FALSE(rig.guest.receive());
  rig.clock.advance(1ms);
  EXPECT_TRUE(answer_beat());
  EXPECT_EQ(changes, std::vector{HeartbeatState::Ok});
}

TEST_F(HeartbeatTest, AGuestThatHangsIsLostWithinSixSecondsAndComesBack) {
  rig.guest.connect({3, 0});
  answer_beat();
  rig.clock.advance(6s);
  EXPECT_EQ(rig.service.heartbeat(), HeartbeatState::Lost);
  // It goes on, and finds few messages; the last of them counts.
  unsigned found = 0;
  while (answer_beat()) ++found;
  EXPECT_LE(found, 3u);
  EXPECT_EQ(rig.service.heartbeat(), HeartbeatState::Ok);
  EXPECT_EQ(changes, (std::vector{HeartbeatState::Ok, HeartbeatState::Lost, HeartbeatState::Ok}));
}

TEST_F(HeartbeatTest, AGuestThatHangsForAnHourStaysLostAndCostsLittle) {
  rig.guest.connect({3, 0});
  answer_beat();
  rig.clock.advance(1h);
  EXPECT_EQ(rig.service.heartbeat(), HeartbeatState::Lost);
  EXPECT_EQ(changes.size(), 2u);
  while (answer_beat()) {
  }
  rig.clock.advance(4s);
  while (answer_beat()) {
  }
  EXPECT_EQ(rig.service.heartbeat(), HeartbeatState::Ok);
}

TEST_F(HeartbeatTest, TellsHowTheGuestsApplicationsAre) {
  rig.guest.connect({3, 0});
  answer_beat(ApplicationState::Critical);
  EXPECT_EQ(rig.service.applications(), ApplicationState::Critical);
  EXPECT_EQ(rig.guest.inspected("applications"), "critical");
}

TEST_F(HeartbeatTest, AWrongSequenceNumberIsNoSignOfLife) {
  rig.guest.connect({3, 0});
  const auto beat = rig.guest.receive();
  rig.guest.answer(*beat, beat->body);
  EXPECT_EQ(rig.service.heartbeat(), HeartbeatState::NoContact);
  EXPECT_EQ(rig.guest.inspected("malformed-messages"), "1");
}

TEST_F(HeartbeatTest, WithoutTheDriverThereIsNoContact) {
  rig.guest.connect({3, 0});
  answer_beat();
  rig.guest.close();
  EXPECT_EQ(rig.service.heartbeat(), HeartbeatState::NoContact);
  rig.clock.advance(60s);
  EXPECT_EQ(rig.service.heartbeat(), HeartbeatState::NoContact);
}

}  // namespace
}  // namespace bulkhead::vsp::integration
