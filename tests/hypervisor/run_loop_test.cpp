// SPDX-License-Identifier: Apache-2.0
//
// A virtual processor from dispatch to the end of the dispatch, with a processor that does what the test says.
#include <gtest/gtest.h>

#include <thread>

#include "abi/intercept_message.hpp"
#include "abi/register_page.hpp"
#include "hypervisor/vp/guest_interface.hpp"
#include "tests/hypervisor/fake_machine.hpp"

namespace bulkhead::hypervisor {
namespace {

using abi::RegisterName;
using fake::FakeVpHardware;
using fake::kDepositPage;
using fake::kGuestPage;
using fake::kStatePage;

constexpr std::uint32_t kAllAccess = HV_INTERCEPT_ACCESS_READ | HV_INTERCEPT_ACCESS_WRITE;
constexpr std::uint64_t kInterruptFlag = 1 << 9;

class RunLoopTest : public testing::Test {
 protected:
  RunLoopTest() {
    id_ = root_.create_partition();
    root_.deposit(id_, kDepositPage, 200);
    root_.call(HV_CALL_INITIALIZE_PARTITION, hv_partition_id{id_});
    root_.map(id_, 0, kGuestPage, 64);
  }

  void create_vps(std::uint32_t count) {
    for (std::uint32_t index = 0; index < count; ++index) {
      hv_create_vp input{};
      input.partition_id = id_;
      input.vp_index = index;
      ASSERT_EQ(root_.call(HV_CALL_CREATE_VP, input).status, HV_STATUS_SUCCESS);
      for (const std::uint16_t type : {HV_VP_STATE_PAGE_REGISTERS, HV_VP_STATE_PAGE_INTERCEPT_MESSAGE}) {
        const hv_vp_state_page page{
            id_, index, type, 0, HV_VP_STATE_PAGE_LOCATION_GIVEN, kStatePage + index * 2 + type};
        ASSERT_EQ(root_.call(HV_CALL_MAP_VP_STATE_PAGE, page).status, HV_STATUS_SUCCESS);
      }
      root_.set_register(id_, index, RegisterName::ExplicitSuspend, 0);
    }
  }
  FakeVpHardware& hardware(std::uint32_t index = 0) { return *machine_.created[index]; }
  const abi::InterceptMessage& message(std::uint32_t index = 0) {
    return *reinterpret_cast<abi::InterceptMessage*>(machine_.at((kStatePage + index * 2 + 1) * kPageSize));
  }
  abi::RegisterPage& register_page(std::uint32_t index = 0) {
    return *reinterpret_cast<abi::RegisterPage*>(machine_.at((kStatePage + index * 2) * kPageSize));
  }
  void install(std::uint32_t type, std::uint32_t access, std::uint64_t parameter) {
    ASSERT_EQ(root_.call(HV_CALL_INSTALL_INTERCEPT, hv_install_intercept{id_, access, type, parameter}).status,
              HV_STATUS_SUCCESS);
  }
  /// Puts the VP into flat 64-bit mode without paging tables to walk: code at guest physical `rip`.
  void put_code(std::uint32_t index, std::uint64_t rip, std::vector<std::uint8_t> bytes) {
    std::memcpy(machine_.at(kGuestPage * kPageSize + rip), bytes.data(), bytes.size());
    FakeVpHardware& processor = hardware(index);
    processor.execution_mode.cr0 = 1;  // protected, unpaged
    processor.execution_mode.cs = {.base = 0, .limit = ~0u, .selector = 8, .attributes = 0xc09b};
    processor.rip = rip;
  }
  std::uint64_t assert_interrupt(std::uint32_t type, std::uint32_t vector, std::uint64_t destination,
                                 std::uint32_t flags = 0) {
    EXPECT_EQ(root_
                  .call(HV_CALL_ASSERT_VIRTUAL_INTERRUPT,
                        hv_assert_virtual_interrupt{id_, type, flags, destination, vector, 0, {}})
                  .status,
              HV_STATUS_SUCCESS);
    return root_.output<std::uint64_t>();
  }
  void enable_apic(std::uint32_t index, std::uint32_t spurious = 0x1ff) {
    write_msr(index, 0x1b, 0xfee00c00 | (index == 0 ? 0x100u : 0u));
    write_msr(index, 0x80f, spurious);
  }
  /// The guest executes one WRMSR.
  hv_dispatch_vp_output write_msr(std::uint32_t index, std::uint32_t msr, std::uint64_t value) {
    FakeVpHardware& processor = hardware(index);
    Exit exit{};
    exit.reason = ExitReason::WriteMsr;
    exit.next_rip = processor.rip + 2;
    processor.then(exit, [=](FakeVpHardware& guest) {
      guest.general[0] = static_cast<std::uint32_t>(value);
      guest.general[1] = msr;
      guest.general[2] = value >> 32;
    });
    return root_.dispatch(id_, index);
  }
  std::uint64_t read_msr(std::uint32_t index, std::uint32_t msr) {
    FakeVpHardware& processor = hardware(index);
    Exit exit{};
    exit.reason = ExitReason::ReadMsr;
    exit.next_rip = processor.rip + 2;
    processor.then(exit, [=](FakeVpHardware& guest) { guest.general[1] = msr; });
    root_.dispatch(id_, index);
    return processor.general[2] << 32 | processor.general[0];
  }
  bool last_was_fault(std::uint32_t index = 0, std::uint8_t vector = 13) {
    const auto& delivered = hardware(index).delivered;
    return !delivered.empty() && delivered.back().type == Event::Type::Exception && delivered.back().vector == vector;
  }
  void halt(std::uint32_t index, bool interrupts = true) {
    FakeVpHardware& processor = hardware(index);
    Exit exit{};
    exit.reason = ExitReason::Halt;
    exit.next_rip = processor.rip + 1;
    processor.then(exit, [=](FakeVpHardware& guest) {
      guest.rflags = interrupts ? guest.rflags | kInterruptFlag : guest.rflags & ~kInterruptFlag;
    });
  }

