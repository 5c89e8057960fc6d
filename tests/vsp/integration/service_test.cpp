// SPDX-License-Identifier: Apache-2.0
// What all integration services share: versions, transactions, and guests that misbehave.
#include <gtest/gtest.h>

#include <memory>

#include "abi/integration/heartbeat.hpp"
#include "tests/vsp/integration/service_guest.hpp"
#include "vsp/integration/file_copy.hpp"
#include "vsp/integration/heartbeat.hpp"
#include "vsp/integration/key_value_exchange.hpp"
#include "vsp/integration/shutdown.hpp"
#include "vsp/integration/time_synchronization.hpp"
#include "vsp/integration/volume_snapshot.hpp"

namespace bulkhead::vsp::integration {
namespace {

using namespace std::chrono_literals;

class FixedReferenceTime final : public ReferenceTime {
 public:
  std::optional<std::uint64_t> reference_time() const override { return 12'345; }
};

/// A service by its name, with what is around it.
struct AnyService {
  explicit AnyService(const std::string& name) {
    if (name == "heartbeat") service = std::make_unique<Heartbeat>(clock, nullptr);
    if (name == "shutdown") service = std::make_unique<Shutdown>(clock);
    if (name == "time") service = std::make_unique<TimeSynchronization>(clock, wall_clock, &reference);
    if (name == "kvp") service = std::make_unique<KeyValueExchange>(clock);
    if (name == "vss") service = std::make_unique<VolumeSnapshot>(clock, nullptr);
    if (name == "fcopy") service = std::make_unique<FileCopy>(clock);
    guest.emplace(clock, *service, fake);
  }

