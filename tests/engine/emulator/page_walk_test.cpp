// SPDX-License-Identifier: Apache-2.0
#include "engine/emulator/page_walk.hpp"

#include <gtest/gtest.h>

namespace bulkhead::engine::emulator {
namespace {

constexpr std::uint64_t kPresent = 1, kWritable = 2, kUser = 4, kAccessed = 0x20, kDirty = 0x40, kLarge = 0x80;
constexpr std::uint64_t kNoExecute = 1ull << 63;
constexpr std::uint64_t kAll = kPresent | kWritable | kUser;
constexpr AccessKind kRead{}, kWrite{.write = true}, kUserRead{.user = true}, kUserWrite{.write = true, .user = true},
    kFetch{.fetch = true}, kUserFetch{.fetch = true, .user = true};

class PageWalk : public testing::Test {
 protected:
  void SetUp() override {
    const GuestMemory::Range range{.base = 0, .size = 0x10000};
    memory_ = GuestMemory::allocate(std::span(&range, 1)).value();
  }
  template <typename T = std::uint64_t>
  void put(std::uint64_t address, T value) {
    ASSERT_TRUE(memory_->write(address, std::span(reinterpret_cast<const std::uint8_t*>(&value), sizeof(value))));
  }
  template <typename T = std::uint64_t>
  T get(std::uint64_t address) {
    T value{};
    EXPECT_TRUE(memory_->read(address, std::span(reinterpret_cast<std::uint8_t*>(&value), sizeof(value))));
    return value;
  }
  /// 0x1000 -> 0x2000 -> 0x3000 -> 0x4000, and one 4 KiB page with `leaf` at 0x123456789000.
  void lay_four_levels(std::uint64_t leaf) {
    state_.cr0 = 0x80010001;
    state_.cr4 = 0x20;
    state_.efer = 0xd00;
    state_.cr3 = 0x1000;
    put(0x1000 + ((kLinear >> 39) & 511) * 8, 0x2000 | kAll);
    put(0x2000 + ((kLinear >> 30) & 511) * 8, 0x3000 | kAll);
    put(0x3000 + ((kLinear >> 21) & 511) * 8, 0x4000 | kAll);
    put(0x4000 + ((kLinear >> 12) & 511) * 8, leaf);
  }
  Translation walk(AccessKind access, std::uint64_t linear = kLinear) {
    return translate(state_, *memory_, linear, access);
  }
  void expect_mapped(AccessKind access, std::uint64_t physical, std::uint64_t linear = kLinear) {
    const Translation translation = walk(access, linear);
    EXPECT_EQ(translation.outcome, Translation::Outcome::Mapped) << translation.error_code;
    EXPECT_EQ(translation.address, physical);
  }
  void expect_fault(AccessKind access, std::uint32_t error_code, std::uint64_t linear = kLinear) {
    const Translation translation = walk(access, linear);
    EXPECT_EQ(translation.outcome, Translation::Outcome::PageFault);
    EXPECT_EQ(translation.error_code, error_code);
  }

