// SPDX-License-Identifier: Apache-2.0
#include "vsp/integration/shutdown.hpp"

#include <gtest/gtest.h>

#include "tests/vsp/integration/service_guest.hpp"

namespace bulkhead::vsp::integration {
namespace {

using namespace std::chrono_literals;
using abi::integration::ShutdownFlags;
using Body = abi::integration::Shutdown;

class ShutdownTest : public testing::Test {
 protected:
  void ask(ShutdownKind kind, bool force = false, std::string_view message = "") {
    outcome = "none yet";
    rig.service.shut_down(kind, force, message, [this](Result<> result) {
      ++outcomes;
      outcome = result ? "agreed" : result.error().message();
    });
  }

  std::string outcome;
  unsigned outcomes = 0;
  Rig<Shutdown> rig;
};

TEST_F(ShutdownTest, SaysWhatIsWantedAndHearsThatTheGuestAgrees) {
  rig.guest.connect({3, 2});
  const struct {
    ShutdownKind kind;
    bool force;
    std::uint32_t flags;
  } cases[] = {{ShutdownKind::PowerOff, false, 0},
               {ShutdownKind::PowerOff, true, ShutdownFlags::kForce},
               {ShutdownKind::Restart, false, ShutdownFlags::kRestart},
               {ShutdownKind::Restart, true, ShutdownFlags::kRestart | ShutdownFlags::kForce},
               {ShutdownKind::Hibernate, false, ShutdownFlags::kHibernate}};
  for (const auto& [kind, force, flags] : cases) {
    ask(kind, force, "for maintenance");
    const auto request = rig.guest.receive();
    ASSERT_TRUE(request);
    ASSERT_EQ(request->body.size(), 2060u);
    const auto body = request->as<Body>();
    EXPECT_EQ(body.reason, 0x80000000u);
    EXPECT_EQ(body.flags, flags);
    EXPECT_STREQ(static_cast<const char*>(static_cast<const void*>(body.message)), "for maintenance");
    EXPECT_EQ(outcome, "none yet");
    rig.guest.answer(*request, request->body);
    EXPECT_EQ(outcome, "agreed");
  }
}

TEST_F(ShutdownTest, OnlyVersion3_2CanHibernate) {
  for (const Version version : {Version{3, 1}, Version{3, 0}, Version{1, 0}}) {
    rig.guest.connect(version);
    ask(ShutdownKind::Hibernate);
    EXPECT_EQ(outcome, "the guest's shutdown service is version " + std::to_string(version.major) + "." +
                           std::to_string(version.minor) + ", which cannot hibernate");
    ask(ShutdownKind::Restart);
    EXPECT_TRUE(rig.guest.receive());
    rig.guest.close();
  }
}

TEST_F(ShutdownTest, ALongMessageIsCut) {
  rig.guest.connect({3, 2});
  ask(ShutdownKind::PowerOff, false, std::string(5000, 'x'));
  const auto body = rig.guest.receive()->as<Body>();
  EXPECT_EQ(body.message[2046], 'x');
  EXPECT_EQ(body.message[2047], 0);
}

TEST_F(ShutdownTest, ARefusalIsTheError) {
  rig.guest.connect({3, 2});
  ask(ShutdownKind::PowerOff);
  rig.guest.answer(*rig.guest.receive(), {}, Status::Fail);
  EXPECT_EQ(outcome, "the guest refuses, with the status 0x80004005");
}

TEST_F(ShutdownTest, ASilentGuestIsAnErrorAfterTenSecondsAndMayBeAskedAgain) {
  rig.guest.connect({3, 2});
  ask(ShutdownKind::PowerOff);
  const auto first = rig.guest.receive();
  rig.clock.advance(9s);
  EXPECT_EQ(outcome, "none yet");
  rig.clock.advance(1s);
  EXPECT_EQ(outcome, "the guest does not answer");
  ask(ShutdownKind::PowerOff);
  rig.guest.answer(*first);  // too late for the first, and no answer to the second
  EXPECT_EQ(outcome, "none yet");
  rig.guest.answer(*rig.guest.receive());
  EXPECT_EQ(outcome, "agreed");
  EXPECT_EQ(outcomes, 2u);
}

TEST_F(ShutdownTest, OneAtATime) {
  rig.guest.connect({3, 2});
  ask(ShutdownKind::PowerOff);
  std::string second;
  rig.service.shut_down(ShutdownKind::Restart, false, "", [&](Result<> result) { second = result.error().message(); });
  EXPECT_EQ(second, "the shutdown service is still busy with another request");
  rig.guest.answer(*rig.guest.receive());
  EXPECT_EQ(outcome, "agreed");
}

TEST_F(ShutdownTest, SaysWhyNobodyCanBeAsked) {
  ask(ShutdownKind::PowerOff);
  EXPECT_EQ(outcome, "the guest does not use the shutdown service");
  rig.guest.open();
  ask(ShutdownKind::PowerOff);
  EXPECT_EQ(outcome, "the guest's part of the shutdown service has not answered yet");
  rig.guest.answer_with(*rig.guest.receive(), abi::integration::Negotiate{});
  ask(ShutdownKind::PowerOff);
  EXPECT_EQ(outcome, "the guest speaks no version of the shutdown service that we do");
  rig.guest.close();
  rig.guest.connect({3, 2});
  ask(ShutdownKind::PowerOff);
  rig.guest.close();
  EXPECT_EQ(outcome, "the guest has closed the shutdown service");
}

TEST_F(ShutdownTest, AGuestThatDoesNotReadIsAnError) {
  rig.guest.connect({3, 2});
  for (unsigned tries = 0; tries < 100 && outcome != "the guest does not read what the shutdown service sends";
       ++tries) {
    ask(ShutdownKind::PowerOff);
    rig.clock.advance(10s);
  }
  EXPECT_EQ(outcome, "the guest does not read what the shutdown service sends");
}

}  // namespace
}  // namespace bulkhead::vsp::integration
