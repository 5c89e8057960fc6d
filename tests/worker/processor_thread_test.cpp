// SPDX-License-Identifier: Apache-2.0
#include "worker/processor_thread.hpp"

#include <gtest/gtest.h>
#include <sched.h>

#include <atomic>
#include <string>
#include <thread>

#include "engine/fake/fake_engine.hpp"

namespace bulkhead::worker {
namespace {

using namespace engine;

class CountingHandler final : public ExitHandler {
 public:
  bool handle_exit(VirtualProcessor&, const Exit& exit) override {
    policy = sched_getscheduler(0);
    ++exits;
    return !std::holds_alternative<TripleFaultExit>(exit);
  }
  void handle_engine_failure(VirtualProcessor&, const Error& error) override { failure = error.message(); }

  std::atomic<int> exits{0};
  std::atomic<int> policy{-1};  // that the thread of the last exit is scheduled by
  std::string failure;
};

class ProcessorThreadTest : public testing::Test {
 protected:
  std::shared_ptr<FakeGuest> guest_ = std::make_shared<FakeGuest>();
  FakeEngine engine_{guest_};
  std::unique_ptr<Partition> partition_ = *engine_.create_partition({.vp_count = 1});
  CountingHandler handler_;
};

TEST_F(ProcessorThreadTest, HandsOnEachExitUntilItIsStopped) {
  ProcessorThread thread(*partition_->create_vp(0), handler_);
  for (int i = 0; i < 3; ++i) guest_->vp(0).exit(EoiExit{.vector = 0x30});
  ASSERT_TRUE(thread.start());
  ASSERT_TRUE(guest_->vp(0).wait_until_halted());
  thread.stop();
  EXPECT_GE(handler_.exits, 3);
}

TEST_F(ProcessorThreadTest, RunsAgainAfterAStop) {
  ProcessorThread thread(*partition_->create_vp(0), handler_);
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(thread.start());
    thread.stop();
  }
  const int before = handler_.exits;
  guest_->vp(0).exit(EoiExit{.vector = 0x30});
  ASSERT_TRUE(thread.start());
  ASSERT_TRUE(guest_->vp(0).wait_until_halted());
  thread.stop();
  EXPECT_GT(handler_.exits, before);
}

/// The event loop starts it, and gives way to others itself.
TEST_F(ProcessorThreadTest, DoesNotGiveWayAsWhoStartsItDoes) {
  ProcessorThread thread(*partition_->create_vp(0), handler_);
  guest_->vp(0).exit(TripleFaultExit{});
  std::thread([&] {
    const sched_param priority{};
    ASSERT_EQ(sched_setscheduler(0, SCHED_BATCH, &priority), 0);
    ASSERT_TRUE(thread.start());
  }).join();
  while (handler_.exits == 0) std::this_thread::yield();
  thread.stop();
  EXPECT_EQ(handler_.policy, SCHED_OTHER);
}

TEST_F(ProcessorThreadTest, EndsWhenTheHandlerSaysSo) {
  ProcessorThread thread(*partition_->create_vp(0), handler_);
  guest_->vp(0).exit(TripleFaultExit{});
  guest_->vp(0).exit(EoiExit{.vector = 0x30});
  ASSERT_TRUE(thread.start());
  while (handler_.exits == 0) std::this_thread::yield();
  thread.stop();
  EXPECT_EQ(handler_.exits, 1);
}

TEST_F(ProcessorThreadTest, EndsWhenTheEngineFails) {
  ProcessorThread thread(*partition_->create_vp(0), handler_);
  guest_->vp(0).fail("the hypervisor is gone");
  ASSERT_TRUE(thread.start());
  thread.stop();
  EXPECT_TRUE(handler_.failure.empty() || handler_.failure == "the hypervisor is gone");
}

}  // namespace
}  // namespace bulkhead::worker
