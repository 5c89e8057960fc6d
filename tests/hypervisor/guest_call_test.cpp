// SPDX-License-Identifier: Apache-2.0
//
// What a child calls and reads for its own sake: processor sets, interrupts, TLB flushes, idling, the assist page, its end.
#include <atomic>
#include <thread>

#include "tests/hypervisor/guest_fixture.hpp"

namespace bulkhead::hypervisor {
namespace {

using fake::FakeVpHardware;

constexpr std::uint64_t kInput = 0x7000;
constexpr std::uint64_t kFast = HV_HYPERCALL_FAST;
constexpr std::uint64_t reps(std::uint64_t count) { return count << 32; }
constexpr std::uint64_t banks(std::uint64_t count) { return count << 17; }

class GuestCallTest : public GuestTest {
 protected:
  GuestCallTest() : GuestTest(3) {}
  void put(std::vector<std::uint64_t> words) {
    for (std::size_t i = 0; i < words.size(); ++i) write(kInput + 8 * i, words[i]);
  }
  std::vector<bool> interrupted_vps(std::uint8_t vector) {
    std::vector<bool> result;
    for (std::uint32_t vp = 0; vp < 3; ++vp) {
      run(vp);
      result.push_back(interrupted(vp, vector));
      if (result.back()) write_msr(vp, 0x80b, 0);
    }
    return result;
  }
  /// Which VPs flush before they run on.
  std::vector<bool> flushed_by(const std::function<std::uint64_t()>& call, std::uint64_t expected = 0) {
    std::vector<int> before;
    for (std::uint32_t vp = 0; vp < 3; ++vp) before.push_back(hardware(vp).flushes);
    EXPECT_EQ(call(), expected);
    std::vector<bool> result;
    for (std::uint32_t vp = 0; vp < 3; ++vp) {
      run(vp);
      result.push_back(hardware(vp).flushes > before[vp]);
    }
    return result;
  }
};

using Set = std::vector<bool>;

TEST_F(GuestCallTest, AnInterruptGoesToEachProcessorOfTheMask) {
  EXPECT_EQ(hypercall(0, HV_CALL_SEND_SYNTHETIC_CLUSTER_IPI | kFast, 0x51, 0b110), 0u);
  EXPECT_EQ(interrupted_vps(0x51), (Set{false, true, true}));
  put({0x52, 0b101});
  EXPECT_EQ(hypercall(0, HV_CALL_SEND_SYNTHETIC_CLUSTER_IPI, kInput), 0u);
  EXPECT_TRUE(interrupted(0, 0x52)) << "one's own comes before the next instruction";
  EXPECT_TRUE(write_msr(0, 0x80b, 0));
  EXPECT_EQ(interrupted_vps(0x52), (Set{false, false, true}));
  EXPECT_EQ(hypercall(0, HV_CALL_SEND_SYNTHETIC_CLUSTER_IPI | kFast, 0x53, ~0ull << 3), 0u) << "nobody there";
}

TEST_F(GuestCallTest, AnInterruptWakesWhoIsHalted) {
  execute(1, ExitReason::Halt, [](auto&) {});
  ASSERT_EQ(last_.state, HV_DISPATCH_STATE_BLOCKED);
  EXPECT_EQ(hypercall(0, HV_CALL_SEND_SYNTHETIC_CLUSTER_IPI | kFast, 0x51, 0b111), 0u);
  EXPECT_EQ(last_.wake_set, 0b010u);
}

TEST_F(GuestCallTest, ProcessorSets) {
  const std::uint64_t code = HV_CALL_SEND_SYNTHETIC_CLUSTER_IPI_EX;
  put({0x51, 0, 0b1, 0b100});
  EXPECT_EQ(hypercall(0, code | banks(1), kInput), 0u);
  EXPECT_EQ(interrupted_vps(0x51), (Set{false, false, true}));
  put({0x52, 1, 0});
  EXPECT_EQ(hypercall(0, code, kInput), 0u);
  EXPECT_TRUE(interrupted(0, 0x52));
  EXPECT_TRUE(write_msr(0, 0x80b, 0));
  EXPECT_EQ(interrupted_vps(0x52), (Set{false, true, true}));
  put({0x53, 0, 0b10, 0b111});
  EXPECT_EQ(hypercall(0, code | banks(1), kInput), 0u) << "the second bank's VPs do not exist";
  EXPECT_EQ(interrupted_vps(0x53), (Set{false, false, false}));
  put({0x53, 0, 0b11, 0b111});
  EXPECT_EQ(hypercall(0, code | banks(1), kInput), HV_STATUS_INVALID_PARAMETER) << "two banks told, one given";
  put({0x53, 2, 0});
  EXPECT_EQ(hypercall(0, code, kInput), HV_STATUS_INVALID_PARAMETER);
}

TEST_F(GuestCallTest, InterruptsThatCannotBeAreRefused) {
  const std::uint64_t code = HV_CALL_SEND_SYNTHETIC_CLUSTER_IPI;
  EXPECT_EQ(hypercall(0, code | kFast, 0xf, 1), HV_STATUS_INVALID_PARAMETER);
  EXPECT_EQ(hypercall(0, code | kFast, 0x100, 1), HV_STATUS_INVALID_PARAMETER);
  EXPECT_EQ(hypercall(0, code | kFast, 0x51 | 1ull << 32, 1), HV_STATUS_INVALID_PARAMETER) << "of another VTL";
  EXPECT_EQ(hypercall(0, code | kFast | banks(1), 0x51, 1), HV_STATUS_INVALID_HYPERCALL_INPUT);
  EXPECT_EQ(hypercall(0, code | kFast | reps(1), 0x51, 1), HV_STATUS_INVALID_HYPERCALL_INPUT);
  EXPECT_EQ(hypercall(0, code, kInput + 1), HV_STATUS_INVALID_ALIGNMENT);
  EXPECT_EQ(hypercall(0, code, kInput + 0xff8), HV_STATUS_INVALID_ALIGNMENT);
  EXPECT_EQ(hypercall(0, code, kMemorySize), HV_STATUS_INVALID_ALIGNMENT);
}

TEST_F(GuestCallTest, InputInVectorRegisters) {
  const auto with_vectors = [&](std::uint64_t control, std::vector<std::uint64_t> words) {
    for (std::size_t i = 2; i < words.size(); i += 2) {
      abi::RegisterValue value{};
      value.raw = {words[i], i + 1 < words.size() ? words[i + 1] : 0};
      hardware(0).registers[static_cast<abi::RegisterName>(0x30000 + i / 2 - 1)] = value;
    }
    return hypercall(0, control | kFast, words[0], words[1]);
  };
  EXPECT_EQ(with_vectors(HV_CALL_SEND_SYNTHETIC_CLUSTER_IPI_EX | banks(1), {0x51, 0, 1, 0b10}), 0u);
  EXPECT_EQ(interrupted_vps(0x51), (Set{false, true, false}));
  EXPECT_EQ(flushed_by([&] { return with_vectors(HV_CALL_FLUSH_VIRTUAL_ADDRESS_SPACE, {0, 2, 0b100}); }),
            (Set{false, false, true}));
  EXPECT_EQ(with_vectors(HV_CALL_FLUSH_VIRTUAL_ADDRESS_LIST | reps(11), {0, 2, 0b100}), reps(11)) << "112 bytes";
  EXPECT_EQ(with_vectors(HV_CALL_FLUSH_VIRTUAL_ADDRESS_LIST | reps(12), {0, 2, 0b100}),
            HV_STATUS_INVALID_HYPERCALL_INPUT);
}

TEST_F(GuestCallTest, FlushesReachTheirProcessors) {
  put({0x1000, 0, 0b011});
  EXPECT_EQ(flushed_by([&] { return hypercall(0, HV_CALL_FLUSH_VIRTUAL_ADDRESS_SPACE, kInput); }),
            (Set{true, true, false}));
  put({0x1000, 1, 0});
  EXPECT_EQ(flushed_by([&] { return hypercall(0, HV_CALL_FLUSH_VIRTUAL_ADDRESS_SPACE, kInput); }),
            (Set{true, true, true}))
      << "the flag for all";
  put({0, 2, 0b100, 0x4000, 0x5000});
  EXPECT_EQ(flushed_by([&] { return hypercall(0, HV_CALL_FLUSH_VIRTUAL_ADDRESS_LIST | reps(2), kInput); }, reps(2)),
            (Set{false, false, true}));
  put({0, 2, 0, 1, 0b010});
  EXPECT_EQ(flushed_by([&] { return hypercall(0, HV_CALL_FLUSH_VIRTUAL_ADDRESS_SPACE_EX | banks(1), kInput); }),
            (Set{false, true, false}));
  put({0, 2, 0, 1, 0b101, 0x4000});
  EXPECT_EQ(flushed_by([&] { return hypercall(0, HV_CALL_FLUSH_VIRTUAL_ADDRESS_LIST_EX | banks(1) | reps(1), kInput); },
                       reps(1)),
            (Set{true, false, true}));
}

TEST_F(GuestCallTest, FlushesThatCannotBeAreRefused) {
  put({0, 2, 0b111});
  EXPECT_EQ(hypercall(0, HV_CALL_FLUSH_VIRTUAL_ADDRESS_LIST, kInput), HV_STATUS_INVALID_HYPERCALL_INPUT) << "no list";
  EXPECT_EQ(hypercall(0, HV_CALL_FLUSH_VIRTUAL_ADDRESS_LIST | reps(2) | 2ull << 48, kInput),
            HV_STATUS_INVALID_HYPERCALL_INPUT);
  EXPECT_EQ(hypercall(0, HV_CALL_FLUSH_VIRTUAL_ADDRESS_LIST | reps(510), kInput), HV_STATUS_INVALID_ALIGNMENT)
      << "the list does not fit in the page";
  EXPECT_EQ(hypercall(0, HV_CALL_FLUSH_VIRTUAL_ADDRESS_SPACE | kFast, 0, 0), 0u);
  put({0, 2, 0, 3, 0b101});
  EXPECT_EQ(hypercall(0, HV_CALL_FLUSH_VIRTUAL_ADDRESS_SPACE_EX | banks(1), kInput), HV_STATUS_INVALID_PARAMETER);
}

TEST_F(GuestCallTest, AFlushWaitsForProcessorsThatRunElsewhere) {
  std::atomic<bool> in_guest{false}, kicked{false}, done{false};
  machine_.on_kick = [&](std::uint32_t) { kicked = true; };
  // VP 1 runs on the other processor, and stays in the guest until it is kicked.
  hardware(1).then(ExitReason::Kick, [&](FakeVpHardware&) {
    in_guest = true;
    while (!kicked) std::this_thread::yield();
    EXPECT_FALSE(done) << "it could still use an old translation";
  });
  const int flushes = hardware(1).flushes;
  std::thread other([&] {
    fake::this_lp = 1;
    machine_.write(0x210000, hv_dispatch_vp{id_, 1, 0, 0, 0, 1});
    root::HypercallRegisters registers{
        .rax = 0, .rcx = HV_CALL_DISPATCH_VP, .rdx = 0x210000, .r8 = 0x211000, .again = false};
    root::hypercall(registers);
    EXPECT_EQ(registers.rax & 0xffff, HV_STATUS_SUCCESS);
  });
  while (!in_guest) std::this_thread::yield();
  put({0, 2, 0b010});
  EXPECT_EQ(hypercall(0, HV_CALL_FLUSH_VIRTUAL_ADDRESS_SPACE, kInput), 0u);
  done = true;
  other.join();
  EXPECT_GT(hardware(1).flushes, flushes);
}

TEST_F(GuestCallTest, TwoThatFlushEachOtherBothGetOn) {
  std::atomic<int> in_guest{0};
  put({0, 2, 0b011});
  const auto flush_each_other = [&](std::uint32_t vp) {
    fake::this_lp = vp;
    Exit exit{};
    exit.reason = ExitReason::Hypercall;
    exit.next_rip = hardware(vp).rip + 3;
    hardware(vp).then(exit, [&](FakeVpHardware& guest) {
      guest.general[1] = HV_CALL_FLUSH_VIRTUAL_ADDRESS_SPACE;
      guest.general[2] = kInput;
      ++in_guest;
      while (in_guest < 2) std::this_thread::yield();
    });
    const std::uint64_t input = 0x210000 + vp * 0x2000;
    machine_.write(input, hv_dispatch_vp{id_, vp, 0, 0, 0, 1});
    root::HypercallRegisters registers{
        .rax = 0, .rcx = HV_CALL_DISPATCH_VP, .rdx = input, .r8 = input + 0x1000, .again = false};
    root::hypercall(registers);
    EXPECT_EQ(registers.rax & 0xffff, HV_STATUS_SUCCESS);
  };
  std::thread other([&] { flush_each_other(1); });
  flush_each_other(0);
  other.join();
  EXPECT_EQ(hardware(0).general[0], 0u);
  EXPECT_EQ(hardware(1).general[0], 0u);
}

TEST_F(GuestCallTest, WhoSpinsForLongGivesItsTimeAway) {
  EXPECT_EQ(hypercall(0, HV_CALL_NOTIFY_LONG_SPIN_WAIT | kFast, 1000), 0u);
  EXPECT_EQ(last_.event, HV_DISPATCH_EVENT_SPIN);
  EXPECT_EQ(last_.state, HV_DISPATCH_STATE_READY);
  hardware(0).then(ExitReason::Pause);
  EXPECT_EQ(run().event, HV_DISPATCH_EVENT_SPIN);
}

TEST_F(GuestCallTest, ThirtyTwoBitCallersUsePairsOfRegisters) {
  hardware(0).execution_mode.efer = 0;
  hardware(0).execution_mode.cs.attributes = 0xc09b;
  execute(0, ExitReason::Hypercall, [](FakeVpHardware& guest) {
    guest.general[0] = HV_CALL_SEND_SYNTHETIC_CLUSTER_IPI | kFast;
    guest.general[2] = 0;
    guest.general[3] = 0;
    guest.general[1] = 0x51;
    guest.general[7] = 0;
    guest.general[6] = 0b010;
  });
  EXPECT_EQ(hardware(0).general[0], 0u);
  EXPECT_EQ(interrupted_vps(0x51), (Set{false, true, false}));
}

TEST_F(GuestCallTest, AnIdleProcessorGoesOnWhenAnInterruptIsPendingEvenIfItTakesNone) {
  hardware(0).rflags &= ~kInterruptFlag;
  const std::uint64_t rip = hardware(0).rip;
  EXPECT_EQ(read_msr(0, 0x400000f0), 0u);
  EXPECT_EQ(last_.state, HV_DISPATCH_STATE_BLOCKED);
  const int entries = hardware(0).entries;
  run();
  EXPECT_EQ(last_.state, HV_DISPATCH_STATE_BLOCKED);
  EXPECT_EQ(hardware(0).entries, entries);
  EXPECT_EQ(hypercall(1, HV_CALL_SEND_SYNTHETIC_CLUSTER_IPI | kFast, 0x51, 1), 0u);
  EXPECT_EQ(last_.wake_set, 1u);
  run();
  EXPECT_GT(hardware(0).entries, entries);
  EXPECT_TRUE(hardware(0).delivered.empty());
  EXPECT_EQ(hardware(0).rip, rip + 2);
  EXPECT_FALSE(write_msr(0, 0x400000f0, 0)) << "read-only";
}

TEST_F(GuestCallTest, TheApicsRegistersAreSyntheticOnesToo) {
  EXPECT_TRUE(write_msr(0, 0x40000072, 0x50));
  EXPECT_EQ(read_msr(0, 0x40000072), 0x50u);
  EXPECT_EQ(hardware(0).cr8, 5);
  EXPECT_EQ(read_msr(0, 0x808), 0x50u);
  EXPECT_FALSE(write_msr(0, 0x40000072, 0x100));
  EXPECT_TRUE(write_msr(0, 0x40000072, 0));
  EXPECT_TRUE(write_msr(0, 0x40000071, 0x1'00000061)) << "in x2APIC mode as that has it";
  EXPECT_EQ(read_msr(0, 0x40000071), 0x1'00000061u);
  EXPECT_EQ(interrupted_vps(0x61), (Set{false, true, false}));
  EXPECT_TRUE(write_msr(1, 0x40000071, 0x40061));
  EXPECT_TRUE(interrupted(1, 0x61)) << "to itself";
  EXPECT_TRUE(write_msr(1, 0x40000071, 0x40061));
  EXPECT_FALSE(interrupted(1, 0x61)) << "in service";
  EXPECT_FALSE(write_msr(1, 0x40000070, 1ull << 32));
  EXPECT_TRUE(write_msr(1, 0x40000070, 0));
  EXPECT_TRUE(interrupted(1, 0x61));
  read_msr(1, 0x40000070);
  EXPECT_TRUE(faulted(1)) << "write-only";
}

class AssistTest : public GuestCallTest {
 protected:
  static constexpr std::uint64_t kPage = 0x6000;
  AssistTest() { EXPECT_TRUE(write_msr(0, 0x40000073, kPage | 1)); }
  void interrupt(std::uint8_t vector, std::uint32_t flags = 0) {
    EXPECT_EQ(root_
                  .call(HV_CALL_ASSERT_VIRTUAL_INTERRUPT,
                        hv_assert_virtual_interrupt{id_, HV_INTERRUPT_TYPE_FIXED, flags, 0, vector, 0, {}})
                  .status,
              HV_STATUS_SUCCESS);
  }
  bool no_eoi_required() { return read<std::uint32_t>(kPage) & 1; }
  /// As guests do it.
  void end_of_interrupt() {
    const bool assisted = no_eoi_required();
    write<std::uint32_t>(kPage, 0);
    if (!assisted) write_msr(0, 0x40000070, 0);
  }
};

TEST_F(AssistTest, AnInterruptAloneEndsWithoutAnExit) {
  for (int round = 0; round < 3; ++round) {
    interrupt(0x51);
    run();
    EXPECT_TRUE(interrupted(0, 0x51)) << round;
    EXPECT_TRUE(no_eoi_required());
    end_of_interrupt();
  }
  run();
  EXPECT_EQ(read_msr(0, 0x812), 0u) << "nothing in service";
}

TEST_F(AssistTest, AnotherInterruptBehindItNeedsTheExit) {
  interrupt(0x51);
  interrupt(0x41);
  run();
  EXPECT_TRUE(interrupted(0, 0x51));
  EXPECT_FALSE(no_eoi_required());
  end_of_interrupt();
  EXPECT_TRUE(interrupted(0, 0x41));
  EXPECT_TRUE(no_eoi_required()) << "the last of them";
  end_of_interrupt();
}

TEST_F(AssistTest, OneThatComesLaterTakesTheOfferBack) {
  interrupt(0x51);
  run();
  EXPECT_TRUE(no_eoi_required());
  interrupt(0x41);
  run();
  EXPECT_FALSE(interrupted(0, 0x41)) << "still in service";
  EXPECT_FALSE(no_eoi_required());
  end_of_interrupt();
  EXPECT_TRUE(interrupted(0, 0x41));
}

TEST_F(AssistTest, AHigherOneInterruptsAndBothEnd) {
  interrupt(0x51);
  run();
  interrupt(0x71);
  run();
  EXPECT_TRUE(interrupted(0, 0x71));
  end_of_interrupt();
  interrupt(0x41);
  run();
  EXPECT_FALSE(interrupted(0, 0x41)) << "0x51 has not ended";
  end_of_interrupt();
  EXPECT_TRUE(interrupted(0, 0x41));
}

TEST_F(AssistTest, LevelTriggeredInterruptsAlwaysNeedTheExit) {
  interrupt(0x51, HV_INTERRUPT_LEVEL_TRIGGERED);
  run();
  EXPECT_TRUE(interrupted(0, 0x51));
  EXPECT_FALSE(no_eoi_required());
}

TEST_F(AssistTest, AGuestThatDoesNotCareEndsItsInterruptsAsEver) {
  interrupt(0x51);
  run();
  EXPECT_TRUE(write_msr(0, 0x80b, 0));
  EXPECT_FALSE(no_eoi_required());
  EXPECT_EQ(read_msr(0, 0x812), 0u);
  interrupt(0x51);
  run();
  EXPECT_TRUE(interrupted(0, 0x51));
}

TEST_F(AssistTest, APageThatGoesAwayTakesNothingWithIt) {
  interrupt(0x51);
  run();
  ASSERT_EQ(root_.unmap(id_, kPage / kPageSize, 1).status, HV_STATUS_SUCCESS);
  interrupt(0x41);
  run();
  EXPECT_TRUE(write_msr(0, 0x40000070, 0));
  EXPECT_TRUE(interrupted(0, 0x41));
  EXPECT_TRUE(write_msr(0, 0x40000073, ~0ull));
  EXPECT_TRUE(write_msr(0, 0x40000070, 0));
  interrupt(0x51);
  run();
  EXPECT_TRUE(interrupted(0, 0x51));
}

TEST_F(GuestCallTest, CrashRegistersKeepWhatIsWrittenAndTellTheParent) {
  for (std::uint32_t i = 0; i < 5; ++i) EXPECT_TRUE(write_msr(0, 0x40000100 + i, 0x1111 * (i + 1)));
  EXPECT_EQ(read_msr(0, 0x40000105) >> 62, 3u) << "both ways are open";
  EXPECT_TRUE(write_msr(0, 0x40000105, 1ull << 63)) << "nobody wants to know";
  install(HV_INTERCEPT_TYPE_MSR_INDEX, HV_INTERCEPT_ACCESS_WRITE, 0x40000105);
  EXPECT_TRUE(write_msr(0, 0x40000105, 0));
  EXPECT_EQ(last_.event, HV_DISPATCH_EVENT_NONE);
  write_msr(0, 0x40000105, 3ull << 62);
  EXPECT_EQ(last_.event, HV_DISPATCH_EVENT_INTERCEPT);
  EXPECT_EQ(message(0).header.type, abi::MessageType::Msr);
  EXPECT_EQ(message(0).msr.msr, 0x40000105u);
  EXPECT_EQ(root_.get_register(id_, 0, abi::RegisterName::CrashP0), 0x1111u);
  EXPECT_EQ(root_.get_register(id_, 0, abi::RegisterName::CrashP4), 0x5555u);
}

TEST_F(GuestCallTest, ResetIsTheParentsIfItWantsIt) {
  EXPECT_FALSE(write_msr(0, 0x40000003, 1));
  install(HV_INTERCEPT_TYPE_MSR_INDEX, HV_INTERCEPT_ACCESS_WRITE, 0x40000003);
  EXPECT_EQ(read_msr(0, 0x40000003), 0u);
  EXPECT_TRUE(write_msr(0, 0x40000003, 0));
  EXPECT_EQ(last_.event, HV_DISPATCH_EVENT_NONE);
  write_msr(0, 0x40000003, 1);
  EXPECT_EQ(last_.event, HV_DISPATCH_EVENT_INTERCEPT);
  root_.call(HV_CALL_GET_PARTITION_PROPERTY, hv_partition_property{id_, HV_PARTITION_PROPERTY_PRIVILEGE_FLAGS, 0, 0});
  EXPECT_NE(root_.output<std::uint64_t>() & 1u << 7, 0u);
}

}  // namespace
}  // namespace bulkhead::hypervisor