  FakeClock clock;
  FakeWallClock wall_clock{clock, 1'700'000'000};
  FixedReferenceTime reference;
  std::unique_ptr<Service> service;
  vmbus::FakeGuest fake;
  std::optional<ServiceDriver> guest;
};

struct ServiceCase {
  std::string name;
  MessageType type;
  std::vector<Version> versions;  // newest first, as hyperv-abi.md has them
};

class EachService : public testing::TestWithParam<ServiceCase> {
 protected:
  AnyService any{GetParam().name};
  ServiceDriver& guest = *any.guest;
};

TEST_P(EachService, OffersItsVersionsFromTheNewestDown) {
  guest.open();
  const auto negotiation = guest.receive();
  ASSERT_TRUE(negotiation);
  EXPECT_EQ(negotiation->header.type, MessageType::Negotiate);
  EXPECT_EQ(negotiation->header.flags, MessageFlags::kTransaction | MessageFlags::kRequest);
  const auto offered = offered_in(*negotiation);
  EXPECT_EQ(offered.frameworks, (std::vector<Version>{{3, 0}, {1, 0}}));
  EXPECT_EQ(offered.messages, GetParam().versions);
}

TEST_P(EachService, TakesWhicheverOfItsVersionsTheGuestChooses) {
  for (const auto& version : GetParam().versions) {
    for (const auto& framework : {Version{3, 0}, Version{1, 0}}) {
      guest.connect(version, framework);
      EXPECT_EQ(any.service->phase(), Phase::Ready);
      EXPECT_EQ(any.service->versions(), (Versions{framework, version}));
      // What it then says carries them.
      if (const auto message = guest.receive()) {
        EXPECT_EQ(message->header.type, GetParam().type);
        EXPECT_EQ(message->header.message_version, version);
        EXPECT_EQ(message->header.framework_version, framework);
      }
      guest.close();
      EXPECT_EQ(any.service->phase(), Phase::Closed);
    }
  }
}

TEST_P(EachService, AGuestWithoutACommonVersionIsLeftAlone) {
  guest.open();
  const auto negotiation = guest.receive();
  guest.answer_with(*negotiation, abi::integration::Negotiate{});
  EXPECT_EQ(any.service->phase(), Phase::Incompatible);
  any.clock.advance(60s);
  EXPECT_FALSE(guest.receive());
}

TEST_P(EachService, AVersionThatWasNotOfferedIsAFault) {
  guest.open();
  guest.choose(*guest.receive(), {3, 0}, {9, 9});
  EXPECT_EQ(any.service->phase(), Phase::Incompatible);
  EXPECT_EQ(guest.inspected("malformed-messages"), "1");
  EXPECT_EQ(guest.inspected("last-fault"), "framework 3.0 and message 9.9, which were not offered");
}

TEST_P(EachService, ASecondChoiceOfVersionsIsNotTaken) {
  guest.open();
  const auto negotiation = guest.receive();
  guest.choose(*negotiation, {3, 0}, GetParam().versions.front());
  guest.choose(*negotiation, {1, 0}, GetParam().versions.back());
  EXPECT_EQ(any.service->versions(), (Versions{{3, 0}, GetParam().versions.front()}));
  EXPECT_EQ(guest.inspected("unexpected-messages"), "1");
}

TEST_P(EachService, NothingIsTakenFromAGuestThatWasNotAsked) {
  guest.open();
  const auto negotiation = guest.receive();
  MessageHeader header = negotiation->header;
  header.type = GetParam().type;
  header.flags = MessageFlags::kTransaction | MessageFlags::kResponse;
  guest.send(header, Bytes(64));
  EXPECT_EQ(any.service->phase(), Phase::Negotiating);
  EXPECT_EQ(guest.inspected("unexpected-messages"), "1");
}

TEST_P(EachService, GarbageIsCountedAndHarmsNothing) {
  guest.connect(GetParam().versions.front());
  const std::vector<Bytes> garbage = {
      {}, Bytes(3), Bytes(8), Bytes(27, 0xff), Bytes(4096, 0xff), vmbus::bytes_of(abi::integration::PipeHeader{1, 20})};
  for (const auto& payload : garbage) guest.send_raw(payload);
  any.clock.advance(1ms);
  EXPECT_EQ(guest.inspected("malformed-messages"), "6");
  EXPECT_EQ(any.service->phase(), Phase::Ready);
}

TEST_P(EachService, ARingTooSmallForAnyMessageEndsTheConversationOnly) {
  guest.open(2);
  // One page each way: NEGOTIATE fits, and the largest messages of some services do not.
  guest.choose(*guest.receive(), {3, 0}, GetParam().versions.front());
  any.clock.advance(60s);
  guest.close();
  EXPECT_EQ(any.service->phase(), Phase::Closed);
}

TEST_P(EachService, AFloodIsTakenInPortions) {
  guest.connect(GetParam().versions.front());
  while (guest.receive()) {
  }
  unsigned sent = 0;
  while (guest.send_raw(Bytes(8), 0, false)) ++sent;
  ASSERT_GT(sent, 200u);
  guest.send_raw(Bytes(8));  // one more has no room; the signal comes through
  const auto taken = std::stoul(guest.inspected("malformed-messages"));
  EXPECT_LT(taken, sent) << "all of them at once";
  any.clock.advance(1s);
  EXPECT_EQ(guest.inspected("malformed-messages"), std::to_string(sent));
}

TEST_P(EachService, APacketThatWantsACompletionGetsOne) {
  guest.connect(GetParam().versions.front());
  while (guest.receive()) {
  }
  guest.send_raw(Bytes(8), abi::vmbus::kCompletionRequested);
  const auto packet = guest.channel().from_host.read();
  ASSERT_TRUE(packet);
  EXPECT_EQ(packet->descriptor.type, abi::vmbus::PacketType::Completion);
  EXPECT_EQ(packet->descriptor.transaction, 9u);
}

TEST_P(EachService, AResetForgetsEverything) {
  guest.connect(GetParam().versions.front());
  guest.send_raw(Bytes(8));
  any.fake.bus().reset();
  any.service->reset();
  EXPECT_EQ(any.service->phase(), Phase::Closed);
  EXPECT_EQ(guest.inspected("malformed-messages"), "0");
  any.clock.advance(60s);
}

TEST_P(EachService, SavedStateGoesOnWithTheSameVersions) {
  const Version version = GetParam().versions.back();
  guest.connect(version);
  while (guest.receive()) {
  }
  const auto bus = any.fake.bus().save();
  const auto saved = any.service->save();

  // Another host: the same service on another bus, over the same guest memory.
  AnyService other(GetParam().name);
  EXPECT_FALSE(other.service->restore(saved)) << "its channel is closed here";
  vmbus::FakeGuest& here = any.fake;
  here.bus().reset();
  any.service->reset();
  ASSERT_TRUE(here.bus().restore(bus));
  ASSERT_TRUE(any.service->restore(saved));
  EXPECT_EQ(any.service->phase(), Phase::Ready);
  EXPECT_EQ(any.service->versions().message, version);
  any.clock.advance(11s);
}

INSTANTIATE_TEST_SUITE_P(
    Services, EachService,
    testing::Values(ServiceCase{"heartbeat", MessageType::Heartbeat, {{3, 0}, {1, 0}}},
                    ServiceCase{"shutdown", MessageType::Shutdown, {{3, 2}, {3, 1}, {3, 0}, {1, 0}}},
                    ServiceCase{"time", MessageType::TimeSynchronization, {{4, 0}, {3, 0}, {1, 0}}},
                    ServiceCase{"kvp", MessageType::KeyValueExchange, {{5, 0}, {4, 0}, {3, 0}, {1, 0}}},
                    ServiceCase{"vss", MessageType::VolumeSnapshot, {{5, 0}}},
                    ServiceCase{"fcopy", MessageType::FileCopy, {{1, 1}}}),
    [](const auto& instance) { return instance.param.name; });

/// What is the same for all is shown with one of them.
class Transactions : public testing::Test {
 protected:
  Transactions() {
    rig.guest.connect({3, 0});
    beat = *rig.guest.receive();
  }
  Bytes right_answer() const {
    auto body = beat.as<abi::integration::Heartbeat>();
    ++body.sequence;
    return vmbus::bytes_of(body);
  }

