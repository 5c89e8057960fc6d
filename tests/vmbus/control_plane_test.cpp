// SPDX-License-Identifier: Apache-2.0
// The control messages of VMBus, as a guest sees them.
#include <gtest/gtest.h>

#include "tests/vmbus/fake_guest.hpp"
#include "vmbus/message_table.hpp"

namespace bulkhead::vmbus {
namespace {

using namespace abi::vmbus;

constexpr ChannelId kFirst{1};

class ControlPlaneTest : public testing::Test {
 protected:
  FakeGuest guest;
  EchoProvider provider;

  const ChannelState& state_of(ChannelId id) { return *guest.bus().control_plane().find(id); }
  std::uint64_t rejected() { return guest.bus().control_plane().rejected_messages(); }
};

TEST_F(ControlPlaneTest, EveryVersionFrom0_13To5_3IsSpoken) {
  for (const auto version : {Version::V0_13, Version::V1_1, Version::V2_4, Version::V3_0, Version::V4_0, Version::V4_1,
                             Version::V5_0, Version::V5_1, Version::V5_2, Version::V5_3}) {
    EXPECT_TRUE(guest.contact(version)) << std::hex << std::to_underlying(version);
    EXPECT_EQ(guest.bus().control_plane().version(), version);
  }
}

TEST_F(ControlPlaneTest, AnUnknownVersionIsRefusedAndALowerOneMayFollow) {
  EXPECT_FALSE(guest.contact(Version::V6_0));
  EXPECT_FALSE(guest.contact(Version{0x00010000}));
  EXPECT_FALSE(guest.contact(Version{0x00050099}));
  EXPECT_EQ(guest.bus().control_plane().state(), ConnectionState::Disconnected);
  EXPECT_TRUE(guest.contact(Version::V5_3));
}

TEST_F(ControlPlaneTest, AVersionFrom5_0OnIsToldItsMessageConnection) {
  InitiateContact message{};
  message.header.type = MessageType::InitiateContact;
  message.version = Version::V5_2;
  message.target_vp = abi::VpIndex{1};
  message.target_sint = kVmbusSint;
  guest.post(message);
  const auto response = guest.take_as<VersionResponse>(MessageType::VersionResponse, 1);
  ASSERT_TRUE(response);
  EXPECT_EQ(response->supported, 1);
  EXPECT_EQ(response->status, ConnectionStatus::Success);
  EXPECT_EQ(response->connection_or_version, 4u);
}

TEST_F(ControlPlaneTest, AContactMayBeLongerThanItIsKnownButNotShorter) {
  InitiateContact message{};
  message.header.type = MessageType::InitiateContact;
  message.version = Version::V4_0;
  Bytes bytes = bytes_of(message);
  bytes.resize(bytes.size() + 16);
  guest.post_bytes(bytes);
  EXPECT_TRUE(guest.take_as<VersionResponse>(MessageType::VersionResponse));
  bytes.resize(sizeof message - 1);
  guest.post_bytes(bytes);
  EXPECT_FALSE(guest.take());
  EXPECT_EQ(rejected(), 1u);
}

TEST_F(ControlPlaneTest, AContactForAnotherSintOrAMissingProcessorIsNotAnswered) {
  InitiateContact message{};
  message.header.type = MessageType::InitiateContact;
  message.version = Version::V5_3;
  message.target_sint = abi::Sint{3};
  guest.post(message);
  message.target_sint = kVmbusSint;
  message.target_vp = abi::VpIndex{2};
  guest.post(message);
  EXPECT_FALSE(guest.take(0));
  EXPECT_EQ(rejected(), 2u);
}

TEST_F(ControlPlaneTest, OffersSayWhatTheChannelIsAndEndWithAllOffersDelivered) {
  OfferParameters parameters = test_offer(5);
  parameters.mmio_megabytes = 8;
  parameters.user_data[3] = 0x55;
  ASSERT_TRUE(guest.bus().offer(parameters, provider, ChannelId{9}));
  ASSERT_TRUE(guest.contact(Version::V5_3));
  guest.post(EmptyMessage{{MessageType::RequestOffers, 0}});
  const auto offer = guest.take_as<OfferChannel>(MessageType::OfferChannel);
  ASSERT_TRUE(offer);
  EXPECT_EQ(offer->interface_type, parameters.interface_type);
  EXPECT_EQ(offer->instance, parameters.instance);
  EXPECT_EQ(offer->mmio_megabytes, 8);
  EXPECT_EQ(offer->user_data[3], 0x55);
  EXPECT_EQ(offer->channel, ChannelId{9});
  EXPECT_EQ(offer->connection, abi::ConnectionId{0x2009});
  EXPECT_EQ(offer->dedicated_interrupt, 1);
  EXPECT_EQ(offer->monitor_allocated, 0);
  EXPECT_TRUE(guest.take_as<EmptyMessage>(MessageType::AllOffersDelivered));
  EXPECT_FALSE(guest.take());
}

TEST_F(ControlPlaneTest, MessagesBeforeTheContactAreNotHeard) {
  ASSERT_TRUE(guest.bus().offer(test_offer(), provider));
  for (const auto& kind : message_kinds()) {
    if (kind.type == MessageType::InitiateContact) continue;
    Bytes message(abi::kMessagePayloadSize);
    message[0] = static_cast<std::uint8_t>(kind.type);
    guest.post_bytes(message);
    EXPECT_FALSE(guest.take()) << kind.name;
  }
}

TEST_F(ControlPlaneTest, EveryMessageShorterThanItsLeastSizeChangesNothing) {
  ASSERT_TRUE(guest.bus().offer(test_offer(), provider));
  guest.connect();
  for (const auto& kind : message_kinds()) {
    for (std::size_t size = 0; size < kind.smallest_size; ++size) {
      Bytes message(size);
      if (size > 0) message[0] = static_cast<std::uint8_t>(kind.type);
      guest.post_bytes(message);
      ASSERT_FALSE(guest.take()) << kind.name << " of " << size << " bytes";
    }
  }
  EXPECT_EQ(guest.bus().control_plane().state(), ConnectionState::OffersDelivered);
}

TEST_F(ControlPlaneTest, ADeviceAddedLaterIsOfferedAtOnceAndOneTakenAwayIsRescinded) {
  guest.connect();
  const auto id = guest.bus().offer(test_offer(), provider);
  ASSERT_TRUE(id);
  EXPECT_TRUE(guest.take_as<OfferChannel>(MessageType::OfferChannel));
  guest.bus().revoke(*id);
  const auto rescind = guest.take_as<ChannelMessage>(MessageType::RescindOffer);
  ASSERT_TRUE(rescind);
  EXPECT_EQ(rescind->channel, *id);
  EXPECT_NE(guest.bus().find(*id), nullptr) << "the guest has not let go yet";
  guest.post(ChannelMessage{.header = {MessageType::RelIdReleased, 0}, .channel = *id});
  EXPECT_EQ(guest.bus().find(*id), nullptr);
}

TEST_F(ControlPlaneTest, AnOpenChannelThatIsRescindedIsClosedAndLetGoInAnyOrder) {
  ASSERT_TRUE(guest.bus().offer(test_offer(), provider));
  guest.connect();
  provider.closes_later = true;
  const auto channel = guest.open(kFirst);
  ASSERT_TRUE(channel);
  guest.bus().revoke(kFirst);
  EXPECT_EQ(provider.closes, 1u);
  EXPECT_TRUE(guest.take_as<ChannelMessage>(MessageType::RescindOffer));
  guest.close(*channel);
  EXPECT_FALSE(guest.take_back(*channel)) << "the provider still uses the rings";
  guest.post(ChannelMessage{.header = {MessageType::RelIdReleased, 0}, .channel = kFirst});
  ASSERT_NE(guest.bus().find(kFirst), nullptr);
  guest.bus().find(kFirst)->close_finished();
  EXPECT_TRUE(guest.take_as<GpadlTorndown>(MessageType::GpadlTorndown));
  EXPECT_EQ(guest.bus().find(kFirst), nullptr);
}

TEST_F(ControlPlaneTest, AListOfManyPagesComesInManyMessages) {
  ASSERT_TRUE(guest.bus().offer(test_offer(), provider));
  guest.connect();
  const auto pages = guest.allocate(500);
  EXPECT_EQ(guest.lend(kFirst, GpadlId{77}, pages), kStatusSuccess);
  const GuestRanges* ranges = guest.bus().find(kFirst)->use_gpadl(GpadlId{77});
  ASSERT_NE(ranges, nullptr);
  EXPECT_EQ(ranges->byte_count(), 500u * 4096);
  ASSERT_EQ(ranges->ranges().size(), 1u);
  EXPECT_TRUE(std::ranges::equal(ranges->ranges()[0].pages, pages));
}

TEST_F(ControlPlaneTest, AListThatIsInUseIsGivenBackWhenTheProviderIsThrough) {
  ASSERT_TRUE(guest.bus().offer(test_offer(), provider));
  guest.connect();
  const auto pages = guest.allocate(3);
  ASSERT_EQ(guest.lend(kFirst, GpadlId{5}, pages), kStatusSuccess);
  Channel* channel = guest.bus().find(kFirst);
  ASSERT_NE(channel->use_gpadl(GpadlId{5}), nullptr);
  guest.post(GpadlTeardown{.header = {MessageType::GpadlTeardown, 0}, .channel = kFirst, .gpadl = GpadlId{5}});
  EXPECT_FALSE(guest.take());
  EXPECT_EQ(provider.wanted, std::vector{GpadlId{5}});
  EXPECT_EQ(channel->use_gpadl(GpadlId{5}), nullptr) << "it is asked back";
  channel->return_gpadl(GpadlId{5});
  EXPECT_TRUE(guest.take_as<GpadlTorndown>(MessageType::GpadlTorndown));
  EXPECT_EQ(guest.lend(kFirst, GpadlId{5}, pages), kStatusSuccess) << "the id may be used again";
}

TEST_F(ControlPlaneTest, ListsThatCannotBeAreRefused) {
  ASSERT_TRUE(guest.bus().offer(test_offer(), provider));
  guest.connect();
  const auto refused = [&](std::uint16_t size, std::uint16_t count, std::vector<std::uint64_t> data) {
    Bytes message = bytes_of(GpadlHeader{.header = {MessageType::GpadlHeader, 0},
                                         .channel = kFirst,
                                         .gpadl = GpadlId{1},
                                         .range_data_size = size,
                                         .range_count = count});
    for (const auto value : data) {
      const Bytes bytes = bytes_of(value);
      message.insert(message.end(), bytes.begin(), bytes.end());
    }
    guest.post_bytes(message);
    const auto created = guest.take_as<GpadlCreated>(MessageType::GpadlCreated);
    return created && created->status != kStatusSuccess;
  };
  EXPECT_TRUE(refused(0, 1, {})) << "nothing";
  EXPECT_TRUE(refused(16, 0, {0x1000, 3})) << "no ranges";
  EXPECT_TRUE(refused(12, 1, {0x1000, 3})) << "a size that is not whole numbers";
  EXPECT_TRUE(refused(16, 1, {0, 3})) << "an empty range";
  EXPECT_TRUE(refused(16, 1, {0x1000'0000'1000, 3})) << "an offset beyond the page";
  EXPECT_TRUE(refused(16, 1, {0x2000, 3})) << "fewer pages than bytes";
  EXPECT_TRUE(refused(16, 2, {0x1000, 3})) << "fewer ranges than announced";
  EXPECT_TRUE(refused(16, 1, {0xffff'ffff, 3})) << "more bytes than any list can have";
}

TEST_F(ControlPlaneTest, ARingNeedsAtLeastAControlPageAndADataPageInEachDirection) {
  ASSERT_TRUE(guest.bus().offer(test_offer(), provider));
  guest.connect();
  ASSERT_EQ(guest.lend(kFirst, GpadlId{1}, guest.allocate(6)), kStatusSuccess);
  OpenChannel message{};
  message.header.type = MessageType::OpenChannel;
  message.channel = kFirst;
  message.ring_gpadl = GpadlId{1};
  for (const std::uint32_t offset : {0u, 1u, 5u, 6u, 7u, 0xffffffffu}) {
    message.downstream_page_offset = offset;
    guest.post(message);
    const auto result = guest.take_as<OpenChannelResult>(MessageType::OpenChannelResult);
    ASSERT_TRUE(result);
    EXPECT_NE(result->status, kStatusSuccess) << offset;
  }
  message.downstream_page_offset = 4;
  guest.post(message);
  EXPECT_EQ(guest.take_as<OpenChannelResult>(MessageType::OpenChannelResult)->status, kStatusSuccess);
}

TEST_F(ControlPlaneTest, ARingOutsideOfTheGuestsMemoryIsRefused) {
  ASSERT_TRUE(guest.bus().offer(test_offer(), provider));
  guest.connect();
  auto pages = guest.allocate(4);
  pages[3] = 0xfff'ffff'ffff'ffff;
  ASSERT_EQ(guest.lend(kFirst, GpadlId{1}, pages), kStatusSuccess);
  OpenChannel message{};
  message.header.type = MessageType::OpenChannel;
  message.channel = kFirst;
  message.ring_gpadl = GpadlId{1};
  message.downstream_page_offset = 2;
  guest.post(message);
  EXPECT_NE(guest.take_as<OpenChannelResult>(MessageType::OpenChannelResult)->status, kStatusSuccess);
  EXPECT_EQ(provider.opens, 0u);
  EXPECT_EQ(state_of(kFirst).ring, RingState::Closed);
}

TEST_F(ControlPlaneTest, AChannelIsOpenedClosedAndOpenedAgain) {
  ASSERT_TRUE(guest.bus().offer(test_offer(), provider));
  guest.connect();
  for (unsigned round = 1; round <= 3; ++round) {
    const auto channel = guest.open(kFirst);
    ASSERT_TRUE(channel);
    EXPECT_EQ(provider.opens, round);
    guest.close(*channel);
    EXPECT_EQ(provider.closes, round);
    EXPECT_TRUE(guest.take_back(*channel));
  }
}

TEST_F(ControlPlaneTest, AProviderMayRefuseAnOpening) {
  ASSERT_TRUE(guest.bus().offer(test_offer(), provider));
  guest.connect();
  provider.refuses = true;
  EXPECT_FALSE(guest.open(kFirst));
  provider.refuses = false;
  EXPECT_TRUE(guest.open(kFirst));
}

TEST_F(ControlPlaneTest, AReplayedOpenOrCloseChangesNothing) {
  ASSERT_TRUE(guest.bus().offer(test_offer(), provider));
  guest.connect();
  const auto channel = guest.open(kFirst);
  ASSERT_TRUE(channel);
  OpenChannel again{};
  again.header.type = MessageType::OpenChannel;
  again.channel = kFirst;
  again.ring_gpadl = channel->gpadl;
  again.downstream_page_offset = 4;
  guest.post(again);
  EXPECT_NE(guest.take_as<OpenChannelResult>(MessageType::OpenChannelResult)->status, kStatusSuccess);
  EXPECT_EQ(provider.opens, 1u);
  guest.close(*channel);
  guest.close(*channel);
  EXPECT_EQ(provider.closes, 1u);
}

TEST_F(ControlPlaneTest, AChannelCanBeMovedToAnotherProcessorFrom4_1AndIsToldSoFrom5_3) {
  ASSERT_TRUE(guest.bus().offer(test_offer(), provider));
  guest.connect(Version::V5_3);
  ASSERT_TRUE(guest.open(kFirst));
  ModifyChannel message{.header = {MessageType::ModifyChannel, 0}, .channel = kFirst, .target_vp = abi::VpIndex{1}};
  guest.post(message);
  EXPECT_EQ(guest.take_as<ModifyChannelResponse>(MessageType::ModifyChannelResponse)->status, kStatusSuccess);
  EXPECT_EQ(guest.bus().find(kFirst)->target_vp(), abi::VpIndex{1});
  message.target_vp = abi::VpIndex{2};
  guest.post(message);
  EXPECT_NE(guest.take_as<ModifyChannelResponse>(MessageType::ModifyChannelResponse)->status, kStatusSuccess);

  guest.connect(Version::V4_1);
  ASSERT_TRUE(guest.open(kFirst));
  message.target_vp = abi::VpIndex{1};
  guest.post(message);
  EXPECT_FALSE(guest.take());
  EXPECT_EQ(guest.bus().find(kFirst)->target_vp(), abi::VpIndex{1});

  guest.connect(Version::V4_0);
  ASSERT_TRUE(guest.open(kFirst));
  guest.post(message);
  EXPECT_EQ(guest.bus().find(kFirst)->target_vp(), abi::VpIndex{0}) << "4.0 has no such message";
}

TEST_F(ControlPlaneTest, UnloadIsAnsweredWhenEveryProviderHasLetGo) {
  ASSERT_TRUE(guest.bus().offer(test_offer(), provider));
  guest.connect();
  provider.closes_later = true;
  ASSERT_TRUE(guest.open(kFirst));
  guest.post(EmptyMessage{{MessageType::Unload, 0}});
  EXPECT_FALSE(guest.take());
  guest.bus().find(kFirst)->close_finished();
  EXPECT_TRUE(guest.take_as<EmptyMessage>(MessageType::UnloadComplete));
  EXPECT_EQ(guest.connect().size(), 1u);
}

TEST_F(ControlPlaneTest, AKernelThatStartsAnewGetsACleanBus) {
  ASSERT_TRUE(guest.bus().offer(test_offer(), provider));
  guest.connect();
  ASSERT_TRUE(guest.open(kFirst));
  EXPECT_EQ(guest.connect(Version::V4_0).size(), 1u) << "contact without an unload";
  EXPECT_EQ(provider.closes, 1u);
  EXPECT_EQ(state_of(kFirst).ring, RingState::Closed);
  EXPECT_TRUE(guest.open(kFirst)) << "the old lists are gone";
}

TEST_F(ControlPlaneTest, AResetClosesEverythingAndSaysNothing) {
  ASSERT_TRUE(guest.bus().offer(test_offer(), provider));
  guest.connect();
  ASSERT_TRUE(guest.open(kFirst));
  guest.bus().reset();
  EXPECT_EQ(provider.closes, 1u);
  EXPECT_FALSE(guest.take());
  EXPECT_EQ(guest.connect().size(), 1u);
}

TEST_F(ControlPlaneTest, AChannelRescindedIsNotOfferedToTheNextKernel) {
  ASSERT_TRUE(guest.bus().offer(test_offer(1), provider));
  ASSERT_TRUE(guest.bus().offer(test_offer(2), provider));
  EXPECT_EQ(guest.connect().size(), 2u);
  guest.bus().revoke(kFirst);
  EXPECT_TRUE(guest.take_as<ChannelMessage>(MessageType::RescindOffer));
  const auto offers = guest.connect();
  ASSERT_EQ(offers.size(), 1u);
  EXPECT_EQ(offers[0].channel, ChannelId{2});
}

TEST_F(ControlPlaneTest, SubChannelsComeWithTheirPrimaryAndGoWithIt) {
  ASSERT_TRUE(guest.bus().offer(test_offer(), provider));
  guest.connect();
  const auto primary = guest.open(kFirst);
  ASSERT_TRUE(primary);
  ASSERT_TRUE(guest.bus().find(kFirst)->offer_sub_channels(2));
  for (const std::uint16_t index : {1, 2}) {
    const auto offer = guest.take_as<OfferChannel>(MessageType::OfferChannel);
    ASSERT_TRUE(offer);
    EXPECT_EQ(offer->sub_channel_index, index);
    EXPECT_EQ(offer->instance, test_offer().instance);
  }
  ASSERT_TRUE(guest.open(ChannelId{2}, 4, 1));
  EXPECT_EQ(guest.bus().find(ChannelId{2})->sub_channel_index(), 1);
  guest.close(*primary);
  EXPECT_EQ(guest.take_as<ChannelMessage>(MessageType::RescindOffer)->channel, ChannelId{2});
  EXPECT_EQ(guest.take_as<ChannelMessage>(MessageType::RescindOffer)->channel, ChannelId{3});
  for (const auto id : {ChannelId{2}, ChannelId{3}}) {
    guest.post(ChannelMessage{.header = {MessageType::RelIdReleased, 0}, .channel = id});
    EXPECT_EQ(guest.bus().find(id), nullptr);
  }
}

TEST_F(ControlPlaneTest, ASubChannelThatTheGuestHasClosedAndReleasedIsGone) {
  ASSERT_TRUE(guest.bus().offer(test_offer(), provider));
  guest.connect();
  ASSERT_TRUE(guest.open(kFirst));
  ASSERT_TRUE(guest.bus().find(kFirst)->offer_sub_channels(1));
  ASSERT_TRUE(guest.take());
  const auto sub = guest.open(ChannelId{2});
  ASSERT_TRUE(sub);
  guest.close(*sub);
  guest.post(ChannelMessage{.header = {MessageType::RelIdReleased, 0}, .channel = ChannelId{2}});
  EXPECT_EQ(guest.bus().find(ChannelId{2}), nullptr);
}

TEST_F(ControlPlaneTest, AConnectionToASocketOfTheHostIsRefused) {
  guest.connect();
  TlConnectRequest request{};
  request.header.type = MessageType::TlConnectRequest;
  request.service.first = 22;
  guest.post(request);
  const auto result = guest.take_as<TlConnectResult>(MessageType::TlConnectResult);
  ASSERT_TRUE(result);
  EXPECT_EQ(result->service.first, 22u);
  EXPECT_EQ(result->status, kStatusConnectionRefused);
}

TEST_F(ControlPlaneTest, AGuestThatTakesNoMessagesIsToldToWait) {
  guest.connect();
  TlConnectRequest request{};
  request.header.type = MessageType::TlConnectRequest;
  Acceptance acceptance = Acceptance::Taken;
  unsigned taken = 0;
  for (; acceptance == Acceptance::Taken && taken < 10'000; ++taken) acceptance = guest.post(request);
  EXPECT_EQ(acceptance, Acceptance::NoBuffers);
  EXPECT_LE(guest.bus().messages().size(), MessageQueue::kBacklog);
  while (guest.take()) {
  }
  EXPECT_EQ(guest.post(request), Acceptance::Taken);
}

TEST_F(ControlPlaneTest, AGuestCannotLendWithoutEnd) {
  ASSERT_TRUE(guest.bus().offer(test_offer(), provider));
  guest.connect();
  const std::vector<std::uint64_t> pages(8000, 20);
  unsigned lent = 0;
  while (lent < 10'000 && guest.lend(kFirst, GpadlId{lent}, pages) == kStatusSuccess) ++lent;
  EXPECT_GT(lent, 10u);
  EXPECT_LE(lent * pages.size(), GpadlTable::kMaximumPages);
}

TEST_F(ControlPlaneTest, AnUnknownConnectionHasNobodyListening) {
  EXPECT_EQ(guest.post_bytes(Bytes(40), abi::ConnectionId{3}), Acceptance::NoSuchConnection);
  EXPECT_EQ(guest.bus().event_signaled(abi::ConnectionId{0x2001}, 0), Acceptance::NoSuchConnection);
  EXPECT_EQ(guest.bus().event_signaled(abi::ConnectionId{0}, 0), Acceptance::NoSuchConnection);
}

TEST_F(ControlPlaneTest, ChannelNumbersAndInstancesAreGivenOnce) {
  ASSERT_TRUE(guest.bus().offer(test_offer(1), provider, ChannelId{4}));
  EXPECT_FALSE(guest.bus().offer(test_offer(2), provider, ChannelId{4}));
  EXPECT_FALSE(guest.bus().offer(test_offer(1), provider));
  EXPECT_FALSE(guest.bus().offer(test_offer(2), provider, ChannelId{0}));
  EXPECT_FALSE(guest.bus().offer(test_offer(2), provider, ChannelId{2048}));
}

}  // namespace
}  // namespace bulkhead::vmbus
