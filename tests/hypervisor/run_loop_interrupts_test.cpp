// SPDX-License-Identifier: Apache-2.0
//
// Interrupts and timers of a virtual processor that is dispatched.
#include "tests/hypervisor/run_loop_fixture.hpp"

namespace bulkhead::hypervisor {
namespace {

TEST_F(RunLoopTest, TheApicPageIsEmulated) {
  create_vps(1);
  const auto access = [&](std::vector<std::uint8_t> code, std::uint32_t offset, bool write) {
    put_code(0, 0x5000, code);
    hardware().then(page_fault(0xfee00000 + offset, write));
    return root_.dispatch(id_, 0);
  };
  hardware().general[0] = 0x1ff;
  EXPECT_EQ(access({0x89, 0x07}, 0xf0, true).event, HV_DISPATCH_EVENT_NONE);  // mov %eax, (%edi)
  EXPECT_EQ(hardware().rip, 0x5002u);
  access({0x8b, 0x0f}, 0xf0, false);  // mov (%edi), %ecx
  EXPECT_EQ(hardware().general[1], 0x1ffu);
  access({0x80, 0x0f, 0x01}, 0xf0, true);                    // orb: of no effect
  access({0x81, 0x27, 0xff, 0xfe, 0xff, 0xff}, 0xf0, true);  // andl $~0x100, (%edi)
  access({0x8b, 0x0f}, 0xf0, false);
  EXPECT_EQ(hardware().general[1], 0xffu);
  hardware().general[0] = 0x50;
  access({0x89, 0x07}, 0x80, true);
  EXPECT_EQ(hardware().cr8, 5) << "the task priority register is CR8";
  // What the decoder does not know goes to the parent.
  EXPECT_EQ(access({0xff, 0x37}, 0xf0, false).event, HV_DISPATCH_EVENT_INTERCEPT);  // push (%edi)
}

TEST_F(RunLoopTest, AnInterruptWakesAHaltedProcessor) {
  create_vps(1);
  enable_apic(0);
  halt(0);
  EXPECT_EQ(root_.dispatch(id_, 0).state, HV_DISPATCH_STATE_BLOCKED);
  EXPECT_EQ(assert_interrupt(HV_INTERRUPT_TYPE_FIXED, 0x41, 0), 1u);
  EXPECT_EQ(assert_interrupt(HV_INTERRUPT_TYPE_FIXED, 0x42, 0), 0u) << "woken already";
  EXPECT_EQ(root_.dispatch(id_, 0).state, HV_DISPATCH_STATE_READY);
  ASSERT_EQ(hardware().delivered.size(), 1u);
  EXPECT_EQ(hardware().delivered[0].vector, 0x42);
  EXPECT_EQ(hardware().window, 0u) << "the same class: 0x41 waits for EOI";
}

TEST_F(RunLoopTest, AnInterruptToAllButItsSenderNeverComesToTheSender) {
  create_vps(2);
  root_.dispatch(id_, 1);
  enable_apic(0);
  write_msr(0, 0x830, 0x1'0000'4500);
  root_.dispatch(id_, 1);
  write_msr(0, 0x830, 0x1'0000'4608);
  root_.dispatch(id_, 1);
  enable_apic(1);
  for (const std::uint32_t index : {0u, 1u}) hardware(index).rflags |= kInterruptFlag;
  constexpr std::uint64_t kFixed = 0xc0041, kLowestPriority = 0xc0151;
  for (const std::uint64_t command : {kFixed, kLowestPriority, kLowestPriority}) {
    hardware(1).delivered.clear();
    write_msr(0, 0x830, command);
    root_.dispatch(id_, 0);
    EXPECT_TRUE(hardware(0).delivered.empty()) << std::hex << command;
    write_msr(1, 0x80b, 0);  // EOI, of the one before
    root_.dispatch(id_, 1);
    ASSERT_EQ(hardware(1).delivered.size(), 1u) << std::hex << command;
    EXPECT_EQ(hardware(1).delivered[0].vector, command & 0xff);
  }
}

TEST_F(RunLoopTest, InterruptsWaitUntilTheGuestTakesThem) {
  create_vps(1);
  enable_apic(0);
  assert_interrupt(HV_INTERRUPT_TYPE_FIXED, 0x41, 0);
  root_.dispatch(id_, 0);
  EXPECT_TRUE(hardware().delivered.empty());
  EXPECT_EQ(hardware().window, 4u);
  hardware().then(ExitReason::InterruptWindow, [](FakeVpHardware& guest) { guest.rflags |= kInterruptFlag; });
  root_.dispatch(id_, 0);
  ASSERT_EQ(hardware().delivered.size(), 1u);
  EXPECT_EQ(hardware().delivered[0].vector, 0x41);
  EXPECT_EQ(hardware().window, 0u);
}

TEST_F(RunLoopTest, AnNmiIsMaskedUntilItsEnd) {
  create_vps(1);
  assert_interrupt(HV_INTERRUPT_TYPE_NMI, 0, 0);
  root_.dispatch(id_, 0);
  ASSERT_EQ(hardware().delivered.size(), 1u);
  EXPECT_EQ(hardware().delivered[0].type, Event::Type::Nmi);
  assert_interrupt(HV_INTERRUPT_TYPE_NMI, 0, 0);
  root_.dispatch(id_, 0);
  EXPECT_EQ(hardware().delivered.size(), 1u);
  EXPECT_GT(hardware().nmi_windows, 0);
  hardware().then(ExitReason::NmiWindow, [](FakeVpHardware& guest) { guest.nmi_masked = false; });
  root_.dispatch(id_, 0);
  EXPECT_EQ(hardware().delivered.size(), 2u);
}

TEST_F(RunLoopTest, TheParentHearsWhenThePicsInterruptCanBeTaken) {
  create_vps(1);
  enable_apic(0);
  root_.set_register(id_, 0, RegisterName::DeliverabilityNotifications, abi::kNotifyInterruptDeliverable);
  EXPECT_EQ(root_.dispatch(id_, 0).event, HV_DISPATCH_EVENT_NONE) << "LINT0 is masked";
  write_msr(0, 0x835, 0x700);
  EXPECT_EQ(hardware().window, 16u);
  hardware().then(ExitReason::InterruptWindow, [](FakeVpHardware& guest) { guest.rflags |= kInterruptFlag; });
  EXPECT_EQ(root_.dispatch(id_, 0).event, HV_DISPATCH_EVENT_INTERCEPT);
  EXPECT_EQ(message().header.type, abi::MessageType::InterruptionDeliverable);
  EXPECT_EQ(root_.get_register(id_, 0, RegisterName::DeliverabilityNotifications), 0u);
  root_.set_register(id_, 0, RegisterName::PendingInterruption, 1 | 0x30 << 16);
  root_.dispatch(id_, 0, HV_DISPATCH_CLEAR_INTERCEPT_SUSPEND);
  ASSERT_EQ(hardware().delivered.size(), 1u);
  EXPECT_EQ(hardware().delivered[0].vector, 0x30);
}

TEST_F(RunLoopTest, TheEndOfALevelTriggeredInterruptIsReported) {
  create_vps(1);
  enable_apic(0);
  install(HV_INTERCEPT_TYPE_APIC_EOI, HV_INTERCEPT_ACCESS_WRITE, 0);
  hardware().rflags |= kInterruptFlag;
  assert_interrupt(HV_INTERRUPT_TYPE_FIXED, 0x41, 0, HV_INTERRUPT_LEVEL_TRIGGERED);
  root_.dispatch(id_, 0);
  ASSERT_EQ(hardware().delivered.size(), 1u);
  EXPECT_EQ(write_msr(0, 0x80b, 0).event, HV_DISPATCH_EVENT_INTERCEPT);
  EXPECT_EQ(message().header.type, abi::MessageType::ApicEoi);
  EXPECT_EQ(message().eoi.vector, 0x41u);
}

TEST_F(RunLoopTest, TimersEndTheDispatchWhenTheyBecomeDueEarlier) {
  create_vps(1);
  enable_apic(0);
  write_msr(0, 0x832, 0x40041);  // TSC-deadline mode
  const std::uint64_t offset = static_cast<std::uint64_t>(hardware().tsc_offset);
  const std::uint64_t due = machine_.tsc + 10'000;

  Exit exit{};
  exit.reason = ExitReason::WriteMsr;
  exit.next_rip = 0x1002;
  const auto program = [=](FakeVpHardware& guest) {
    guest.general[1] = 0x6e0;
    guest.general[0] = static_cast<std::uint32_t>(due + offset);
    guest.general[2] = (due + offset) >> 32;
  };
  hardware().then(exit, program);
  auto output = root_.dispatch(id_, 0, 0, 0);
  EXPECT_EQ(output.state, HV_DISPATCH_STATE_READY);
  EXPECT_EQ(output.timer_deadline, due);
  const int entries = hardware().entries;
  EXPECT_EQ(root_.dispatch(id_, 0, 0, due).timer_deadline, due);
  EXPECT_EQ(hardware().entries, entries + 1) << "armed, it runs";
  EXPECT_EQ(read_msr(0, 0x6e0), due + offset);

  halt(0);
  output = root_.dispatch(id_, 0, 0, due);
  EXPECT_EQ(output.state, HV_DISPATCH_STATE_BLOCKED);
  EXPECT_EQ(output.timer_deadline, due);
  machine_.tsc = due;
  output = root_.dispatch(id_, 0, 0, due);
  EXPECT_EQ(output.state, HV_DISPATCH_STATE_READY);
  EXPECT_EQ(output.timer_deadline, 0u);
  ASSERT_EQ(hardware().delivered.size(), 1u);
  EXPECT_EQ(hardware().delivered[0].vector, 0x41);
}

TEST_F(RunLoopTest, AStormOfInterruptsToAProcessorThatCannotTakeThemEndsEachDispatch) {
  create_vps(2);
  for (int i = 0; i < 100; ++i) {
    assert_interrupt(HV_INTERRUPT_TYPE_NMI, 0, 1);
    EXPECT_LE(root_.dispatch(id_, 1).wake_set, 0u);
  }
  EXPECT_EQ(hardware(1).entries, 0);
}

}  // namespace
}  // namespace bulkhead::hypervisor
