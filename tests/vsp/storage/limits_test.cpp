// SPDX-License-Identifier: Apache-2.0
// Limits of operations and bytes a second, by the test's clock.
#include <gtest/gtest.h>

#include "tests/vsp/storage/storage_guest.hpp"

namespace bulkhead::vsp::storage {
namespace {

using namespace std::chrono_literals;

/// How many reads of `blocks` blocks a disk with these limits does in a time, asked for more.
unsigned reads_within(Limits limits, std::uint16_t blocks, unsigned asked, std::chrono::nanoseconds time) {
  StorageGuest guest;
  auto& disk = guest.add_disk(0, 1 << 20, limits);
  guest.initialize();
  guest.take_announcement();
  unsigned sent = 0;
  const auto end = guest.host().now() + time;
  while (guest.host().now() < end) {
    for (; sent < asked && sent - disk.reads < 16; ++sent) {
      guest.send(read_10(0, blocks), DataDirection::FromDevice, blocks * 512u);
    }
    guest.host().pass(10ms);
    while (guest.take_answer()) {
    }
    guest.signal_and_run();  // there is room for answers again
  }
  return disk.reads;
}

TEST(Limits, OperationsPerSecondHold) {
  // 100 a second, and the burst of a tenth of a second.
  EXPECT_NEAR(reads_within({.operations_per_second = 100, .bytes_per_second = 0}, 1, 10000, 2s), 210, 15);
}

TEST(Limits, BytesPerSecondHold) {
  // 64 KiB at a time, 1 MiB a second.
  EXPECT_NEAR(reads_within({.operations_per_second = 0, .bytes_per_second = 1 << 20}, 128, 10000, 2s), 33, 3);
}

TEST(Limits, WithoutThemNothingWaits) { EXPECT_EQ(reads_within({}, 1, 500, 500ms), 500u); }

TEST(Limits, CanBeChangedAtAnyTime) {
  StorageGuest guest;
  auto& disk = guest.add_disk(0, 1 << 20, {.operations_per_second = 1, .bytes_per_second = 0});
  guest.initialize();
  for (unsigned count = 0; count < 5; ++count) guest.send(read_10(0, 1), DataDirection::FromDevice, 512);
  EXPECT_LT(disk.reads, 5u);
  ASSERT_TRUE(guest.controller().set_limits(0, {}));
  EXPECT_EQ(disk.reads, 5u) << "what waited goes at once";
  guest.host().pass(10s);
}

TEST(Limits, OtherCommandsAreNotCounted) {
  StorageGuest guest;
  guest.add_disk(0, 1 << 20, {.operations_per_second = 1, .bytes_per_second = 0});
  guest.initialize();
  guest.take_announcement();
  for (unsigned count = 0; count < 50; ++count) EXPECT_TRUE(guest.execute({0, 0, 0, 0, 0, 0}));
}

TEST(Limits, StoppingTheMachineDoesNotWaitForThem) {
  StorageGuest guest;
  auto& disk = guest.add_disk(0, 1 << 20, {.operations_per_second = 1, .bytes_per_second = 0});
  guest.initialize();
  guest.take_announcement();
  for (unsigned count = 0; count < 5; ++count) guest.send(read_10(0, 1), DataDirection::FromDevice, 512);
  EXPECT_LT(disk.reads, 5u);
  guest.controller().stop();
  EXPECT_EQ(disk.reads, 5u);
}

TEST(Limits, WhatWaitsForThemIsEndedWhenTheDiskGoes) {
  StorageGuest guest;
  guest.add_disk(0, 1 << 20, {.operations_per_second = 1, .bytes_per_second = 0});
  guest.initialize();
  guest.take_announcement();
  for (unsigned count = 0; count < 5; ++count) guest.send(read_10(0, 1), DataDirection::FromDevice, 512);
  bool gone = false;
  ASSERT_TRUE(guest.controller().detach(0, [&](const Result<>&) { gone = true; }));
  EXPECT_TRUE(gone);
  guest.host().pass(10s);
}

}  // namespace
}  // namespace bulkhead::vsp::storage
