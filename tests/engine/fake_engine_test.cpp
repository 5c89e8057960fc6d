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

}  // namespace
}  // namespace bulkhead::engine
