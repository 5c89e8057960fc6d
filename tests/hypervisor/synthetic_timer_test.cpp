// SPDX-License-Identifier: Apache-2.0
//
// Synthetic timers as a guest programs them: TLFS, "Synthetic Timers". The fake machine's counter runs at 1 GHz, so a unit of reference
// time (100 ns) is 100 of its ticks.
#include "abi/synic.hpp"
#include "tests/hypervisor/guest_fixture.hpp"

namespace bulkhead::hypervisor {
namespace {

constexpr std::uint32_t kTimeReferenceCount = 0x40000020, kConfig0 = 0x400000b0, kCount0 = 0x400000b1;
constexpr std::uint64_t kEnable = 1, kPeriodic = 2, kAutoEnable = 8, kDirect = 1 << 12, kSint4 = 4 << 16;
constexpr std::uint64_t kVector = 0xed;
constexpr std::uint64_t kMessages = 0x5000, kSlot = kMessages + 4 * 256;

class SyntheticTimerTest : public GuestTest {
 protected:
  static constexpr std::uint64_t direct(std::uint64_t flags) { return flags | kDirect | kVector << 4; }
  std::uint64_t time() { return read_msr(0, kTimeReferenceCount); }
  void pass(std::uint64_t units) { machine_.tsc += units * 100; }
  /// The timer's vector was delivered, and its interrupt ended.
  bool fired(std::uint8_t vector = kVector) {
    run();
    const bool came = interrupted(0, vector);
    if (came) write_msr(0, 0x80b, 0);
    return came;
  }
  void enable_synic() {
    EXPECT_TRUE(write_msr(0, abi::kMsrSimp, kMessages | 1));
    EXPECT_TRUE(write_msr(0, abi::kMsrSint0 + 4, 0x60));
    EXPECT_TRUE(write_msr(0, abi::kMsrScontrol, 1));
  }
  std::uint32_t slot_type() { return read<std::uint32_t>(kSlot); }
};

TEST_F(SyntheticTimerTest, RegistersStartAtZeroAndReadBack) {
  for (std::uint32_t msr = 0x400000b0; msr <= 0x400000b7; ++msr) EXPECT_EQ(read_msr(0, msr), 0u);
  EXPECT_TRUE(write_msr(0, 0x400000b6, direct(kPeriodic)));
  EXPECT_EQ(read_msr(0, 0x400000b6), direct(kPeriodic));
  EXPECT_EQ(root_.get_register(id_, 0, abi::RegisterName::Stimer0Config), 0u);
}

TEST_F(SyntheticTimerTest, AOneShotTimerFiresOnceAtItsTimeNotBefore) {
  EXPECT_TRUE(write_msr(0, kConfig0, direct(kAutoEnable)));
  const std::uint64_t start = time();
  EXPECT_TRUE(write_msr(0, kCount0, start + 50));
  EXPECT_EQ(read_msr(0, kConfig0) & kEnable, kEnable);
  for (int unit = 0; unit < 50; ++unit) {
    EXPECT_FALSE(fired()) << unit;
    pass(1);
  }
  pass(1);
  EXPECT_TRUE(fired());
  EXPECT_EQ(read_msr(0, kConfig0) & kEnable, 0u);
  pass(1000);
  EXPECT_FALSE(fired());
}

TEST_F(SyntheticTimerTest, ATimeThatHasPassedFiresAtOnce) {
  EXPECT_TRUE(write_msr(0, kConfig0, direct(kAutoEnable)));
  pass(500);
  EXPECT_TRUE(write_msr(0, kCount0, 1));
  EXPECT_TRUE(interrupted(0, kVector));
}

TEST_F(SyntheticTimerTest, ACountOfZeroStops) {
  EXPECT_TRUE(write_msr(0, kConfig0, direct(kAutoEnable)));
  EXPECT_TRUE(write_msr(0, kCount0, time() + 50));
  EXPECT_TRUE(write_msr(0, kCount0, 0));
  EXPECT_EQ(read_msr(0, kConfig0) & kEnable, 0u);
  pass(100);
  EXPECT_FALSE(fired());
  EXPECT_TRUE(write_msr(0, kConfig0, direct(kEnable)));
  EXPECT_FALSE(fired()) << "nothing to wait for";
}

TEST_F(SyntheticTimerTest, APeriodicTimerKeepsItsPeriodsAndMissesSomeWhenLate) {
  EXPECT_TRUE(write_msr(0, kCount0, 1000));
  EXPECT_TRUE(write_msr(0, kConfig0, direct(kEnable | kPeriodic)));
  for (int i = 0; i < 3; ++i) {
    pass(990);
    EXPECT_FALSE(fired()) << i;
    pass(12);
    EXPECT_TRUE(fired()) << i;
  }
  pass(5500);
  EXPECT_TRUE(fired());
  EXPECT_FALSE(fired()) << "missed periods are one";
}

TEST_F(SyntheticTimerTest, AFastTimerLeavesTheGuestAsMuchTimeAsItsInterruptsTake) {
  EXPECT_TRUE(write_msr(0, kCount0, 300));
  EXPECT_TRUE(write_msr(0, kConfig0, direct(kEnable | kPeriodic)));
  pass(300 + 2000);
  EXPECT_TRUE(fired());
  pass(1900);
  EXPECT_FALSE(fired()) << "it was 2,000 late";
  pass(150);
  EXPECT_TRUE(fired());
}

TEST_F(SyntheticTimerTest, APeriodTooShortToLiveWithIsStretched) {
  EXPECT_TRUE(write_msr(0, kCount0, 1));
  EXPECT_TRUE(write_msr(0, kConfig0, direct(kEnable | kPeriodic)));
  EXPECT_EQ(read_msr(0, kCount0), 1u);
  pass(150);
  EXPECT_FALSE(fired());
  pass(60);
  EXPECT_TRUE(fired());
}

TEST_F(SyntheticTimerTest, AMessageTellsWhichTimerAndWhen) {
  enable_synic();
  EXPECT_TRUE(write_msr(0, 0x400000b4, kAutoEnable | kSint4));
  const std::uint64_t when = time() + 30;
  EXPECT_TRUE(write_msr(0, 0x400000b5, when));
  pass(40);
  EXPECT_TRUE(fired(0x60));
  EXPECT_EQ(slot_type(), 0x80000010u);
  EXPECT_EQ(read<std::uint8_t>(kSlot + 4), 24);
  EXPECT_EQ(read<std::uint32_t>(kSlot + 16), 2u);
  EXPECT_EQ(read<std::uint64_t>(kSlot + 24), when);
  EXPECT_GE(read<std::uint64_t>(kSlot + 32), when);
}

TEST_F(SyntheticTimerTest, AMessageWaitsForItsSlot) {
  enable_synic();
  EXPECT_TRUE(write_msr(0, kConfig0, kAutoEnable | kSint4));
  pass(10);
  write<std::uint32_t>(kSlot, 1);  // somebody's message
  EXPECT_TRUE(write_msr(0, kCount0, 1));
  EXPECT_FALSE(fired(0x60));
  EXPECT_EQ(read<std::uint8_t>(kSlot + 5), abi::kMessagePending);
  write<std::uint32_t>(kSlot, 0);
  EXPECT_TRUE(write_msr(0, abi::kMsrEom, 0));
  EXPECT_TRUE(interrupted(0, 0x60));
  EXPECT_EQ(slot_type(), 0x80000010u);
}

TEST_F(SyntheticTimerTest, WithoutASintATimerForMessagesCannotBeEnabled) {
  EXPECT_TRUE(write_msr(0, kConfig0, kEnable | kAutoEnable));
  EXPECT_EQ(read_msr(0, kConfig0) & kEnable, 0u);
  EXPECT_TRUE(write_msr(0, kCount0, 1));
  EXPECT_EQ(read_msr(0, kConfig0) & kEnable, 0u);
}

TEST_F(SyntheticTimerTest, TheRootIsToldWhenToDispatch) {
  EXPECT_TRUE(write_msr(0, kConfig0, direct(kAutoEnable)));
  timer_armed_ = 0;
  EXPECT_TRUE(write_msr(0, kCount0, time() + 10'000));
  EXPECT_EQ(last_.event, HV_DISPATCH_EVENT_NONE);
  EXPECT_GT(last_.timer_deadline, machine_.tsc + 990'000);
  EXPECT_LT(last_.timer_deadline, machine_.tsc + 1'010'000);
  machine_.tsc = last_.timer_deadline;
  timer_armed_ = 1;
  EXPECT_TRUE(fired()) << "at that moment it has come";
}

TEST_F(SyntheticTimerTest, AHaltedProcessorWaitsForItsTimer) {
  EXPECT_TRUE(write_msr(0, kConfig0, direct(kAutoEnable)));
  EXPECT_TRUE(write_msr(0, kCount0, time() + 100));
  execute(0, ExitReason::Halt, [](auto&) {});
  EXPECT_EQ(last_.state, HV_DISPATCH_STATE_BLOCKED);
  EXPECT_NE(last_.timer_deadline, 0u);
  machine_.tsc = last_.timer_deadline;
  EXPECT_TRUE(fired());
}

TEST_F(SyntheticTimerTest, ATimerThatTheRootIsTooSlowForDoesNotKeepTheGuestFromRunning) {
  EXPECT_TRUE(write_msr(0, kCount0, 1));
  EXPECT_TRUE(write_msr(0, kConfig0, direct(kEnable | kPeriodic)));
  timer_armed_ = 0;  // the moment had passed when the root wanted to arm its own
  const int entries = hardware(0).entries;
  for (int dispatch = 0; dispatch < 10; ++dispatch) {
    pass(1000);
    run();
  }
  EXPECT_GE(hardware(0).entries - entries, 5);
}

TEST_F(SyntheticTimerTest, FrozenTimeHoldsTimers) {
  EXPECT_TRUE(write_msr(0, kConfig0, direct(kAutoEnable)));
  EXPECT_TRUE(write_msr(0, kCount0, time() + 100));
  const auto freeze = [&](std::uint64_t value) {
    ASSERT_EQ(root_
                  .call(HV_CALL_SET_PARTITION_PROPERTY,
                        hv_partition_property{id_, HV_PARTITION_PROPERTY_TIME_FREEZE, 0, value})
                  .status,
              HV_STATUS_SUCCESS);
  };
  freeze(1);
  pass(1000);
  EXPECT_FALSE(fired());
  EXPECT_EQ(last_.timer_deadline, 0u);
  freeze(0);
  EXPECT_FALSE(fired());
  pass(101);
  EXPECT_TRUE(fired());
}

TEST_F(SyntheticTimerTest, StrangeValuesDoNoHarm) {
  for (std::uint32_t msr = 0x400000b0; msr <= 0x400000b7; ++msr) {
    for (const std::uint64_t value : {~0ull, 1ull, 0x8000'0000'0000'0000ull, ~0ull >> 1, 0x100bull, 0xf000bull}) {
      EXPECT_TRUE(write_msr(0, msr, value));
      pass(1000);
      run();
    }
  }
  EXPECT_TRUE(write_msr(0, kConfig0, direct(kAutoEnable) & ~0xff0ull)) << "vector 0";
  EXPECT_TRUE(write_msr(0, kCount0, 1));
}

}  // namespace
}  // namespace bulkhead::hypervisor
