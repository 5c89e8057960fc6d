// SPDX-License-Identifier: Apache-2.0
#include "vsp/memory/page_set.hpp"

#include <gtest/gtest.h>

namespace bulkhead::vsp::memory {
namespace {

TEST(PageSet, CountsEachPageOnce) {
  PageSet set(100);
  set.add({10, 20});
  set.add({20, 20});
  EXPECT_EQ(set.size(), 30u);
  set.remove({0, 15});
  EXPECT_EQ(set.size(), 25u);
  EXPECT_TRUE(set.has_any({14, 2}));
  EXPECT_FALSE(set.has_any({0, 15}));
  set.clear();
  EXPECT_EQ(set.size(), 0u);
}

TEST(PageSet, GivesRunsInOrderAndNoLongerThanWanted) {
  PageSet set(100);
  set.add({10, 5});
  set.add({90, 10});
  EXPECT_EQ(set.next_run(0, UINT64_MAX), (PageRun{10, 5}));
  EXPECT_EQ(set.next_run(12, UINT64_MAX), (PageRun{12, 3}));
  EXPECT_EQ(set.next_run(0, 2), (PageRun{10, 2}));
  EXPECT_EQ(set.next_run(15, UINT64_MAX), (PageRun{90, 10}));
  EXPECT_EQ(set.next_run(100, UINT64_MAX), std::nullopt);
  EXPECT_EQ(set.next_run(UINT64_MAX, 1), std::nullopt);
}

}  // namespace
}  // namespace bulkhead::vsp::memory
