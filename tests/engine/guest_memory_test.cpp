// SPDX-License-Identifier: Apache-2.0
#include "engine/guest_memory.hpp"

#include <gtest/gtest.h>

#include <array>

namespace bulkhead::engine {
namespace {

std::unique_ptr<GuestMemory> allocate(std::vector<GuestMemory::Range> ranges) {
  auto memory = GuestMemory::allocate(ranges);
  EXPECT_TRUE(memory.has_value());
  return memory ? std::move(*memory) : nullptr;
}

TEST(GuestMemory, StartsAsZeros) {
  const auto memory = allocate({{0, 0x10000}});
  std::array<std::uint8_t, 64> bytes;
  bytes.fill(0xff);
  ASSERT_TRUE(memory->read(0xff00, bytes));
  for (const auto byte : bytes) EXPECT_EQ(byte, 0);
  EXPECT_EQ(memory->size(), 0x10000u);
}

TEST(GuestMemory, LiesInLargePagesAsInTheGuest) {
  const auto memory = allocate({{0x1000, 0x400000}, {0x100000000, 0x200000}});
  for (const auto& region : memory->regions()) {
    EXPECT_EQ((reinterpret_cast<std::uintptr_t>(region.bytes.data()) - region.base) % 0x200000, 0u);
  }
}

TEST(GuestMemory, CopiesAcrossRegionsThatTouch) {
  const auto memory = allocate({{0x2000, 0x1000}, {0x1000, 0x1000}});
  const std::array<std::uint8_t, 4> out = {1, 2, 3, 4};
  ASSERT_TRUE(memory->write(0x1ffe, out));
  std::array<std::uint8_t, 4> in{};
  ASSERT_TRUE(memory->read(0x1ffe, in));
  EXPECT_EQ(in, out);
  EXPECT_FALSE(memory->at(0x1ffe, 4).has_value());
  EXPECT_EQ(memory->at(0x2000, 2)->front(), 3);
}

TEST(GuestMemory, WritesNothingWhenAPartIsNotMemory) {
  const auto memory = allocate({{0x1000, 0x1000}});
  const std::array<std::uint8_t, 4> out = {1, 2, 3, 4};
  EXPECT_FALSE(memory->write(0x1ffe, out));
  EXPECT_EQ(memory->at(0x1ffe, 2)->front(), 0);
  std::array<std::uint8_t, 4> in{};
  EXPECT_FALSE(memory->read(0x1ffe, in));
  EXPECT_FALSE(memory->read(0xffffffffffffffffull, in));
  EXPECT_FALSE(memory->at(0x1fff, 0xffffffffffffffffull).has_value());
  EXPECT_EQ(memory->find(0x2000), nullptr);
}

TEST(GuestMemory, RefusesRangesThatAreNone) {
  using Ranges = std::vector<GuestMemory::Range>;
  for (const Ranges& ranges : {Ranges{{0, 0}}, Ranges{{1, 0x1000}}, Ranges{{0, 0x1001}},
                               Ranges{{0, 0x2000}, {0x1000, 0x1000}}, Ranges{{0xfffffffffffff000ull, 0x2000}}}) {
    EXPECT_FALSE(GuestMemory::allocate(ranges).has_value());
  }
}

}  // namespace
}  // namespace bulkhead::engine
