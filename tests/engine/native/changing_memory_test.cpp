// SPDX-License-Identifier: Apache-2.0
// A partition of the native engine that gives memory back and gets more.
#include <gtest/gtest.h>

#include "engine/native/native_engine.hpp"
#include "tests/engine/native/fake_vid.hpp"

namespace bulkhead::engine::native {
namespace {

constexpr std::uint64_t kPiece = 2 << 20;
constexpr std::uint64_t kRoom = 128 << 20;

class ChangingMemoryTest : public testing::Test {
 protected:
  void SetUp() override {
    // 5 MiB at the start, so that the last piece is a half, and room for 4 more.
    const std::array ranges{GuestMemory::Range{.base = 0, .size = 5 << 20},
                            GuestMemory::Range{.base = kRoom, .size = 2 * kPiece, .at_start = false}};
    memory_ = GuestMemory::allocate(ranges).value();
    partition_ = engine_->create_partition({.memory_changes = true}).value();
    ASSERT_TRUE(partition_->map_memory(*memory_));
  }
  using Mappings = std::map<std::uint64_t, std::uint64_t>;
  std::uint64_t resident(std::uint64_t address, std::uint64_t size) { return memory_->resident_pages(address, size); }
  void touch(std::uint64_t address, std::uint64_t size) {
    std::ranges::fill(*memory_->at(address, size), std::uint8_t{1});
  }

  FakeVidState state_;
  std::unique_ptr<Engine> engine_ = engine_over(std::make_unique<FakeVid>(state_)).value();
  std::unique_ptr<GuestMemory> memory_;
  std::unique_ptr<Partition> partition_;
};

TEST_F(ChangingMemoryTest, WhatIsThereAtTheStartIsMappedInPieces) {
  EXPECT_EQ(state_.mappings, (Mappings{{0, kPiece}, {kPiece, kPiece}, {2 * kPiece, 1 << 20}}));
}

TEST_F(ChangingMemoryTest, AWholePieceGoesBackToTheHost) {
  touch(0, 5 << 20);
  ASSERT_TRUE(partition_->take_memory(kPiece, kPiece));
  EXPECT_FALSE(state_.mappings.contains(kPiece));
  EXPECT_EQ(resident(kPiece, kPiece), 0u);
  EXPECT_EQ(resident(0, kPiece), 512u);
}

TEST_F(ChangingMemoryTest, SmallerOnesWaitForTheirNeighbours) {
  touch(0, kPiece);
  for (std::uint64_t page = 0; page < 511; ++page) ASSERT_TRUE(partition_->take_memory(page * 4096, 4096));
  EXPECT_TRUE(state_.mappings.contains(0));
  EXPECT_EQ(resident(0, kPiece), 512u);
  EXPECT_EQ(partition_->used_again(0, kPiece), 0u);
  ASSERT_TRUE(partition_->take_memory(511 * 4096, 4096));
  EXPECT_FALSE(state_.mappings.contains(0));
  EXPECT_EQ(resident(0, kPiece), 0u);
}

TEST_F(ChangingMemoryTest, ARangeMayCoverManyPieces) {
  ASSERT_TRUE(partition_->take_memory(4096, (5 << 20) - 4096));
  EXPECT_EQ(state_.mappings, (Mappings{{0, kPiece}}));
  ASSERT_TRUE(partition_->give_memory(kPiece + 4096, (3 << 20) - 4096));
  EXPECT_EQ(state_.mappings, (Mappings{{0, kPiece}, {kPiece, kPiece}, {2 * kPiece, 1 << 20}}));
  // Of the last two, some pages are still the host's; they go when all have.
  ASSERT_TRUE(partition_->take_memory(kPiece + 4096, (3 << 20) - 4096));
  EXPECT_EQ(state_.mappings, (Mappings{{0, kPiece}}));
}

TEST_F(ChangingMemoryTest, RoomIsMappedWhenItIsGiven) {
  ASSERT_TRUE(partition_->give_memory(kRoom, kPiece));
  EXPECT_TRUE(state_.mappings.contains(kRoom));
  EXPECT_FALSE(state_.mappings.contains(kRoom + kPiece));
  ASSERT_TRUE(partition_->take_memory(kRoom, kPiece));
  EXPECT_FALSE(state_.mappings.contains(kRoom));
}

TEST_F(ChangingMemoryTest, AHostWithoutMemoryGivesNoneOfIt) {
  ASSERT_TRUE(partition_->give_memory(kRoom, kPiece));
  state_.host_is_empty = true;
  EXPECT_TRUE(partition_->give_memory(kRoom, 4096));  // which is mapped already
  const auto before = state_.mappings;
  ASSERT_TRUE(partition_->take_memory(0, 2 * kPiece));
  EXPECT_FALSE(partition_->give_memory(0, 2 * kPiece));
  EXPECT_EQ(state_.mappings.size(), before.size() - 2);
}

TEST_F(ChangingMemoryTest, WhatDevicesUseOfTakenMemoryIsTakenAgain) {
  ASSERT_TRUE(partition_->take_memory(0, kPiece));
  touch(4096, 8192);
  EXPECT_GE(partition_->used_again(0, kPiece), 2u);  // the host may give it a large page
  ASSERT_TRUE(partition_->take_memory(0, kPiece));
  EXPECT_EQ(partition_->used_again(0, kPiece), 0u);
}

TEST_F(ChangingMemoryTest, WhatIsNoMemoryIsRefused) {
  for (const auto& [address, size] : {std::pair<std::uint64_t, std::uint64_t>{5 << 20, 4096},
                                      {(5 << 20) - 4096, 8192},
                                      {kRoom + 2 * kPiece, 4096},
                                      {1, 4096},
                                      {0, 1},
                                      {UINT64_MAX - 4095, 4096}}) {
    EXPECT_FALSE(partition_->take_memory(address, size)) << address;
    EXPECT_FALSE(partition_->give_memory(address, size)) << address;
    EXPECT_EQ(partition_->used_again(address, size), 0u);
  }
}

TEST_F(ChangingMemoryTest, AFixedPartitionKeepsItsMemory) {
  auto fixed = engine_->create_partition({}).value();
  state_.mappings.clear();
  ASSERT_TRUE(fixed->map_memory(*memory_));
  EXPECT_EQ(state_.mappings, (Mappings{{0, 5 << 20}, {kRoom, 2 * kPiece}}));
  EXPECT_FALSE(fixed->take_memory(0, kPiece));
  EXPECT_FALSE(fixed->give_memory(0, kPiece));
}

TEST_F(ChangingMemoryTest, TheReferenceTimeIsThePartitionsProperty) {
  state_.reference_time = 123'456'789;
  EXPECT_EQ(partition_->reference_time(), 123'456'789u);
  const auto& call = state_.hypercalls.back();
  EXPECT_EQ(call.code, HV_CALL_GET_PARTITION_PROPERTY);
  ASSERT_EQ(call.input.size(), HV_GET_PARTITION_PROPERTY_INPUT_SIZE);
  hv_partition_property property = {};
  std::memcpy(&property, call.input.data(), call.input.size());
  EXPECT_EQ(property.code, HV_PARTITION_PROPERTY_REFERENCE_TIME);
}

}  // namespace
}  // namespace bulkhead::engine::native
