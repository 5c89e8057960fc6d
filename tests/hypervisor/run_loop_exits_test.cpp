// SPDX-License-Identifier: Apache-2.0
//
// What the hypervisor answers of a virtual processor that is dispatched, and what goes to the parent.
#include "hypervisor/vp/guest_interface.hpp"
#include "tests/hypervisor/run_loop_fixture.hpp"

namespace bulkhead::hypervisor {
namespace {

TEST_F(RunLoopTest, CpuidIsAnsweredWithoutEndingTheDispatch) {
  create_vps(1);
  put_code(0, 0x5000, {0x0f, 0xa2});
  const auto guest = [](FakeVpHardware& processor) {
    processor.rip = 0x5000;
    processor.general[0] = 0x40000001;
  };
  hardware().then(ExitReason::Cpuid, guest);
  hardware().then(ExitReason::Cpuid, guest);
  root_.dispatch(id_, 0);
  EXPECT_EQ(hardware().entries, 3);
  EXPECT_EQ(hardware().general[0], 0x31237648u);
  EXPECT_EQ(hardware().rip, 0x5002u) << "without next-RIP saving the length comes from the instruction";
}

TEST_F(RunLoopTest, PrefixesAndPageBordersAreCounted) {
  create_vps(1);
  put_code(0, 0x5fff, {0x66, 0x0f, 0xa2});
  hardware().then(ExitReason::Cpuid);
  root_.dispatch(id_, 0);
  EXPECT_EQ(hardware().rip, 0x6002u);
}

TEST_F(RunLoopTest, AnInstructionThatIsNotThereIsExecutedAgain) {
  create_vps(1);
  put_code(0, 0x5000, {0x90, 0x90});
  hardware().then(ExitReason::Cpuid);
  root_.dispatch(id_, 0);
  EXPECT_EQ(hardware().rip, 0x5000u);
  hardware().rip = 0x10000000;  // not memory
  hardware().then(ExitReason::Cpuid);
  root_.dispatch(id_, 0);
  EXPECT_EQ(hardware().rip, 0x10000000u);
}

TEST_F(RunLoopTest, CpuidShowsAChildWhatItHas) {
  create_vps(2);
  const auto cpuid = [&](std::uint32_t index, std::uint32_t leaf, std::uint32_t subleaf = 0) {
    Exit exit{};
    exit.reason = ExitReason::Cpuid;
    exit.next_rip = 0x2000;
    hardware(index).then(exit, [=](FakeVpHardware& guest) {
      guest.general[0] = leaf;
      guest.general[1] = subleaf;
    });
    root_.dispatch(id_, index);
    const std::uint64_t* general = hardware(index).general;
    return std::array<std::uint64_t, 4>{general[0], general[3], general[1], general[2]};
  };
  const auto features = cpuid(0, 1);
  EXPECT_TRUE(features[2] >> 31 & 1) << "hypervisor";
  EXPECT_TRUE(features[2] >> 24 & 1) << "TSC deadline";
  EXPECT_FALSE(features[2] >> 5 & 1) << "VMX";
  EXPECT_FALSE(features[2] >> 3 & 1) << "MONITOR";
  EXPECT_FALSE(features[3] >> 12 & 1) << "MTRRs";
  EXPECT_EQ(features[1] >> 16 & 0xff, 2u);
  EXPECT_FALSE(cpuid(0, 0x80000001)[2] >> 2 & 1) << "SVM";
  EXPECT_EQ(cpuid(0, 0x8000000a), (std::array<std::uint64_t, 4>{}));
  EXPECT_EQ(cpuid(0, 0x40000000)[0], 0x40000006u);
  EXPECT_EQ(cpuid(0, 0x40000003)[0], 0xe7eu);
  EXPECT_EQ(cpuid(0, 0x40000003)[1], 0u);
  EXPECT_EQ(cpuid(0, 0x40000082), (std::array<std::uint64_t, 4>{}));
  EXPECT_EQ(cpuid(0, 0x21), (std::array<std::uint64_t, 4>{}));
  EXPECT_EQ(cpuid(0, 0xb, 1)[1], 2u);
  EXPECT_EQ(cpuid(0, 0x80000008)[0] & 0xff, 48u);
  EXPECT_EQ(cpuid(0, 0xd)[2], 0x340u);
}

TEST_F(RunLoopTest, RegisteredCpuidResultsReplaceTheBitsTheyName) {
  create_vps(1);
  hv_register_cpuid_result input{};
  input.partition_id = id_;
  input.vp_index = HV_VP_INDEX_ANY;
  input.intercept_type = HV_INTERCEPT_TYPE_CPUID;
  input.leaf = 0x40000000;
  input.ebx = 0xabcd0000;
  input.ebx_mask = 0xffff0000;
  ASSERT_EQ(root_.call(HV_CALL_REGISTER_INTERCEPT_RESULT, input).status, HV_STATUS_SUCCESS);
  Exit exit{};
  exit.reason = ExitReason::Cpuid;
  exit.next_rip = 0x2000;
  hardware().then(exit, [](FakeVpHardware& guest) { guest.general[0] = 0x40000000; });
  root_.dispatch(id_, 0);
  EXPECT_EQ(hardware().general[3], 0xabcd694du);
  EXPECT_EQ(hardware().general[0], 0x40000006u);
}

TEST_F(RunLoopTest, PortsGoToTheParentIfItWantsThem) {
  create_vps(1);
  install(HV_INTERCEPT_TYPE_IO_PORT_RANGE, kAllAccess, 0x3f8 | 0x3ff << 16);
  Exit exit = port_exit(0x3f8, 1, true);
  exit.next_rip = 0x1001;
  hardware().then(exit, [](FakeVpHardware& guest) {
    guest.rip = 0x1000;
    guest.general[0] = 'x';
  });
  const auto output = root_.dispatch(id_, 0);
  EXPECT_EQ(output.event, HV_DISPATCH_EVENT_INTERCEPT);
  EXPECT_EQ(message().header.type, abi::MessageType::IoPort);
  EXPECT_EQ(message().header.sender, id_);
  EXPECT_EQ(message().io_port.port, 0x3f8);
  EXPECT_EQ(message().io_port.size(), 1u);
  EXPECT_EQ(message().io_port.header.access, abi::InterceptAccess::Write);
  EXPECT_EQ(message().io_port.header.instruction_length(), 1u);
  EXPECT_EQ(message().io_port.rax, std::uint64_t{'x'});
  EXPECT_EQ(register_page().valid, 1);
  EXPECT_EQ(register_page().rip, 0x1000u);

  // Dispatching again without having handled it only repeats the answer.
  EXPECT_EQ(root_.dispatch(id_, 0).event, HV_DISPATCH_EVENT_INTERCEPT);
  EXPECT_EQ(hardware().entries, 1);

  register_page().rip = 0x1001;
  register_page().dirty = abi::kDirtyInstructionPointer;
  EXPECT_EQ(root_.dispatch(id_, 0, HV_DISPATCH_CLEAR_INTERCEPT_SUSPEND).event, HV_DISPATCH_EVENT_NONE);
  EXPECT_EQ(hardware().rip, 0x1001u);
  EXPECT_EQ(hardware().general[0], std::uint64_t{'x'});
  EXPECT_EQ(register_page().valid, 0);
}

TEST_F(RunLoopTest, AReadOfAPortGivesTheParentTheGeneralRegisters) {
  create_vps(1);
  install(HV_INTERCEPT_TYPE_IO_PORT, kAllAccess, 0x60);
  Exit exit = port_exit(0x60, 1, false);
  exit.next_rip = 0x1002;
  hardware().then(exit, [](FakeVpHardware& guest) {
    guest.rip = 0x1000;
    guest.general[0] = 0x1234;
    guest.general[15] = 15;
  });
  EXPECT_EQ(root_.dispatch(id_, 0).event, HV_DISPATCH_EVENT_INTERCEPT);
  EXPECT_EQ(register_page().general[0], 0x1234u);
  EXPECT_EQ(register_page().general[15], 15u);
  register_page().rip = 0x1002;
  register_page().general[0] = 0x12ab;
  register_page().dirty = abi::kDirtyInstructionPointer | abi::kDirtyGeneral;
  EXPECT_EQ(root_.dispatch(id_, 0, HV_DISPATCH_CLEAR_INTERCEPT_SUSPEND).event, HV_DISPATCH_EVENT_NONE);
  EXPECT_EQ(hardware().general[0], 0x12abu);
  EXPECT_EQ(hardware().general[15], 15u);
  EXPECT_EQ(hardware().rip, 0x1002u);
}

TEST_F(RunLoopTest, PortsThatNobodyWantsReadAllOnes) {
  create_vps(1);
  Exit exit = port_exit(0x80, 2, false);
  exit.next_rip = 0x1001;
  hardware().then(exit, [](FakeVpHardware& guest) { guest.general[0] = 0x12340000; });
  EXPECT_EQ(root_.dispatch(id_, 0).event, HV_DISPATCH_EVENT_NONE);
  EXPECT_EQ(hardware().general[0], 0x1234ffffu);
  EXPECT_EQ(hardware().rip, 0x1001u);
}

TEST_F(RunLoopTest, UnmappedMemoryGoesToTheParent) {
  create_vps(1);
  Exit exit = page_fault(0xfec00010, true);
  hardware().then(exit);
  EXPECT_EQ(root_.dispatch(id_, 0).event, HV_DISPATCH_EVENT_INTERCEPT);
  EXPECT_EQ(message().header.type, abi::MessageType::UnmappedGpa);
  EXPECT_EQ(message().memory.gpa, 0xfec00010u);
  EXPECT_EQ(message().memory.header.access, abi::InterceptAccess::Write);

  exit.memory.gpa = 0x3008;  // mapped
  hardware().then(exit);
  root_.dispatch(id_, 0, HV_DISPATCH_CLEAR_INTERCEPT_SUSPEND);
  EXPECT_EQ(message().header.type, abi::MessageType::GpaIntercept);
}

TEST_F(RunLoopTest, TripleFault) {
  create_vps(1);
  hardware().then(ExitReason::Shutdown);
  EXPECT_EQ(root_.dispatch(id_, 0).event, HV_DISPATCH_EVENT_INTERCEPT);
  EXPECT_EQ(message().header.type, abi::MessageType::UnrecoverableException);
}

TEST_F(RunLoopTest, Msrs) {
  create_vps(2);
  EXPECT_EQ(read_msr(1, 0x40000002), 0u) << "VP 1 does not run yet";
  EXPECT_EQ(read_msr(0, 0x40000002), 0u);
  EXPECT_EQ(read_msr(0, 0x40000022), fake::Machine::kFrequency);
  EXPECT_EQ(read_msr(0, 0x1b), 0xfee00900u);
  read_msr(0, 0x12345678);
  EXPECT_TRUE(last_was_fault());
  hardware().delivered.clear();
  write_msr(0, 0x40000020, 1);
  EXPECT_TRUE(last_was_fault()) << "the reference counter is read-only";
  hardware().delivered.clear();
  write_msr(0, 0xc0000080, 1 << 12);
  EXPECT_TRUE(last_was_fault()) << "SVM is not there";
  write_msr(0, 0x10, 5);
  EXPECT_EQ(read_msr(0, 0x10), 5u) << "time stands still in this test";
  write_msr(0, 0xc001001f, 1ull << 46);
  EXPECT_EQ(read_msr(0, 0xc001001f), 0u) << "Linux looks for a northbridge on every AMD processor, and there is none";
  write_msr(0, 0xc0000081, 0x1122334455667788);
  EXPECT_EQ(read_msr(0, 0xc0000081), 0x1122334455667788u);

  install(HV_INTERCEPT_TYPE_MSR, kAllAccess, 0);
  Exit exit{};
  exit.reason = ExitReason::ReadMsr;
  exit.next_rip = hardware().rip + 2;
  hardware().then(exit, [](FakeVpHardware& guest) { guest.general[1] = 0x12345678; });
  EXPECT_EQ(root_.dispatch(id_, 0).event, HV_DISPATCH_EVENT_INTERCEPT);
  EXPECT_EQ(message().msr.msr, 0x12345678u);
}

TEST_F(RunLoopTest, TheHypercallPageIsWrittenIntoTheGuest) {
  create_vps(1);
  write_msr(0, 0x40000001, 0x7001);
  EXPECT_EQ(read_msr(0, 0x40000001), 0x7000u) << "not enabled before the guest says who it is";
  write_msr(0, 0x40000000, 0x8100'0000'0000'0001);
  write_msr(0, 0x40000001, 0x7001);
  EXPECT_EQ(read_msr(0, 0x40000001), 0x7001u);
  const std::uint8_t expected[] = {0xf3, 0x0f, 0x1e, 0xfa, 0x0f, 0x01, 0xd9, 0xc3};
  EXPECT_EQ(std::memcmp(machine_.at(kGuestPage * kPageSize + 0x7000), expected, sizeof expected), 0);
  write_msr(0, 0x40000001, 0x10000001);
  EXPECT_TRUE(last_was_fault()) << "no memory there";
  write_msr(0, 0x40000000, 0);
  EXPECT_EQ(read_msr(0, 0x40000001), 0u);
}

TEST_F(RunLoopTest, HypercallsOfAChild) {
  create_vps(1);
  const auto call = [&](std::uint64_t rcx, std::uint8_t cpl = 0) {
    hardware().execution_mode = {.cr0 = 0x80000001,
                                 .cr3 = 0,
                                 .cr4 = 0x20,
                                 .efer = 0x500,
                                 .cs = {.base = 0, .limit = ~0u, .selector = 8, .attributes = 0xa09b},
                                 .cpl = cpl};
    Exit exit{};
    exit.reason = ExitReason::Hypercall;
    exit.next_rip = 0x1003;
    hardware().then(exit, [=](FakeVpHardware& guest) { guest.general[1] = rcx; });
    root_.dispatch(id_, 0);
    return hardware().general[0];
  };
  EXPECT_EQ(call(0x9), HV_STATUS_INVALID_HYPERCALL_CODE);
  EXPECT_EQ(call(0x4242), HV_STATUS_INVALID_HYPERCALL_CODE);
  for (const std::uint64_t code :
       {0x40, 0x41, 0x42, 0x43, 0x48, 0x49, 0x4b, 0x4e, 0x50, 0x51, 0x94, 0xc2, 0xe1, 0x7f00}) {
    EXPECT_EQ(call(code), HV_STATUS_ACCESS_DENIED) << std::hex << code;
  }
  call(0x8, 3);
  EXPECT_TRUE(last_was_fault(0, 6)) << "only the kernel calls";
}

TEST_F(RunLoopTest, SingleSteppingSurvivesAnInstructionThatWasEmulated) {
  create_vps(1);
  Exit exit{};
  exit.reason = ExitReason::Cpuid;
  exit.next_rip = 0x2002;
  hardware().then(exit, [](FakeVpHardware& guest) { guest.rflags |= 1 << 8; });
  root_.dispatch(id_, 0);
  ASSERT_EQ(hardware().delivered.size(), 1u);
  EXPECT_EQ(hardware().delivered[0].vector, 1);
}

}  // namespace
}  // namespace bulkhead::hypervisor
