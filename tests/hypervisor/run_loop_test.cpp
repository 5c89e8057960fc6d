// SPDX-License-Identifier: Apache-2.0
//
// A virtual processor from dispatch to the end of the dispatch, with a processor that does what the test says.
#include <thread>

#include "tests/hypervisor/run_loop_fixture.hpp"

namespace bulkhead::hypervisor {
namespace {

TEST_F(RunLoopTest, ANewVpIsSuspended) {
  root_.create_vp(id_, 0);
  const auto output = root_.dispatch(id_, 0);
  EXPECT_EQ(output.state, HV_DISPATCH_STATE_READY);
  EXPECT_EQ(output.event, HV_DISPATCH_EVENT_SUSPEND);
  EXPECT_EQ(hardware().entries, 0);
}

TEST_F(RunLoopTest, APhysicalInterruptEndsTheDispatch) {
  create_vps(1);
  const auto output = root_.dispatch(id_, 0);
  EXPECT_EQ(output.state, HV_DISPATCH_STATE_READY);
  EXPECT_EQ(output.event, HV_DISPATCH_EVENT_NONE);
  EXPECT_EQ(hardware().entries, 1);
  EXPECT_EQ(hardware().loads, 1);
  EXPECT_EQ(hardware().unloads, 1);
}

TEST_F(RunLoopTest, AChildThatExitsWithoutEndDoesNotKeepTheRootFromItsInterrupts) {
  create_vps(1);
  Exit fault{};
  fault.reason = ExitReason::Exception;
  fault.exception = {.vector = 17, .has_error_code = true, .error_code = 0, .parameter = 0};
  for (int i = 0; i < 100'000; ++i) hardware().then(fault);
  const auto output = root_.dispatch(id_, 0);
  EXPECT_EQ(output.state, HV_DISPATCH_STATE_READY);
  EXPECT_EQ(output.event, HV_DISPATCH_EVENT_NONE);
  EXPECT_LT(hardware().entries, 10'000);
  const int entries = hardware().entries;
  root_.dispatch(id_, 0);
  EXPECT_GT(hardware().entries, entries) << "and it goes on";
  EXPECT_EQ(hardware().delivered.back().vector, 17) << "with what it was about to take";
}

TEST_F(RunLoopTest, OthersWaitForSipiWithoutEntering) {
  create_vps(2);
  EXPECT_EQ(root_.dispatch(id_, 1).state, HV_DISPATCH_STATE_BLOCKED);
  EXPECT_EQ(hardware(1).entries, 0);
  EXPECT_EQ(hardware(1).loads, 0);
}

TEST_F(RunLoopTest, InitAndSipiStartAProcessor) {
  create_vps(2);
  root_.dispatch(id_, 1);
  enable_apic(0);
  EXPECT_EQ(write_msr(0, 0x830, 0x1'0000'4500).wake_set, 2u) << "INIT";
  EXPECT_EQ(root_.dispatch(id_, 1).state, HV_DISPATCH_STATE_BLOCKED);
  EXPECT_EQ(write_msr(0, 0x830, 0x1'0000'4608).wake_set, 2u) << "SIPI";
  EXPECT_EQ(write_msr(0, 0x830, 0x1'0000'4609).wake_set, 0u) << "a second one finds it awake";
  EXPECT_EQ(root_.dispatch(id_, 1).state, HV_DISPATCH_STATE_READY);
  EXPECT_EQ(hardware(1).entries, 1);
  EXPECT_EQ(hardware(1).rip, 0u);
  EXPECT_EQ(hardware(1).execution_mode.cs.base, 0x9000u) << "of two that came before it looked, the last one counts";
  write_msr(0, 0x830, 0x1'0000'460a);
  root_.dispatch(id_, 1);
  EXPECT_EQ(hardware(1).execution_mode.cs.base, 0x9000u) << "a running processor ignores SIPI";
}

TEST_F(RunLoopTest, ExitsAndInterruptsOfChildrenAreCounted) {
  const auto information = [this] {
    EXPECT_EQ(root_.raw(HV_CALL_BULKHEAD_INFORMATION, 0, fake::Root::kOutputPage).status, HV_STATUS_SUCCESS);
    return root_.output<hv_bulkhead_information>();
  };
  create_vps(2);
  EXPECT_EQ(information().exits, 0u);
  enable_apic(0);
  write_msr(0, 0x830, 0x1'0000'4500);
  root_.dispatch(id_, 1);
  write_msr(0, 0x830, 0x1'0000'4609);
  root_.dispatch(id_, 1);
  EXPECT_EQ(hardware(1).entries, 1);
  EXPECT_EQ(information().exits, static_cast<unsigned>(hardware(0).entries) + 1) << "those of all VPs";
  EXPECT_EQ(information().interrupts, 0u);
  halt(0);
  root_.dispatch(id_, 0);
  assert_interrupt(0, 0x41, 0);
  root_.dispatch(id_, 0);
  EXPECT_EQ(information().interrupts, 1u);
  EXPECT_EQ(information().exits, static_cast<unsigned>(hardware(0).entries) + 1);
}

TEST_F(RunLoopTest, ValuesThatNoProcessorHasAreReported) {
  create_vps(1);
  install(HV_INTERCEPT_TYPE_IO_PORT, kAllAccess, 0x80);
  hardware().then(port_exit(0x80, 1, true));
  root_.dispatch(id_, 0);
  register_page().rip = 0x8000'0000'0000'0000;
  register_page().dirty = abi::kDirtyInstructionPointer;
  const int entries = hardware().entries;
  EXPECT_EQ(root_.dispatch(id_, 0, HV_DISPATCH_CLEAR_INTERCEPT_SUSPEND).event, HV_DISPATCH_EVENT_INTERCEPT);
  EXPECT_EQ(message().header.type, abi::MessageType::InvalidVpRegister);
  EXPECT_EQ(hardware().entries, entries);
}

TEST_F(RunLoopTest, AVpBelongsToOneDispatcherAtATime) {
  create_vps(1);
  hardware().then(ExitReason::Kick, [&](FakeVpHardware&) {
    // Another processor of the root, while the VP runs here.
    fake::this_lp = 1;
    hv_dispatch_vp input{};
    input.partition_id = id_;
    EXPECT_EQ(root_.call(HV_CALL_DISPATCH_VP, input).status, HV_STATUS_INVALID_VP_STATE);
    EXPECT_EQ(root_.set_register(id_, 0, RegisterName::Rip, 0).status, HV_STATUS_INVALID_VP_STATE);
    EXPECT_EQ(root_.call(HV_CALL_DELETE_VP, hv_delete_vp{id_, 0, 0}).status, HV_STATUS_OBJECT_IN_USE);
    EXPECT_EQ(root_.call(HV_CALL_FINALIZE_PARTITION, hv_partition_id{id_}).status, HV_STATUS_OBJECT_IN_USE);
    EXPECT_EQ(root_.call(HV_CALL_DELETE_PARTITION, hv_partition_id{id_}).status, HV_STATUS_OBJECT_IN_USE);
    EXPECT_EQ(root_.call(HV_CALL_INSTALL_INTERCEPT, hv_install_intercept{id_, 3, 0, 0x80}).status,
              HV_STATUS_INVALID_PARTITION_STATE);
    EXPECT_EQ(assert_interrupt(HV_INTERRUPT_TYPE_NMI, 0, 0), 0u) << "nobody has to be woken";
    EXPECT_EQ(machine_.kicks, std::vector<std::uint32_t>{0}) << "but the processor that runs it has to look";
    fake::this_lp = 0;
  });
  hv_dispatch_vp input{};
  input.partition_id = id_;
  input.timer_armed = ~0ull;
  EXPECT_EQ(root_.call(HV_CALL_DISPATCH_VP, input).status, HV_STATUS_SUCCESS);
  EXPECT_EQ(hardware().delivered.size(), 1u) << "the NMI arrives at the next entry";
}

TEST_F(RunLoopTest, UnmappingWaitsUntilNoProcessorUsesThePage) {
  create_vps(1);
  std::atomic<bool> in_guest{false}, kicked{false}, unmapped{false};
  machine_.on_kick = [&](std::uint32_t) { kicked = true; };
  hardware().then(ExitReason::Kick, [&](FakeVpHardware&) {
    in_guest = true;
    while (!kicked) std::this_thread::yield();
    EXPECT_FALSE(unmapped) << "the guest could still use it";
  });
  std::thread other([&] {
    fake::this_lp = 1;
    while (!in_guest) std::this_thread::yield();
    root::HypercallRegisters registers{
        .rax = 0, .rcx = HV_CALL_UNMAP_GPA_PAGES | 1ull << 32, .rdx = 0x210000, .r8 = 0, .again = false};
    machine_.write(0x210000, hv_unmap_gpa_pages{id_, 3, 0, 0});
    root::hypercall(registers);
    unmapped = true;
    EXPECT_EQ(registers.rax & 0xffff, HV_STATUS_SUCCESS);
  });
  const int flushes = hardware().flushes;
  root_.dispatch(id_, 0);
  other.join();
  EXPECT_GT(hardware().flushes, flushes);
}

TEST_F(RunLoopTest, RegistersByName) {
  create_vps(2);
  const std::pair<RegisterName, std::uint64_t> plain[] = {{RegisterName::Rax, 1},
                                                          {RegisterName::R15, ~0ull},
                                                          {RegisterName::Rip, 0x7fff'ffff'f000},
                                                          {RegisterName::Rflags, 0x202},
                                                          {RegisterName::Cr8, 7},
                                                          {RegisterName::InternalActivityState, 2},
                                                          {RegisterName::Lstar, 0xffffffff81000000}};
  for (const auto& [name, value] : plain) {
    EXPECT_EQ(root_.set_register(id_, 0, name, value).status, HV_STATUS_SUCCESS);
    EXPECT_EQ(root_.get_register(id_, 0, name), value);
  }
  const std::pair<RegisterName, std::uint64_t> wrong[] = {{RegisterName::Rip, 0x8000'0000'0000},
                                                          {RegisterName::Rflags, 8},
                                                          {RegisterName::Cr8, 16},
                                                          {RegisterName::ApicBase, 0x1000},
                                                          {RegisterName::PendingInterruption, 1 | 3 << 1 | 40 << 16},
                                                          {RegisterName::InterruptState, 4},
                                                          {RegisterName::VpIndex, 9}};
  for (const auto& [name, value] : wrong) {
    EXPECT_EQ(root_.set_register(id_, 0, name, value).status, HV_STATUS_INVALID_REGISTER_VALUE)
        << std::hex << static_cast<std::uint32_t>(name);
  }
  EXPECT_EQ(root_.set_register(id_, 0, static_cast<RegisterName>(0xdead), 0).status, HV_STATUS_UNKNOWN_REGISTER_NAME);
  EXPECT_EQ(root_.get_register(id_, 1, RegisterName::InternalActivityState), 1u) << "waits for SIPI";
  EXPECT_EQ(root_.get_register(id_, 1, RegisterName::InitialApicId), 1u);
}

}  // namespace
}  // namespace bulkhead::hypervisor
