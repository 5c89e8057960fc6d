// SPDX-License-Identifier: Apache-2.0
#include "engine/dirty_pages.hpp"

#include <gtest/gtest.h>

#include <array>

namespace bulkhead::engine {
namespace {

using Addresses = std::vector<GuestPhysicalAddress>;

struct DirtyPagesTest : testing::Test {
  std::vector<std::uint8_t> bytes = std::vector<std::uint8_t>(70 * kGuestPageSize);
  std::array<MemoryRegion, 2> regions = {
      MemoryRegion{.base = 0, .bytes = bytes},
      MemoryRegion{.base = 0x100000000, .bytes = std::span(bytes).first(2 * kGuestPageSize)}};
  DirtyPages pages{regions};
};

TEST_F(DirtyPagesTest, ANewMapIsClean) {
  EXPECT_EQ(pages.count(), 0u);
  EXPECT_TRUE(pages.addresses().empty());
}

TEST_F(DirtyPagesTest, MarksThePageThatAnAddressLiesIn) {
  pages.mark(0x100001fff);
  pages.mark(69 * kGuestPageSize);
  pages.mark(5);
  pages.mark(7);
  EXPECT_EQ(pages.addresses(), (Addresses{0, 69 * kGuestPageSize, 0x100001000}));
  EXPECT_EQ(pages.count(), 3u);
}

TEST_F(DirtyPagesTest, AnAddressOutsideOfMemoryIsNobodysPage) {
  pages.mark(70 * kGuestPageSize);
  pages.mark(0x100002000);
  pages.mark(UINT64_MAX);
  EXPECT_EQ(pages.count(), 0u);
}

TEST_F(DirtyPagesTest, TheWordsOfARegionAreItsPages) {
  EXPECT_EQ(pages.words(0).size(), 2u);
  pages.words(0)[1] = 1u << 2;
  EXPECT_EQ(pages.addresses(), (Addresses{66 * kGuestPageSize}));
}

TEST_F(DirtyPagesTest, AddsWhatAnotherMapHas) {
  DirtyPages other(regions);
  other.mark(0x100000000);
  pages.mark(0x3000);
  pages.add(other);
  EXPECT_EQ(pages.addresses(), (Addresses{0x3000, 0x100000000}));
}

}  // namespace
}  // namespace bulkhead::engine
