// SPDX-License-Identifier: Apache-2.0
//
// A VP taken to pieces by the calls that a parent has for that, and put together again in another one: registers by name, local
// APIC, synthetic timers and extended state (calls 0xe3 and 0xe4), while the partition's time stands still.
#include "abi/synic.hpp"
#include "tests/hypervisor/guest_fixture.hpp"

namespace bulkhead::hypervisor {
namespace {

using abi::RegisterName;

constexpr std::uint64_t kBuffer = 0x220000;  // a page of the root's
constexpr std::uint32_t kLvtTimer = 0x832, kInitialCount = 0x838, kCurrentCount = 0x839, kDivide = 0x83e;
constexpr std::uint32_t kTsc = 0x10, kTscDeadline = 0x6e0;

class SavedVpTest : public GuestTest {
 protected:
  std::uint16_t set_time_freeze(std::uint64_t value) {
    return root_
        .call(HV_CALL_SET_PARTITION_PROPERTY, hv_partition_property{id_, HV_PARTITION_PROPERTY_TIME_FREEZE, 0, value})
        .status;
  }
  void freeze() { ASSERT_EQ(set_time_freeze(1), HV_STATUS_SUCCESS); }
  void thaw() { ASSERT_EQ(set_time_freeze(0), HV_STATUS_SUCCESS); }

  struct WithVariable {
    hv_vp_state header;
    std::uint64_t variable[25];
  };
  /// `words` is how many of the variable header are given.
  std::uint16_t state_call(std::uint16_t code, const WithVariable& input, unsigned words) {
    machine_.write(fake::Root::kInputPage, input);
    return root_.raw(code | std::uint64_t{words} << 17, fake::Root::kInputPage, fake::Root::kOutputPage).status;
  }
  WithVariable in_page(std::uint32_t type, std::uint32_t vp = 0) {
    WithVariable input{};
    input.header.partition_id = id_;
    input.header.vp_index = vp;
    input.header.type = type;
    input.variable[0] = kBuffer / kPageSize;
    return input;
  }
  template <typename State>
  State get(std::uint32_t type, std::uint32_t vp = 0) {
    EXPECT_EQ(state_call(HV_CALL_GET_VP_STATE, in_page(type, vp), 1), HV_STATUS_SUCCESS);
    return machine_.read<State>(kBuffer);
  }
  template <typename State>
  std::uint16_t set(std::uint32_t type, const State& state, std::uint32_t vp = 0) {
    machine_.write(kBuffer, state);
    return state_call(HV_CALL_SET_VP_STATE, in_page(type, vp), 1);
  }
  using Apic = hv_local_interrupt_controller_state;
  Apic get_apic(std::uint32_t vp = 0) { return get<Apic>(HV_VP_STATE_LOCAL_APIC, vp); }
  std::uint16_t set_apic(const Apic& state, std::uint32_t vp = 0) { return set(HV_VP_STATE_LOCAL_APIC, state, vp); }
  static bool equal(const Apic& a, const Apic& b) { return std::memcmp(&a, &b, sizeof a) == 0; }

