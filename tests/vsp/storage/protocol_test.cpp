// SPDX-License-Identifier: Apache-2.0
// How a guest and a controller come to terms.
#include <gtest/gtest.h>

#include "tests/vsp/storage/storage_guest.hpp"

namespace bulkhead::vsp::storage {
namespace {

using abi::storage::Version;

abi::storage::Packet version_query(Version version) {
  abi::storage::Packet packet{};
  packet.header.operation = Operation::QueryProtocolVersion;
  packet.version.version = version;
  return packet;
}

abi::storage::Packet sub_channel_request(std::uint16_t count) {
  abi::storage::Packet packet{};
  packet.header.operation = Operation::CreateSubChannels;
  packet.sub_channel_count = count;
  return packet;
}

TEST(StorageProtocol, AnswersEachStepWithACompletionAsLongAsItsRequest) {
  StorageGuest guest;
  guest.open();
  for (const auto operation : {Operation::BeginInitialization, Operation::QueryProtocolVersion,
                               Operation::QueryProperties, Operation::EndInitialization}) {
    auto packet = version_query(Version::V6_2);
    packet.header.operation = operation;
    const auto answer = guest.ask(packet);
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->size, sizeof(abi::storage::Packet));
    EXPECT_EQ(answer->packet.header.operation, Operation::CompleteIo);
    EXPECT_EQ(answer->status(), NtStatus::Success);
  }
}

TEST(StorageProtocol, RefusesVersionsUntilOneSuits) {
  StorageGuest guest;
  guest.open();
  guest.ask(Operation::BeginInitialization);
  EXPECT_EQ(guest.ask(version_query(Version{0x0a00}))->status(), NtStatus::RevisionMismatch);
  EXPECT_EQ(guest.ask(version_query(Version::V2_0))->status(), NtStatus::RevisionMismatch);
  EXPECT_EQ(guest.ask(version_query(Version::V6_0))->status(), NtStatus::Success);
}

TEST(StorageProtocol, TellsWhatTheChannelCan) {
  StorageGuest guest;
  guest.open();
  guest.ask(Operation::BeginInitialization);
  guest.ask(version_query(Version::V6_2));
  const auto answer = guest.ask(Operation::QueryProperties);
  EXPECT_EQ(answer->packet.properties.maximum_sub_channels, 3);
  EXPECT_EQ(answer->packet.properties.flags, abi::storage::kSupportsSubChannels);
  EXPECT_EQ(answer->packet.properties.maximum_transfer, 256u * 1024);
}

TEST(StorageProtocol, AStepOutOfTurnChangesNothing) {
  StorageGuest guest;
  guest.open();
  EXPECT_EQ(guest.ask(Operation::EndInitialization)->status(), NtStatus::InvalidDeviceState);
  EXPECT_EQ(guest.ask(Operation::QueryProperties)->status(), NtStatus::InvalidDeviceState);
  EXPECT_EQ(guest.ask(Operation::ExecuteSrb)->status(), NtStatus::InvalidDeviceState);
  EXPECT_EQ(guest.ask(Operation::BeginInitialization)->status(), NtStatus::Success);
  EXPECT_EQ(guest.ask(Operation::BeginInitialization)->status(), NtStatus::InvalidDeviceState);
}

TEST(StorageProtocol, BeginsAnewWhenTheChannelIsOpenedAgain) {
  StorageGuest guest;
  guest.add_disk(0);
  guest.initialize();
  guest.fake().close(guest.channel());
  EXPECT_TRUE(guest.fake().take_back(guest.channel()));
  guest.initialize();
  EXPECT_EQ(guest.execute({0, 0, 0, 0, 0, 0})->srb(), SrbStatus::Success);
}

TEST(StorageProtocol, AnOldGuestsPacketsAreShorter) {
  StorageGuest guest;
  guest.add_disk(0);
  guest.initialize(Version::V4_2);
  guest.take_announcement();
  const auto answer = guest.execute({0, 0, 0, 0, 0, 0});
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->size, abi::storage::kPacketSizeBefore5_1);
  EXPECT_EQ(answer->srb(), SrbStatus::Success);
}

