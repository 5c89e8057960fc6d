// SPDX-License-Identifier: Apache-2.0
#include "worker/handover.hpp"

#include <gtest/gtest.h>

#include <boost/asio/post.hpp>
#include <chrono>
#include <functional>
#include <latch>
#include <memory>
#include <thread>
#include <vector>

namespace bulkhead::worker {
namespace {

using namespace std::chrono_literals;

class HandoverTest : public testing::Test {
 protected:
  void SetUp() override {
    auto made = Handover::create(event_loop);
    ASSERT_TRUE(made) << made.error().message();
    handover = std::move(*made);
  }
  /// Runs the loop until `done`, however slow the machine is.
  void run_until(const std::function<bool()>& done) {
    for (int tries = 0; tries < 1000 && !done(); ++tries) {
      event_loop.restart();
      event_loop.run_one_for(20ms);
    }
  }
  /// All that could begin now.
  void run_what_is_ready() {
    event_loop.restart();
    event_loop.poll();
  }

  boost::asio::io_context event_loop;
  std::unique_ptr<Handover> handover;
};

TEST_F(HandoverTest, WhatIsPostedInAVisitBeginsWhenItHasEnded) {
  std::vector<int> order;
  {
    const Handover::Visit visit(*handover);
    Handover::post(event_loop, [&] { order.push_back(1); });
    Handover::post(event_loop, [&] { order.push_back(2); });
    run_what_is_ready();
    EXPECT_TRUE(order.empty()) << "the thread may still hold what the work needs";
  }
  run_until([&] { return order.size() == 2; });
  EXPECT_EQ(order, (std::vector{1, 2}));
}

TEST_F(HandoverTest, WorkMayPostMoreWithoutEndAndOthersHaveTheirTurn) {
  bool other = false;
  unsigned rounds = 0;
  std::function<void()> again = [&] {
    if (++rounds == 5) boost::asio::post(event_loop, [&] { other = true; });
    if (!other) Handover::post(event_loop, again);
  };
  {
    const Handover::Visit visit(*handover);
    Handover::post(event_loop, again);
  }
  run_until([&] { return other; });
  EXPECT_TRUE(other);
  EXPECT_GT(rounds, 5u);
}

TEST_F(HandoverTest, WorkMayEndTheHandover) {
  {
    const Handover::Visit visit(*handover);
    Handover::post(event_loop, [&] {
      Handover::post(event_loop, [] { FAIL() << "it is gone"; });
      handover.reset();
    });
    Handover::post(event_loop, [] { FAIL() << "it is gone"; });
  }
  run_until([&] { return handover == nullptr; });
  run_what_is_ready();
  EXPECT_EQ(handover, nullptr);
}

TEST_F(HandoverTest, OutsideOfAVisitWorkGoesStraightToTheLoop) {
  bool done = false;
  Handover::post(event_loop, [&] { done = true; });
  run_until([&] { return done; });
  EXPECT_TRUE(done);
}

TEST_F(HandoverTest, WorkThatHasNotBegunIsForgottenWithTheHandover) {
  bool done = false;
  {
    const Handover::Visit visit(*handover);
    Handover::post(event_loop, [&] { done = true; });
  }
  handover.reset();
  run_what_is_ready();
  EXPECT_FALSE(done);
}

TEST_F(HandoverTest, NothingIsLostBetweenThreads) {
  constexpr unsigned kThreads = 4, kEach = 2000;
  unsigned done = 0;  // on the event loop alone
  std::latch start(kThreads);
  std::vector<std::jthread> threads;
  for (unsigned thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&] {
      start.arrive_and_wait();
      for (unsigned count = 0; count < kEach; ++count) {
        const Handover::Visit visit(*handover);
        Handover::post(event_loop, [&] {
          if (++done == kThreads * kEach) event_loop.stop();
        });
      }
    });
  }
  event_loop.run_for(60s);
  EXPECT_EQ(done, kThreads * kEach);
}

}  // namespace
}  // namespace bulkhead::worker