  using Timers = hv_synthetic_timers_state;
  Timers get_timers() {
    EXPECT_EQ(state_call(HV_CALL_GET_VP_STATE, in_page(HV_VP_STATE_SYNTHETIC_TIMERS), 0), HV_STATUS_SUCCESS);
    return root_.output<Timers>();
  }
  std::uint16_t set_timers(const Timers& timers) {
    WithVariable input = in_page(HV_VP_STATE_SYNTHETIC_TIMERS);
    std::memcpy(input.variable, &timers, sizeof timers);
    return state_call(HV_CALL_SET_VP_STATE, input, 25);
  }
  std::uint16_t assert_interrupt(std::uint32_t type, std::uint32_t vector, std::uint32_t flags = 0) {
    hv_assert_virtual_interrupt input{};
    input.partition_id = id_;
    input.interrupt_type = type;
    input.vector = vector;
    input.flags = flags;
    return root_.call(HV_CALL_ASSERT_VIRTUAL_INTERRUPT, input).status;
  }
  std::uint64_t get_register(RegisterName name) { return root_.get_register(id_, 0, name); }
  std::uint16_t set_register(RegisterName name, std::uint64_t value) {
    return root_.set_register(id_, 0, name, value).status;
  }
};

// Time.

TEST_F(SavedVpTest, TimeThatStandsStillStandsForAllThatAParentReads) {
  EXPECT_TRUE(write_msr(0, kTsc, 1'000'000));
  EXPECT_TRUE(write_msr(0, kLvtTimer, 0x40050));
  EXPECT_TRUE(write_msr(0, kTscDeadline, 3'000'000));
  machine_.tsc += 500'000;
  freeze();
  EXPECT_EQ(get_register(RegisterName::Tsc), 1'500'000u);
  const std::uint64_t reference = get_register(RegisterName::TimeReferenceCount);
  machine_.tsc += 77'000'000;
  freeze();  // again: nothing
  EXPECT_EQ(get_register(RegisterName::Tsc), 1'500'000u);
  EXPECT_EQ(get_register(RegisterName::TscDeadline), 3'000'000u);
  EXPECT_EQ(get_register(RegisterName::TimeReferenceCount), reference);
  thaw();
  thaw();
  EXPECT_EQ(read_msr(0, kTsc), 1'500'000u) << "and the guest notices nothing";
  machine_.tsc += 1'499'999;
  run();
  EXPECT_FALSE(interrupted(0, 0x50));
  machine_.tsc += 1;
  run();
  EXPECT_TRUE(interrupted(0, 0x50)) << "its timer fires when it is that time for the guest";
}

TEST_F(SavedVpTest, ACountThatRunsIsHeldWhileTimeIs) {
  EXPECT_TRUE(write_msr(0, kDivide, 0xb));
  EXPECT_TRUE(write_msr(0, kLvtTimer, 0x50));
  EXPECT_TRUE(write_msr(0, kInitialCount, 1000));
  machine_.tsc += 400;
  freeze();
  machine_.tsc += 100'000;
  EXPECT_EQ(get_apic().apic_counter_value, 600u);
  thaw();
  EXPECT_EQ(read_msr(0, kCurrentCount), 600u);
  machine_.tsc += 600;
  run();
  EXPECT_TRUE(interrupted(0, 0x50));
}

TEST_F(SavedVpTest, TimeIsNotFrozenWhileAVpIsInUse) {
  std::uint16_t status = HV_STATUS_SUCCESS;
  hardware().then(ExitReason::PhysicalInterrupt, [&](fake::FakeVpHardware&) { status = set_time_freeze(1); });
  root_.dispatch(id_, 0);
  EXPECT_EQ(status, HV_STATUS_INVALID_PARTITION_STATE);
  EXPECT_EQ(set_time_freeze(2), HV_STATUS_PROPERTY_VALUE_OUT_OF_RANGE);
}

// Local APIC.

TEST_F(SavedVpTest, ALocalApicGoesOnInAnotherVp) {
  EXPECT_TRUE(write_msr(0, kDivide, 3));
  EXPECT_TRUE(write_msr(0, kLvtTimer, 0x20050));
  EXPECT_TRUE(write_msr(0, kInitialCount, 5000));
  EXPECT_TRUE(write_msr(0, 0x835, 0x700));
  EXPECT_EQ(assert_interrupt(HV_INTERRUPT_TYPE_FIXED, 0x61, HV_INTERRUPT_LEVEL_TRIGGERED), HV_STATUS_SUCCESS);
  run();
  EXPECT_TRUE(interrupted(0, 0x61));
  EXPECT_EQ(assert_interrupt(HV_INTERRUPT_TYPE_FIXED, 0x41), HV_STATUS_SUCCESS);
  EXPECT_EQ(assert_interrupt(HV_INTERRUPT_TYPE_NMI, 0), HV_STATUS_SUCCESS);
  EXPECT_EQ(assert_interrupt(HV_INTERRUPT_TYPE_EXTINT, 0x33), HV_STATUS_SUCCESS);
  machine_.tsc += 1601;
  freeze();
  Apic state = get_apic();
  EXPECT_EQ(state.apic_id, 0u);
  EXPECT_EQ(state.apic_isr[3], 2u);
  EXPECT_EQ(state.apic_tmr[3], 2u);
  EXPECT_EQ(state.apic_irr[2], 2u) << "what lay in the mailbox has come in";
  EXPECT_EQ(state.waiting, HV_APIC_WAITING_NMI | HV_APIC_WAITING_EXTERNAL);
  EXPECT_EQ(state.external_vector, 0x33);
  EXPECT_EQ(state.apic_counter_value, 5000u - 1600 / 16) << "rounded up";
  EXPECT_TRUE(equal(get_apic(), state)) << "reading changes nothing more";

  // The other one has another id.
  Apic other = state;
  EXPECT_EQ(set_apic(other, 1), HV_STATUS_INVALID_REGISTER_VALUE);
  other.apic_id = 1;
  other.apic_ldr = 2;
  EXPECT_EQ(set_apic(other, 1), HV_STATUS_SUCCESS);
  EXPECT_TRUE(equal(get_apic(1), other));
  thaw();
  run(1);
  EXPECT_TRUE(took(1, Event::Type::Nmi, 2));
  run(1);
  EXPECT_TRUE(interrupted(1, 0x33));
  EXPECT_TRUE(write_msr(1, 0x80b, 0));
  EXPECT_TRUE(interrupted(1, 0x41)) << "the one that waited behind that in service";
  EXPECT_EQ(read_msr(1, kCurrentCount), 4900u);
}

TEST_F(SavedVpTest, ATimerThatIsDueFiresBeforeItIsSavedAndNotOnceMore) {
  EXPECT_TRUE(write_msr(0, kDivide, 0xb));
  EXPECT_TRUE(write_msr(0, kLvtTimer, 0x50));
  EXPECT_TRUE(write_msr(0, kInitialCount, 1000));
  machine_.tsc += 1000;
  freeze();
  const Apic state = get_apic();
  EXPECT_EQ(state.apic_irr[2], 1u << 16);
  EXPECT_EQ(state.apic_counter_value, 0u);
  EXPECT_EQ(set_apic(state), HV_STATUS_SUCCESS);
  thaw();
  run();
  EXPECT_TRUE(interrupted(0, 0x50));
  EXPECT_TRUE(write_msr(0, 0x80b, 0));
  machine_.tsc += 10'000;
  run();
  EXPECT_FALSE(interrupted(0, 0x50));
}

TEST_F(SavedVpTest, ATimerThatIsAlmostDueIsStillSet) {
  EXPECT_TRUE(write_msr(0, kDivide, 0xa));  // by 128
  EXPECT_TRUE(write_msr(0, kLvtTimer, 0x50));
  EXPECT_TRUE(write_msr(0, kInitialCount, 10));
  machine_.tsc += 10 * 128 - 1;
  freeze();
  const Apic state = get_apic();
  EXPECT_EQ(state.apic_counter_value, 1u);
  EXPECT_EQ(set_apic(state), HV_STATUS_SUCCESS);
  thaw();
  machine_.tsc += 128;
  run();
  EXPECT_TRUE(interrupted(0, 0x50));
}

TEST_F(SavedVpTest, EveryTimerThatAGuestCanMakeCanBeSetAgain) {
  // Periodic, so short that the shortest period holds; then changed to one-shot, and to another rate.
  const std::uint32_t values[] = {0x20050, 0x50, 0x40050, 0x20050};
  for (const std::uint32_t divide : {0xbu, 0u, 0xau}) {
    for (const std::uint32_t count : {1u, 200u, ~0u}) {
      EXPECT_TRUE(write_msr(0, kLvtTimer, 0x20050));
      EXPECT_TRUE(write_msr(0, kDivide, 0xb));
      EXPECT_TRUE(write_msr(0, kInitialCount, count));
      EXPECT_TRUE(write_msr(0, kDivide, divide));
      for (const std::uint32_t value : values) {
        EXPECT_TRUE(write_msr(0, kLvtTimer, value));
        freeze();
        const Apic state = get_apic();
        EXPECT_EQ(set_apic(state), HV_STATUS_SUCCESS) << divide << ' ' << count << ' ' << value;
        EXPECT_TRUE(equal(get_apic(), state)) << divide << ' ' << count << ' ' << value;
        thaw();
      }
    }
  }
}

TEST_F(SavedVpTest, TheEndOfAnInterruptThatIsStillToBeToldIsTold) {
  install(HV_INTERCEPT_TYPE_APIC_EOI, HV_INTERCEPT_ACCESS_WRITE);
  Apic state = get_apic();
  state.waiting = HV_APIC_WAITING_ENDED;
  state.ended_vector = 0x61;
  EXPECT_EQ(set_apic(state), HV_STATUS_SUCCESS);
  EXPECT_TRUE(equal(get_apic(), state));
  EXPECT_EQ(run().event, HV_DISPATCH_EVENT_INTERCEPT);
  EXPECT_EQ(message().header.type, abi::MessageType::ApicEoi);
  EXPECT_EQ(message().eoi.vector, 0x61u);
  EXPECT_EQ(get_apic().waiting, 0u);
}

TEST_F(SavedVpTest, AnInterruptThatTheGuestEndsByItsAssistPageDoesSoInAnotherVp) {
  EXPECT_TRUE(write_msr(0, 0x40000073, 0x9001));
  EXPECT_EQ(assert_interrupt(HV_INTERRUPT_TYPE_FIXED, 0x60), HV_STATUS_SUCCESS);
  run();
  EXPECT_EQ(read<std::uint32_t>(0x9000), 1u);
  Apic state = get_apic();
  EXPECT_EQ(state.waiting, HV_APIC_WAITING_ASSIST);
  EXPECT_EQ(read<std::uint32_t>(0x9000), 1u) << "the guest's memory stays as it is";
  EXPECT_EQ(root_.set_register(id_, 1, RegisterName::VpAssistPage, 0x9001).status, HV_STATUS_SUCCESS);
  state.apic_id = 1;
  state.apic_ldr = 2;
  EXPECT_EQ(set_apic(state, 1), HV_STATUS_SUCCESS);
  EXPECT_EQ(read<std::uint32_t>(0x9000), 1u);
  write<std::uint32_t>(0x9000, 0);
  run(1);
  EXPECT_EQ(get_apic(1).apic_isr[3], 0u) << "it has ended";
}

TEST_F(SavedVpTest, LocalApicsThatNoProcessorHasAreRefused) {
  const Apic good = get_apic();
  const auto refused = [&](auto&& change, std::uint16_t status = HV_STATUS_INVALID_REGISTER_VALUE) {
    Apic bad = good;
    change(bad);
    EXPECT_EQ(set_apic(bad), status);
    EXPECT_TRUE(equal(get_apic(), good));
  };
  refused([](Apic& apic) { apic.apic_id = 1; });
  refused([](Apic& apic) { apic.apic_version = 0; });
  refused([](Apic& apic) { apic.apic_ldr = 2; });
  refused([](Apic& apic) { apic.apic_dfr = 0; });
  refused([](Apic& apic) { apic.apic_spurious |= 1 << 12; });
  refused([](Apic& apic) { apic.apic_isr[0] = 1; });
  refused([](Apic& apic) { apic.apic_tmr[0] = 1 << 15; });
  refused([](Apic& apic) { apic.apic_irr[0] = 2; });
  refused([](Apic& apic) { apic.apic_esr = 1; });
  refused([](Apic& apic) { apic.apic_error_status = 0x100; });
  refused([](Apic& apic) { apic.apic_icr_low = 1 << 13; });
  refused([](Apic& apic) { apic.apic_lvt[0] = 1 << 12; });
  refused([](Apic& apic) { apic.apic_lvt[5] = 1 << 13; });
  refused([](Apic& apic) { apic.apic_spurious = 0xff, apic.apic_lvt[3] = 0x40; });
  refused([](Apic& apic) { apic.apic_lvt_cmci = 0x10000; });
  refused([](Apic& apic) { apic.apic_remote_read = 1; });
  refused([](Apic& apic) { apic.apic_divide_configuration = 4; });
  refused([](Apic& apic) { apic.apic_counter_value = 5; });
  refused([](Apic& apic) { apic.apic_initial_count = 50'000, apic.apic_counter_value = 50'001; });
  refused([](Apic& apic) { apic.apic_lvt[0] = 0x40050, apic.apic_initial_count = 5; });
  constexpr std::uint16_t kMalformed = HV_STATUS_INVALID_PARAMETER;
  refused([](Apic& apic) { apic.waiting = 16; }, kMalformed);
  refused([](Apic& apic) { apic.reserved = 1; }, kMalformed);
  refused([](Apic& apic) { apic.external_vector = 0x30; }, kMalformed);
  refused([](Apic& apic) { apic.ended_vector = 0x30; }, kMalformed);
  refused([](Apic& apic) { apic.waiting = HV_APIC_WAITING_ENDED; }, kMalformed);
}

TEST_F(SavedVpTest, InXapicModeTheRegistersReadAsInThatMode) {
  create_vp(2);
  ASSERT_EQ(root_.set_register(id_, 2, RegisterName::ApicBase, 0xfee00000).status, HV_STATUS_SUCCESS);
  ASSERT_EQ(root_.set_register(id_, 2, RegisterName::ApicBase, 0xfee00800).status, HV_STATUS_SUCCESS);
  Apic state = get_apic(2);
  EXPECT_EQ(state.apic_id, 2u << 24);
  state.apic_ldr = 0x04000000;
  state.apic_dfr = 0x0fffffff;
  state.apic_icr_high = 0x01000000;
  EXPECT_EQ(set_apic(state, 2), HV_STATUS_SUCCESS);
  EXPECT_TRUE(equal(get_apic(2), state));
  state.apic_ldr = 1;
  EXPECT_EQ(set_apic(state, 2), HV_STATUS_INVALID_REGISTER_VALUE);
  state.apic_ldr = 0;
  state.apic_icr_high = 1;
  EXPECT_EQ(set_apic(state, 2), HV_STATUS_INVALID_REGISTER_VALUE);
}

// Synthetic timers.

TEST_F(SavedVpTest, SyntheticTimersGoOnWhereTheyWere) {
  const std::uint64_t now = read_msr(0, 0x40000020);
  EXPECT_TRUE(write_msr(0, 0x400000b0, 0x1000 | 0x60 << 4 | 8));  // direct, by itself enabled
  EXPECT_TRUE(write_msr(0, 0x400000b1, now + 5000));
  EXPECT_TRUE(write_msr(0, 0x400000b2, 0x1000 | 0x70 << 4 | 8 | 2));
  EXPECT_TRUE(write_msr(0, 0x400000b3, 1000));
  machine_.tsc += 30'000;  // 300 units
  freeze();
  const Timers state = get_timers();
  EXPECT_EQ(state.timers[0].count, now + 5000);
  EXPECT_EQ(state.timers[0].adjustment, now + 5000);
  EXPECT_NEAR(static_cast<double>(state.timers[1].adjustment), static_cast<double>(now + 1000), 1);
  // Gone, and set again.
  EXPECT_EQ(set_timers({}), HV_STATUS_SUCCESS);
  EXPECT_EQ(set_timers(state), HV_STATUS_SUCCESS);
  const Timers again = get_timers();
  EXPECT_EQ(std::memcmp(&again, &state, sizeof state), 0);
  thaw();
  machine_.tsc += 69'000;
  run();
  EXPECT_FALSE(interrupted(0, 0x70));
  machine_.tsc += 1'200;
  run();
  EXPECT_TRUE(interrupted(0, 0x70)) << "a period does not begin anew";
  EXPECT_TRUE(write_msr(0, 0x80b, 0));
  machine_.tsc += 400'000;
  run();
  EXPECT_TRUE(interrupted(0, 0x70) || interrupted(0, 0x60));
}

TEST_F(SavedVpTest, AMessageOfATimerThatFoundItsSlotFullIsKept) {
  EXPECT_TRUE(write_msr(0, abi::kMsrSimp, 0x5001));
  EXPECT_TRUE(write_msr(0, abi::kMsrSint0 + 2, 0x52));
  EXPECT_TRUE(write_msr(0, abi::kMsrScontrol, 1));
  write<std::uint32_t>(0x5000 + 2 * 256, 1);
  const std::uint64_t now = read_msr(0, 0x40000020);
  EXPECT_TRUE(write_msr(0, 0x400000b0, 2 << 16 | 8));
  EXPECT_TRUE(write_msr(0, 0x400000b1, now + 10));
  machine_.tsc += 2000;
  run();
  freeze();
  const Timers state = get_timers();
  EXPECT_EQ(state.timers[0].flags, HV_SYNTHETIC_TIMER_UNDELIVERED);
  EXPECT_EQ(state.timers[0].undelivered_expiration_time, now + 10);
  EXPECT_EQ(set_timers({}), HV_STATUS_SUCCESS);
  EXPECT_EQ(set_timers(state), HV_STATUS_SUCCESS);
  thaw();
  write<std::uint32_t>(0x5000 + 2 * 256, 0);
  EXPECT_TRUE(write_msr(0, abi::kMsrEom, 0));
  run();
  EXPECT_EQ(read<std::uint32_t>(0x5000 + 2 * 256), static_cast<std::uint32_t>(abi::SynicMessageType::TimerExpired));
}

TEST_F(SavedVpTest, TimersThatCannotBeAreRefused) {
  const auto refused = [&](auto&& change) {
    Timers bad{};
    change(bad);
    EXPECT_EQ(set_timers(bad), HV_STATUS_INVALID_REGISTER_VALUE);
  };
  refused([](Timers& timers) { timers.timers[0].flags = 2; });
  refused([](Timers& timers) { timers.timers[1].reserved = 1; });
  refused([](Timers& timers) { timers.timers[2].config = 1 << 13; });
  refused([](Timers& timers) { timers.timers[3].adjustment = 5; });
  refused([](Timers& timers) { timers.timers[3].undelivered_expiration_time = 5; });
  refused([](Timers& timers) { timers.reserved[4] = 1; });
}

// Extended state.

TEST_F(SavedVpTest, ExtendedStateIsReadAndSetAsItIs) {
  using Area = std::array<std::uint8_t, kPageSize>;
  Area area{};
  for (std::size_t index = 576; index < area.size(); ++index) area[index] = static_cast<std::uint8_t>(index * 7);
  area[512] = 7;
  area[24] = 0x80, area[25] = 0x1f;
  ASSERT_EQ(set(HV_VP_STATE_XSAVE, area), HV_STATUS_SUCCESS);
  EXPECT_EQ(std::memcmp(hardware().xsave_area.data(), area.data(), area.size()), 0);
  machine_.write(kBuffer, Area{});
  EXPECT_EQ(get<Area>(HV_VP_STATE_XSAVE), area);

  const auto refused = [&](std::size_t offset, std::uint8_t value) {
    Area bad = area;
    bad[offset] = value;
    EXPECT_EQ(set(HV_VP_STATE_XSAVE, bad), HV_STATUS_INVALID_REGISTER_VALUE) << offset;
    EXPECT_EQ(std::memcmp(hardware().xsave_area.data(), area.data(), area.size()), 0);
  };
  refused(512, 8);     // a component that the processor has not
  refused(519, 0x80);  // likewise
  refused(527, 0x80);  // the compacted form
  refused(575, 1);     // reserved
  refused(27, 1);      // MXCSR
  machine_.cpuid[0x80000001ull << 32].ecx &= ~(1u << 7);
  refused(26, 2);  // misaligned operands, on a processor without
  machine_.cpuid[0x80000001ull << 32].ecx |= 1u << 7;
  area[26] = 2;
  EXPECT_EQ(set(HV_VP_STATE_XSAVE, area), HV_STATUS_SUCCESS);
}

// The calls themselves.

TEST_F(SavedVpTest, WrongCallsAreRefused) {
  const auto both = [&](WithVariable input, unsigned words, std::uint16_t status) {
    EXPECT_EQ(state_call(HV_CALL_GET_VP_STATE, input, words), status);
    EXPECT_EQ(state_call(HV_CALL_SET_VP_STATE, input, words), status);
  };
  const WithVariable good = in_page(HV_VP_STATE_LOCAL_APIC);
  const auto changed = [&](auto&& change) {
    WithVariable bad = good;
    change(bad);
    return bad;
  };
  both(good, 0, HV_STATUS_INVALID_PARAMETER);
  both(changed([](WithVariable& input) { input.header.type = HV_VP_STATE_IN_PAGE | 2; }), 1,
       HV_STATUS_INVALID_PARAMETER);
  both(changed([](WithVariable& input) { input.header.type = 5; }), 1, HV_STATUS_INVALID_PARAMETER);
  both(changed([](WithVariable& input) { input.header.vtl = 1; }), 1, HV_STATUS_INVALID_PARAMETER);
  both(changed([](WithVariable& input) { input.header.reserved[2] = 1; }), 1, HV_STATUS_INVALID_PARAMETER);
  both(changed([](WithVariable& input) { input.header.reserved2 = 1; }), 1, HV_STATUS_INVALID_PARAMETER);
  both(changed([](WithVariable& input) { input.header.xsave_flags = 1; }), 1, HV_STATUS_INVALID_PARAMETER);
  both(changed([](WithVariable& input) { input.header.xsave_states = 3; }), 1, HV_STATUS_INVALID_PARAMETER);
  both(changed([](WithVariable& input) { input.header.vp_index = 9; }), 1, HV_STATUS_INVALID_VP_INDEX);
  both(changed([](WithVariable& input) { input.header.partition_id = 5; }), 1, HV_STATUS_INVALID_PARTITION_ID);
  // The hypervisor's own memory, a deposited page, addresses that do not exist.
  const std::uint64_t pages[] = {1, fake::kDepositPage, kMaximumPageNumber, ~0ull, 1ull << 52};
  for (const std::uint64_t page : pages) {
    both(changed([=](WithVariable& input) { input.variable[0] = page; }), 1, HV_STATUS_INVALID_PARAMETER);
  }
  EXPECT_EQ(state_call(HV_CALL_GET_VP_STATE, good, 2), HV_STATUS_INVALID_HYPERCALL_INPUT);
  EXPECT_EQ(state_call(HV_CALL_SET_VP_STATE, good, 26), HV_STATUS_INVALID_HYPERCALL_INPUT);
  EXPECT_EQ(state_call(HV_CALL_SET_VP_STATE, in_page(HV_VP_STATE_SYNTHETIC_TIMERS), 24), HV_STATUS_INVALID_PARAMETER);
  // Variable header and all across the end of a page.
  machine_.write(fake::Root::kInputPage + kPageSize - sizeof(hv_vp_state), good.header);
  EXPECT_EQ(
      root_.raw(HV_CALL_SET_VP_STATE | 1ull << 17, fake::Root::kInputPage + kPageSize - sizeof(hv_vp_state), 0).status,
      HV_STATUS_INVALID_ALIGNMENT);
  std::uint16_t status = HV_STATUS_SUCCESS;
  hardware().then(ExitReason::PhysicalInterrupt,
                  [&](fake::FakeVpHardware&) { status = state_call(HV_CALL_GET_VP_STATE, good, 1); });
  root_.dispatch(id_, 0);
  EXPECT_EQ(status, HV_STATUS_INVALID_VP_STATE) << "while it runs";
}

// Registers with names.

TEST_F(SavedVpTest, RegistersThatOnlyAParentNeeds) {
  EXPECT_EQ(set_register(RegisterName::ApicTaskPriority, 0x35), HV_STATUS_SUCCESS);
  EXPECT_EQ(get_register(RegisterName::ApicTaskPriority), 0x35u);
  EXPECT_EQ(get_register(RegisterName::Cr8), 3u);
  EXPECT_EQ(set_register(RegisterName::Cr8, 4), HV_STATUS_SUCCESS);
  EXPECT_EQ(get_register(RegisterName::ApicTaskPriority), 0x40u);
  EXPECT_EQ(set_register(RegisterName::ApicTaskPriority, 0x100), HV_STATUS_INVALID_REGISTER_VALUE);

  for (const std::uint64_t activity : {0ull, 1ull, 2ull, 4ull}) {
    EXPECT_EQ(set_register(RegisterName::InternalActivityState, activity), HV_STATUS_SUCCESS);
    EXPECT_EQ(get_register(RegisterName::InternalActivityState), activity);
  }
  for (const std::uint64_t activity : {3ull, 6ull, 8ull, ~0ull}) {
    EXPECT_EQ(set_register(RegisterName::InternalActivityState, activity), HV_STATUS_INVALID_REGISTER_VALUE);
  }
  const int masks = hardware().nmi_masks;
  EXPECT_EQ(set_register(RegisterName::InterruptState, abi::kNmiMasked), HV_STATUS_SUCCESS);
  EXPECT_EQ(hardware().nmi_masks, masks + 1) << "the end of the handler has to be noticed";
}

TEST_F(SavedVpTest, AVpThatIsIdleIsIdleInAnother) {
  read_msr(0, 0x400000f0);
  EXPECT_EQ(last_.state, HV_DISPATCH_STATE_BLOCKED);
  EXPECT_EQ(get_register(RegisterName::InternalActivityState), 4u);
  EXPECT_EQ(root_.set_register(id_, 1, RegisterName::InternalActivityState, 4).status, HV_STATUS_SUCCESS);
  EXPECT_EQ(run(1).state, HV_DISPATCH_STATE_BLOCKED);
}

TEST_F(SavedVpTest, AParentThatSetsTheSynicLeavesItsPagesAlone) {
  write<std::uint32_t>(0x5200, 0x1234);
  write<std::uint32_t>(0x6200, 0x5678);
  EXPECT_EQ(set_register(RegisterName::Simp, 0x5001), HV_STATUS_SUCCESS);
  EXPECT_EQ(set_register(RegisterName::Siefp, 0x6001), HV_STATUS_SUCCESS);
  EXPECT_EQ(set_register(RegisterName::Scontrol, 1), HV_STATUS_SUCCESS);
  EXPECT_EQ(read<std::uint32_t>(0x5200), 0x1234u);
  EXPECT_EQ(read<std::uint32_t>(0x6200), 0x5678u);
  EXPECT_TRUE(write_msr(0, abi::kMsrSimp, 0x7001));
  write<std::uint32_t>(0x5200, 1);
  EXPECT_TRUE(write_msr(0, abi::kMsrSimp, 0x5001));
  EXPECT_EQ(read<std::uint32_t>(0x5200), 0u) << "a guest that does so gets an empty page";
}

TEST_F(SavedVpTest, AMessageThatWaitsForItsSlotIsToldOfInAnotherVp) {
  EXPECT_TRUE(write_msr(0, abi::kMsrSimp, 0x5001));
  EXPECT_TRUE(write_msr(0, abi::kMsrScontrol, 1));
  write<std::uint32_t>(0x5000 + 3 * 256, 1);
  hv_post_message_direct post{};
  post.partition_id = id_;
  post.sint = 3;
  post.message[0] = 1;
  EXPECT_EQ(root_.call(HV_CALL_POST_MESSAGE_DIRECT, post).status, HV_STATUS_INSUFFICIENT_BUFFERS);
  EXPECT_EQ(get_register(RegisterName::DeliverabilityNotifications), 1ull << 51);
  EXPECT_EQ(set_register(RegisterName::DeliverabilityNotifications, 2), HV_STATUS_SUCCESS);
  EXPECT_EQ(get_register(RegisterName::DeliverabilityNotifications), 1ull << 51 | 2) << "it is not forgotten";
  EXPECT_EQ(set_register(RegisterName::DeliverabilityNotifications, 4), HV_STATUS_INVALID_REGISTER_VALUE);
  EXPECT_EQ(root_.set_register(id_, 1, RegisterName::DeliverabilityNotifications, 1ull << 51).status,
            HV_STATUS_SUCCESS);
  EXPECT_EQ(root_.set_register(id_, 1, RegisterName::Simp, 0x5001).status, HV_STATUS_SUCCESS);
  EXPECT_EQ(root_.set_register(id_, 1, RegisterName::Scontrol, 1).status, HV_STATUS_SUCCESS);
  write<std::uint32_t>(0x5000 + 3 * 256, 0);
  EXPECT_EQ(run(1).event, HV_DISPATCH_EVENT_INTERCEPT);
  EXPECT_EQ(message(1).header.type, abi::MessageType::SynicSintDeliverable);
  EXPECT_EQ(message(1).sints.sints, 1u << 3);
}

TEST_F(SavedVpTest, CpuidValuesAreThoseThatTheGuestGets) {
  const auto values = [&](std::uint32_t vp, std::uint32_t flags, std::vector<hv_cpuid_leaf> leaves) {
    return root_.call_list(HV_CALL_GET_VP_CPUID_VALUES, hv_get_vp_cpuid_values{id_, vp, flags, 0, 0}, leaves);
  };
  hv_register_cpuid_result result{};
  result.partition_id = id_;
  result.vp_index = HV_VP_INDEX_ANY;
  result.intercept_type = HV_INTERCEPT_TYPE_CPUID;
  result.leaf = 0x40000010;
  result.eax = 0x1234;
  result.eax_mask = ~0u;
  ASSERT_EQ(root_.call(HV_CALL_REGISTER_INTERCEPT_RESULT, result).status, HV_STATUS_SUCCESS);
  ASSERT_EQ(values(1, 3, {{1, 0, 0, 0}, {0x40000010, 0, 0, 0}, {0xd, 1, 0, 0}}).status, HV_STATUS_SUCCESS);
  const auto first = root_.output<hv_cpuid_values>();
  EXPECT_EQ(machine_.read<hv_cpuid_values>(fake::Root::kOutputPage + 16).eax, 0x1234u);
  execute(1, ExitReason::Cpuid, [](fake::FakeVpHardware& guest) {
    guest.general[0] = 1;
    guest.general[1] = 0;
  });
  EXPECT_EQ(hardware(1).general[3], first.ebx);
  EXPECT_EQ(hardware(1).general[1], first.ecx);
  EXPECT_EQ(first.ebx >> 24, 1u) << "its own APIC id";
  EXPECT_EQ(values(1, 0, {{1, 0, 0, 0}}).status, HV_STATUS_INVALID_PARAMETER);
  EXPECT_EQ(values(1, 7, {{1, 0, 0, 0}}).status, HV_STATUS_INVALID_PARAMETER);
  EXPECT_EQ(values(9, 3, {{1, 0, 0, 0}}).status, HV_STATUS_INVALID_VP_INDEX);
  const auto partly = values(0, 3, {{1, 0, 0, 0}, {1, 0, 1, 0}});
  EXPECT_EQ(partly.status, HV_STATUS_INVALID_PARAMETER);
  EXPECT_EQ(partly.reps, 1u);
}

}  // namespace
}  // namespace bulkhead::hypervisor
