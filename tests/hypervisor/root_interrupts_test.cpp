// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "hypervisor/root/interrupt_command.hpp"
#include "hypervisor/root/startup.hpp"

namespace bulkhead::hypervisor::root {
namespace {

using Phase = StartupState::Phase;

InterruptCommand xapic(std::uint32_t low, std::uint8_t destination) { return {low, destination, false}; }
ApicAddress flat(std::uint32_t id) { return {id, 1u << (24 + id), 0xffffffff}; }

TEST(InterruptCommand, OnlyInitStartupAndNmiConcernTheHypervisor) {
  EXPECT_TRUE(xapic(0x000000fd, 1).is_for_hardware());
  EXPECT_TRUE(xapic(0x000001fd, 1).is_for_hardware());
  EXPECT_FALSE(xapic(0x00000400, 1).is_for_hardware());
  EXPECT_FALSE(xapic(0x0000c500, 1).is_for_hardware());
  EXPECT_FALSE(xapic(0x00000699, 1).is_for_hardware());
}

TEST(InterruptCommand, InitDeassertIsToldFromInit) {
  EXPECT_FALSE(xapic(0x0000c500, 1).is_init_deassert());
  EXPECT_TRUE(xapic(0x00008500, 1).is_init_deassert());
}

TEST(InterruptCommand, PhysicalDestinationIsOneProcessorOrAll) {
  EXPECT_TRUE(addresses(xapic(0x400, 1), flat(1), 0));
  EXPECT_FALSE(addresses(xapic(0x400, 1), flat(2), 0));
  EXPECT_TRUE(addresses(xapic(0x400, 0xff), flat(2), 0));
}

TEST(InterruptCommand, ShorthandsWinOverTheDestination) {
  constexpr std::uint32_t kSelf = 1u << 18, kAll = 2u << 18, kOthers = 3u << 18;
  EXPECT_TRUE(addresses(xapic(0x400 | kSelf, 3), flat(0), 0));
  EXPECT_FALSE(addresses(xapic(0x400 | kSelf, 3), flat(3), 0));
  EXPECT_TRUE(addresses(xapic(0x400 | kAll, 3), flat(0), 0));
  EXPECT_FALSE(addresses(xapic(0x400 | kOthers, 0), flat(0), 0));
  EXPECT_TRUE(addresses(xapic(0x400 | kOthers, 0), flat(1), 0));
}

TEST(InterruptCommand, FlatLogicalDestinationIsASetOfProcessors) {
  const InterruptCommand command = xapic(0xc00, 0b101);
  EXPECT_TRUE(addresses(command, flat(0), 1));
  EXPECT_FALSE(addresses(command, flat(1), 1));
  EXPECT_TRUE(addresses(command, flat(2), 1));
}

TEST(InterruptCommand, ClusterLogicalDestinationNeedsTheSameCluster) {
  const ApicAddress cluster2{9, 0x24000000, 0x0fffffff};
  EXPECT_TRUE(addresses(xapic(0xc00, 0x24), cluster2, 0));
  EXPECT_FALSE(addresses(xapic(0xc00, 0x14), cluster2, 0));
  EXPECT_FALSE(addresses(xapic(0xc00, 0x22), cluster2, 0));
}

TEST(InterruptCommand, X2ApicLogicalDestinationComesFromTheId) {
  const ApicAddress target{0x23, 0, 0};
  EXPECT_TRUE(addresses({0xc00, 0x00020008, true}, target, 0));
  EXPECT_FALSE(addresses({0xc00, 0x00010008, true}, target, 0));
  EXPECT_TRUE(addresses({0x400, 0xffffffff, true}, target, 0));
  EXPECT_FALSE(addresses({0x400, 0xff, true}, target, 0));
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