  fake::Machine machine_;
  fake::Root root_{machine_};
  std::uint64_t id_;
};

TEST_F(RunLoopTest, ANewVpIsSuspended) {
  hv_create_vp input{};
  input.partition_id = id_;
  root_.call(HV_CALL_CREATE_VP, input);
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
  Exit exit{};
  exit.reason = ExitReason::Port;
  exit.port = {.port = 0x3f8, .size = 1, .write = true, .string = false, .rep = false};
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
  Exit exit{};
  exit.reason = ExitReason::Port;
  exit.port = {.port = 0x60, .size = 1, .write = false, .string = false, .rep = false};
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
  Exit exit{};
  exit.reason = ExitReason::Port;
  exit.port = {.port = 0x80, .size = 2, .write = false, .string = false, .rep = false};
  exit.next_rip = 0x1001;
  hardware().then(exit, [](FakeVpHardware& guest) { guest.general[0] = 0x12340000; });
  EXPECT_EQ(root_.dispatch(id_, 0).event, HV_DISPATCH_EVENT_NONE);
  EXPECT_EQ(hardware().general[0], 0x1234ffffu);
  EXPECT_EQ(hardware().rip, 0x1001u);
}

TEST_F(RunLoopTest, ValuesThatNoProcessorHasAreReported) {
  create_vps(1);
  install(HV_INTERCEPT_TYPE_IO_PORT, kAllAccess, 0x80);
  Exit exit{};
  exit.reason = ExitReason::Port;
  exit.port = {.port = 0x80, .size = 1, .write = true, .string = false, .rep = false};
  hardware().then(exit);
  root_.dispatch(id_, 0);
  register_page().rip = 0x8000'0000'0000'0000;
  register_page().dirty = abi::kDirtyInstructionPointer;
  const int entries = hardware().entries;
  EXPECT_EQ(root_.dispatch(id_, 0, HV_DISPATCH_CLEAR_INTERCEPT_SUSPEND).event, HV_DISPATCH_EVENT_INTERCEPT);
  EXPECT_EQ(message().header.type, abi::MessageType::InvalidVpRegister);
  EXPECT_EQ(hardware().entries, entries);
}

TEST_F(RunLoopTest, UnmappedMemoryGoesToTheParent) {
  create_vps(1);
  Exit exit{};
  exit.reason = ExitReason::NestedPageFault;
  exit.memory = {.gpa = 0xfec00010,
                 .write = true,
                 .fetch = false,
                 .during_walk = false,
                 .instruction_byte_count = 0,
                 .instruction_bytes = {}};
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

TEST_F(RunLoopTest, TheApicPageIsEmulated) {
  create_vps(1);
  const auto access = [&](std::vector<std::uint8_t> code, std::uint32_t offset, bool write) {
    put_code(0, 0x5000, code);
    Exit exit{};
    exit.reason = ExitReason::NestedPageFault;
    exit.memory = {.gpa = 0xfee00000 + offset,
                   .write = write,
                   .fetch = false,
                   .during_walk = false,
                   .instruction_byte_count = 0,
                   .instruction_bytes = {}};
    hardware().then(exit);
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

TEST_F(RunLoopTest, AStormOfInterruptsToAProcessorThatCannotTakeThemEndsEachDispatch) {
  create_vps(2);
  for (int i = 0; i < 100; ++i) {
    assert_interrupt(HV_INTERRUPT_TYPE_NMI, 0, 1);
    EXPECT_LE(root_.dispatch(id_, 1).wake_set, 0u);
  }
  EXPECT_EQ(hardware(1).entries, 0);
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
