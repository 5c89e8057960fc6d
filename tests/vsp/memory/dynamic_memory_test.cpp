// SPDX-License-Identifier: Apache-2.0
// The balloon's protocol and the policy together, with guests that are honest, silent or lying.
#include <gtest/gtest.h>

#include "tests/vsp/memory/memory_guest.hpp"

namespace bulkhead::vsp::memory {
namespace {

using namespace std::chrono_literals;
using namespace abi::dynamic_memory;
using vmbus::Bytes;

constexpr std::uint64_t kAddedFirst = 256 * kMebibyte;

class DynamicMemoryTest : public testing::Test {
 protected:
  Pages assigned() const { return guest.provider.account().assigned(); }
  /// Reports until the host asks for pages; how many, or nothing.
  std::optional<Pages> asked_after(unsigned seconds, Pages committed) {
    guest.report_for(seconds, committed);
    const auto request = guest.receive_as<BalloonRequest>(MessageType::BalloonRequest);
    return request ? std::optional<Pages>(request->page_count) : std::nullopt;
  }
  /// Takes what the host asks for, from this page on.
  void balloon(Pages committed, std::uint64_t first) {
    const auto asked = asked_after(6, committed);
    ASSERT_TRUE(asked);
    guest.give({{first, *asked}});
  }

