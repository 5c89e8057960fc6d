// SPDX-License-Identifier: Apache-2.0
//
// The SynIC between a guest and its parent: TLFS, "Virtual Interrupt Controller" and "Inter-Partition Communication".
#include "abi/synic.hpp"
#include "tests/hypervisor/guest_fixture.hpp"

namespace bulkhead::hypervisor {
namespace {

constexpr std::uint64_t kMessages = 0x5000, kFlags = 0x6000, kInput = 0x7000;
constexpr std::uint32_t kSint = 2;
constexpr std::uint8_t kVector = 0xf3;

class SynicTest : public GuestTest {
 protected:
  void enable(std::uint32_t vp = 0, std::uint64_t sint = kVector) {
    EXPECT_TRUE(write_msr(vp, abi::kMsrSimp, kMessages | 1));
    EXPECT_TRUE(write_msr(vp, abi::kMsrSiefp, kFlags | 1));
    EXPECT_TRUE(write_msr(vp, abi::kMsrSint0 + kSint, sint));
    EXPECT_TRUE(write_msr(vp, abi::kMsrScontrol, 1));
  }
  std::uint16_t post(std::uint32_t vp = 0, std::uint32_t type = 1, std::uint32_t sint = kSint) {
    abi::SynicMessage message{};
    message.type = abi::SynicMessageType{type};
    message.payload_size = 8;
    message.payload[7] = 0x5a;
    message.flags = 0xff;
    hv_post_message_direct input{};
    input.partition_id = id_;
    input.vp_index = vp;
    input.sint = sint;
    std::memcpy(input.message, &message, sizeof message);
    return root_.call(HV_CALL_POST_MESSAGE_DIRECT, input).status;
  }
  std::uint16_t signal(std::uint16_t flag, std::uint32_t vp = 0, std::uint8_t sint = kSint) {
    return root_.call(HV_CALL_SIGNAL_EVENT_DIRECT, hv_signal_event_direct{id_, vp, 0, sint, flag}).status;
  }
  bool newly_signaled() { return root_.output<hv_signal_event_direct_output>().newly_signaled; }
  abi::SynicMessage slot() { return read<abi::SynicMessage>(kMessages + kSint * sizeof(abi::SynicMessage)); }
  /// As a guest does it: the slot first, then EOM if it is asked for.
  void take_message() { write<std::uint32_t>(kMessages + kSint * sizeof(abi::SynicMessage), 0); }
  bool told_of_slot() {
    return last_.event == HV_DISPATCH_EVENT_INTERCEPT &&
           message().header.type == abi::MessageType::SynicSintDeliverable && message().sints.sints == 1u << kSint;
  }
};

TEST_F(SynicTest, RegistersHaveTheirResetValues) {
  EXPECT_EQ(read_msr(0, abi::kMsrScontrol), 0u);
  EXPECT_EQ(read_msr(0, abi::kMsrSversion), 1u);
  EXPECT_EQ(read_msr(0, abi::kMsrSiefp), 0u);
  EXPECT_EQ(read_msr(0, abi::kMsrSimp), 0u);
  EXPECT_EQ(read_msr(0, abi::kMsrEom), 0u);
  for (std::uint32_t sint = 0; sint < 16; ++sint) EXPECT_EQ(read_msr(0, abi::kMsrSint0 + sint), 0x10000u);
  EXPECT_FALSE(write_msr(0, abi::kMsrSversion, 1));
  read_msr(0, 0x40000085);
  EXPECT_TRUE(faulted(0));
  read_msr(0, 0x400000a0);
  EXPECT_TRUE(faulted(0));
}

TEST_F(SynicTest, RegistersReadBackWhatWasWritten) {
  EXPECT_TRUE(write_msr(0, abi::kMsrSimp, 0xabcdeffe)) << "reserved bits are kept";
  EXPECT_EQ(read_msr(0, abi::kMsrSimp), 0xabcdeffeu);
  EXPECT_TRUE(write_msr(0, abi::kMsrSint0 + 3, 0x30010));
  EXPECT_EQ(read_msr(0, abi::kMsrSint0 + 3), 0x30010u);
  EXPECT_FALSE(write_msr(0, abi::kMsrSint0 + 3, 0xf)) << "no such vector";
  EXPECT_EQ(read_msr(0, abi::kMsrSint0 + 3), 0x30010u);
  EXPECT_TRUE(write_msr(0, abi::kMsrSint0 + 3, 0x10000)) << "as it is at reset";
  EXPECT_EQ(read_msr(1, abi::kMsrSimp), 0u) << "each VP has its own";
  EXPECT_EQ(root_.set_register(id_, 1, abi::RegisterName::Scontrol, 1).status, HV_STATUS_SUCCESS);
  EXPECT_EQ(read_msr(1, abi::kMsrScontrol), 1u) << "by name";
  EXPECT_EQ(root_.get_register(id_, 1, abi::RegisterName::Sint15), 0x10000u);
}

TEST_F(SynicTest, AMessageComesIntoItsSlotAndInterrupts) {
  enable();
  EXPECT_EQ(post(), HV_STATUS_SUCCESS);
  EXPECT_EQ(slot().type, abi::SynicMessageType::VmbusChannel);
  EXPECT_EQ(slot().payload[7], 0x5a);
  EXPECT_EQ(slot().flags, 0) << "the parent's flags are not the guest's business";
  run();
  EXPECT_TRUE(interrupted(0, kVector));
}

TEST_F(SynicTest, AHaltedProcessorIsWokenForAMessage) {
  enable();
  execute(0, ExitReason::Halt, [](auto&) {});
  EXPECT_EQ(last_.state, HV_DISPATCH_STATE_BLOCKED);
  EXPECT_EQ(post(), HV_STATUS_SUCCESS);
  EXPECT_EQ(root_.output<std::uint64_t>(), 1u);
  EXPECT_EQ(signal(3), HV_STATUS_SUCCESS);
  EXPECT_EQ(root_.output<hv_signal_event_direct_output>().wake_set, 0u) << "woken only once";
}

TEST_F(SynicTest, AFullSlotSaysSoAndTheParentHearsWhenItIsFree) {
  enable();
  ASSERT_EQ(post(), HV_STATUS_SUCCESS);
  EXPECT_EQ(post(0, 2), HV_STATUS_INSUFFICIENT_BUFFERS);
  EXPECT_EQ(slot().flags, abi::kMessagePending);
  EXPECT_EQ(slot().type, abi::SynicMessageType::VmbusChannel) << "the first one stays";
  run();
  EXPECT_NE(last_.event, HV_DISPATCH_EVENT_INTERCEPT);
  take_message();
  EXPECT_TRUE(write_msr(0, abi::kMsrEom, 0));
  EXPECT_TRUE(told_of_slot());
  run();
  EXPECT_NE(last_.event, HV_DISPATCH_EVENT_INTERCEPT) << "told once";
  EXPECT_EQ(post(0, 2), HV_STATUS_SUCCESS);
  EXPECT_EQ(slot().flags, 0);
  take_message();
  EXPECT_TRUE(write_msr(0, abi::kMsrEom, 0));
  EXPECT_NE(last_.event, HV_DISPATCH_EVENT_INTERCEPT) << "nobody waits any more";
}

TEST_F(SynicTest, WithTheSynicOffAMessageWaitsForItsBeingSwitchedOn) {
  EXPECT_EQ(post(), HV_STATUS_INVALID_SYNIC_STATE);
  EXPECT_EQ(signal(1), HV_STATUS_INVALID_SYNIC_STATE);
  EXPECT_TRUE(write_msr(0, abi::kMsrSimp, kMessages | 1));
  EXPECT_EQ(post(), HV_STATUS_INVALID_SYNIC_STATE);
  EXPECT_TRUE(write_msr(0, abi::kMsrScontrol, 1));
  EXPECT_TRUE(told_of_slot());
  EXPECT_EQ(post(), HV_STATUS_SUCCESS);
}

TEST_F(SynicTest, AMaskedOrPolledSintGetsItsMessageWithoutAnInterrupt) {
  for (const std::uint64_t sint : {0x100f3ull, 0x400f3ull}) {
    enable(0, sint);
    EXPECT_EQ(post(), HV_STATUS_SUCCESS);
    run();
    EXPECT_TRUE(hardware().delivered.empty());
    EXPECT_EQ(slot().type, abi::SynicMessageType::VmbusChannel);
    take_message();
  }
}

TEST_F(SynicTest, AnEventIsAFlagAndInterruptsOnlyOnce) {
  enable();
  EXPECT_EQ(signal(0x123), HV_STATUS_SUCCESS);
  EXPECT_TRUE(newly_signaled());
  EXPECT_EQ(read<std::uint8_t>(kFlags + kSint * 256 + 0x24), 8);
  run();
  EXPECT_TRUE(interrupted(0, kVector));
  EXPECT_EQ(signal(0x123), HV_STATUS_SUCCESS);
  EXPECT_FALSE(newly_signaled());
}

TEST_F(SynicTest, AutoEoiEndsTheInterruptWithItsDelivery) {
  enable(0, kVector | abi::kSintAutoEoi);
  for (int round = 0; round < 2; ++round) {
    EXPECT_EQ(signal(static_cast<std::uint16_t>(round)), HV_STATUS_SUCCESS);
    run();
    EXPECT_TRUE(interrupted(0, kVector)) << "round " << round;
  }
  EXPECT_TRUE(write_msr(0, abi::kMsrSint0 + kSint, kVector));
  EXPECT_EQ(signal(7), HV_STATUS_SUCCESS);
  run();
  EXPECT_TRUE(interrupted(0, kVector));
  EXPECT_EQ(signal(8), HV_STATUS_SUCCESS);
  run();
  EXPECT_FALSE(interrupted(0, kVector)) << "still in service";
  EXPECT_TRUE(write_msr(0, 0x80b, 0));
  EXPECT_TRUE(interrupted(0, kVector));
}

TEST_F(SynicTest, AnApicThatIsOffLosesTheInterruptNotTheMessage) {
  enable();
  EXPECT_TRUE(write_msr(0, 0x80f, 0xff));
  EXPECT_EQ(post(), HV_STATUS_SUCCESS);
  EXPECT_TRUE(write_msr(0, 0x80f, 0x1ff));
  run();
  EXPECT_TRUE(hardware().delivered.empty());
}

TEST_F(SynicTest, WhatWasInAPageBeforeIsNoMessage) {
  std::memset(memory(kMessages), 0xff, 2 * kPageSize);
  enable();
  EXPECT_EQ(slot().type, abi::SynicMessageType::None);
  EXPECT_EQ(read<std::uint64_t>(kFlags), 0u);
  EXPECT_EQ(post(), HV_STATUS_SUCCESS);
  enable();
  EXPECT_EQ(slot().type, abi::SynicMessageType::VmbusChannel) << "writing the same again changes nothing";
}

TEST_F(SynicTest, PagesWhereThereIsNoMemoryAreAcceptedAndHoldNothing) {
  enable();
  constexpr std::uint64_t kReadOnly = 0x80000;
  constexpr std::uint64_t kPlaces[] = {kMemorySize, kReadOnly, 0xfee00000, 0xffff'ffff'ffff'f000};
  root_.map(id_, kReadOnly / kPageSize, fake::kGuestPage + 64, 1, HV_MAP_GPA_READABLE);
  for (const std::uint64_t place : kPlaces) {
    EXPECT_TRUE(write_msr(0, abi::kMsrSimp, place | 1));
    EXPECT_TRUE(write_msr(0, abi::kMsrSiefp, place | 1));
    EXPECT_EQ(post(), HV_STATUS_INVALID_SYNIC_STATE);
    EXPECT_EQ(signal(1), HV_STATUS_INVALID_SYNIC_STATE);
  }
  // And memory that goes away under the page.
  enable();
  ASSERT_EQ(root_.unmap(id_, kMessages / kPageSize, 1).status, HV_STATUS_SUCCESS);
  EXPECT_EQ(post(), HV_STATUS_INVALID_SYNIC_STATE);
  run();
  EXPECT_NE(last_.event, HV_DISPATCH_EVENT_INTERCEPT);
}

TEST_F(SynicTest, WrongTargetsAreRefused) {
  enable();
  EXPECT_EQ(post(2), HV_STATUS_INVALID_VP_INDEX);
  EXPECT_EQ(post(~0u), HV_STATUS_INVALID_VP_INDEX);
  EXPECT_EQ(post(0, 0), HV_STATUS_INVALID_PARAMETER) << "type 0 is a free slot";
  EXPECT_EQ(post(0, 1, 16), HV_STATUS_INVALID_PARAMETER);
  EXPECT_EQ(signal(2048), HV_STATUS_INVALID_PARAMETER);
  EXPECT_EQ(signal(1, 0, 16), HV_STATUS_INVALID_PARAMETER);
  EXPECT_EQ(signal(1, 64), HV_STATUS_INVALID_VP_INDEX);
}

TEST_F(SynicTest, WithoutAParentThatListensAChildSendsNothing) {
  EXPECT_EQ(hypercall(0, HV_CALL_POST_MESSAGE, kInput), HV_STATUS_ACCESS_DENIED);
  EXPECT_EQ(hypercall(0, HV_CALL_SIGNAL_EVENT | HV_HYPERCALL_FAST, 1), HV_STATUS_ACCESS_DENIED);
}

TEST_F(SynicTest, AChildsCallsReachItsParent) {
  install(HV_INTERCEPT_TYPE_UNKNOWN_SYNIC_CONNECTION);
  const std::uint64_t rip = hardware().rip;
  hypercall(0, HV_CALL_POST_MESSAGE, kInput);
  EXPECT_EQ(last_.event, HV_DISPATCH_EVENT_INTERCEPT);
  EXPECT_EQ(message().header.type, abi::MessageType::HypercallIntercept);
  EXPECT_EQ(message().hypercall.rcx, HV_CALL_POST_MESSAGE);
  EXPECT_EQ(message().hypercall.rdx, kInput);
  EXPECT_EQ(hardware().rip, rip) << "the parent completes it";
  hypercall(0, HV_CALL_SIGNAL_EVENT | HV_HYPERCALL_FAST, 0x2001);
  EXPECT_EQ(message().hypercall.rdx, 0x2001u);
  hypercall(0, HV_CALL_SIGNAL_EVENT, kMemorySize - 8);
  EXPECT_EQ(last_.event, HV_DISPATCH_EVENT_INTERCEPT);
}

TEST_F(SynicTest, CallsThatCannotBeAreRefusedAtOnce) {
  install(HV_INTERCEPT_TYPE_UNKNOWN_SYNIC_CONNECTION);
  EXPECT_EQ(hypercall(0, HV_CALL_POST_MESSAGE | HV_HYPERCALL_FAST, kInput), HV_STATUS_INVALID_HYPERCALL_INPUT);
  EXPECT_EQ(hypercall(0, HV_CALL_POST_MESSAGE | 1ull << 32, kInput), HV_STATUS_INVALID_HYPERCALL_INPUT);
  EXPECT_EQ(hypercall(0, HV_CALL_SIGNAL_EVENT | 1ull << 17, kInput), HV_STATUS_INVALID_HYPERCALL_INPUT);
  EXPECT_EQ(hypercall(0, HV_CALL_POST_MESSAGE, kInput + 4), HV_STATUS_INVALID_ALIGNMENT);
  EXPECT_EQ(hypercall(0, HV_CALL_POST_MESSAGE, kInput + 0xf08), HV_STATUS_INVALID_ALIGNMENT) << "crosses a page";
  EXPECT_EQ(hypercall(0, HV_CALL_POST_MESSAGE, kMemorySize), HV_STATUS_INVALID_ALIGNMENT);
  EXPECT_EQ(hypercall(0, HV_CALL_SIGNAL_EVENT, ~7ull), HV_STATUS_INVALID_ALIGNMENT);
}

TEST_F(SynicTest, PrivilegesTellWhatWorks) {
  const auto privileges = [&] {
    root_.call(HV_CALL_GET_PARTITION_PROPERTY, hv_partition_property{id_, HV_PARTITION_PROPERTY_PRIVILEGE_FLAGS, 0, 0});
    return root_.output<std::uint64_t>() >> 32;
  };
  EXPECT_EQ(privileges(), 0u);
  install(HV_INTERCEPT_TYPE_UNKNOWN_SYNIC_CONNECTION);
  EXPECT_EQ(privileges(), 1u << 4 | 1u << 5);
  install(HV_INTERCEPT_TYPE_UNKNOWN_SYNIC_CONNECTION, 0);
  EXPECT_EQ(privileges(), 0u);
}

}  // namespace
}  // namespace bulkhead::hypervisor
