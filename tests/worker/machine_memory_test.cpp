// SPDX-License-Identifier: Apache-2.0
#include "worker/machine_memory.hpp"

#include <gtest/gtest.h>

#include "engine/fake/fake_engine.hpp"

namespace bulkhead::worker {
namespace {

constexpr std::uint64_t kMiB = 1 << 20;
constexpr std::uint64_t kGiB = 1 << 30;

struct Place {
  std::uint64_t base;
  std::uint64_t size;
  bool at_start;

  bool operator==(const Place&) const = default;
};

std::vector<Place> places(std::uint64_t startup, std::uint64_t maximum) {
  std::vector<Place> all;
  for (const auto& range : memory_ranges(startup, maximum)) all.push_back({range.base, range.size, range.at_start});
  return all;
}

TEST(MachineMemory, RoomForMoreBeginsWithABlockOf128Mebibytes) {
  EXPECT_EQ(places(512 * kMiB, 512 * kMiB), (std::vector<Place>{{0, 512 * kMiB, true}}));
  EXPECT_EQ(places(256 * kMiB, 1024 * kMiB),
            (std::vector<Place>{{0, 256 * kMiB, true}, {256 * kMiB, 768 * kMiB, false}}));
  EXPECT_EQ(places(300 * kMiB, 400 * kMiB),
            (std::vector<Place>{{0, 300 * kMiB, true}, {384 * kMiB, 100 * kMiB, false}}));
}

TEST(MachineMemory, WhatDoesNotFitBelow3GibibytesIsAbove4) {
  EXPECT_EQ(places(2 * kGiB, 8 * kGiB),
            (std::vector<Place>{{0, 2 * kGiB, true}, {2 * kGiB, kGiB, false}, {4 * kGiB, 5 * kGiB, false}}));
  EXPECT_EQ(places(4 * kGiB, 5 * kGiB),
            (std::vector<Place>{{0, 3 * kGiB, true}, {4 * kGiB, kGiB, true}, {5 * kGiB, kGiB, false}}));
  EXPECT_EQ(places(3 * kGiB, 4 * kGiB), (std::vector<Place>{{0, 3 * kGiB, true}, {4 * kGiB, kGiB, false}}));
}

TEST(MachineMemory, PagesGoBetweenHostAndGuestThroughThePartition) {
  auto guest = std::make_shared<engine::FakeGuest>();
  engine::FakeEngine engine(guest);
  auto memory = engine::GuestMemory::allocate(memory_ranges(16 * kMiB, 32 * kMiB)).value();
  auto partition = engine.create_partition({.memory_changes = true}).value();
  ASSERT_TRUE(partition->map_memory(*memory));
  MachineMemoryPort port(*memory);
  const vsp::memory::PageRun own{.first = 16, .count = 4}, room{.first = 128 * kMiB / 4096, .count = 2};
  EXPECT_FALSE(port.provide(room)) << "there is no partition to give it to";
  port.connect(*partition);
  port.release(own);
  EXPECT_FALSE(guest->has_page(16 * 4096));
  EXPECT_FALSE(guest->has_page(19 * 4096));
  EXPECT_TRUE(guest->has_page(20 * 4096));
  EXPECT_TRUE(port.provide(room));
  EXPECT_TRUE(guest->has_page(128 * kMiB + 4096));
  guest->let_host_run_out();
  EXPECT_FALSE(port.provide(own));
}

TEST(MachineMemory, WithoutAPartitionMemoryIsTheHostsAllTheSame) {
  auto memory = engine::GuestMemory::allocate(memory_ranges(16 * kMiB, 16 * kMiB)).value();
  std::ranges::fill(*memory->at(0, 8192), std::uint8_t{1});
  MachineMemoryPort port(*memory);
  EXPECT_GE(port.used_again({.first = 0, .count = 4}), 2u);  // the host may give it a large page
  port.release({.first = 0, .count = 4});
  EXPECT_EQ(port.used_again({.first = 0, .count = 4}), 0u);
}

TEST(MachineMemory, TheHostHasSome) {
  auto memory = engine::GuestMemory::allocate(memory_ranges(16 * kMiB, 16 * kMiB)).value();
  const auto host = MachineMemoryPort(*memory).host();
  EXPECT_GT(host.total, 0u);
  EXPECT_LE(host.available, host.total);
}

}  // namespace
}  // namespace bulkhead::worker
