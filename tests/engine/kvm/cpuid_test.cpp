// SPDX-License-Identifier: Apache-2.0
#include "engine/kvm/cpuid.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <optional>

namespace bulkhead::engine::kvm {
namespace {

kvm_cpuid_entry2 entry(std::uint32_t function, std::uint32_t eax, std::uint32_t ebx, std::uint32_t ecx,
                       std::uint32_t edx) {
  kvm_cpuid_entry2 made = {};
  made.function = function;
  made.eax = eax;
  made.ebx = ebx;
  made.ecx = ecx;
  made.edx = edx;
  return made;
}

std::optional<kvm_cpuid_entry2> find(const std::vector<kvm_cpuid_entry2>& table, std::uint32_t function,
                                     std::uint32_t index = 0) {
  const auto found =
      std::ranges::find_if(table, [&](const auto& e) { return e.function == function && e.index == index; });
  return found == table.end() ? std::nullopt : std::optional(*found);
}

const std::vector<kvm_cpuid_entry2> kSupported = {entry(0, 0xd, 0, 0, 0),
                                                  entry(1, 0x800f12, 0x07ff0800, 0x20, 0x10000000),
                                                  entry(0xa, 7, 7, 7, 7),
                                                  entry(0xb, 1, 2, 3, 9),
                                                  entry(0x40000000, 1, 2, 3, 4),
                                                  entry(0x80000001, 0, 0, 4, 0),
                                                  entry(0x80000008, 0x3030, 0, 0x7007, 0),
                                                  entry(0x8000000a, 1, 2, 3, 4),
                                                  entry(0x8000001e, 9, 9, 9, 9)};

TEST(KvmCpuid, EachProcessorHasItsOwnNumber) {
  for (std::uint32_t vp = 0; vp < 3; ++vp) {
    const auto table = guest_cpuid(kSupported, {.vp = vp, .vp_count = 3});
    EXPECT_EQ(find(table, 1)->ebx >> 24, vp);
    EXPECT_EQ(find(table, 1)->ebx >> 16 & 0xff, 3u);
    EXPECT_EQ(find(table, 0xb, 1)->edx, vp);
    EXPECT_EQ(find(table, 0xb, 1)->eax, 2u);  // two bits of the APIC id for up to four
    EXPECT_EQ(find(table, 0xb, 1)->ebx, 3u);
    EXPECT_EQ(find(table, 0x8000001e)->eax, vp);
    EXPECT_EQ(find(table, 0x80000008)->ecx & 0xff, 2u);
    EXPECT_EQ(find(table, 0x80000008)->ecx >> 12 & 0xf, 2u);
  }
}

TEST(KvmCpuid, OneProcessorIsAlone) {
  const auto table = guest_cpuid(kSupported, {.vp = 0, .vp_count = 1});
  EXPECT_EQ(find(table, 1)->edx & 1u << 28, 0u);
  EXPECT_EQ(find(table, 0xb, 1)->eax, 0u);
}

TEST(KvmCpuid, NestedVirtualizationIsHidden) {
  const auto table = guest_cpuid(kSupported, {.vp = 0, .vp_count = 1});
  EXPECT_EQ(find(table, 1)->ecx & 1u << 5, 0u);
  EXPECT_EQ(find(table, 0x80000001)->ecx & 1u << 2, 0u);
  EXPECT_FALSE(find(table, 0x8000000a).has_value());
}

TEST(KvmCpuid, TheHypervisorLeavesAreOurs) {
  const auto table = guest_cpuid(kSupported, {.vp = 0, .vp_count = 1});
  EXPECT_NE(find(table, 1)->ecx & 1u << 31, 0u);
  EXPECT_EQ(find(table, 0x40000000)->eax, 0x40000006u);
  EXPECT_EQ(find(table, 0x40000001)->eax, 0x31237648u);
  EXPECT_EQ(std::ranges::count_if(table, [](const auto& e) { return e.function == 0x40000000; }), 1);
}

TEST(KvmCpuid, TheHypervisorInterfaceIsWhatTheKernelHasAndTheMachineCanUse) {
  std::vector<kvm_cpuid_entry2> supported = kSupported;
  std::erase_if(supported, [](const auto& e) { return e.function == 0x40000000; });
  supported.push_back(entry(0x40000003, 0xffffffff, 0xffffffff, 0, 0xffffffff));
  supported.push_back(entry(0x40000004, 0xffffffff, 0xffffffff, 0, 0));
  const auto plain = guest_cpuid(supported, {.vp = 0, .vp_count = 1});
  EXPECT_EQ(find(plain, 0x40000003)->eax, 0xaf2u);
  EXPECT_EQ(find(plain, 0x40000003)->ebx, 0u);
  EXPECT_EQ(find(plain, 0x40000003)->edx, 0x110u);
  EXPECT_EQ(find(plain, 0x40000004)->eax, 0xc2cu);
  EXPECT_EQ(find(plain, 0x40000004)->ebx, 0xfffu);
  const auto synic = guest_cpuid(supported, {.vp = 0, .vp_count = 1, .synic = true});
  EXPECT_EQ(find(synic, 0x40000003)->eax, 0xafeu);
  EXPECT_EQ(find(synic, 0x40000003)->ebx, 0u) << "nobody hears what it sends";
  EXPECT_EQ(find(synic, 0x40000003)->edx, 0x80510u);
  EXPECT_EQ(find(synic, 0x40000004)->eax, 0xe2cu);
  EXPECT_EQ(find(guest_cpuid(supported, {.vp = 0, .vp_count = 1, .synic = true, .connections = true}), 0x40000003)->ebx,
            0x30u);
}

TEST(KvmCpuid, AKernelThatDoesNotTellItsInterfaceHasTheLeast) {
  const auto table = guest_cpuid(kSupported, {.vp = 0, .vp_count = 1});
  EXPECT_EQ(find(table, 0x40000003)->eax, 0xa62u);
  EXPECT_EQ(find(table, 0x40000003)->edx, 0x100u);
  EXPECT_EQ(find(table, 0x40000004)->eax, 0x20u);
  EXPECT_EQ(find(table, 0x40000004)->ebx, 0xffffffffu);
}

}  // namespace
}  // namespace bulkhead::engine::kvm