  MemoryGuest guest;
};

TEST_F(DynamicMemoryTest, ComesToTermsWithEachVersionOfTheDriver) {
  for (const auto version : {Version::V2_0, Version::V1_0, Version::V0_3}) {
    guest.open();
    guest.send(MessageType::VersionRequest, VersionRequest{.header = {}, .version = version, .flags = 0});
    const auto accepted = guest.receive_as<Response>(MessageType::VersionResponse);
    ASSERT_TRUE(accepted);
    EXPECT_EQ(accepted->flags, Response::kAccepted);
    guest.send(
        MessageType::CapabilitiesReport,
        CapabilitiesReport{
            .header = {}, .flags = CapabilitiesReport::kBalloon, .minimum_page_count = 0, .maximum_page_number = 1});
    EXPECT_EQ(guest.receive_as<Response>(MessageType::CapabilitiesResponse)->flags, Response::kAccepted);
    EXPECT_EQ(guest.provider.status(), "waiting for a report");
    guest.close();
    EXPECT_EQ(guest.provider.status(), "no driver");
  }
}

TEST_F(DynamicMemoryTest, RefusesAVersionUntilOneIsKnown) {
  guest.open();
  guest.send(MessageType::VersionRequest, VersionRequest{.header = {}, .version = Version{0x0003'0000}, .flags = 0});
  EXPECT_EQ(guest.receive_as<Response>(MessageType::VersionResponse)->flags, 0u);
  guest.send(MessageType::VersionRequest, VersionRequest{.header = {}, .version = Version::V2_0, .flags = 0});
  EXPECT_EQ(guest.receive_as<Response>(MessageType::VersionResponse)->flags, Response::kAccepted);
}

TEST_F(DynamicMemoryTest, ADriverThatCannotBalloonIsOfNoUse) {
  guest.open();
  guest.send(MessageType::VersionRequest, VersionRequest{.header = {}, .version = Version::V2_0, .flags = 0});
  guest.receive();
  guest.send(MessageType::CapabilitiesReport,
             CapabilitiesReport{.header = {}, .flags = 0, .minimum_page_count = 0, .maximum_page_number = 0});
  EXPECT_EQ(guest.receive_as<Response>(MessageType::CapabilitiesResponse)->flags, 0u);
  EXPECT_EQ(guest.provider.status(), "no driver");
}

TEST_F(DynamicMemoryTest, TellsWhatTheGuestReported) {
  guest.connect();
  guest.report(100 * kMebibyte, 33 * kMebibyte);
  ASSERT_TRUE(guest.provider.report());
  EXPECT_EQ(guest.provider.report()->demand, 100 * kMebibyte);
  EXPECT_EQ(guest.provider.report()->available, 33 * kMebibyte);
  EXPECT_EQ(guest.provider.target(), 128 * kMebibyte);  // 120, but no less than the minimum
  EXPECT_EQ(guest.provider.status(), "ok");
  guest.clock.advance(11s);
  EXPECT_FALSE(guest.provider.report()) << "it is old";
  EXPECT_FALSE(guest.provider.target());
}

TEST_F(DynamicMemoryTest, AnIdleGuestGivesMemoryThatIsThenTheHosts) {
  guest.connect();
  // 150 MiB and a fifth are 180: it has 76 too many, and is asked for whole pieces of 2 MiB when that has lasted.
  EXPECT_FALSE(asked_after(4, 150 * kMebibyte));
  const auto asked = asked_after(1, 150 * kMebibyte);
  ASSERT_TRUE(asked);
  EXPECT_EQ(*asked, 76 * kMebibyte);
  EXPECT_EQ(guest.provider.status(), "asked for pages");
  guest.give({{100 * kMebibyte, 50 * kMebibyte}}, true);
  guest.give({{200 * kMebibyte, 26 * kMebibyte}});
  EXPECT_EQ(assigned(), 180 * kMebibyte);
  EXPECT_EQ(guest.memory.size(), 180 * kMebibyte);
  EXPECT_TRUE(guest.memory.has_none({100 * kMebibyte, 50 * kMebibyte}));
  EXPECT_EQ(guest.changes, 1u);
  // What was ballooned counts as committed in the guest: it is not asked again.
  EXPECT_FALSE(asked_after(20, 226 * kMebibyte));
}

TEST_F(DynamicMemoryTest, AShortRestIsNoSurplus) {
  guest.connect();
  for (unsigned round = 0; round < 10; ++round) {
    EXPECT_FALSE(asked_after(4, 100 * kMebibyte));
    EXPECT_FALSE(asked_after(1, 210 * kMebibyte));
  }
  // Nor is what is not worth the trouble.
  EXPECT_FALSE(asked_after(30, 202 * kMebibyte));
}

TEST_F(DynamicMemoryTest, AGuestInNeedGetsBackWhatItGaveBeforeAnythingNew) {
  guest.connect();
  balloon(100 * kMebibyte, 0);
  EXPECT_EQ(assigned(), 128 * kMebibyte);
  guest.report_for(1, 328 * kMebibyte);  // 200 and the balloon's 128
  const auto bytes = guest.receive();
  ASSERT_TRUE(bytes);
  const auto request = vmbus::part_of<UnballoonRequest>(*bytes);
  ASSERT_EQ(request.header.type, MessageType::UnballoonRequest);
  ASSERT_EQ(request.range_count, 1u);
  PageRange range{};
  std::memcpy(&range, bytes->data() + sizeof request, sizeof range);
  EXPECT_EQ(first_page(range), 0u);
  EXPECT_EQ(page_count(range), 112 * kMebibyte);
  EXPECT_TRUE(guest.memory.has_all({0, 112 * kMebibyte})) << "the guest may use them from here on";
  guest.unballooned();
  EXPECT_EQ(assigned(), 240 * kMebibyte);
  EXPECT_EQ(guest.provider.status(), "ok");
}

TEST_F(DynamicMemoryTest, GrowsToItsMaximumAndNotBeyond) {
  guest.connect();
  std::uint64_t next = kAddedFirst;
  for (unsigned second = 0; second < 60; ++second) {
    guest.report_for(1, 4096 * kMebibyte);
    const auto request = guest.receive_as<HotAddRequest>(MessageType::HotAddRequest);
    if (!request) continue;
    EXPECT_EQ(first_page(request->memory), next);
    EXPECT_TRUE(guest.memory.has_all({first_page(request->memory), page_count(request->memory)}));
    next += page_count(request->memory);
    guest.hot_added(page_count(request->memory));
  }
  EXPECT_EQ(assigned(), 1024 * kMebibyte);
  EXPECT_EQ(next, 1024 * kMebibyte);
}

TEST_F(DynamicMemoryTest, NewMemoryComesInStepsOf32Mebibytes) {
  guest.connect();
  guest.report_for(1, 220 * kMebibyte);  // 264: eight more
  const auto request = guest.receive_as<HotAddRequest>(MessageType::HotAddRequest);
  ASSERT_TRUE(request);
  EXPECT_EQ(page_count(request->memory), 32 * kMebibyte);
}

TEST_F(DynamicMemoryTest, MemoryThatIsBeingAddedIsTheGuestsAlready) {
  guest.connect();
  guest.report_for(1, 220 * kMebibyte);
  ASSERT_TRUE(guest.receive());
  // The guest puts it to use, and is slow to say so; meanwhile the host looks for what is used without right.
  guest.memory.touch(kAddedFirst);
  guest.clock.advance(25s);
  EXPECT_TRUE(guest.memory.has_all({kAddedFirst, 32 * kMebibyte}));
  EXPECT_EQ(guest.inspected("pages-taken-again"), "0");
  EXPECT_EQ(assigned(), 288 * kMebibyte);
  guest.hot_added(32 * kMebibyte);
  EXPECT_EQ(assigned(), 288 * kMebibyte);
}

TEST_F(DynamicMemoryTest, WhatAGuestDidNotAddGoesBackToTheHost) {
  guest.connect();
  guest.report_for(1, 300 * kMebibyte);
  ASSERT_TRUE(guest.receive());
  guest.hot_added(64 * kMebibyte);
  EXPECT_EQ(assigned(), 320 * kMebibyte);
  EXPECT_TRUE(guest.memory.has_none({kAddedFirst + 64 * kMebibyte, 704 * kMebibyte}));
}

TEST_F(DynamicMemoryTest, AGuestThatSaysNeverIsOfferedNoMore) {
  guest.connect();
  guest.report_for(1, 1000 * kMebibyte);
  ASSERT_TRUE(guest.receive());
  guest.hot_added(0, 1);
  guest.report_for(60, 1000 * kMebibyte);
  EXPECT_FALSE(guest.receive());
  EXPECT_EQ(guest.memory.size(), 256 * kMebibyte);
}

TEST_F(DynamicMemoryTest, AGuestThatSaysNotNowIsOfferedLater) {
  guest.connect();
  guest.report_for(1, 1000 * kMebibyte);
  ASSERT_TRUE(guest.receive());
  guest.hot_added(0, 0);
  guest.report_for(29, 1000 * kMebibyte);
  EXPECT_FALSE(guest.receive());
  guest.report_for(3, 1000 * kMebibyte);
  EXPECT_TRUE(guest.receive_as<HotAddRequest>(MessageType::HotAddRequest));
}

TEST_F(DynamicMemoryTest, ADriverThatCannotAddIsNotOfferedMemory) {
  guest.connect(Version::V2_0, false);
  guest.report_for(30, 1000 * kMebibyte);
  EXPECT_FALSE(guest.receive());
}

TEST_F(DynamicMemoryTest, AHostThatHasNoneToSpareGivesNone) {
  guest.memory.set_host({.total = 16384 * kMebibyte, .available = 900 * kMebibyte});
  guest.connect();
  guest.report_for(30, 1000 * kMebibyte);
  EXPECT_FALSE(guest.receive());
}

TEST_F(DynamicMemoryTest, AHostThatRunsOutInTheActGivesNone) {
  guest.connect();
  balloon(100 * kMebibyte, 0);
  guest.memory.let_host_run_out();
  guest.report_for(30, 1000 * kMebibyte);
  EXPECT_FALSE(guest.receive());
  EXPECT_EQ(assigned(), 128 * kMebibyte);
}

// A lying guest.

TEST_F(DynamicMemoryTest, PagesThatNobodyAskedForAreRefused) {
  guest.connect();
  guest.give({{0, 10}});
  EXPECT_EQ(assigned(), 256 * kMebibyte);
  EXPECT_EQ(guest.inspected("last-refusal"), "pages that were not asked for");
}

TEST_F(DynamicMemoryTest, PagesThatTheGuestDoesNotHaveAreRefused) {
  guest.connect();
  ASSERT_EQ(asked_after(5, 150 * kMebibyte), 76 * kMebibyte);
  guest.give({{kAddedFirst, kMebibyte},  // never given to it
              {1 << 30, kMebibyte},      // no memory at all
              {0xff'ffff'ffff, 1},       // the last page there is
              {0, 0xff'ffff},            // more than was asked for
              {0, kMebibyte},
              {0, kMebibyte}},  // twice
             true);
  EXPECT_EQ(assigned(), 255 * kMebibyte);
  EXPECT_EQ(guest.inspected("refused-messages"), "5");
  guest.give({});
  EXPECT_EQ(guest.provider.status(), "ok");
}

TEST_F(DynamicMemoryTest, MorePagesThanWereAskedForInSumAreRefused) {
  guest.connect();
  ASSERT_EQ(asked_after(5, 150 * kMebibyte), 76 * kMebibyte);
  guest.give({{0, 70 * kMebibyte}, {80 * kMebibyte, 70 * kMebibyte}});
  EXPECT_EQ(assigned(), 186 * kMebibyte);
}

TEST_F(DynamicMemoryTest, MoreAddedThanWasOfferedIsRefused) {
  guest.connect();
  guest.hot_added(kMebibyte);
  EXPECT_EQ(guest.inspected("last-refusal"), "memory added that was not offered");
  guest.report_for(1, 220 * kMebibyte);
  ASSERT_TRUE(guest.receive());
  guest.hot_added(33 * kMebibyte);
  EXPECT_EQ(assigned(), 288 * kMebibyte);
  EXPECT_EQ(guest.memory.size(), 288 * kMebibyte);
  EXPECT_EQ(guest.inspected("last-refusal"), "more memory added than was offered");
}

TEST_F(DynamicMemoryTest, AReplayOfAnAnswerGivesNothing) {
  guest.connect();
  guest.report_for(1, 220 * kMebibyte);
  ASSERT_TRUE(guest.receive());
  guest.hot_added(32 * kMebibyte);
  guest.hot_added(32 * kMebibyte);
  guest.unballooned();
  EXPECT_EQ(assigned(), 288 * kMebibyte);
  EXPECT_EQ(guest.inspected("refused-messages"), "2");
}

TEST_F(DynamicMemoryTest, PagesUsedAfterTheyWereGivenAreTakenAgain) {
  guest.connect();
  balloon(100 * kMebibyte, 0);
  for (unsigned page = 0; page < 100; ++page) guest.memory.touch(page);
  guest.memory.touch(kAddedFirst + 5);
  guest.report_for(11, 228 * kMebibyte);
  EXPECT_EQ(guest.inspected("pages-taken-again"), "101");
}

TEST_F(DynamicMemoryTest, WhoeverClaimsToNeedAllGetsItsMaximumAndWhoeverClaimsNothingItsMinimum) {
  guest.connect();
  guest.report(UINT64_MAX);
  EXPECT_EQ(guest.provider.target(), 1024 * kMebibyte);
  guest.report(0);
  EXPECT_EQ(guest.provider.target(), 128 * kMebibyte);
}

TEST_F(DynamicMemoryTest, MessagesOutOfPlaceOrCutShortAreRefused) {
  guest.open();
  guest.report(1);  // before the versions
  guest.close();
  guest.connect();
  guest.send(MessageType::VersionRequest, VersionRequest{.header = {}, .version = Version::V2_0, .flags = 0});
  guest.send(MessageType::CapabilitiesReport,
             CapabilitiesReport{.header = {}, .flags = 1, .minimum_page_count = 0, .maximum_page_number = 0});
  guest.send_bytes(Bytes(3));
  guest.send_bytes(vmbus::bytes_of(Header{.type = MessageType::StatusReport, .size = 8, .transaction = 0}));
  guest.send_bytes(vmbus::bytes_of(Header{.type = MessageType::StatusReport, .size = 400, .transaction = 0}));
  guest.send_bytes(vmbus::bytes_of(Header{.type = MessageType::StatusReport, .size = 0, .transaction = 0}));
  guest.send_bytes(vmbus::bytes_of(Header{.type = MessageType{77}, .size = 8, .transaction = 0}));
  guest.send_bytes(
      vmbus::bytes_of(BalloonResponse{.header = {.type = MessageType::BalloonResponse, .size = 16, .transaction = 0},
                                      .reserved = 0,
                                      .more_and_count = UINT32_MAX}));
  EXPECT_EQ(guest.inspected("refused-messages"), "9");
  EXPECT_EQ(guest.provider.status(), "waiting for a report");
}

TEST_F(DynamicMemoryTest, ABalloonResponseWithFewerRangesThanItSaysIsRefused) {
  guest.connect();
  ASSERT_TRUE(asked_after(5, 100 * kMebibyte));
  guest.send_bytes(
      vmbus::bytes_of(BalloonResponse{.header = {.type = MessageType::BalloonResponse, .size = 16, .transaction = 0},
                                      .reserved = 0,
                                      .more_and_count = 2 << 1}));
  EXPECT_EQ(guest.inspected("last-refusal"), "a balloon response with fewer ranges than it says");
  EXPECT_EQ(assigned(), 256 * kMebibyte);
}

// A silent guest.

TEST_F(DynamicMemoryTest, AGuestThatNeverReportsKeepsWhatItHas) {
  guest.connect();
  guest.clock.advance(10min);
  EXPECT_FALSE(guest.receive());
  EXPECT_EQ(assigned(), 256 * kMebibyte);
}

TEST_F(DynamicMemoryTest, AGuestThatNeverAnswersIsAskedOnceAndGetsNothing) {
  guest.connect();
  ASSERT_TRUE(asked_after(5, 100 * kMebibyte));
  guest.report_for(29, 228 * kMebibyte);
  EXPECT_EQ(guest.provider.status(), "asked for pages");
  guest.report_for(600, 4096 * kMebibyte);
  EXPECT_EQ(guest.provider.status(), "does not answer");
  EXPECT_FALSE(guest.receive());
  EXPECT_EQ(guest.memory.size(), 256 * kMebibyte);
  guest.give({});  // it comes back
  guest.report_for(32, 4096 * kMebibyte);
  EXPECT_TRUE(guest.receive_as<HotAddRequest>(MessageType::HotAddRequest));
}

TEST_F(DynamicMemoryTest, AGuestThatNeverAnswersAnOfferGetsThatOneOnly) {
  guest.connect();
  guest.report_for(600, 4096 * kMebibyte);
  EXPECT_TRUE(guest.receive());
  EXPECT_FALSE(guest.receive());
  EXPECT_EQ(assigned(), 512 * kMebibyte) << "the largest step";
  EXPECT_EQ(guest.memory.size(), assigned());
}

TEST_F(DynamicMemoryTest, AFloodIsTakenInPortions) {
  guest.connect();
  unsigned sent = 0;
  while (sent < 2000 && guest.send_bytes(Bytes(3))) ++sent;
  guest.clock.advance(2s);
  EXPECT_EQ(guest.inspected("refused-messages"), std::to_string(sent));
}

// Limits and life.

TEST_F(DynamicMemoryTest, LimitsMoveWhileItRuns) {
  guest.connect();
  auto limits = guest.provider.limits();
  limits.maximum = 300 * kMebibyte;
  ASSERT_TRUE(guest.provider.set_limits(limits));
  guest.report_for(1, 1000 * kMebibyte);
  const auto request = guest.receive_as<HotAddRequest>(MessageType::HotAddRequest);
  ASSERT_TRUE(request);
  EXPECT_EQ(page_count(request->memory), 44 * kMebibyte);

  limits.maximum = 1025 * kMebibyte;
  EXPECT_EQ(guest.provider.set_limits(limits).error().message(), "this machine was made for at most 1024 MiB");
  limits.maximum = 255 * kMebibyte;
  EXPECT_FALSE(guest.provider.set_limits(limits));
  EXPECT_EQ(guest.provider.limits().maximum, 300 * kMebibyte);
}

TEST_F(DynamicMemoryTest, ALowerMaximumTakesMemoryBack) {
  guest.connect();
  guest.report_for(1, 1000 * kMebibyte);
  guest.receive();
  guest.hot_added(256 * kMebibyte);
  auto limits = guest.provider.limits();
  limits.maximum = 256 * kMebibyte;
  ASSERT_TRUE(guest.provider.set_limits(limits));
  EXPECT_EQ(asked_after(5, 1000 * kMebibyte), 256 * kMebibyte);
}

TEST_F(DynamicMemoryTest, ADriverThatGoesLeavesTheBalloonToTheGuest) {
  guest.connect();
  balloon(100 * kMebibyte, 0);
  guest.close();
  EXPECT_EQ(assigned(), 256 * kMebibyte);
  EXPECT_TRUE(guest.memory.has_all({0, 256 * kMebibyte}));
}

TEST_F(DynamicMemoryTest, OnAShortHostTheBalloonStaysTheHosts) {
  guest.connect();
  balloon(100 * kMebibyte, 0);
  guest.memory.set_host({.total = 16384 * kMebibyte, .available = 900 * kMebibyte});
  guest.close();
  EXPECT_EQ(assigned(), 128 * kMebibyte);
}

TEST_F(DynamicMemoryTest, AResetIsPowerOn) {
  guest.connect();
  guest.report_for(1, 1000 * kMebibyte);
  guest.receive();
  guest.hot_added(256 * kMebibyte);
  guest.fake.bus().reset();
  guest.provider.reset();
  EXPECT_EQ(assigned(), 256 * kMebibyte);
  EXPECT_EQ(guest.provider.status(), "no driver");
}

TEST_F(DynamicMemoryTest, IsSavedInTheMidstOfAnOfferAndGoesOn) {
  guest.connect();
  balloon(100 * kMebibyte, 0);
  guest.report_for(1, 328 * kMebibyte);
  ASSERT_TRUE(guest.receive());
  guest.unballooned();
  guest.report_for(2, 1000 * kMebibyte);
  guest.receive();
  guest.unballooned();
  guest.report_for(1, 1000 * kMebibyte);
  const auto offer = guest.receive_as<HotAddRequest>(MessageType::HotAddRequest);
  ASSERT_TRUE(offer);
  const Pages before = assigned();
  ASSERT_EQ(guest.memory.size(), before);
  const auto bus = guest.fake.bus().save();
  const auto saved = guest.provider.save();
  guest.fake.bus().reset();
  guest.provider.reset();
  guest.memory.power_on();
  ASSERT_TRUE(guest.fake.bus().restore(bus));
  ASSERT_TRUE(guest.provider.restore(saved));
  EXPECT_EQ(assigned(), before);
  EXPECT_EQ(guest.memory.size(), before);
  guest.hot_added(page_count(offer->memory));
  EXPECT_EQ(assigned(), before);
  EXPECT_EQ(guest.inspected("refused-messages"), "0");
}

}  // namespace
}  // namespace bulkhead::vsp::memory
