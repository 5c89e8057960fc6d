// SPDX-License-Identifier: Apache-2.0
#include "hypervisor/root/memory_map.hpp"

#include <gtest/gtest.h>

namespace bulkhead::hypervisor::root {
namespace {

constexpr std::uint64_t kMiB = 1 << 20;

/// What QEMU's firmware says for 1 GiB.
MemoryMap one_gibibyte() {
  MemoryMap map;
  map.add({0, 0x9fc00, MemoryType::Usable});
  map.add({0x9fc00, 0x400, MemoryType::Reserved});
  map.add({0xf0000, 0x10000, MemoryType::Reserved});
  map.add({0x100000, 0x3ffe0000 - 0x100000, MemoryType::Usable});
  map.add({0x3ffe0000, 0x20000, MemoryType::Reserved});
  return map;
}

TEST(MemoryMap, HighestPlaceIsAlignedAndBelowTheReservedTop) {
  EXPECT_EQ(one_gibibyte().highest(0x40000, 2 * kMiB, 16 * kMiB, 1ull << 32), 0x3fe00000u);
}

TEST(MemoryMap, HighestPlaceStaysBelowTheCeiling) {
  MemoryMap map = one_gibibyte();
  map.add({1ull << 32, 1ull << 32, MemoryType::Usable});
  EXPECT_EQ(map.highest(kMiB, 2 * kMiB, 0, 1ull << 32), 0x3fe00000u);
}

TEST(MemoryMap, NoPlaceIsFoundInRangesThatAreTooSmall) {
  EXPECT_EQ(one_gibibyte().highest(0x100000, 0x1000, 0, kMiB), std::nullopt);
  EXPECT_EQ(one_gibibyte().lowest(2048 * kMiB, 0x1000, 0, ~0ull), std::nullopt);
}

TEST(MemoryMap, LowestPlaceSkipsReservedRanges) {
  EXPECT_EQ(one_gibibyte().lowest(0x20000, 0x1000, 0x90000, 1ull << 32), 0x100000u);
}

TEST(MemoryMap, TheHypervisorsMemoryBecomesReservedAndTheRestStaysUsable) {
  MemoryMap map = one_gibibyte();
  ASSERT_TRUE(map.retype(0x3fe00000, 0x3fe2b000, MemoryType::Reserved));
  const MemoryRange expected[] = {{0, 0x9fc00, MemoryType::Usable},
                                  {0x9fc00, 0x400, MemoryType::Reserved},
                                  {0xf0000, 0x10000, MemoryType::Reserved},
                                  {0x100000, 0x3fe00000 - 0x100000, MemoryType::Usable},
                                  {0x3fe00000, 0x2b000, MemoryType::Reserved},
                                  {0x3fe2b000, 0x3ffe0000 - 0x3fe2b000, MemoryType::Usable},
                                  {0x3ffe0000, 0x20000, MemoryType::Reserved}};
  ASSERT_EQ(map.ranges().size(), std::size(expected));
  for (std::size_t index = 0; index < std::size(expected); ++index) EXPECT_EQ(map.ranges()[index], expected[index]);
}

TEST(MemoryMap, AWholeRangeCanBeRetyped) {
  MemoryMap map;
  map.add({0x1000, 0x1000, MemoryType::Usable});
  ASSERT_TRUE(map.retype(0x1000, 0x2000, MemoryType::Reserved));
  ASSERT_EQ(map.ranges().size(), 1u);
  EXPECT_EQ(map.ranges()[0].type, MemoryType::Reserved);
}

TEST(MemoryMap, WhatIsNotUsableIsNotRetyped) {
  MemoryMap map = one_gibibyte();
  EXPECT_FALSE(map.retype(0x9f000, 0xa0000, MemoryType::Reserved));
  EXPECT_FALSE(map.retype(0xf0000, 0xf1000, MemoryType::Reserved));
}

TEST(MemoryMap, AFullMapRefusesMoreRangesAndSplits) {
  MemoryMap map;
  for (std::uint64_t index = 0; index < MemoryMap::kCapacity; ++index) {
    ASSERT_TRUE(map.add({index * 0x10000, 0x8000, MemoryType::Usable}));
  }
  EXPECT_FALSE(map.add({0x10000000, 0x1000, MemoryType::Usable}));
  EXPECT_FALSE(map.retype(0x1000, 0x2000, MemoryType::Reserved));
  EXPECT_EQ(map.ranges().size(), MemoryMap::kCapacity);
}

TEST(MemoryMap, RangesThatWrapAroundAreRefused) {
  MemoryMap map;
  EXPECT_FALSE(map.add({~0xfffull, 0x2000, MemoryType::Usable}));
}

TEST(MemoryMap, EmptyRangesAreLeftOut) {
  MemoryMap map;
  EXPECT_TRUE(map.add({0x1000, 0, MemoryType::Usable}));
  EXPECT_TRUE(map.ranges().empty());
}

TEST(MemoryMap, EndOfMemoryIgnoresReservedRanges) { EXPECT_EQ(one_gibibyte().end_of_memory(), 0x3ffe0000u); }

}  // namespace
}  // namespace bulkhead::hypervisor::root
