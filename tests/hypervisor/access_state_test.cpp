// SPDX-License-Identifier: Apache-2.0
//
// Which pages of a guest were written, call 0xc9: by the guest, for which the processor sets bits in the nested page table, and by
// the hypervisor in its name.
#include <algorithm>
#include <thread>

#include "abi/synic.hpp"
#include "hypervisor/memory/page_table.hpp"
#include "tests/hypervisor/guest_fixture.hpp"

namespace bulkhead::hypervisor {
namespace {

constexpr std::uint64_t kLargePage = 512, kLargeFrame = 0x1400000 / kPageSize;

class AccessStateTest : public GuestTest {
 protected:
  AccessStateTest() : GuestTest(1) {}

  fake::Root::Result access(std::uint64_t flags, std::uint64_t gpa_page, std::uint32_t count) {
    const hv_get_gpa_pages_access_states input{id_, flags, gpa_page};
    return root_.call(HV_CALL_GET_GPA_PAGES_ACCESS_STATES, std::as_bytes(std::span(&input, 1)), count);
  }
  std::uint8_t state(std::uint64_t index) { return machine_.read<std::uint8_t>(fake::Root::kOutputPage + index); }
  /// The pages of [first, first + count) that were written since the last harvest.
  std::vector<std::uint64_t> harvest(std::uint64_t first = 0, std::uint32_t count = 64) {
    EXPECT_EQ(access(HV_GPA_ACCESS_CLEAR_DIRTY, first, count).status, HV_STATUS_SUCCESS);
    std::vector<std::uint64_t> pages;
    for (std::uint32_t index = 0; index < count; ++index) {
      if (state(index) & HV_GPA_PAGE_DIRTY) pages.push_back(first + index);
    }
    return pages;
  }
  /// The processor writes to the guest's page.
  void touch(std::uint64_t gpa_page) {
    const PageTable<NestedFormat> table(hardware().settings.second_level_table);
    EXPECT_TRUE(table.walk_to_write(gpa_page).has_value());
  }
  using Pages = std::vector<std::uint64_t>;
};

TEST_F(AccessStateTest, AHarvestTellsEachWrittenPageOnce) {
  harvest();
  touch(3);
  touch(63);
  EXPECT_EQ(access(0, 0, 64).status, HV_STATUS_SUCCESS);
  EXPECT_EQ(state(3), HV_GPA_PAGE_ACCESSED | HV_GPA_PAGE_DIRTY) << "looking changes nothing";
  EXPECT_EQ(harvest(), (Pages{3, 63}));
  EXPECT_EQ(harvest(), Pages{});
  touch(3);
  EXPECT_EQ(harvest(), Pages{3});
  EXPECT_EQ(access(HV_GPA_ACCESS_CLEAR_ACCESSED, 3, 1).status, HV_STATUS_SUCCESS);
  EXPECT_EQ(state(0), HV_GPA_PAGE_ACCESSED);
  EXPECT_EQ(access(HV_GPA_ACCESS_SET_DIRTY | HV_GPA_ACCESS_SET_ACCESSED, 3, 1).status, HV_STATUS_SUCCESS);
  EXPECT_EQ(state(0), 0);
  EXPECT_EQ(harvest(), Pages{3});
}

TEST_F(AccessStateTest, WhatTheHypervisorWritesIsTheGuests) {
  harvest();
  EXPECT_TRUE(write_msr(0, abi::kMsrSimp, 0x5001));
  EXPECT_TRUE(write_msr(0, abi::kMsrSiefp, 0x6001));
  EXPECT_TRUE(write_msr(0, abi::kMsrSint0 + 2, 0x52));
  EXPECT_TRUE(write_msr(0, abi::kMsrScontrol, 1));
  EXPECT_EQ(harvest(), (Pages{5, 6})) << "cleared when they were switched on";
  hv_post_message_direct message{};
  message.partition_id = id_;
  message.sint = 2;
  message.message[0] = 1;
  EXPECT_EQ(root_.call(HV_CALL_POST_MESSAGE_DIRECT, message).status, HV_STATUS_SUCCESS);
  EXPECT_EQ(harvest(), Pages{5});
  run();
  EXPECT_EQ(harvest(), Pages{});
  EXPECT_EQ(root_.call(HV_CALL_SIGNAL_EVENT_DIRECT, hv_signal_event_direct{id_, 0, 0, 2, 7}).status, HV_STATUS_SUCCESS);
  EXPECT_EQ(harvest(), Pages{6});

  EXPECT_TRUE(write_msr(0, 0x40000000, 0x8100'0000'0000'0001));
  EXPECT_TRUE(write_msr(0, 0x40000001, 0x7001));
  EXPECT_EQ(harvest(), Pages{7}) << "the hypercall page";
  EXPECT_TRUE(write_msr(0, 0x40000021, 0x8001));
  EXPECT_EQ(harvest(), Pages{8}) << "the reference TSC page";
}

TEST_F(AccessStateTest, TheVpAssistPageIsWrittenOnlyWhenTheBitIsSet) {
  EXPECT_TRUE(write_msr(0, 0x40000073, 0x9001));
  harvest();
  hv_assert_virtual_interrupt interrupt{};
  interrupt.partition_id = id_;
  interrupt.vector = 0x60;
  EXPECT_EQ(root_.call(HV_CALL_ASSERT_VIRTUAL_INTERRUPT, interrupt).status, HV_STATUS_SUCCESS);
  run();
  EXPECT_TRUE(interrupted(0, 0x60));
  EXPECT_EQ(harvest(), Pages{9});
  run();
  EXPECT_EQ(harvest(), Pages{}) << "looked at, and not written";
}

TEST_F(AccessStateTest, ALargePageIsCutAndItsPiecesAreToldApart) {
  const std::uint64_t used = root_.balance(id_).pages_in_use;
  ASSERT_EQ(root_.map(id_, kLargePage, kLargeFrame, 1, 0x8000000f).status, HV_STATUS_SUCCESS);
  touch(kLargePage + 9);
  EXPECT_EQ(access(0, kLargePage, 2).status, HV_STATUS_SUCCESS);
  EXPECT_TRUE(state(1) & HV_GPA_PAGE_DIRTY) << "as long as it is large, it is one";
  EXPECT_EQ(harvest(kLargePage, 512).size(), 512u);
  EXPECT_EQ(harvest(kLargePage, 512), Pages{});
  touch(kLargePage + 9);
  touch(kLargePage + 511);
  EXPECT_EQ(harvest(kLargePage, 512), (Pages{kLargePage + 9, kLargePage + 511}));
  const PageTable<NestedFormat> table(hardware().settings.second_level_table);
  EXPECT_EQ(table.translate(kLargePage + 77), Frame{kLargeFrame + 77});

  // Set dirty, all of it is one page again, and its table is free.
  EXPECT_EQ(access(HV_GPA_ACCESS_SET_DIRTY, kLargePage, 512).status, HV_STATUS_SUCCESS);
  EXPECT_EQ(table.walk(kLargePage)->size, PageSize::k2MiB);
  EXPECT_EQ(root_.balance(id_).pages_in_use, used);
}

TEST_F(AccessStateTest, ALargePageInPiecesIsUnmappedAsOne) {
  ASSERT_EQ(root_.map(id_, kLargePage, kLargeFrame, 1, 0x8000000f).status, HV_STATUS_SUCCESS);
  const std::uint64_t used = root_.balance(id_).pages_in_use;
  harvest(kLargePage, 512);
  EXPECT_EQ(root_.unmap(id_, kLargePage + 5, 1).status, HV_STATUS_NOT_FOUND);
  EXPECT_EQ(root_.map(id_, kLargePage, kLargeFrame, 1).status, HV_STATUS_OPERATION_DENIED);
  EXPECT_EQ(root_.unmap(id_, kLargePage, 1, HV_UNMAP_GPA_LARGE_PAGE).status, HV_STATUS_SUCCESS);
  EXPECT_EQ(root_.balance(id_).pages_in_use, used);
  // It was shared as one page: now its region can hold deposits.
  EXPECT_EQ(root_.deposit(id_, kLargeFrame, 1).status, HV_STATUS_SUCCESS);
}

TEST_F(AccessStateTest, TheEndOfThePartitionUnsharesAPageInPiecesOnce) {
  ASSERT_EQ(root_.map(id_, kLargePage, kLargeFrame, 1, 0x8000000f).status, HV_STATUS_SUCCESS);
  harvest(kLargePage, 512);
  ASSERT_EQ(root_.call(HV_CALL_FINALIZE_PARTITION, hv_partition_id{id_}).status, HV_STATUS_SUCCESS);
  root_.withdraw_all(id_);
  EXPECT_EQ(root_.call(HV_CALL_DELETE_PARTITION, hv_partition_id{id_}).status, HV_STATUS_SUCCESS);
  const std::uint64_t other = root_.create_partition();
  EXPECT_EQ(root_.deposit(other, kLargeFrame, 1).status, HV_STATUS_SUCCESS);
}

TEST_F(AccessStateTest, WithoutMemoryForTheTableNothingIsLost) {
  ASSERT_EQ(root_.map(id_, kLargePage, kLargeFrame, 1, 0x8000000f).status, HV_STATUS_SUCCESS);
  touch(kLargePage);
  std::vector<std::uint64_t> pages = root_.withdraw_all(id_);
  EXPECT_EQ(access(HV_GPA_ACCESS_CLEAR_DIRTY, kLargePage - 1, 1).status, HV_STATUS_NOT_FOUND);
  const auto result = access(HV_GPA_ACCESS_CLEAR_DIRTY, kLargePage, 512);
  EXPECT_EQ(result.status, HV_STATUS_INSUFFICIENT_MEMORY);
  EXPECT_EQ(result.reps, 0u);
  EXPECT_EQ(root_.deposit(id_, pages.back(), 1).status, HV_STATUS_SUCCESS);
  EXPECT_EQ(harvest(kLargePage, 512).size(), 512u);
}

TEST_F(AccessStateTest, AProcessorThatRunsForgetsItsTranslationsBeforeTheAnswer) {
  harvest();
  const int flushes = hardware().flushes;
  touch(1);
  EXPECT_EQ(harvest(), Pages{1});
  run();
  EXPECT_GT(hardware().flushes, flushes) << "one that does not run does so before it does";

  std::atomic<bool> in_guest = false, kicked = false, answered = false;
  machine_.on_kick = [&](std::uint32_t lp) { kicked = kicked || lp == 0; };
  hardware().then(ExitReason::Kick, [&](fake::FakeVpHardware&) {
    in_guest = true;
    while (!kicked) std::this_thread::yield();
    EXPECT_FALSE(answered) << "the guest could still write to a page without its being noticed";
  });
  std::thread other([&] {
    fake::this_lp = 1;
    while (!in_guest) std::this_thread::yield();
    machine_.write(0x210000, hv_get_gpa_pages_access_states{id_, HV_GPA_ACCESS_CLEAR_DIRTY, 0});
    root::HypercallRegisters registers{.rax = 0,
                                       .rcx = HV_CALL_GET_GPA_PAGES_ACCESS_STATES | 8ull << 32,
                                       .rdx = 0x210000,
                                       .r8 = 0x211000,
                                       .again = false};
    root::hypercall(registers);
    answered = true;
    EXPECT_EQ(registers.rax & 0xffff, HV_STATUS_SUCCESS);
  });
  root_.dispatch(id_, 0);
  other.join();
}

TEST_F(AccessStateTest, WrongCallsAreRefused) {
  for (const std::uint64_t flags : {16ull, 1ull << 63, 3ull, 12ull, 15ull}) {
    EXPECT_EQ(access(flags, 0, 1).status, HV_STATUS_INVALID_PARAMETER) << flags;
  }
  EXPECT_EQ(access(0, kGuestPages, 1).status, HV_STATUS_INVALID_PARAMETER);
  EXPECT_EQ(access(0, ~0ull, 1).status, HV_STATUS_INVALID_PARAMETER);
  EXPECT_EQ(access(0, kGuestPages - 1, 2).status, HV_STATUS_NOT_FOUND);
  const auto past = access(HV_GPA_ACCESS_CLEAR_DIRTY, 60, 100);
  EXPECT_EQ(past.status, HV_STATUS_NOT_FOUND) << "behind the memory's end";
  EXPECT_EQ(past.reps, 4u);
  const hv_get_gpa_pages_access_states nobody{0x900, 0, 0};
  EXPECT_EQ(root_.call(HV_CALL_GET_GPA_PAGES_ACCESS_STATES, std::as_bytes(std::span(&nobody, 1)), 1).status,
            HV_STATUS_INVALID_PARTITION_ID);
  EXPECT_EQ(access(0, 0, 0).status, HV_STATUS_INVALID_HYPERCALL_INPUT) << "no repetitions";
}

}  // namespace
}  // namespace bulkhead::hypervisor
