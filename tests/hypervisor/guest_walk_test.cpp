// SPDX-License-Identifier: Apache-2.0
#include "hypervisor/decode/guest_walk.hpp"

#include <gtest/gtest.h>

#include <map>
#include <vector>

namespace bulkhead::hypervisor {
namespace {

/// Guest memory with page tables in it.
class GuestWalkTest : public testing::Test {
 protected:
  void put(std::uint64_t address, std::uint64_t entry, unsigned size = 8) {
    auto& page = pages_[address / kPageSize];
    page.resize(kPageSize);
    std::memcpy(page.data() + address % kPageSize, &entry, size);
  }
  std::optional<std::uint64_t> walk(const ExecutionMode& mode, std::uint64_t linear) {
    return walk_guest(mode, linear, [this](GuestPage page) -> const std::byte* {
      const auto found = pages_.find(page.number);
      return found == pages_.end() ? nullptr : found->second.data();
    });
  }
  static ExecutionMode mode(std::uint64_t cr4, std::uint64_t efer, std::uint64_t cr3) {
    return {.cr0 = 0x80000001, .cr3 = cr3, .cr4 = cr4, .efer = efer, .cs = {}, .cpl = 0};
  }

  std::map<std::uint64_t, std::vector<std::byte>> pages_;
};

TEST_F(GuestWalkTest, WithoutPagingAddressesAreTheSame) {
  EXPECT_EQ(walk({.cr0 = 0x10, .cr3 = 0, .cr4 = 0, .efer = 0, .cs = {}, .cpl = 0}, 0xfffffff0), 0xfffffff0u);
}

TEST_F(GuestWalkTest, FourLevels) {
  const ExecutionMode four = mode(kCr4PhysicalAddressExtension, 0x500, 0x1000);
  const std::uint64_t linear = 0xffff8881'23456789;
  put(0x1000 + (linear >> 39 & 511) * 8, 0x2000 | 0x67);
  put(0x2000 + (linear >> 30 & 511) * 8, 0x3000 | 0x67);
  put(0x3000 + (linear >> 21 & 511) * 8, 0x4000 | 0x67);
  put(0x4000 + (linear >> 12 & 511) * 8, 0x8000000000077000 | 0x67);
  EXPECT_EQ(walk(four, linear), 0x77789u);
  put(0x3000 + (linear >> 21 & 511) * 8, 0x40000000 | 0xe7);  // 2 MiB
  EXPECT_EQ(walk(four, linear), 0x40000000u + (linear & 0x1fffff));
  put(0x2000 + (linear >> 30 & 511) * 8, 0x80000000 | 0xe7);  // 1 GiB
  EXPECT_EQ(walk(four, linear), 0x80000000u + (linear & 0x3fffffff));
  put(0x2000 + (linear >> 30 & 511) * 8, 0);
  EXPECT_EQ(walk(four, linear), std::nullopt) << "not present";
  put(0x1000 + (linear >> 39 & 511) * 8, 0x123456000 | 0x67);
  EXPECT_EQ(walk(four, linear), std::nullopt) << "a table where there is no memory";
}

TEST_F(GuestWalkTest, FiveLevels) {
  const ExecutionMode five = mode(kCr4PhysicalAddressExtension | kCr4FiveLevels, 0x500, 0x1000);
  const std::uint64_t linear = 0x00aa5555'23456789;
  put(0x1000 + (linear >> 48 & 511) * 8, 0x2000 | 1);
  put(0x2000 + (linear >> 39 & 511) * 8, 0x3000 | 1);
  put(0x3000 + (linear >> 30 & 511) * 8, 0x80000000 | 0x81);
  EXPECT_EQ(walk(five, linear), 0x80000000u + (linear & 0x3fffffff));
}

TEST_F(GuestWalkTest, PhysicalAddressExtension) {
  const ExecutionMode pae = mode(kCr4PhysicalAddressExtension, 0, 0x1020);  // aligned to 32 bytes only
  const std::uint64_t linear = 0xc0123456;
  put(0x1020 + 3 * 8, 0x2000 | 1);
  put(0x2000 + (linear >> 21 & 511) * 8, 0x3000 | 0x67);
  put(0x3000 + (linear >> 12 & 511) * 8, 0x1'0000'5000 | 0x67);
  EXPECT_EQ(walk(pae, linear), 0x1'0000'5456u);
  put(0x2000 + (linear >> 21 & 511) * 8, 0x1'0020'0000 | 0xe7);
  EXPECT_EQ(walk(pae, linear), 0x1'0020'0000u + (linear & 0x1fffff));
}

TEST_F(GuestWalkTest, ThirtyTwoBit) {
  const ExecutionMode legacy = mode(kCr4PageSizeExtensions, 0, 0x1000);
  const std::uint64_t linear = 0xc0123456;
  put(0x1000 + (linear >> 22) * 4, 0x2000 | 0x67, 4);
  put(0x2000 + (linear >> 12 & 1023) * 4, 0x9000 | 0x67, 4);
  EXPECT_EQ(walk(legacy, linear), 0x9456u);
  put(0x1000 + (linear >> 22) * 4, 0x00c00000 | 5 << 13 | 0xe7, 4);  // PSE-36: 4 MiB at 5 * 4 GiB + 12 MiB
  EXPECT_EQ(walk(legacy, linear), 0x5'00c00000u + (linear & 0x3fffff));
  // Without CR4.PSE the same entry is a table.
  EXPECT_EQ(walk(mode(0, 0, 0x1000), linear), std::nullopt);
}

}  // namespace
}  // namespace bulkhead::hypervisor
