// SPDX-License-Identifier: Apache-2.0
#include "engine/fake/fake_engine.hpp"

#include <gtest/gtest.h>

#include <thread>

namespace bulkhead::engine {
namespace {

struct FakeEngineTest : testing::Test {
  std::shared_ptr<FakeGuest> guest = std::make_shared<FakeGuest>();
  FakeEngine engine{guest};
  std::unique_ptr<Partition> partition = engine.create_partition({.vp_count = 2}).value();
  std::unique_ptr<VirtualProcessor> vp = partition->create_vp(0).value();
};

TEST_F(FakeEngineTest, ReturnsTheScriptedExitsInOrder) {
  guest->vp(0).exit(PortExit{.port = 0x60, .size = 1, .write = false, .data = 0});
  guest->vp(0).exit(TripleFaultExit{});
  EXPECT_EQ(std::get<PortExit>(vp->run().value()).port, 0x60);
  vp->complete_read(0x55);
  EXPECT_TRUE(std::holds_alternative<TripleFaultExit>(vp->run().value()));
  EXPECT_EQ(guest->vp(0).completed_reads(), std::vector<std::uint64_t>{0x55});
}

TEST_F(FakeEngineTest, ACancellationEndsAWaitingRun) {
  std::jthread canceller([&] {
    EXPECT_TRUE(guest->vp(0).wait_until_halted());
    vp->cancel();
  });
  EXPECT_TRUE(std::holds_alternative<CancelledExit>(vp->run().value()));
}

TEST_F(FakeEngineTest, AnInterruptWindowIsReportedOnce) {
  guest->vp(0).open_interrupt_window(false);
  vp->request_interrupt_window(true);
  guest->vp(0).exit(EoiExit{.vector = 0x30});
  EXPECT_TRUE(std::holds_alternative<EoiExit>(vp->run().value()));
  guest->vp(0).open_interrupt_window(true);
  EXPECT_TRUE(std::holds_alternative<InterruptWindowExit>(vp->run().value()));
  EXPECT_TRUE(vp->inject_external_interrupt(0x20).has_value());
  vp->cancel();
  EXPECT_TRUE(std::holds_alternative<CancelledExit>(vp->run().value()));
  EXPECT_EQ(guest->vp(0).external_interrupts(), std::vector<std::uint8_t>{0x20});
}

TEST_F(FakeEngineTest, RefusesAProcessorThatTheSettingsDoNotName) {
  EXPECT_FALSE(partition->create_vp(2).has_value());
  EXPECT_FALSE(engine.create_partition({.vp_count = 0}).has_value());
}

TEST_F(FakeEngineTest, SavesItsRegistersForAnotherPartitionWhileTimeIsFrozen) {
  guest->vp(0).set(abi::RegisterName::Rax, {.raw = {.low = 7, .high = 0}});
  EXPECT_FALSE(vp->save().has_value());
  EXPECT_FALSE(partition->save().has_value());
  ASSERT_TRUE(partition->freeze_time().has_value());
  const auto of_vp = vp->save();
  const auto of_partition = partition->save();
  ASSERT_TRUE(of_vp.has_value() && of_partition.has_value());

  const auto other_guest = std::make_shared<FakeGuest>();
  FakeEngine other_engine(other_guest);
  const auto other = other_engine.create_partition({.vp_count = 2}).value();
  const auto other_vp = other->create_vp(0).value();
  const auto wrong_vp = other->create_vp(1).value();
  ASSERT_TRUE(other->freeze_time().has_value());
  ASSERT_TRUE(other->restore(*of_partition).has_value());
  ASSERT_TRUE(other_vp->restore(*of_vp).has_value());
  EXPECT_FALSE(wrong_vp->restore(*of_vp).has_value());
  ASSERT_TRUE(other->thaw_time().has_value());
  EXPECT_EQ(other_guest->vp(0).get(abi::RegisterName::Rax)->number, 7u);
}

TEST_F(FakeEngineTest, HarvestsThePagesThatTheGuestWroteOnce) {
  EXPECT_FALSE(partition->harvest_dirty_pages().has_value());
  EXPECT_FALSE(partition->track_dirty_pages(true).has_value()) << "there is no memory yet";
  const GuestMemory::Range range{.base = 0, .size = 0x10000};
  const auto memory = GuestMemory::allocate(std::span(&range, 1)).value();
  ASSERT_TRUE(partition->map_memory(*memory).has_value());
  ASSERT_TRUE(partition->track_dirty_pages(true).has_value());
  guest->write_page(0x3123);
  EXPECT_EQ(partition->harvest_dirty_pages()->addresses(), std::vector<GuestPhysicalAddress>{0x3000});
  EXPECT_EQ(partition->harvest_dirty_pages()->count(), 0u);
}

}  // namespace
}  // namespace bulkhead::engine
