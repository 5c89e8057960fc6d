// SPDX-License-Identifier: Apache-2.0
//
// The reference TSC page as a guest uses it: TLFS, "Partition Reference Time Enlightenment".
#include <gtest/gtest.h>

#include "tests/hypervisor/fake_machine.hpp"

namespace bulkhead::hypervisor {
namespace {

using abi::RegisterName;
using fake::FakeVpHardware;
using fake::kGuestPage;

constexpr std::uint32_t kTsc = 0x10, kTimeReferenceCount = 0x40000020, kReferenceTsc = 0x40000021;
constexpr std::uint64_t kPlace = 0x5000;

struct Page {
  std::uint32_t sequence, reserved;
  std::uint64_t scale;
  std::int64_t offset;
};

class ReferenceTscTest : public testing::Test {
 protected:
  ReferenceTscTest() {
    for (std::uint32_t index = 0; index < 2; ++index) create_vp(index);
  }

  void create_vp(std::uint32_t index) {
    ASSERT_EQ(root_.create_vp(id_, index).status, HV_STATUS_SUCCESS);
    root_.set_register(id_, index, RegisterName::ExplicitSuspend, 0);
    root_.set_register(id_, index, RegisterName::InternalActivityState, 0);
  }
  FakeVpHardware& hardware(std::uint32_t index) { return *machine_.created[index]; }

