// SPDX-License-Identifier: Apache-2.0
//
// Which pages a guest has written: all of them, and no others.
#include <gmock/gmock.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <thread>

#include "tests/engine/conformance/conformance.hpp"

namespace bulkhead::engine {
namespace {

using Addresses = std::vector<GuestPhysicalAddress>;

class DirtyPagesConformance : public EngineTest {
 protected:
  void SetUp() override {
    EngineTest::SetUp();
    if (IsSkipped()) return;
    ASSERT_TRUE(engine_->capabilities().dirty_pages);
  }

  /// The pages written until the guest says `word`.
  Addresses written_until(GuestMachine& machine, std::uint32_t word) {
    machine.on_port_write = [&machine, word](const PortExit& exit) {
      if (exit.data == word) machine.vp().cancel();
    };
    const auto exit = machine.run();
    EXPECT_TRUE(exit.has_value() && std::holds_alternative<CancelledExit>(*exit));
    const auto pages = machine.partition().harvest_dirty_pages();
    EXPECT_TRUE(pages.has_value()) << pages.error().message();
    return pages ? pages->addresses() : Addresses{};
  }
};
INSTANTIATE_TEST_SUITE_P(Engines, DirtyPagesConformance, every_engine(), engine_name);

TEST_P(DirtyPagesConformance, AreThoseThatWereWrittenSinceTheLastHarvest) {
  const auto machine = make();
  machine->start_real_mode(guests::page_writer_guest());
  ASSERT_TRUE(machine->partition().track_dirty_pages(true).has_value());
  // Those that the guest touches for the first time may be among them, the code for one.
  EXPECT_THAT(written_until(*machine, 1), testing::IsSupersetOf(Addresses{0x30000, 0x31000, 0x50000}));
  // Written again, and by an instruction that a device completes; and no others.
  machine->port_reads = {0x5a};
  EXPECT_EQ(written_until(*machine, 2), (Addresses{0x40000, 0x50000}));
  EXPECT_EQ(machine->read<std::uint8_t>(0x40000), 0x5a);
  EXPECT_EQ(machine->partition().harvest_dirty_pages()->count(), 0u);
}

TEST_P(DirtyPagesConformance, AreAllThatACopyNeedsWhileTheGuestRuns) {
  const auto machine = make();
  machine->start_long_mode(guests::page_rounds_guest());
  ASSERT_TRUE(machine->partition().track_dirty_pages(true).has_value());
  const auto memory = machine->memory().regions().front().bytes;
  std::vector<std::uint8_t> copy(memory.begin(), memory.end());
  const auto copy_written = [&] {
    const auto pages = machine->partition().harvest_dirty_pages();
    ASSERT_TRUE(pages.has_value()) << pages.error().message();
    for (const auto page : pages->addresses()) std::memcpy(copy.data() + page, memory.data() + page, kGuestPageSize);
  };
  std::atomic<bool> done = false;
  std::jthread runner([&] {
    machine->run_to_the_end();
    done = true;
  });
  // Each harvest makes the guest's next writes slow; so many are enough, and it comes to its end.
  for (int harvest = 0; harvest < 40 && !done; ++harvest) {
    copy_written();
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  runner.join();
  copy_written();
  EXPECT_EQ(std::memcmp(copy.data() + kData, memory.data() + kData, 0x200000), 0);
  EXPECT_EQ(machine->read<std::uint32_t>(0x2ff000), 499u);
}

TEST_P(DirtyPagesConformance, AreTrackedAnewAfterTrackingWasOff) {
  const auto machine = make();
  machine->start_real_mode(guests::page_writer_guest());
  EXPECT_FALSE(machine->partition().harvest_dirty_pages().has_value());
  ASSERT_TRUE(machine->partition().track_dirty_pages(true).has_value());
  ASSERT_TRUE(machine->partition().track_dirty_pages(false).has_value());
  machine->on_port_write = [&](const PortExit& exit) {
    if (exit.data == 1) machine->vp().cancel();
  };
  ASSERT_TRUE(machine->run().has_value());
  EXPECT_FALSE(machine->partition().harvest_dirty_pages().has_value());
  ASSERT_TRUE(machine->partition().track_dirty_pages(true).has_value());
  machine->port_reads = {0x5a};
  EXPECT_THAT(written_until(*machine, 2), testing::IsSupersetOf(Addresses{0x40000, 0x50000}));
}

TEST_P(DirtyPagesConformance, HaveThePagesThatTheHypervisorWrites) {
  const auto machine = make();
  machine->start_long_mode(guests::hypercall_guest());
  ASSERT_TRUE(machine->partition().track_dirty_pages(true).has_value());
  machine->run_to_the_end();
  const auto pages = machine->partition().harvest_dirty_pages();
  ASSERT_TRUE(pages.has_value()) << pages.error().message();
  EXPECT_THAT(pages->addresses(), testing::Contains(0x200000u)) << "the hypercall page";
}

TEST_P(DirtyPagesConformance, HaveTheSynicsPages) {
  if (!engine_->capabilities().synic) GTEST_SKIP() << "no SynICs here";
  const auto machine = make({.synic = true});
  machine->start_long_mode(guests::message_taker_guest());
  ASSERT_TRUE(machine->partition().track_dirty_pages(true).has_value());
  (void)written_until(*machine, 0x11);
  abi::SynicMessage message = {};
  message.type = abi::SynicMessageType::VmbusChannel;
  ASSERT_EQ(machine->partition().post_message(abi::VpIndex{0}, abi::Sint{2}, message), SynicStatus::Delivered);
  EXPECT_EQ(machine->partition().harvest_dirty_pages()->addresses(), (Addresses{0x300000}));
}

}  // namespace
}  // namespace bulkhead::engine