TEST(StorageProtocol, OffersAsManySubChannelsAsWereAsked) {
  StorageGuest guest;
  guest.initialize();
  EXPECT_EQ(guest.ask(sub_channel_request(4))->status(), NtStatus::InvalidParameter) << "it has three";
  EXPECT_EQ(guest.ask(sub_channel_request(2))->status(), NtStatus::Success);
  for (std::uint16_t index = 1; index <= 2; ++index) {
    const auto offer = guest.fake().take_as<abi::vmbus::OfferChannel>(abi::vmbus::MessageType::OfferChannel);
    ASSERT_TRUE(offer);
    EXPECT_EQ(offer->sub_channel_index, index);
    EXPECT_EQ(offer->interface_type, abi::storage::kScsiInterface);
  }
  EXPECT_EQ(guest.ask(sub_channel_request(2))->status(), NtStatus::InvalidParameter) << "one is left";
}

TEST(StorageProtocol, CommandsGoThroughSubChannelsAndAreAnsweredThere) {
  StorageGuest guest;
  guest.add_disk(0);
  guest.initialize();
  guest.take_announcement();
  guest.ask(sub_channel_request(1));
  const auto offer = guest.fake().take_as<abi::vmbus::OfferChannel>(abi::vmbus::MessageType::OfferChannel);
  auto sub = guest.fake().open(offer->channel, 8);
  ASSERT_TRUE(sub);
  guest.host().run();
  abi::storage::Packet packet{};
  packet.header.operation = Operation::ExecuteSrb;
  packet.scsi.cdb_length = 6;
  ASSERT_TRUE(sub->to_host.write(abi::vmbus::PacketType::InBand, 1, 77, {}, vmbus::bytes_of(packet)));
  guest.fake().signal(offer->channel);
  guest.host().run();
  const auto answer = sub->from_host.read();
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->descriptor.transaction, 77u);
  EXPECT_FALSE(guest.take_answer());
}

TEST(StorageProtocol, OnlyThePrimaryChannelInitializes) {
  StorageGuest guest;
  guest.initialize();
  guest.ask(sub_channel_request(1));
  const auto offer = guest.fake().take_as<abi::vmbus::OfferChannel>(abi::vmbus::MessageType::OfferChannel);
  auto sub = guest.fake().open(offer->channel, 8);
  ASSERT_TRUE(sub);
  ASSERT_TRUE(sub->to_host.write(abi::vmbus::PacketType::InBand, 1, 78, {}, vmbus::bytes_of(sub_channel_request(1))));
  guest.fake().signal(offer->channel);
  guest.host().run();
  const auto answer = sub->from_host.read();
  ASSERT_TRUE(answer);
  EXPECT_EQ(vmbus::part_of<abi::storage::Packet>(answer->payload).header.status, NtStatus::InvalidDeviceRequest);
}

TEST(StorageProtocol, AnIdeDiskIsOfferedAtItsAddress) {
  StorageGuest guest({.name = "ide3", .kind = ControllerKind::IdeDisk, .ide_path = 1, .ide_target = 1});
  const auto offer = guest.controller().offer();
  EXPECT_EQ(offer.interface_type, abi::storage::kIdeInterface);
  EXPECT_EQ(offer.instance, abi::Guid::of("00000001-0001-8899-0000-000000000000"));
  EXPECT_EQ(offer.user_data[2], 1);
  EXPECT_EQ(offer.user_data[3], 1);
  EXPECT_EQ(offer.user_data[8], 2);
  // Linux calls it by no address, whatever the instance says.
  guest.add_disk(0);
  guest.initialize();
  EXPECT_EQ(guest.execute({0, 0, 0, 0, 0, 0})->srb(), SrbStatus::Success);
}

}  // namespace
}  // namespace bulkhead::vsp::storage
