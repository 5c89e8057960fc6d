// SPDX-License-Identifier: Apache-2.0
#include "vsp/integration/volume_snapshot.hpp"

#include <gtest/gtest.h>

#include "tests/vsp/integration/service_guest.hpp"

namespace bulkhead::vsp::integration {
namespace {

using namespace std::chrono_literals;
using abi::integration::SnapshotOperation;
using Body = abi::integration::VolumeSnapshot;
using State = VolumeSnapshot::State;

class SnapshotTest : public testing::Test {
 protected:
  VolumeSnapshot::Done note(std::string& outcome) {
    outcome = "none yet";
    return [&outcome](Result<> result) { outcome = result ? "done" : result.error().message(); };
  }
  void freeze(state::Nanoseconds limit = 60s) { rig.service.freeze(limit, note(frozen)); }
  void thaw() { rig.service.thaw(note(thawed)); }
  /// Answers the message that has come, which must be this one.
  void answer(SnapshotOperation expected, Status status = Status::Ok) {
    const auto message = rig.guest.receive();
    ASSERT_TRUE(message);
    EXPECT_EQ(message->as<Body>().operation, expected);
    rig.guest.answer(*message, message->body, status);
  }
  void freeze_and_agree(state::Nanoseconds limit = 60s) {
    freeze(limit);
    answer(SnapshotOperation::HotBackup);
    answer(SnapshotOperation::Freeze);
    ASSERT_EQ(rig.service.state(), State::Frozen);
  }

  std::string frozen, thawed;
  unsigned let_go = 0;
  Rig<VolumeSnapshot> rig{[this] { ++let_go; }};
};

TEST_F(SnapshotTest, AsksFirstThenFreezesThenThaws) {
  rig.guest.connect({5, 0});
  freeze();
  EXPECT_EQ(rig.service.state(), State::Asking);
  answer(SnapshotOperation::HotBackup);
  EXPECT_EQ(frozen, "none yet");
  answer(SnapshotOperation::Freeze);
  EXPECT_EQ(frozen, "done");
  thaw();
  EXPECT_EQ(thawed, "none yet");
  answer(SnapshotOperation::Thaw);
  EXPECT_EQ(thawed, "done");
  EXPECT_EQ(rig.service.state(), State::Thawed);
  rig.clock.advance(10min);
  EXPECT_EQ(let_go, 0u);
  EXPECT_FALSE(rig.guest.receive());
}

TEST_F(SnapshotTest, TheTimeLimitLetsGoWhateverBecameOfWhoAsked) {
  rig.guest.connect({5, 0});
  freeze_and_agree(5s);
  rig.clock.advance(4s);
  EXPECT_EQ(rig.service.state(), State::Frozen);
  rig.clock.advance(1s);
  EXPECT_EQ(let_go, 1u);
  answer(SnapshotOperation::Thaw);
  EXPECT_EQ(rig.service.state(), State::Thawed);
  thaw();
  EXPECT_EQ(thawed, "the guest's file systems are not frozen, they are thawed");
}

TEST_F(SnapshotTest, AThawThatIsNotAnsweredIsSentAgain) {
  rig.guest.connect({5, 0});
  freeze_and_agree(5s);
  rig.clock.advance(5s);
  ASSERT_TRUE(rig.guest.receive());  // and says nothing
  rig.clock.advance(62s);
  EXPECT_EQ(rig.service.state(), State::Thawing);
  answer(SnapshotOperation::Thaw);
  EXPECT_EQ(rig.service.state(), State::Thawed);
}

TEST_F(SnapshotTest, AGuestThatCannotIsNotFrozen) {
  rig.guest.connect({5, 0});
  freeze();
  answer(SnapshotOperation::HotBackup, Status::Fail);
  EXPECT_EQ(frozen, "the guest cannot freeze its file systems; perhaps its snapshot daemon does not run");
  EXPECT_EQ(rig.service.state(), State::Thawed);
  EXPECT_FALSE(rig.guest.receive());
}

TEST_F(SnapshotTest, AFreezeThatFailsHalfwayIsThawed) {
  rig.guest.connect({5, 0});
  freeze();
  answer(SnapshotOperation::HotBackup);
  answer(SnapshotOperation::Freeze, Status::NotSupported);
  EXPECT_EQ(frozen, "the guest refuses to freeze its file systems, with the status 0x80070032");
  answer(SnapshotOperation::Thaw);
  EXPECT_EQ(rig.service.state(), State::Thawed);
}

TEST_F(SnapshotTest, AFreezeThatIsNotAnsweredIsThawedWhenTheGuestComesBack) {
  rig.guest.connect({5, 0});
  freeze();
  answer(SnapshotOperation::HotBackup);
  const auto held = rig.guest.receive();
  ASSERT_TRUE(held);
  rig.clock.advance(60s);
  EXPECT_EQ(frozen, "the guest does not answer");
  rig.guest.answer(*held, held->body);  // it has frozen after all
  EXPECT_NE(rig.service.state(), State::Frozen);
  answer(SnapshotOperation::Thaw);
  EXPECT_EQ(rig.service.state(), State::Thawed);
}

TEST_F(SnapshotTest, LimitsAreOneSecondToTenMinutes) {
  rig.guest.connect({5, 0});
  for (const state::Nanoseconds limit : {state::Nanoseconds(0), state::Nanoseconds(999ms), state::Nanoseconds(601s)}) {
    freeze(limit);
    EXPECT_EQ(frozen, "the time limit of a freeze is 1 to 600 s");
  }
  freeze(600s);
  EXPECT_EQ(frozen, "none yet");
}

TEST_F(SnapshotTest, OneFreezeAtATime) {
  rig.guest.connect({5, 0});
  freeze_and_agree();
  freeze();
  EXPECT_EQ(frozen, "the guest's file systems are frozen now");
}

TEST_F(SnapshotTest, AGuestThatClosesHoldsNothing) {
  rig.guest.connect({5, 0});
  freeze_and_agree();
  rig.guest.close();
  EXPECT_EQ(rig.service.state(), State::Thawed);
  rig.clock.advance(10min);
  EXPECT_EQ(let_go, 0u);
}

TEST_F(SnapshotTest, WhoeverComesBackFromASaveIsToldToLetGo) {
  rig.guest.connect({5, 0});
  freeze_and_agree();
  const auto bus = rig.fake.bus().save();
  const auto saved = rig.service.save();
  rig.fake.bus().reset();
  rig.service.reset();
  ASSERT_TRUE(rig.fake.bus().restore(bus));
  ASSERT_TRUE(rig.service.restore(saved));
  rig.clock.advance(0s);
  answer(SnapshotOperation::Thaw);
  EXPECT_EQ(rig.service.state(), State::Thawed);
}

}  // namespace
}  // namespace bulkhead::vsp::integration
