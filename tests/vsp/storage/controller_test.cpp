// SPDX-License-Identifier: Apache-2.0
// Addresses, disks that come and go, and guests that do not play by the rules.
#include <gtest/gtest.h>

#include <cerrno>

#include "tests/vsp/storage/storage_guest.hpp"

namespace bulkhead::vsp::storage {
namespace {

const Bytes kTestUnitReady = {0, 0, 0, 0, 0, 0};
const Bytes kReportLuns = {0xa0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0};
const Bytes kInquiry = {0x12, 0, 0, 0, 36, 0};

class Controller : public testing::Test {
 protected:
  void SetUp() override { guest.initialize(); }
  void expect_announcement() {
    guest.host().run();
    const auto packet = guest.take_announcement();
    ASSERT_TRUE(packet);
    EXPECT_EQ(packet->header.operation, Operation::EnumerateBus);
    while (guest.take_announcement()) {
    }
  }
  StorageGuest guest;
};

TEST_F(Controller, AnAddressWithoutADiskSaysSo) {
  const auto inquiry = guest.read(kInquiry, 36);
  EXPECT_EQ(inquiry->srb(), SrbStatus::Success);
  EXPECT_EQ(guest.data(1)[0], 0x7f);
  EXPECT_EQ(guest.execute(kTestUnitReady)->srb(), SrbStatus::InvalidLun);
  EXPECT_EQ(guest.read(kReportLuns, 256)->packet.scsi.transfer_length, 8u) << "an empty list";
}

TEST_F(Controller, AllDisksAreReportedAlsoByAnAddressWithoutOne) {
  for (const std::uint8_t lun : {1, 5, 63}) guest.add_disk(lun);
  expect_announcement();
  EXPECT_EQ(guest.read(kReportLuns, 256, 0)->packet.scsi.transfer_length, 8u + 3 * 8);
  const Bytes list = guest.data(32);
  EXPECT_EQ(list[3], 24);
  EXPECT_EQ(list[9], 1);
  EXPECT_EQ(list[17], 5);
  EXPECT_EQ(list[25], 63);
  EXPECT_EQ(guest.read(kReportLuns, 256, 5)->packet.scsi.transfer_length, 32u);
}

TEST_F(Controller, HasRoomFor64Disks) {
  for (unsigned lun = 0; lun < 64; ++lun) guest.add_disk(static_cast<std::uint8_t>(lun), 4096);
  const auto unit = [] {
    return std::make_unique<DiskUnit>(std::make_unique<TestDisk>(4096), disk::Guid::random(), false);
  };
  EXPECT_EQ(guest.controller().attach(64, unit()).error().message(), "scsi0 has the numbers 0 to 63, not 64");
  EXPECT_EQ(guest.controller().attach(7, unit()).error().message(), "there is a disk at number 7 already");
}

TEST_F(Controller, ARunningGuestIsToldOfADiskThatComesAndOneThatGoes) {
  guest.add_disk(2);
  expect_announcement();
  EXPECT_EQ(guest.execute(kTestUnitReady, DataDirection::None, 0, 2)->srb(), SrbStatus::Success);
  bool gone = false;
  ASSERT_TRUE(guest.controller().detach(2, [&](const Result<>& closed) { gone = closed.has_value(); }));
  EXPECT_TRUE(gone);
  expect_announcement();
  EXPECT_EQ(guest.execute(kTestUnitReady, DataDirection::None, 0, 2)->srb(), SrbStatus::InvalidLun);
  EXPECT_FALSE(guest.controller().detach(2, [](const Result<>&) {}));
}

TEST_F(Controller, AGuestThatHasNotLookedYetIsToldOfNothing) {
  StorageGuest early;
  early.open();
  early.add_disk(0);
  early.ask(Operation::BeginInitialization);
  abi::storage::Packet version{};
  version.header.operation = Operation::QueryProtocolVersion;
  version.version.version = abi::storage::Version::V6_2;
  early.ask(version);
  early.ask(Operation::QueryProperties);
  early.ask(Operation::EndInitialization);
  early.add_disk(1);
  early.host().run();
  EXPECT_FALSE(early.channel().from_host.read());
  early.send(kTestUnitReady);
  EXPECT_EQ(early.take_announcement()->header.operation, Operation::EnumerateBus);
}

TEST_F(Controller, ADiskGoesWhenItsCommandsHaveEnded) {
  auto& disk = guest.add_disk(0);
  expect_announcement();
  disk.holds = true;
  guest.send(read_10(0, 1), DataDirection::FromDevice, 512);
  bool gone = false;
  ASSERT_TRUE(guest.controller().detach(0, [&](const Result<>&) { gone = true; }));
  EXPECT_FALSE(gone);
  expect_announcement();
  EXPECT_EQ(guest.execute(kTestUnitReady)->srb(), SrbStatus::InvalidLun) << "no new commands";
  disk.release_all();
  EXPECT_TRUE(gone);
  guest.host().run();
  EXPECT_EQ(guest.take_answer()->srb(), SrbStatus::Success);
}

TEST_F(Controller, TheAnnouncementWaitsForRoomInTheRing) {
  guest.add_disk(0);
  expect_announcement();
  // Answers that the guest does not take fill its ring.
  while (guest.channel().from_host.free() > 200) guest.send(kTestUnitReady);
  while (guest.channel().from_host.free() >= 64 + 16 + 8) guest.send(kTestUnitReady);
  guest.add_disk(1);
  guest.host().run();
  while (guest.take_answer()) {
  }
  guest.signal_and_run();
  EXPECT_TRUE(guest.take_announcement());
}

TEST_F(Controller, CommandsOfManyDisksRunSideBySide) {
  auto& slow = guest.add_disk(0);
  guest.add_disk(1);
  expect_announcement();
  slow.holds = true;
  const auto first = guest.send(read_10(0, 1), DataDirection::FromDevice, 512, 0);
  const auto second = guest.send(read_10(0, 1), DataDirection::FromDevice, 512, 1);
  EXPECT_EQ(guest.take_answer()->transaction, second);
  slow.release_all();
  guest.host().run();
  EXPECT_EQ(guest.take_answer()->transaction, first);
}

TEST_F(Controller, CommandsThatEndTogetherAreThereWhenTheGuestHearsOfThem) {
  auto& disk = guest.add_disk();
  expect_announcement();
  disk.holds = true;
  for (unsigned block = 0; block < 3; ++block) guest.send(read_10(block, 1), DataDirection::FromDevice, 512);
  unsigned answers = 0;
  guest.fake().synic().on_event = [&] {
    if (answers > 0) return;
    while (guest.take_answer()) ++answers;
  };
  disk.release_all();
  guest.host().run();
  EXPECT_EQ(answers, 3u);
}

TEST_F(Controller, AFullHostDiskKeepsTheRequestUntilThereIsRoom) {
  auto& disk = guest.add_disk(0);
  expect_announcement();
  disk.fails_with = ENOSPC;
  guest.set_data(Bytes(1024, 0x5a));
  const auto first = guest.send(write_10(0, 1), DataDirection::ToDevice, 512);
  const auto second = guest.send(write_10(1, 1), DataDirection::ToDevice, 512);
  EXPECT_FALSE(guest.take_answer());
  EXPECT_EQ(guest.host().complaints.size(), 1u) << "it is said once";

  guest.controller().stop();
  disk.fails_with = 0;
  guest.controller().start();
  guest.host().run();
  EXPECT_EQ(guest.take_answer()->transaction, first);
  EXPECT_EQ(guest.take_answer()->transaction, second);
  EXPECT_EQ(disk.bytes[512], 0x5a);
}

TEST_F(Controller, StillFullIsSaidAgain) {
  auto& disk = guest.add_disk(0);
  expect_announcement();
  disk.fails_with = ENOSPC;
  guest.send(write_10(0, 1), DataDirection::ToDevice, 512);
  guest.controller().stop();
  guest.controller().start();
  guest.host().run();
  EXPECT_FALSE(guest.take_answer());
  EXPECT_EQ(guest.host().complaints.size(), 2u);
}

TEST_F(Controller, StoppingWaitsForTheDisks) {
  auto& disk = guest.add_disk(0);
  expect_announcement();
  disk.holds = true;
  guest.send(read_10(0, 1), DataDirection::FromDevice, 512);
  guest.send(read_10(1, 1), DataDirection::FromDevice, 512);
  guest.host().on_wait = [&] { disk.release_one(); };
  guest.controller().stop();
  EXPECT_EQ(disk.held(), 0u);
  EXPECT_TRUE(guest.take_answer());
  EXPECT_TRUE(guest.take_answer());
  EXPECT_FALSE(guest.execute(kTestUnitReady)) << "a stopped controller takes nothing";
  guest.controller().start();
  guest.host().run();
  EXPECT_TRUE(guest.take_answer());
}

TEST_F(Controller, AClosingChannelIsKeptUntilTheDiskLetsGoOfTheGuestsMemory) {
  auto& disk = guest.add_disk(0);
  expect_announcement();
  disk.holds = true;
  guest.send(read_10(0, 1), DataDirection::FromDevice, 512);
  guest.fake().close(guest.channel());
  guest.host().run();
  EXPECT_FALSE(guest.fake().take_back(guest.channel())) << "the ring is still in use";
  disk.release_all();
  guest.host().run();
  EXPECT_TRUE(guest.fake().take_as<abi::vmbus::GpadlTorndown>(abi::vmbus::MessageType::GpadlTorndown));
}

TEST_F(Controller, AGuestThatIsResetFindsEverythingAsAtFirst) {
  auto& disk = guest.add_disk(0);
  expect_announcement();
  disk.fails_with = ENOSPC;
  guest.send(write_10(0, 1), DataDirection::ToDevice, 512);
  guest.controller().stop();
  guest.fake().bus().reset();
  guest.controller().reset();
  disk.fails_with = 0;
  guest.controller().start();
  guest.host().run();
  EXPECT_EQ(disk.writes, 1u) << "what the old guest wanted is forgotten";
  guest.initialize();
  EXPECT_EQ(guest.execute(kTestUnitReady)->srb(), SrbStatus::Success);
}

TEST_F(Controller, MemoryThatIsNotTheGuestsIsRefused) {
  guest.add_disk(0);
  expect_announcement();
  abi::storage::Packet packet{};
  packet.header.operation = Operation::ExecuteSrb;
  packet.scsi.cdb_length = 10;
  packet.scsi.direction = DataDirection::FromDevice;
  packet.scsi.transfer_length = 512;
  std::ranges::copy(read_10(0, 1), packet.scsi.payload);
  Bytes header = vmbus::bytes_of(abi::vmbus::GpaDirectHeader{.reserved = 0, .range_count = 1});
  const Bytes range = vmbus::bytes_of(abi::vmbus::GpaRange{.byte_count = 512, .byte_offset = 0});
  header.insert(header.end(), range.begin(), range.end());
  const Bytes page = vmbus::bytes_of(std::uint64_t{0xfff'ffff});
  header.insert(header.end(), page.begin(), page.end());
  guest.channel().to_host.write(abi::vmbus::PacketType::GpaDirect, 1, 5, header, vmbus::bytes_of(packet));
  guest.signal_and_run();
  EXPECT_EQ(guest.take_answer()->srb(), SrbStatus::InvalidRequest);
}

TEST_F(Controller, PacketsThatAreTooShortOrWantNoAnswerDoNoHarm) {
  guest.add_disk(0);
  expect_announcement();
  guest.channel().to_host.write(abi::vmbus::PacketType::InBand, 1, 6, {}, Bytes(4));
  guest.channel().to_host.write(abi::vmbus::PacketType::InBand, 0, 7, {}, Bytes(64));
  abi::storage::Packet packet{};
  packet.header.operation = Operation::ExecuteSrb;
  Bytes cut = vmbus::bytes_of(packet);
  cut.resize(40);
  guest.channel().to_host.write(abi::vmbus::PacketType::InBand, 1, 8, {}, cut);
  guest.signal_and_run();
  EXPECT_EQ(guest.take_answer()->transaction, 6u);
  const auto answer = guest.take_answer();
  EXPECT_EQ(answer->transaction, 8u);
  EXPECT_EQ(answer->status(), NtStatus::InvalidParameter);
  EXPECT_EQ(guest.execute(kTestUnitReady)->srb(), SrbStatus::Success);
}

}  // namespace
}  // namespace bulkhead::vsp::storage
