// SPDX-License-Identifier: Apache-2.0
// A controller that is saved and restored goes on as if nothing had happened.
#include <gtest/gtest.h>

#include <cerrno>

#include "tests/vsp/storage/storage_guest.hpp"

namespace bulkhead::vsp::storage {
namespace {

const Bytes kTestUnitReady = {0, 0, 0, 0, 0, 0};

TEST(StorageSavedState, KeepsTheProtocolTheUnitsAndWhatIsParked) {
  StorageGuest guest;
  auto& disk = guest.add_disk(0);
  guest.initialize();
  guest.take_announcement();
  guest.controller().find(0)->raise(scsi::sense::kCapacityChanged);
  EXPECT_EQ(guest.execute(kTestUnitReady)->sense(), 0x062a09u);
  disk.fails_with = ENOSPC;
  guest.set_data(Bytes(512, 0x77));
  const auto parked = guest.send(write_10(3, 1), DataDirection::ToDevice, 512);
  guest.controller().find(0)->raise(scsi::sense::kBusDeviceReset);
  guest.controller().stop();

  const auto saved = state::SavedUnit::parse(guest.controller().save().serialize());
  ASSERT_TRUE(saved);
  const auto bus = guest.fake().bus().save();
  // The controller as it is at power-on, and the same guest memory.
  guest.fake().bus().reset();
  guest.controller().reset();
  ASSERT_TRUE(guest.fake().bus().restore(bus));
  const auto restored = guest.controller().restore(*saved);
  ASSERT_TRUE(restored) << restored.error().message();
  EXPECT_EQ(guest.controller().save(), *saved);

  disk.fails_with = 0;
  guest.controller().start();
  guest.host().run();
  // The parked write is tried as it was, and so meets the attention that waits.
  const auto first = guest.take_answer();
  ASSERT_TRUE(first);
  EXPECT_EQ(first->transaction, parked);
  EXPECT_EQ(first->sense(), 0x062903u);
  EXPECT_EQ(guest.write(write_10(3, 1), Bytes(512, 0x77))->srb(), SrbStatus::Success);
  EXPECT_EQ(disk.bytes[3 * 512], 0x77);
}

TEST(StorageSavedState, IsNotTakenByAMachineWithOtherDisks) {
  StorageGuest guest;
  guest.add_disk(0);
  guest.controller().stop();
  const auto saved = guest.controller().save();
  StorageGuest other;
  other.add_disk(1);
  other.controller().stop();
  EXPECT_EQ(other.controller().restore(saved).error().message(), "saved state of storage: the machine has no disk 0");
  other.add_disk(0);
  EXPECT_EQ(other.controller().restore(saved).error().message(), "saved state of storage: the machine has other disks");
}

TEST(StorageSavedState, NamesAFieldThatItDoesNotKnow) {
  StorageGuest guest;
  guest.controller().stop();
  auto saved = guest.controller().save();
  saved.number("colour", 3);
  EXPECT_FALSE(guest.controller().restore(saved));
}

}  // namespace
}  // namespace bulkhead::vsp::storage
