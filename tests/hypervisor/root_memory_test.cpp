// SPDX-License-Identifier: Apache-2.0
//
// What the root can reach, and what it cannot any more, as pages go into pools and come back.
#include "hypervisor/memory/root_memory.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "tests/hypervisor/fake_machine.hpp"

namespace bulkhead::hypervisor {
namespace {

using fake::kDepositPage;

class RootMemoryTest : public testing::Test {
 protected:
  bool root_reaches(std::uint64_t page) const { return machine_.root_translates(page * kPageSize) == Frame{page}; }

  fake::Machine machine_;
  fake::Root root_{machine_};
};

TEST_F(RootMemoryTest, ADepositedPageVanishesFromTheRoot) {
  const std::uint64_t partition = root_.create_partition();
  const int flushes = machine_.root_flushes;
  ASSERT_EQ(root_.deposit(partition, kDepositPage, 16).status, HV_STATUS_SUCCESS);
  EXPECT_GT(machine_.root_flushes, flushes);
  for (std::uint64_t page = kDepositPage; page < kDepositPage + 16; ++page) {
    EXPECT_EQ(machine_.root_translates(page * kPageSize), machine_.zero_frame);
  }
  EXPECT_TRUE(root_reaches(kDepositPage + 16));
  EXPECT_TRUE(root_reaches(kDepositPage + 511));
}

TEST_F(RootMemoryTest, AWithdrawnPageComesBackZeroed) {
  const std::uint64_t partition = root_.create_partition();
  std::memset(machine_.at(kDepositPage * kPageSize), 0x77, 16 * kPageSize);
  root_.deposit(partition, kDepositPage, 16);
  const std::uint64_t available = root_.balance(partition).pages_available;
  const std::vector<std::uint64_t> pages = root_.withdraw_all(partition);
  EXPECT_EQ(pages.size(), available);
  for (const std::uint64_t page : pages) {
    EXPECT_TRUE(root_reaches(page));
    const std::byte* bytes = machine_.at(page * kPageSize);
    EXPECT_TRUE(std::all_of(bytes, bytes + kPageSize, [](std::byte b) { return b == std::byte{0}; }));
  }
  EXPECT_EQ(root_.balance(partition).pages_available, 0u);
}

TEST_F(RootMemoryTest, APageIsDepositedOnlyOnce) {
  const std::uint64_t partition = root_.create_partition();
  ASSERT_EQ(root_.deposit(partition, kDepositPage, 4).status, HV_STATUS_SUCCESS);
  const auto again = root_.deposit(partition, kDepositPage + 3, 2);
  EXPECT_EQ(again.status, HV_STATUS_OPERATION_DENIED);
  EXPECT_EQ(again.reps, 0u);
}

TEST_F(RootMemoryTest, OnlyRamIsDeposited) {
  const std::uint64_t partition = root_.create_partition();
  // The hypervisor's own frames, a device's address, and numbers that are no pages at all.
  for (const std::uint64_t page :
       std::vector<std::uint64_t>{1, 0x50, fake::Machine::kMemorySize / kPageSize, 0xfee00, ~0ull, 1ull << 52}) {
    EXPECT_EQ(root_.deposit(partition, page, 1).status, HV_STATUS_INVALID_PARAMETER) << std::hex << page;
  }
}

TEST_F(RootMemoryTest, ARegionIsEitherDepositedOrShared) {
  auto memory = root_memory().lock();
  ASSERT_EQ(memory->share({kDepositPage + 5}, PageSize::k4KiB), HV_STATUS_SUCCESS);
  const std::uint64_t other_page = kDepositPage + 6;
  EXPECT_EQ(memory->deposit(std::span(&other_page, 1)).status, HV_STATUS_OPERATION_DENIED);
  memory->unshare({kDepositPage + 5});
  EXPECT_EQ(memory->deposit(std::span(&other_page, 1)).status, HV_STATUS_SUCCESS);
  EXPECT_EQ(memory->share({kDepositPage + 5}, PageSize::k4KiB), HV_STATUS_OPERATION_DENIED);
  EXPECT_EQ(memory->share({kDepositPage}, PageSize::k2MiB), HV_STATUS_OPERATION_DENIED);
  EXPECT_EQ(memory->share({kDepositPage + 512}, PageSize::k2MiB), HV_STATUS_SUCCESS);
}

TEST_F(RootMemoryTest, TheHypervisorDoesNotFollowTheRootIntoHiddenPages) {
  auto memory = root_memory().lock();
  const std::uint64_t page = kDepositPage;
  ASSERT_EQ(memory->deposit(std::span(&page, 1)).status, HV_STATUS_SUCCESS);
  EXPECT_EQ(memory->accessible(page * kPageSize, 8), nullptr);
  EXPECT_NE(memory->accessible((page + 1) * kPageSize, 8), nullptr) << "its neighbour is the root's";
  EXPECT_EQ(memory->accessible((page + 2) * kPageSize - 4, 8), nullptr) << "not in one page";
  EXPECT_EQ(memory->accessible(0x1000, 8), nullptr) << "the hypervisor's own";
  EXPECT_EQ(memory->accessible(~0ull - 7, 8), nullptr);
}

TEST_F(RootMemoryTest, ASplitRegionNeedsOneTableWhichComesBack) {
  auto memory = root_memory().lock();
  const std::uint64_t in_use = memory->pool().used();
  MemoryPool pool;
  std::vector<std::uint64_t> pages;
  for (std::uint64_t i = 0; i < 40; ++i) pages.push_back(kDepositPage + 20 * i);  // over two regions
  ASSERT_EQ(memory->deposit(pages, pool).count, pages.size());
  EXPECT_EQ(memory->pool().used(), in_use + 2);
  // The two tables were paid for with pages from the front of the deposit.
  EXPECT_EQ(pool.available(), pages.size() - 2);

  std::vector<std::uint64_t> back(64);
  ASSERT_EQ(memory->withdraw(back, pool).count, pages.size() - 2);
  // What is left is what the reserve kept; the regions of its pages stay split.
  EXPECT_LE(memory->pool().used(), in_use + 2);
  std::vector<std::uint64_t> own(8);
  while (memory->withdraw(own).count) {
  }
  EXPECT_GE(memory->pool().available(), RootMemory::kReserve);
}

TEST_F(RootMemoryTest, RepeatedDepositsAndWithdrawalsLeaveMemoryTheSame) {
  const auto round = [&] {
    const std::uint64_t partition = root_.create_partition();
    // A page or two stay in the root's own pool; a driver deposits those that it has.
    std::vector<std::uint64_t> own;
    for (std::uint64_t page = kDepositPage + 512; page < kDepositPage + 812; ++page) {
      if (root_reaches(page)) own.push_back(page);
    }
    EXPECT_EQ(root_.call_list(HV_CALL_DEPOSIT_MEMORY, hv_deposit_memory{partition}, own).status, HV_STATUS_SUCCESS);
    const hv_partition_id id{partition};
    EXPECT_EQ(root_.call(HV_CALL_INITIALIZE_PARTITION, id).status, HV_STATUS_SUCCESS);
    EXPECT_EQ(root_.call(HV_CALL_FINALIZE_PARTITION, id).status, HV_STATUS_SUCCESS);
    std::vector<std::uint64_t> pages = root_.withdraw_all(partition);
    EXPECT_EQ(root_.call(HV_CALL_DELETE_PARTITION, id).status, HV_STATUS_SUCCESS);
    return pages;
  };
  round();
  root_.withdraw_all(HV_PARTITION_ID_SELF);
  const hv_memory_balance first = root_.balance(HV_PARTITION_ID_SELF);
  for (int i = 0; i < 50; ++i) {
    round();
    root_.withdraw_all(HV_PARTITION_ID_SELF);
  }
  const hv_memory_balance last = root_.balance(HV_PARTITION_ID_SELF);
  EXPECT_EQ(first.pages_available + first.pages_in_use, last.pages_available + last.pages_in_use);
}

}  // namespace
}  // namespace bulkhead::hypervisor
