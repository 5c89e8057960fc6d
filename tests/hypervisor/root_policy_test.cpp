// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <string>

#include "hypervisor/root/cpuid_policy.hpp"
#include "hypervisor/root/msr_policy.hpp"
#include "hypervisor/root/port_policy.hpp"

namespace bulkhead::hypervisor::root {
namespace {

using Map = std::array<std::uint8_t, kMsrMapSize>;

/// APM volume 2, section 15.11: where the map has the bits of a register.
bool exits(const Map& map, std::uint32_t index, bool write) {
  std::size_t base = index >= 0xc0010000 ? 0x1000 : index >= 0xc0000000 ? 0x800 : 0;
  const std::size_t bit = (index & 0x1fff) * 2 + (write ? 1 : 0);
  return map[base + bit / 8] & (1u << (bit % 8));
}

TEST(MsrPolicy, WhatTheTableDoesNotNameIsNative) {
  EXPECT_EQ(msr_access(0x10, true), MsrAccess::Native);
  EXPECT_EQ(msr_access(0xc0000082, true), MsrAccess::Native);
}

TEST(MsrPolicy, SvmIsOutOfTheRootsReach) {
  EXPECT_EQ(msr_access(0xc0010117, false), MsrAccess::Refuse);
  EXPECT_EQ(msr_access(0xc0010117, true), MsrAccess::Refuse);
  EXPECT_EQ(msr_access(0xc0010114, true), MsrAccess::Refuse);
  EXPECT_EQ(msr_access(0xc0000080, true), MsrAccess::Emulate);
}

TEST(MsrPolicy, TheRootsMapHasABitForEachRuleAndNoOther) {
  Map map;
  build_root_msr_map(map);
  EXPECT_TRUE(exits(map, 0xc0000080, false));
  EXPECT_TRUE(exits(map, 0xc0000080, true));
  EXPECT_FALSE(exits(map, 0x1b, false));
  EXPECT_TRUE(exits(map, 0x1b, true));
  EXPECT_TRUE(exits(map, 0x830, true));
  EXPECT_FALSE(exits(map, 0x80b, true));
  EXPECT_TRUE(exits(map, 0xc0010117, false));
  EXPECT_FALSE(exits(map, 0xc0000100, true));
  EXPECT_FALSE(exits(map, 0x277, true));
}

TEST(MsrPolicy, TheChildsMapOpensOnlyWhatIsExchanged) {
  Map map;
  build_child_msr_map(map);
  for (const std::uint32_t index : kChildNativeMsrs) {
    EXPECT_FALSE(exits(map, index, false)) << index;
    EXPECT_FALSE(exits(map, index, true)) << index;
  }
  EXPECT_TRUE(exits(map, 0xc0000080, true));
  EXPECT_TRUE(exits(map, 0x10, false));
  EXPECT_TRUE(exits(map, 0x277, true));
  EXPECT_TRUE(exits(map, 0xc0010117, false));
}

TEST(MsrPolicy, TheChildsMapBeginsWithTheEndOfItsPortMap) {
  // The two share a page: accesses over the end of the ports' space must exit.
  Map map;
  build_child_msr_map(map);
  EXPECT_EQ(map[0] & 7, 7);
}

TEST(CpuidPolicy, TheRootFindsOurSignatureAndNotHyperVs) {
  const machine::CpuidResult result = filter_cpuid(0x40000000, 0, {1, 2, 3, 4}, 0);
  std::string text(12, ' ');
  std::memcpy(text.data(), &result.ebx, 4);
  std::memcpy(text.data() + 4, &result.ecx, 4);
  std::memcpy(text.data() + 8, &result.edx, 4);
  EXPECT_EQ(text, "BulkheadRoot");
  EXPECT_EQ(filter_cpuid(0x40000003, 0, {1, 2, 3, 4}, 0).ebx, 0u);
}

TEST(CpuidPolicy, VirtualizationIsHidden) {
  EXPECT_EQ(filter_cpuid(0x80000001, 0, {0, 0, 0xffffffff, 0}, 0).ecx & 0x1004, 0u);
  EXPECT_EQ(filter_cpuid(1, 0, {0, 0, 0xffffffff, 0}, 0).ecx & 0x20, 0u);
  EXPECT_EQ(filter_cpuid(0x8000000a, 0, {1, 2, 3, 4}, 0).edx, 0u);
}

TEST(CpuidPolicy, OsxsaveIsTheRootsOwn) {
  EXPECT_TRUE(filter_cpuid(1, 0, {}, 1u << 18).ecx & (1u << 27));
  EXPECT_FALSE(filter_cpuid(1, 0, {0, 0, 1u << 27, 0}, 0).ecx & (1u << 27));
}

constexpr SleepControl kSleep{{0x604, 0}, {1, 0}, true};

TEST(SleepControl, SuspendToRamIsRecognizedInEveryWidth) {
  EXPECT_TRUE(kSleep.starts_sleep3(0x604, 0x2401, 2, 0x0001));
  EXPECT_TRUE(kSleep.starts_sleep3(0x604, 0x2401, 4, 0x0001));
  EXPECT_TRUE(kSleep.starts_sleep3(0x605, 0x24, 1, 0x0001));
}

TEST(SleepControl, PowerOffAndOtherPortsPass) {
  EXPECT_FALSE(kSleep.starts_sleep3(0x604, 0x2001, 2, 0x0001));
  EXPECT_FALSE(kSleep.starts_sleep3(0x604, 0x0401, 2, 0x0001));
  EXPECT_FALSE(kSleep.starts_sleep3(0x600, 0x2401, 2, 0x0001));
}

TEST(SleepControl, ThePortMapTrapsItsTwoBytesOnly) {
  std::array<std::uint8_t, 8192> map{};
  build_root_port_map(map, kSleep);
  EXPECT_EQ(map[0x604 / 8], 0x30);
  map[0x604 / 8] = 0;
  for (const std::uint8_t byte : map) EXPECT_EQ(byte, 0);
}

}  // namespace
}  // namespace bulkhead::hypervisor::root
