// SPDX-License-Identifier: Apache-2.0
// Whose page is whose.
#include <gtest/gtest.h>

#include "tests/vsp/memory/memory_guest.hpp"

namespace bulkhead::vsp::memory {
namespace {

class AccountTest : public testing::Test {
 protected:
  const std::vector<PageRun> startup{{0, 1000}, {5000, 1000}};
  FakeMemory memory{startup};
  MemoryAccount account{startup, {{2000, 100}, {7000, 50}}, memory};
};

TEST_F(AccountTest, AGuestGivesOnlyWhatItHasAndOnlyOnce) {
  EXPECT_TRUE(account.take({10, 5}));
  EXPECT_TRUE(memory.has_none({10, 5}));
  EXPECT_EQ(account.assigned(), 1995u);
  for (const PageRun& run : {PageRun{10, 5}, PageRun{14, 2}, PageRun{9, 2},  // given before, in part
                             PageRun{0, 0},                                  // none
                             PageRun{999, 2}, PageRun{1500, 1},              // not memory
                             PageRun{2000, 1},                               // not given to it yet
                             PageRun{UINT64_MAX, 1}, PageRun{1, UINT64_MAX}, PageRun{UINT64_MAX, UINT64_MAX}}) {
    EXPECT_FALSE(account.take(run)) << run.first << " " << run.count;
  }
  EXPECT_EQ(account.ballooned(), 5u);
}

TEST_F(AccountTest, WhatIsGivenBackIsTheGuestsAgain) {
  account.take({10, 5});
  EXPECT_TRUE(account.give_back({10, 3}));
  EXPECT_TRUE(memory.has_all({10, 3}));
  EXPECT_TRUE(memory.has_none({13, 2}));
  EXPECT_EQ(account.next_ballooned(0, 100), (PageRun{13, 2}));
  EXPECT_TRUE(account.take({10, 3}));
}

TEST_F(AccountTest, AHostWithoutMemoryGivesNothingBack) {
  account.take({10, 5});
  memory.let_host_run_out();
  EXPECT_FALSE(account.give_back({10, 5}));
  EXPECT_EQ(account.ballooned(), 5u);
  EXPECT_FALSE(account.add(*account.next_to_add(10)));
  EXPECT_EQ(account.added(), 0u);
}

TEST_F(AccountTest, MemoryIsAddedInOrder) {
  EXPECT_EQ(account.next_to_add(60), (PageRun{2000, 60}));
  EXPECT_TRUE(account.add({2000, 60}));
  EXPECT_TRUE(memory.has_all({2000, 60}));
  EXPECT_EQ(account.next_to_add(60), (PageRun{2060, 40}));
  account.add({2060, 40});
  EXPECT_EQ(account.next_to_add(60), (PageRun{7000, 50}));
  account.add({7000, 50});
  EXPECT_EQ(account.next_to_add(60), std::nullopt);
  EXPECT_EQ(account.assigned(), 2150u);
}

TEST_F(AccountTest, WhatTheGuestDidNotWantOfItGoesBack) {
  account.add({2000, 60});
  account.take_back_added(20);
  EXPECT_TRUE(memory.has_all({2000, 40}));
  EXPECT_TRUE(memory.has_none({2040, 60}));
  EXPECT_EQ(account.next_to_add(100), (PageRun{2040, 60}));
}

TEST_F(AccountTest, ASweepTakesWhatWasUsedAndIsNotTheGuests) {
  account.take({10, 5});
  account.add({2000, 10});
  memory.touch(12);    // ballooned
  memory.touch(2050);  // never given
  memory.touch(500);   // its own
  memory.touch(2005);  // added
  EXPECT_EQ(account.sweep(), 2u);
  EXPECT_EQ(account.sweep(), 0u);
  EXPECT_TRUE(memory.has_all({2000, 10}));
}

TEST_F(AccountTest, AGuestThatForgetsItsBalloonHasItsMemory) {
  account.take({10, 5});
  account.take({5000, 1000});
  account.forget_balloon();
  EXPECT_EQ(account.ballooned(), 0u);
  EXPECT_TRUE(memory.has_all({5000, 1000}));
}

TEST_F(AccountTest, AResetTakesWhatWasAdded) {
  account.take({10, 5});
  account.add({2000, 60});
  memory.touch(2001);
  account.reset();
  EXPECT_EQ(account.assigned(), 2000u);
  EXPECT_EQ(account.addable(), 150u);
}

TEST_F(AccountTest, IsSavedAndRestored) {
  account.take({10, 5});
  account.take({5999, 1});
  account.add({2000, 60});
  state::SavedUnit saved(1);
  account.save(saved);
  FakeMemory elsewhere{startup};
  MemoryAccount other{startup, {{2000, 100}, {7000, 50}}, elsewhere};
  state::SavedReader reader(saved, "account", 1);
  const auto apply = other.read(reader);
  ASSERT_TRUE(reader.finish());
  apply();
  EXPECT_EQ(other.assigned(), account.assigned());
  EXPECT_EQ(other.ballooned(), 6u);
  EXPECT_EQ(other.next_ballooned(100, 10), (PageRun{5999, 1}));
  EXPECT_EQ(elsewhere.size(), other.assigned());
  EXPECT_TRUE(elsewhere.has_all({2000, 60}));
}

}  // namespace
}  // namespace bulkhead::vsp::memory