  /// The guest executes one WRMSR; false: it faulted.
  bool write_msr(std::uint32_t index, std::uint32_t msr, std::uint64_t value) {
    Exit exit{};
    exit.reason = ExitReason::WriteMsr;
    exit.next_rip = hardware(index).rip + 2;
    hardware(index).then(exit, [=](FakeVpHardware& guest) {
      guest.general[0] = static_cast<std::uint32_t>(value);
      guest.general[1] = msr;
      guest.general[2] = value >> 32;
    });
    hardware(index).delivered.clear();
    root_.dispatch(id_, index);
    return hardware(index).delivered.empty();
  }
  std::uint64_t read_msr(std::uint32_t index, std::uint32_t msr) {
    Exit exit{};
    exit.reason = ExitReason::ReadMsr;
    exit.next_rip = hardware(index).rip + 2;
    hardware(index).then(exit, [=](FakeVpHardware& guest) { guest.general[1] = msr; });
    root_.dispatch(id_, index);
    return hardware(index).general[2] << 32 | static_cast<std::uint32_t>(hardware(index).general[0]);
  }
  Page page(std::uint64_t gpa = kPlace) { return machine_.read<Page>(kGuestPage * kPageSize + gpa); }
  /// What the VP's RDTSC would give.
  std::uint64_t counter(std::uint32_t index) {
    return machine_.tsc + static_cast<std::uint64_t>(hardware(index).tsc_offset);
  }
  /// What the guest reckons from the page.
  std::uint64_t reckoned(std::uint32_t index) {
    __extension__ using Wide = unsigned __int128;
    const Page now = page();
    return static_cast<std::uint64_t>(Wide{counter(index)} * now.scale >> 64) + static_cast<std::uint64_t>(now.offset);
  }
  void expect_agreement(const char* when) {
    for (std::uint32_t index = 0; index < 2; ++index) {
      for (const std::uint64_t step : {0ull, 1ull, 99ull, 12'345'678'901ull, 86'400'000'000'000ull}) {
        machine_.tsc += step;
        ASSERT_NE(page().sequence, 0u) << when;
        const std::uint64_t exact = read_msr(index, kTimeReferenceCount);
        EXPECT_GE(reckoned(index), exact) << when << ", VP " << index;
        EXPECT_LE(reckoned(index), exact + 1) << when << ", VP " << index;
      }
    }
  }
  std::uint16_t set_property(std::uint32_t code, std::uint64_t value) {
    hv_partition_property input{};
    input.partition_id = id_;
    input.code = code;
    input.value = value;
    return root_.call(HV_CALL_SET_PARTITION_PROPERTY, input).status;
  }

  fake::Machine machine_;
  fake::Root root_{machine_};
  std::uint64_t id_ = root_.create_child();
};

TEST_F(ReferenceTscTest, CountersOfAllProcessorsAgree) {
  machine_.tsc += 1000;
  create_vp(2);
  EXPECT_EQ(counter(0), counter(1));
  EXPECT_EQ(counter(0), counter(2));
  EXPECT_EQ(read_msr(2, kTsc), read_msr(0, kTsc));
}

TEST_F(ReferenceTscTest, AgreesWithTheCounterRegister) {
  machine_.tsc += 987'654'321;
  EXPECT_TRUE(write_msr(0, kReferenceTsc, kPlace | 1));
  EXPECT_EQ(page().offset, 0) << "both are 0 when the partition is created";
  expect_agreement("from the beginning");
}

TEST_F(ReferenceTscTest, ReadsBackWhatWasWritten) {
  EXPECT_EQ(read_msr(1, kReferenceTsc), 0u);
  EXPECT_TRUE(write_msr(0, kReferenceTsc, kPlace | 0xffe));
  EXPECT_EQ(read_msr(1, kReferenceTsc), kPlace | 0xffe) << "reserved bits too";
  EXPECT_EQ(root_.get_register(id_, 0, RegisterName::ReferenceTsc), kPlace | 0xffe);
  EXPECT_EQ(page().sequence, 0u) << "not enabled";
  EXPECT_EQ(page().scale, 0u);
  EXPECT_EQ(root_.set_register(id_, 0, RegisterName::ReferenceTsc, kPlace | 1).status, HV_STATUS_SUCCESS);
  expect_agreement("set by the parent");
}

TEST_F(ReferenceTscTest, APlaceWithoutMemoryIsAcceptedAndNothingHappens) {
  for (const std::uint64_t place : {0x40000ull, 0xfffffffff000ull, 0xfffffffffffff000ull}) {
    EXPECT_TRUE(write_msr(0, kReferenceTsc, place | 1));
    EXPECT_EQ(read_msr(0, kReferenceTsc), place | 1);
  }
}

TEST_F(ReferenceTscTest, MemoryThatTheGuestMayNotWriteStaysAsItIs) {
  root_.unmap(id_, kPlace / kPageSize, 1);
  root_.map(id_, kPlace / kPageSize, kGuestPage + kPlace / kPageSize, 1, HV_MAP_GPA_READABLE);
  EXPECT_TRUE(write_msr(0, kReferenceTsc, kPlace | 1));
  EXPECT_EQ(page().scale, 0u);
}

TEST_F(ReferenceTscTest, IsInvalidWhileTheCountersDiffer) {
  ASSERT_TRUE(write_msr(0, kReferenceTsc, kPlace | 1));
  const std::uint32_t before = page().sequence;
  EXPECT_NE(before, 0u);
  machine_.tsc += 5'000'000;
  EXPECT_TRUE(write_msr(1, kTsc, 77));
  EXPECT_EQ(page().sequence, 0u);
  EXPECT_TRUE(write_msr(0, kTsc, 77)) << "time stands still in this test";
  EXPECT_NE(page().sequence, 0u);
  EXPECT_NE(page().sequence, before) << "a reader that began before must notice";
  expect_agreement("after the counters were set back to before the partition's creation");
  EXPECT_TRUE(write_msr(0, kTsc, 1ull << 50));
  EXPECT_TRUE(write_msr(1, kTsc, 1ull << 50));
  expect_agreement("after the counters were set forward");
}

TEST_F(ReferenceTscTest, IsInvalidForCountersThatMayWrapAround) {
  ASSERT_TRUE(write_msr(0, kReferenceTsc, kPlace | 1));
  for (const std::uint32_t index : {0u, 1u}) write_msr(index, kTsc, ~0ull - 1000);
  EXPECT_EQ(page().sequence, 0u);
}

TEST_F(ReferenceTscTest, ANewProcessorCountsWithThePartition) {
  ASSERT_TRUE(write_msr(0, kReferenceTsc, kPlace | 1));
  create_vp(2);
  expect_agreement("with a third processor");
  for (const std::uint32_t index : {0u, 1u, 2u}) write_msr(index, kTsc, 5);
  expect_agreement("all set alike");
  create_vp(3);
  EXPECT_EQ(page().sequence, 0u) << "the new one's differs";
  const hv_delete_vp input{id_, 3, 0};
  ASSERT_EQ(root_.call(HV_CALL_DELETE_VP, input).status, HV_STATUS_SUCCESS);
  expect_agreement("after it is gone");
}

TEST_F(ReferenceTscTest, IsInvalidWhileTimeIsFrozen) {
  ASSERT_TRUE(write_msr(0, kReferenceTsc, kPlace | 1));
  machine_.tsc += 1'000'000;
  ASSERT_EQ(set_property(HV_PARTITION_PROPERTY_TIME_FREEZE, 1), HV_STATUS_SUCCESS);
  EXPECT_EQ(page().sequence, 0u);
  ASSERT_EQ(set_property(HV_PARTITION_PROPERTY_REFERENCE_TIME, 123'456'789), HV_STATUS_SUCCESS);
  machine_.tsc += 1'000'000'000;
  ASSERT_EQ(set_property(HV_PARTITION_PROPERTY_TIME_FREEZE, 0), HV_STATUS_SUCCESS);
  expect_agreement("after the thaw");
}

TEST_F(ReferenceTscTest, TimeMayBeFrozenAfterTheTablesAreGone) {
  ASSERT_TRUE(write_msr(0, kReferenceTsc, kPlace | 1));
  ASSERT_EQ(root_.call(HV_CALL_FINALIZE_PARTITION, hv_partition_id{id_}).status, HV_STATUS_SUCCESS);
  const Page before = page();
  EXPECT_EQ(set_property(HV_PARTITION_PROPERTY_TIME_FREEZE, 1), HV_STATUS_SUCCESS);
  EXPECT_EQ(page().sequence, before.sequence) << "the memory is the root's alone again";
}

}  // namespace
}  // namespace bulkhead::hypervisor
