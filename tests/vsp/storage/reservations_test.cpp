// SPDX-License-Identifier: Apache-2.0
// Persistent reservations, as a cluster's software in a guest uses them.
#include <gtest/gtest.h>

#include "tests/vsp/storage/storage_guest.hpp"

namespace bulkhead::vsp::storage {
namespace {

enum Action : std::uint8_t { kRegister = 0, kReserve = 1, kRelease = 2, kClear = 3, kPreempt = 4, kIgnore = 6 };
constexpr std::uint8_t kWriteExclusive = 1, kExclusiveAccess = 3;

class Reservations : public testing::Test {
 protected:
  void SetUp() override {
    guest.initialize();
    guest.take_announcement();
  }
  Answer out(std::uint8_t action, std::uint8_t key, std::uint8_t service_action_key = 0, std::uint8_t type = 0,
             std::uint8_t flags = 0) {
    Bytes parameters(24);
    parameters[7] = key;
    parameters[15] = service_action_key;
    parameters[20] = flags;
    return *guest.write({0x5f, action, type, 0, 0, 0, 0, 0, 24, 0}, parameters);
  }
  Bytes in(std::uint8_t action) {
    const auto answer = guest.read({0x5e, action, 0, 0, 0, 0, 0, 0, 255, 0}, 255);
    return guest.data(answer->packet.scsi.transfer_length);
  }
  static bool conflicts(const Answer& answer) {
    return answer.srb() == SrbStatus::Error && answer.packet.scsi.scsi_status == 0x18 && !answer.has_sense();
  }

  StorageGuest guest;
  TestDisk& disk = guest.add_disk(0);
};

TEST_F(Reservations, AKeyIsRegisteredReadAndTakenBack) {
  EXPECT_EQ(in(0).size(), 8u);
  EXPECT_EQ(out(kRegister, 0, 7).srb(), SrbStatus::Success);
  EXPECT_EQ(in(0), (Bytes{0, 0, 0, 1, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 7}));
  EXPECT_TRUE(conflicts(out(kRegister, 8, 9))) << "the key is another one";
  EXPECT_EQ(out(kRegister, 7, 0).srb(), SrbStatus::Success);
  EXPECT_EQ(in(0).size(), 8u);
}

TEST_F(Reservations, OnlyTheRegisteredMayReserve) {
  EXPECT_TRUE(conflicts(out(kReserve, 7, 0, kWriteExclusive)));
  out(kIgnore, 99, 7);
  EXPECT_EQ(out(kReserve, 7, 0, kWriteExclusive).srb(), SrbStatus::Success);
  EXPECT_EQ(out(kReserve, 7, 0, kWriteExclusive).srb(), SrbStatus::Success) << "again is no conflict";
  EXPECT_TRUE(conflicts(out(kReserve, 7, 0, kExclusiveAccess)));
  const Bytes reservation = in(1);
  ASSERT_EQ(reservation.size(), 24u);
  EXPECT_EQ(reservation[15], 7);
  EXPECT_EQ(reservation[21], kWriteExclusive);
}

TEST_F(Reservations, AReleaseMustSayTheRightType) {
  out(kRegister, 0, 7);
  out(kReserve, 7, 0, kWriteExclusive);
  EXPECT_EQ(out(kRelease, 7, 0, kExclusiveAccess).sense(), 0x052604u);
  EXPECT_EQ(out(kRelease, 7, 0, kWriteExclusive).srb(), SrbStatus::Success);
  EXPECT_EQ(in(1).size(), 8u);
}

TEST_F(Reservations, ClearAndPreemptTakeEverythingAnew) {
  out(kRegister, 0, 7);
  out(kReserve, 7, 0, kWriteExclusive);
  EXPECT_EQ(out(kPreempt, 7, 7, kExclusiveAccess).srb(), SrbStatus::Success);
  EXPECT_EQ(in(1)[21], kExclusiveAccess);
  EXPECT_TRUE(conflicts(out(kPreempt, 7, 8, kExclusiveAccess))) << "nobody has that key";
  EXPECT_EQ(out(kClear, 7).srb(), SrbStatus::Success);
  EXPECT_EQ(in(0).size(), 8u);
}

TEST_F(Reservations, WhatIsNotPromisedIsRefused) {
  EXPECT_EQ(out(kRegister, 0, 7, 0, 1).sense(), 0x052600u) << "APTPL: nothing survives the machine's power";
  EXPECT_EQ(in(2)[2] & 1, 0);
  EXPECT_EQ(guest.write({0x5f, 0, 0, 0, 0, 0, 0, 0, 16, 0}, Bytes(16))->sense(), 0x051a00u);
  out(kRegister, 0, 7);
  EXPECT_EQ(out(kReserve, 7, 0, 2).sense(), 0x052400u) << "there is no type 2";
  EXPECT_EQ(out(7, 7, 8).sense(), 0x052400u) << "nobody to move it to";
}

TEST_F(Reservations, AResetLeavesThemAndPowerDoesNot) {
  out(kRegister, 0, 7);
  guest.ask(Operation::ResetBus);
  guest.execute({0, 0, 0, 0, 0, 0});
  EXPECT_EQ(in(0).size(), 16u);
  guest.controller().stop();
  guest.fake().bus().reset();
  guest.controller().reset();
  guest.controller().start();
  guest.initialize();
  EXPECT_EQ(in(0).size(), 8u);
}

}  // namespace
}  // namespace bulkhead::vsp::storage
