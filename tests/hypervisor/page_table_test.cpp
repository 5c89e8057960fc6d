// SPDX-License-Identifier: Apache-2.0
#include "hypervisor/memory/page_table.hpp"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>

#include "tests/hypervisor/fake_machine.hpp"

namespace bulkhead::hypervisor {
namespace {

using Table = PageTable<NestedFormat>;

/// Hands out frames, zeroed, as long as there are any, and knows which are out.
class Frames {
 public:
  explicit Frames(fake::Machine& machine, unsigned limit = 10'000) : machine_(machine), limit_(limit) {}

  std::optional<Frame> allocate() {
    if (used_.size() >= limit_) return std::nullopt;
    std::uint64_t number = fake::kDepositPage;
    while (used_.contains(number)) ++number;
    used_.insert(number);
    std::memset(machine_.at(number * kPageSize), 0, kPageSize);
    return Frame{number};
  }
  void free(Frame frame) {
    EXPECT_EQ(used_.erase(frame.number), 1u) << "freed twice, or never allocated";
    std::memset(machine_.at(frame.address()), 0xcc, kPageSize);
  }
  std::size_t used() const { return used_.size(); }
  void set_limit(unsigned limit) { limit_ = limit; }

 private:
  fake::Machine& machine_;
  std::size_t limit_;
  std::set<std::uint64_t> used_;
};

class PageTableTest : public testing::Test {
 protected:
  fake::Machine machine_;
  Frames frames_{machine_};
  Table table_ = *Table::create(frames_);
};

TEST_F(PageTableTest, MapsPagesOfEachSize) {
  ASSERT_TRUE(table_.map(5, {1234}, PageSize::k4KiB, {.write = false}, frames_));
  ASSERT_TRUE(table_.map(512, {1024}, PageSize::k2MiB, {}, frames_));
  ASSERT_TRUE(table_.map(1 << 18, {1 << 18}, PageSize::k1GiB, {.execute = false}, frames_));

  EXPECT_EQ(table_.translate(5), Frame{1234});
  EXPECT_FALSE(table_.walk(5)->rights.write);
  EXPECT_EQ(table_.translate(512 + 7), Frame{1024 + 7});
  EXPECT_EQ(table_.walk(512)->size, PageSize::k2MiB);
  EXPECT_EQ(table_.translate((1 << 18) + 99), Frame{(1 << 18) + 99});
  EXPECT_FALSE(table_.walk(1 << 18)->rights.execute);
  EXPECT_EQ(table_.translate(6), std::nullopt);
  EXPECT_EQ(table_.translate(kGuestPages + 5), std::nullopt) << "addresses do not wrap around";
}

TEST_F(PageTableTest, RefusesWhatIsMappedMisalignedOrOutOfRange) {
  ASSERT_TRUE(table_.map(512, {512}, PageSize::k2MiB, {}, frames_));
  EXPECT_EQ(table_.map(512, {0}, PageSize::k2MiB, {}, frames_).error(), PageTableError::AlreadyMapped);
  EXPECT_EQ(table_.map(513, {0}, PageSize::k4KiB, {}, frames_).error(), PageTableError::AlreadyMapped);
  EXPECT_EQ(table_.map(0, {0}, PageSize::k1GiB, {}, frames_).error(), PageTableError::AlreadyMapped);
  EXPECT_EQ(table_.map(1, {0}, PageSize::k2MiB, {}, frames_).error(), PageTableError::Misaligned);
  EXPECT_EQ(table_.map(1024, {3}, PageSize::k2MiB, {}, frames_).error(), PageTableError::Misaligned);
  EXPECT_EQ(table_.map(kGuestPages, {0}, PageSize::k4KiB, {}, frames_).error(), PageTableError::Misaligned);
  EXPECT_EQ(table_.unmap(513, PageSize::k4KiB).error(), PageTableError::WrongSize);
  EXPECT_EQ(table_.unmap(9, PageSize::k4KiB).error(), PageTableError::NotMapped);
}

TEST_F(PageTableTest, OutOfMemoryIsAnErrorAndMapsNothing) {
  frames_.set_limit(2);
  EXPECT_EQ(table_.map(5, {1}, PageSize::k4KiB, {}, frames_).error(), PageTableError::OutOfMemory);
  EXPECT_EQ(table_.translate(5), std::nullopt);
  frames_.set_limit(100);
  EXPECT_TRUE(table_.map(5, {1}, PageSize::k4KiB, {}, frames_));
}

TEST_F(PageTableTest, SplittingChangesNoTranslation) {
  ASSERT_TRUE(table_.map(0, {1 << 18}, PageSize::k1GiB, {.write = false, .uncached = true}, frames_));
  ASSERT_TRUE(table_.split(777, PageSize::k4KiB, frames_));
  EXPECT_EQ(table_.walk(777)->size, PageSize::k4KiB);
  EXPECT_EQ(table_.walk(2000)->size, PageSize::k2MiB);
  for (const std::uint64_t page : {0, 511, 512, 777, 1023, 1024, 262'143}) {
    const auto found = table_.walk(page);
    ASSERT_TRUE(found);
    EXPECT_EQ(table_.translate(page), Frame{(1 << 18) + page});
    EXPECT_EQ(found->rights, (PageRights{.write = false, .uncached = true}));
  }
}

TEST_F(PageTableTest, AWholeRegionMergesAgain) {
  ASSERT_TRUE(table_.map(512, {512}, PageSize::k2MiB, {}, frames_));
  const std::size_t before = frames_.used();
  ASSERT_TRUE(table_.split(600, PageSize::k4KiB, frames_));
  ASSERT_TRUE(table_.replace(600, {3}, {.write = false}));
  EXPECT_EQ(table_.merge(600), std::nullopt) << "a page is still another";
  ASSERT_TRUE(table_.replace(600, {600}, {}));
  const auto table = table_.merge(600);
  ASSERT_TRUE(table);
  frames_.free(*table);
  EXPECT_EQ(frames_.used(), before);
  EXPECT_EQ(table_.walk(600)->size, PageSize::k2MiB);
  EXPECT_EQ(table_.translate(600), Frame{600});
}

TEST_F(PageTableTest, ALargePageReplacesATableThatMapsNothing) {
  ASSERT_TRUE(table_.map(512, {7}, PageSize::k4KiB, {}, frames_));
  std::optional<Frame> replaced;
  EXPECT_EQ(table_.map(512, {512}, PageSize::k2MiB, {}, frames_, replaced).error(), PageTableError::AlreadyMapped);
  EXPECT_FALSE(replaced);
  ASSERT_TRUE(table_.unmap(512, PageSize::k4KiB));
  ASSERT_TRUE(table_.map(512, {512}, PageSize::k2MiB, {}, frames_, replaced));
  ASSERT_TRUE(replaced);
  frames_.free(*replaced);
}

TEST_F(PageTableTest, BehavesLikeAMapOfPages) {
  std::mt19937 random(1);
  std::map<std::uint64_t, PageMapping> model;  // by first page
  const auto overlaps = [&](std::uint64_t page, std::uint64_t count) {
    for (const auto& [first, mapping] : model) {
      if (first < page + count && page < first + pages_in(mapping.size)) return true;
    }
    return false;
  };
  for (int round = 0; round < 3000; ++round) {
    const PageSize size = random() % 4 ? PageSize::k4KiB : PageSize::k2MiB;
    const std::uint64_t page = (random() % 3 * (1ull << 27) + random() % 1536) / pages_in(size) * pages_in(size);
    if (random() % 2) {
      const PageMapping mapping{{random() % 4096 * pages_in(size)}, size, {.write = random() % 2 == 0}};
      const bool expected = !overlaps(page, pages_in(size));
      ASSERT_EQ(table_.map(page, mapping.frame, size, mapping.rights, frames_).has_value(), expected);
      if (expected) model[page] = mapping;
    } else {
      const auto found = model.find(page);
      const bool expected = found != model.end() && found->second.size == size;
      const auto result = table_.unmap(page, size);
      ASSERT_EQ(result.has_value(), expected);
      if (expected) {
        EXPECT_EQ(*result, found->second);
        model.erase(found);
      }
    }
  }
  std::size_t leaves = 0;
  while (!table_.release(frames_, 3, [&](const PageMapping&) { ++leaves; })) {
  }
  EXPECT_EQ(leaves, model.size());
  EXPECT_EQ(frames_.used(), 0u) << "every table was given back";
}

}  // namespace
}  // namespace bulkhead::hypervisor