  static constexpr std::uint64_t kLinear = 0x123456789abc;
  ProcessorState state_{};
  std::unique_ptr<GuestMemory> memory_;
};

TEST_F(PageWalk, WithoutPagingAddressesAreThoseOf32Bits) { expect_mapped(kWrite, 0x12345678, 0x5512345678); }

TEST_F(PageWalk, FourLevelsOfEveryPageSize) {
  lay_four_levels(0x55000 | kAll);
  expect_mapped(kUserWrite, 0x55abc);
  put(0x3000 + ((kLinear >> 21) & 511) * 8, 0x40000000 | kAll | kLarge);
  expect_mapped(kRead, 0x40000000 | (kLinear & 0x1fffff));
  put(0x2000 + ((kLinear >> 30) & 511) * 8, 0x80000000 | kAll | kLarge);
  expect_mapped(kRead, 0x80000000 | (kLinear & 0x3fffffff));
}

TEST_F(PageWalk, TablesInWhichItSetsBitsAreWritten) {
  lay_four_levels(0x55000 | kAll);
  WrittenPages written;
  const auto pages_of = [&](AccessKind access) {
    (void)translate(state_, *memory_, kLinear, access, &written);
    DirtyPages pages(memory_->regions());
    written.harvest(memory_->regions(), pages);
    return pages.addresses();
  };
  using Addresses = std::vector<GuestPhysicalAddress>;
  EXPECT_EQ(pages_of(kRead), Addresses{}) << "nobody wants to know";
  lay_four_levels(0x55000 | kAll);
  written.track(memory_->regions());
  EXPECT_EQ(pages_of(kRead), (Addresses{0x1000, 0x2000, 0x3000, 0x4000}));
  EXPECT_EQ(pages_of(kRead), Addresses{}) << "they are set";
  EXPECT_EQ(pages_of(kWrite), Addresses{0x4000}) << "the dirty bit";
  written.stop();
  lay_four_levels(0x55000 | kAll);
  EXPECT_EQ(pages_of(kWrite), Addresses{});
}

TEST_F(PageWalk, FiveLevels) {
  lay_four_levels(0x55000 | kAll);
  constexpr std::uint64_t kHigh = kLinear | 7ull << 48;
  put(0x5000 + 7 * 8, 0x1000 | kAll);
  state_.cr3 = 0x5000;
  state_.cr4 |= kCr4La57;
  expect_mapped(kRead, 0x55abc, kHigh);
  expect_fault(kRead, 0, kLinear);
}

TEST_F(PageWalk, PaeUsesFourPointersWithoutRights) {
  state_.cr0 = 0x80000001;
  state_.cr4 = 0x20;
  state_.cr3 = 0x1020;  // 32-byte aligned
  put(0x1020 + 3 * 8, 0x2000 | kPresent);
  put(0x2000 + 5 * 8, 0x3000 | kAll);
  put(0x3000 + 6 * 8, 0x700000000 | kAll);
  const std::uint64_t linear = 3ull << 30 | 5ull << 21 | 6ull << 12 | 0x123;
  expect_mapped(kUserWrite, 0x700000123, linear);
  put(0x2000 + 5 * 8, 0x600000000 | kAll | kLarge);
  expect_mapped(kRead, 0x600000000 | (linear & 0x1fffff), linear);
  EXPECT_EQ(get(0x1020 + 3 * 8), 0x2000 | kPresent);   // no accessed bit there
  put(0x1020 + 3 * 8, 0x2000 | kPresent | kWritable);  // reserved
  expect_fault(kRead, 9, linear);
}

TEST_F(PageWalk, ThirtyTwoBitPagingWithLargePages) {
  state_.cr0 = 0x80000001;
  state_.cr3 = 0x1000;
  put<std::uint32_t>(0x1000 + 4 * 3, 0x2000 | kAll);
  put<std::uint32_t>(0x2000 + 4 * 9, 0x77000 | kAll);
  const std::uint64_t linear = 3u << 22 | 9u << 12 | 0x321;
  expect_mapped(kUserWrite, 0x77321, linear);
  EXPECT_EQ(get<std::uint32_t>(0x2000 + 4 * 9), 0x77000 | kAll | kAccessed | kDirty);
  // Bits 20 to 13 of a 4 MiB page are address bits 39 to 32.
  put<std::uint32_t>(0x1000 + 4 * 3, 0x40000000 | 0x12 << 13 | kAll | kLarge);
  state_.cr4 = kCr4PageSizeExtension;
  expect_mapped(kRead, 0x1240000000 | (linear & 0x3fffff), linear);
  put<std::uint32_t>(0x1000 + 4 * 3, 0x40000000 | 1 << 21 | kAll | kLarge);
  expect_fault(kRead, 9, linear);
}

TEST_F(PageWalk, RightsAreThoseOfAllLevelsTogether) {
  lay_four_levels(0x55000 | kPresent | kWritable);
  expect_fault(kUserRead, 5);
  expect_fault(kUserWrite, 7);
  expect_mapped(kWrite, 0x55abc);
  lay_four_levels(0x55000 | kPresent | kUser);
  expect_fault(kUserWrite, 7);
  expect_fault(kWrite, 3);
  expect_mapped(kRead, 0x55abc);
  state_.cr0 &= ~kCr0WriteProtect;
  expect_mapped(kWrite, 0x55abc);
  expect_fault(kUserWrite, 7);
  lay_four_levels(0x55000 | kAll);
  put(0x2000 + ((kLinear >> 30) & 511) * 8, 0x3000 | kPresent | kWritable);
  expect_fault(kUserRead, 5);
}

TEST_F(PageWalk, NotPresentSaysWhoAndWhat) {
  lay_four_levels(0);
  expect_fault(kRead, 0);
  expect_fault(kWrite, 2);
  expect_fault(kUserRead, 4);
  expect_fault(kUserFetch, 0x14);
}

TEST_F(PageWalk, NoExecuteAndSupervisorModeProtection) {
  lay_four_levels(0x55000 | kAll | kNoExecute);
  expect_fault(kUserFetch, 0x15);
  expect_mapped(kUserRead, 0x55abc);
  lay_four_levels(0x55000 | kAll);
  expect_mapped(kFetch, 0x55abc);
  state_.cr4 |= kCr4Smep;
  expect_fault(kFetch, 0x11);
  expect_mapped(kUserFetch, 0x55abc);
  state_.cr4 |= kCr4Smap;
  expect_fault(kRead, 1);
  state_.rflags |= kAlignmentCheck;
  expect_mapped(kRead, 0x55abc);
}

TEST_F(PageWalk, ReservedBitsFault) {
  state_.physical_address_bits = 40;
  lay_four_levels(0x10000055000 | kAll);
  expect_fault(kRead, 9);
  lay_four_levels(0x55000 | kAll | kNoExecute);
  state_.efer &= ~kEferNoExecute;
  expect_fault(kRead, 9);
  lay_four_levels(0x55000 | kAll);
  put(0x3000 + ((kLinear >> 21) & 511) * 8, 0x40002000 | kAll | kLarge);
  expect_fault(kWrite, 0xb);
}

TEST_F(PageWalk, AccessedAndDirtyAreSetAsTheProcessorDoes) {
  lay_four_levels(0x55000 | kAll);
  const std::uint64_t leaf = 0x4000 + ((kLinear >> 12) & 511) * 8, root = 0x1000 + ((kLinear >> 39) & 511) * 8;
  walk(kRead);
  EXPECT_EQ(get(leaf), 0x55000 | kAll | kAccessed);
  EXPECT_EQ(get(root), 0x2000 | kAll | kAccessed);
  walk(kWrite);
  EXPECT_EQ(get(leaf), 0x55000 | kAll | kAccessed | kDirty);
  lay_four_levels(0x55000 | kPresent);
  walk(kUserWrite);
  EXPECT_EQ(get(leaf), 0x55000 | kPresent);  // a fault leaves the page untouched
}

TEST_F(PageWalk, ATableWithoutMemoryIsToldApart) {
  lay_four_levels(0x55000 | kAll);
  state_.cr3 = 0x7fff000;
  const Translation translation = walk(kRead);
  EXPECT_EQ(translation.outcome, Translation::Outcome::TableNotInMemory);
  EXPECT_EQ(translation.address, 0x7fff000 + ((kLinear >> 39) & 511) * 8);
}

}  // namespace
}  // namespace bulkhead::engine::emulator