  Rig<Heartbeat> rig{nullptr};
  HostMessage beat;
};

TEST_F(Transactions, AReplayIsNoAnswer) {
  rig.guest.answer(beat, right_answer());
  rig.guest.answer(beat, right_answer());
  EXPECT_EQ(rig.guest.inspected("answers"), "1");
  EXPECT_EQ(rig.guest.inspected("unexpected-messages"), "1");
}

TEST_F(Transactions, AnotherTransactionIsNoAnswer) {
  beat.header.transaction += 1;
  rig.guest.answer(beat, right_answer());
  EXPECT_EQ(rig.guest.inspected("unexpected-messages"), "1");
  EXPECT_EQ(rig.service.heartbeat(), HeartbeatState::NoContact);
}

TEST_F(Transactions, ARequestComingBackIsNoAnswer) {
  rig.guest.send(beat.header, right_answer());
  EXPECT_EQ(rig.guest.inspected("unexpected-messages"), "1");
}

TEST_F(Transactions, AMessageOfAnotherServiceIsNoAnswer) {
  beat.header.type = MessageType::Shutdown;
  rig.guest.answer(beat, right_answer());
  EXPECT_EQ(rig.guest.inspected("unexpected-messages"), "1");
}

TEST_F(Transactions, AnAnswerThatComesTooLateIsNoAnswer) {
  rig.clock.advance(5s);
  EXPECT_EQ(rig.guest.inspected("unanswered-requests"), "1");
  rig.guest.answer(beat, right_answer());
  EXPECT_EQ(rig.guest.inspected("unexpected-messages"), "1");
  EXPECT_EQ(rig.service.heartbeat(), HeartbeatState::Lost);
}

TEST_F(Transactions, ABodyThatIsCutShortIsAFault) {
  rig.guest.answer(beat, Bytes(8));
  EXPECT_EQ(rig.guest.inspected("malformed-messages"), "1");
  EXPECT_EQ(rig.guest.inspected("last-fault"), "an answer that makes no sense");
}

}  // namespace
}  // namespace bulkhead::vsp::integration
