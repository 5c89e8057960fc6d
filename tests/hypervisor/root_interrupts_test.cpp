// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "hypervisor/root/startup.hpp"

namespace bulkhead::hypervisor::root {
namespace {

using Phase = StartupState::Phase;

InterruptRequest xapic(std::uint32_t low, std::uint8_t destination) {
  return InterruptRequest::from_command(low, destination, false);
}
InterruptRequest x2apic(std::uint32_t low, std::uint32_t destination) {
  return InterruptRequest::from_command(low, destination, true);
}
ApicAddress flat(std::uint32_t id) { return {.id = id, .logical_id = static_cast<std::uint8_t>(1u << id)}; }

TEST(InterruptCommand, OnlyInitStartupAndNmiConcernTheHypervisor) {
  EXPECT_TRUE(is_for_hardware(xapic(0x000000fd, 1).mode));
  EXPECT_TRUE(is_for_hardware(xapic(0x000001fd, 1).mode));
  EXPECT_FALSE(is_for_hardware(xapic(0x00000400, 1).mode));
  EXPECT_FALSE(is_for_hardware(xapic(0x0000c500, 1).mode));
  EXPECT_FALSE(is_for_hardware(xapic(0x00000699, 1).mode));
}

TEST(InterruptCommand, InitDeassertIsToldFromInit) {
  EXPECT_FALSE(is_init_deassert(0x0000c500));
  EXPECT_TRUE(is_init_deassert(0x00008500));
}

TEST(InterruptCommand, PhysicalDestinationIsOneProcessorOrAll) {
  EXPECT_TRUE(flat(1).matches(xapic(0x400, 1), 0));
  EXPECT_FALSE(flat(2).matches(xapic(0x400, 1), 0));
  EXPECT_TRUE(flat(2).matches(xapic(0x400, 0xff), 0));
}

TEST(InterruptCommand, ShorthandsWinOverTheDestination) {
  constexpr std::uint32_t kSelf = 1u << 18, kAll = 2u << 18, kOthers = 3u << 18;
  EXPECT_TRUE(flat(0).matches(xapic(0x400 | kSelf, 3), 0));
  EXPECT_FALSE(flat(3).matches(xapic(0x400 | kSelf, 3), 0));
  EXPECT_TRUE(flat(0).matches(xapic(0x400 | kAll, 3), 0));
  EXPECT_FALSE(flat(0).matches(xapic(0x400 | kOthers, 0), 0));
  EXPECT_TRUE(flat(1).matches(xapic(0x400 | kOthers, 0), 0));
}

TEST(InterruptCommand, FlatLogicalDestinationIsASetOfProcessors) {
  const InterruptRequest request = xapic(0xc00, 0b101);
  EXPECT_TRUE(flat(0).matches(request, 1));
  EXPECT_FALSE(flat(1).matches(request, 1));
  EXPECT_TRUE(flat(2).matches(request, 1));
}

TEST(InterruptCommand, ClusterLogicalDestinationNeedsTheSameCluster) {
  const ApicAddress cluster2{.id = 9, .cluster_model = true, .logical_id = 0x24};
  EXPECT_TRUE(cluster2.matches(xapic(0xc00, 0x24), 0));
  EXPECT_FALSE(cluster2.matches(xapic(0xc00, 0x14), 0));
  EXPECT_FALSE(cluster2.matches(xapic(0xc00, 0x22), 0));
}

TEST(InterruptCommand, X2ApicLogicalDestinationComesFromTheId) {
  const ApicAddress target{.id = 0x23, .x2apic = true};
  EXPECT_TRUE(target.matches(x2apic(0xc00, 0x00020008), 0));
  EXPECT_FALSE(target.matches(x2apic(0xc00, 0x00010008), 0));
  EXPECT_TRUE(target.matches(x2apic(0x400, 0xffffffff), 0));
  EXPECT_FALSE(target.matches(x2apic(0x400, 0xff), 0));
}

TEST(StartupState, InitThenSipiStartsAtTheVector) {
  StartupState state;
  std::uint8_t vector = 0;
  EXPECT_TRUE(state.send_init());
  EXPECT_EQ(state.phase(), Phase::InitPending);
  state.take_init();
  EXPECT_EQ(state.phase(), Phase::WaitForSipi);
  EXPECT_TRUE(state.send_sipi(0x9a));
  ASSERT_TRUE(state.take_sipi(vector));
  EXPECT_EQ(vector, 0x9a);
  EXPECT_EQ(state.phase(), Phase::Running);
}

TEST(StartupState, ASecondSipiIsIgnored) {
  StartupState state;
  std::uint8_t vector = 0;
  state.start_waiting();
  EXPECT_TRUE(state.send_sipi(0x10));
  EXPECT_FALSE(state.send_sipi(0x20));
  ASSERT_TRUE(state.take_sipi(vector));
  EXPECT_EQ(vector, 0x10);
  EXPECT_FALSE(state.send_sipi(0x30));
  EXPECT_EQ(state.phase(), Phase::Running);
}

TEST(StartupState, ASipiBeforeTheInitWasTakenIsNotLost) {
  StartupState state;
  std::uint8_t vector = 0;
  EXPECT_TRUE(state.send_init());
  EXPECT_TRUE(state.send_sipi(0x11));
  state.take_init();
  EXPECT_TRUE(state.take_sipi(vector));
  EXPECT_EQ(vector, 0x11);
}

TEST(StartupState, AnInitTakesAPendingStartBack) {
  StartupState state;
  std::uint8_t vector = 0;
  state.start_waiting();
  EXPECT_TRUE(state.send_sipi(0x11));
  EXPECT_TRUE(state.send_init());
  EXPECT_FALSE(state.take_sipi(vector));
  EXPECT_EQ(state.phase(), Phase::InitPending);
}

TEST(StartupState, ASipiForARunningProcessorDoesNothing) {
  StartupState state;
  EXPECT_FALSE(state.send_sipi(0x11));
  EXPECT_EQ(state.phase(), Phase::Running);
}

}  // namespace
}  // namespace bulkhead::hypervisor::root
