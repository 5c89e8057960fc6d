// SPDX-License-Identifier: Apache-2.0
// Resets: what is under way ends before the reset is answered, and units say that they were reset.
#include <gtest/gtest.h>

#include <cerrno>

#include "tests/vsp/storage/storage_guest.hpp"

namespace bulkhead::vsp::storage {
namespace {

const Bytes kTestUnitReady = {0, 0, 0, 0, 0, 0};

class Reset : public testing::TestWithParam<Operation> {
 protected:
  void SetUp() override {
    guest.initialize();
    guest.take_announcement();
  }
  std::uint64_t send_reset(std::uint8_t lun = 0) {
    abi::storage::Packet packet{};
    packet.header.operation = GetParam();
    packet.scsi.lun = lun;
    guest.channel().to_host.write(abi::vmbus::PacketType::InBand, 1, kReset, {}, vmbus::bytes_of(packet));
    guest.signal_and_run();
    return kReset;
  }

  static constexpr std::uint64_t kReset = 0x7e5e7;
  StorageGuest guest;
  TestDisk& disk = guest.add_disk(0);
};

TEST_P(Reset, IsAnsweredAfterWhatRunsHasEnded) {
  disk.holds = true;
  const auto command = guest.send(read_10(0, 1), DataDirection::FromDevice, 512);
  send_reset();
  EXPECT_FALSE(guest.take_answer());
  disk.release_all();
  guest.host().run();
  EXPECT_EQ(guest.take_answer()->transaction, command);
  const auto answer = guest.take_answer();
  EXPECT_EQ(answer->transaction, kReset);
  EXPECT_EQ(answer->status(), NtStatus::Success);
  const auto attention = guest.execute(kTestUnitReady);
  EXPECT_EQ(attention->sense(), 0x062903u);
  EXPECT_EQ(guest.execute(kTestUnitReady)->srb(), SrbStatus::Success);
}

TEST_P(Reset, EndsWhatWaitsForRoomOnTheHost) {
  disk.fails_with = ENOSPC;
  const auto command = guest.send(write_10(0, 1), DataDirection::ToDevice, 512);
  send_reset();
  const auto aborted = guest.take_answer();
  EXPECT_EQ(aborted->transaction, command);
  EXPECT_EQ(aborted->srb(), SrbStatus::BusReset);
  EXPECT_EQ(guest.take_answer()->transaction, kReset);
  guest.controller().stop();
  guest.controller().start();
  guest.host().run();
  EXPECT_EQ(disk.writes, 1u) << "it is not tried again";
}

TEST_P(Reset, AWriteThatFindsTheHostFullDuringAResetIsNotKept) {
  disk.holds = true;
  disk.fails_with = ENOSPC;
  guest.send(write_10(0, 1), DataDirection::ToDevice, 512);
  send_reset();
  disk.release_all();
  guest.host().run();
  EXPECT_EQ(guest.take_answer()->srb(), SrbStatus::BusReset);
  EXPECT_EQ(guest.take_answer()->transaction, kReset);
}

TEST_P(Reset, LaterCommandsDoNotHoldItUp) {
  auto& other = guest.add_disk(1);
  guest.take_announcement();
  disk.holds = true;
  guest.send(read_10(0, 1), DataDirection::FromDevice, 512);
  send_reset();
  other.holds = true;
  guest.send(read_10(0, 1), DataDirection::FromDevice, 512, 1);
  disk.release_all();
  guest.host().run();
  EXPECT_TRUE(guest.take_answer());
  EXPECT_EQ(guest.take_answer()->transaction, kReset);
  other.release_all();
}

INSTANTIATE_TEST_SUITE_P(Kinds, Reset,
                         testing::Values(Operation::ResetLun, Operation::ResetBus, Operation::ResetAdapter),
                         [](const auto& instance) {
                           switch (instance.param) {
                             case Operation::ResetLun: return "Lun";
                             case Operation::ResetBus: return "Bus";
                             default: return "Adapter";
                           }
                         });

TEST(ResetOfOneUnit, LeavesTheOthersAlone) {
  StorageGuest guest;
  guest.add_disk(0);
  guest.add_disk(1);
  guest.initialize();
  guest.take_announcement();
  abi::storage::Packet packet{};
  packet.header.operation = Operation::ResetLun;
  packet.scsi.lun = 1;
  EXPECT_EQ(guest.ask(packet)->status(), NtStatus::Success);
  EXPECT_EQ(guest.execute(kTestUnitReady, DataDirection::None, 0, 0)->srb(), SrbStatus::Success);
  EXPECT_EQ(guest.execute(kTestUnitReady, DataDirection::None, 0, 1)->sense(), 0x062903u);
}

}  // namespace
}  // namespace bulkhead::vsp::storage
