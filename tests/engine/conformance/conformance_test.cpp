// SPDX-License-Identifier: Apache-2.0
//
// What every engine has in common, from the same test bodies: exits, cancellation, interrupts, registers.
#include <chrono>
#include <thread>

#include "tests/engine/conformance/conformance.hpp"

namespace bulkhead::engine {
namespace {

using abi::RegisterName;

using Conformance = EngineTest;
INSTANTIATE_TEST_SUITE_P(Engines, Conformance, every_engine(), engine_name);

TEST_P(Conformance, PortWritesCarryPortSizeAndData) {
  const auto machine = make();
  machine->start_real_mode(guests::port_write_guest());
  machine->run_to_the_end();
  ASSERT_EQ(machine->port_writes.size(), 4u);
  EXPECT_EQ(machine->words(), (Words{0x78, 0x5678, 0x12345678}));
  EXPECT_EQ(machine->port_writes[0].size, 1);
  EXPECT_EQ(machine->port_writes[1].size, 2);
  EXPECT_EQ(machine->port_writes[2].size, 4);
  EXPECT_EQ(machine->port_writes[3].port, 0x1234);
}

TEST_P(Conformance, PortReadsChangeOnlyTheirPartOfTheRegister) {
  const auto machine = make();
  machine->start_real_mode(guests::port_read_guest());
  machine->port_reads = {0x11, 0x2222, 0x33333333};
  machine->run_to_the_end();
  EXPECT_EQ(machine->words(), (Words{0xffffff11, 0xffff2222, 0x33333333}));
}

TEST_P(Conformance, StringPortInstructionsAreOneExitForEachElement) {
  const auto machine = make();
  machine->start_real_mode(guests::port_string_guest());
  const std::string_view hello = "hello";
  machine->write(0x3000, std::span(reinterpret_cast<const std::uint8_t*>(hello.data()), hello.size()));
  machine->port_reads = {0x0102, 0x0304, 0x0506};
  machine->run_to_the_end();
  EXPECT_EQ(machine->words(), (Words{'h', 'e', 'l', 'l', 'o', 0, 0x3106}));
  EXPECT_EQ(machine->read<std::uint16_t>(0x3100), 0x0102);
  EXPECT_EQ(machine->read<std::uint16_t>(0x3104), 0x0506);
}

TEST_P(Conformance, MmioReadsOfEverySizeAndExtension) {
  const auto machine = make();
  machine->start_long_mode(guests::mmio_read_guest());
  machine->mmio_read = [](const MmioExit& exit) { return 0x8888888888888880ull + (exit.address & 0xff) / 8; };
  machine->run_to_the_end();
  EXPECT_EQ(machine->read<std::uint64_t>(0x100000), 0xffffffffffffff80u);
  EXPECT_EQ(machine->read<std::uint64_t>(0x100008), 0xffffffffffff8881u);
  EXPECT_EQ(machine->read<std::uint64_t>(0x100010), 0x88888882u);
  EXPECT_EQ(machine->read<std::uint64_t>(0x100018), 0x8888888888888883u);
  EXPECT_EQ(machine->read<std::uint64_t>(0x100020), 0x84u);
  EXPECT_EQ(machine->read<std::uint64_t>(0x100028), 0xffffffffffffff85u);
  EXPECT_EQ(machine->read<std::uint64_t>(0x100030), 0xffff8886u);
  ASSERT_EQ(machine->mmio.size(), 7u);
  const std::vector<int> sizes = {1, 2, 4, 8, 1, 1, 2};
  for (std::size_t index = 0; index < sizes.size(); ++index) {
    EXPECT_EQ(machine->mmio[index].size, sizes[index]);
    EXPECT_EQ(machine->mmio[index].address, 0xd0000000 + 8 * index);
    EXPECT_FALSE(machine->mmio[index].write);
  }
}

TEST_P(Conformance, MmioWritesOfEverySize) {
  const auto machine = make();
  machine->start_long_mode(guests::mmio_write_guest());
  machine->run_to_the_end();
  const std::vector<std::uint64_t> data = {0x11, 0x22, 0x2211, 0x44332211, 0x8877665544332211, 0x01020304, ~1ull};
  ASSERT_EQ(machine->mmio.size(), data.size());
  for (std::size_t index = 0; index < data.size(); ++index) {
    EXPECT_TRUE(machine->mmio[index].write);
    EXPECT_EQ(machine->mmio[index].data, data[index]) << index;
  }
}

TEST_P(Conformance, MmioReadModifyWriteSetsFlags) {
  const auto machine = make();
  machine->start_long_mode(guests::mmio_modify_guest());
  machine->mmio_read = [](const MmioExit& exit) { return (exit.address & 0xff) == 16 ? 7 : 0xf0f00000; };
  machine->run_to_the_end();
  ASSERT_EQ(machine->mmio.size(), 5u);
  EXPECT_EQ(machine->mmio[1].data, 0xffff0f0fu);
  EXPECT_EQ(machine->read<std::uint64_t>(0x100000) & 0xc5, 0x84u);  // negative, even parity
  EXPECT_EQ(machine->mmio[3].data, 0x0f0f0f0fu);
  EXPECT_EQ(machine->read<std::uint64_t>(0x100008), 0xf0f00000u);
  EXPECT_EQ(machine->read<std::uint64_t>(0x100010) & 0xc5, 0x44u);  // equal
}

TEST_P(Conformance, MmioByStringInstructions) {
  const auto machine = make();
  machine->start_long_mode(guests::mmio_string_guest());
  for (std::uint32_t index = 0; index < 4; ++index) machine->put<std::uint32_t>(kData + 4 * index, 0x100 + index);
  machine->mmio_read = [](const MmioExit& exit) { return exit.address; };
  machine->run_to_the_end();
  ASSERT_EQ(machine->mmio.size(), 6u);
  for (std::uint32_t index = 0; index < 4; ++index) EXPECT_EQ(machine->mmio[index].data, 0x100 + index);
  EXPECT_EQ(machine->read<std::uint64_t>(0x100100), 0xd0000100u);
  EXPECT_EQ(machine->read<std::uint64_t>(0x100108), 0xd0000108u);
  EXPECT_EQ(machine->words(), (Words{0, 0x100110}));
}

TEST_P(Conformance, AnAccessHalfInMemoryIsSplit) {
  const auto machine = make();
  machine->start_long_mode(guests::mmio_straddle_guest());
  machine->put<std::uint16_t>(kMemorySize - 2, 0x1122);
  machine->mmio_read = [](const MmioExit&) { return 0x3344; };
  machine->run_to_the_end();
  ASSERT_EQ(machine->mmio.size(), 2u);
  EXPECT_EQ(machine->mmio[0].address, kMemorySize);
  EXPECT_EQ(machine->mmio[0].size, 2);
  EXPECT_EQ(machine->mmio[1].data, 0xaabbu);
  EXPECT_EQ(machine->words(), (Words{0x33441122, 0xccdd}));
}

TEST_P(Conformance, WhatIsBetweenTheRegionsOfMemoryIsDevices) {
  const GuestMemory::Range more{.base = 0x1000000, .size = 0x200000};
  auto made = GuestMachine::create(*engine_, {}, std::span(&more, 1));
  ASSERT_TRUE(made.has_value()) << made.error().message();
  const auto machine = std::move(*made);
  machine->start_long_mode(guests::memory_regions_guest());
  machine->mmio_read = [](const MmioExit&) { return 0x77; };
  machine->run_to_the_end();
  EXPECT_EQ(machine->words(), (Words{0x1234, 0x77}));
  ASSERT_EQ(machine->mmio.size(), 2u);
  EXPECT_EQ(machine->mmio[0].address, 0x800000u);
  EXPECT_EQ(machine->mmio[1].address, 0x1200000u) << "behind the end";
  EXPECT_TRUE(machine->mmio[1].write);
  EXPECT_EQ(machine->read<std::uint32_t>(0x1000000), 0x1234u);
  EXPECT_EQ(machine->read<std::uint32_t>(0x11ffffc), 0x77u);
}

TEST_P(Conformance, VectorMovesAreSplitInEights) {
  const auto machine = make();
  machine->start_long_mode(guests::vector_move_guest());
  machine->mmio_read = [](const MmioExit& exit) { return exit.address * 3; };
  machine->run_to_the_end();
  ASSERT_EQ(machine->mmio.size(), 4u);
  for (const auto& access : machine->mmio) EXPECT_EQ(access.size, 8);
  EXPECT_EQ(machine->read<std::uint64_t>(0x100000), 0xd0000000ull * 3);
  EXPECT_EQ(machine->read<std::uint64_t>(0x100008), 0xd0000008ull * 3);
  EXPECT_EQ(machine->mmio[2].data, 0xd0000000ull * 3);
  EXPECT_EQ(machine->mmio[3].address, 0xd0000018u);
}

TEST_P(Conformance, ATripleFaultIsAnExit) {
  const auto machine = make();
  machine->start_long_mode(guests::triple_fault_guest());
  const auto exit = machine->run();
  ASSERT_TRUE(exit.has_value()) << exit.error().message();
  EXPECT_TRUE(std::holds_alternative<TripleFaultExit>(*exit));
}

TEST_P(Conformance, ExecutionWithoutMemoryIsAFailure) {
  const auto machine = make();
  machine->start_real_mode(guests::halt_guest());
  RegisterAssignment code{.name = RegisterName::Cs, .value = {}};
  code.value.segment = {.base = 0xd0000000, .limit = 0xffff, .selector = 0, .attributes = 0x9b};
  ASSERT_TRUE(machine->vp().set_registers(std::span(&code, 1)).has_value());
  const auto exit = machine->run();
  ASSERT_TRUE(exit.has_value()) << exit.error().message();
  EXPECT_TRUE(std::holds_alternative<FailureExit>(*exit)) << exit->index();
}

TEST_P(Conformance, CancelEndsARunningAHaltedAndTheNextRun) {
  for (const auto code : {guests::loop_guest(), guests::halt_guest()}) {
    const auto machine = make();
    machine->start_real_mode(code);
    {
      std::jthread canceller([&] {
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
        machine->vp().cancel();
      });
      const auto exit = machine->run();
      ASSERT_TRUE(exit.has_value()) << exit.error().message();
      EXPECT_TRUE(std::holds_alternative<CancelledExit>(*exit));
    }
    machine->vp().cancel();
    const auto next = machine->run();
    ASSERT_TRUE(next.has_value()) << next.error().message();
    EXPECT_TRUE(std::holds_alternative<CancelledExit>(*next));
  }
}

TEST_P(Conformance, CancelsAreNotLostInARace) {
  const auto machine = make();
  machine->start_real_mode(guests::loop_guest());
  for (int round = 0; round < 200; ++round) {
    std::jthread canceller([&] { machine->vp().cancel(); });
    const auto exit = machine->run();
    ASSERT_TRUE(exit.has_value()) << exit.error().message();
    ASSERT_TRUE(std::holds_alternative<CancelledExit>(*exit));
  }
}

TEST_P(Conformance, WishesForAnInterruptWindowAreNotLostInARace) {
  const auto machine = make();
  machine->start_long_mode(guests::interrupts_guest());
  for (int round = 0; round < 100; ++round) {
    std::jthread requester([&] { machine->vp().request_interrupt_window(true); });
    const auto exit = machine->run();
    ASSERT_TRUE(exit.has_value()) << exit.error().message();
    ASSERT_TRUE(std::holds_alternative<InterruptWindowExit>(*exit)) << exit->index();
  }
}

TEST_P(Conformance, AnEdgeTriggeredMessageInterruptsAHaltedGuest) {
  const auto machine = make();
  machine->start_long_mode(guests::interrupts_guest());
  machine->set_gate(0x60, kCode + 64);
  machine->on_port_write = [&](const PortExit& exit) {
    if (exit.data == 0x11) machine->partition().send_interrupt(fixed(0x60));
    if (exit.data == 0x22) machine->vp().cancel();
  };
  const auto exit = machine->run();
  ASSERT_TRUE(exit.has_value()) << exit.error().message();
  EXPECT_TRUE(std::holds_alternative<CancelledExit>(*exit));
  EXPECT_EQ(machine->words(), (Words{0x11, 0x21, 0x22}));
}

TEST_P(Conformance, TheEndOfALevelTriggeredInterruptIsAnExit) {
  const auto machine = make();
  machine->start_long_mode(guests::interrupts_guest());
  machine->set_gate(0x61, kCode + 64);
  const abi::InterruptMessage message = level(0x61);
  machine->partition().set_level_messages(std::span(&message, 1));
  machine->on_port_write = [&](const PortExit& exit) {
    if (exit.data == 0x11) machine->partition().send_interrupt(message);
  };
  const auto exit = machine->run();
  ASSERT_TRUE(exit.has_value()) << exit.error().message();
  ASSERT_TRUE(std::holds_alternative<EoiExit>(*exit)) << exit->index();
  EXPECT_EQ(std::get<EoiExit>(*exit).vector, 0x61);
  EXPECT_EQ(machine->words(), (Words{0x11, 0x21}));
}

TEST_P(Conformance, AnNmiMessageInterrupts) {
  const auto machine = make();
  machine->start_long_mode(guests::interrupts_guest());
  machine->set_gate(2, kCode + 192);
  machine->on_port_write = [&](const PortExit& exit) {
    if (exit.data == 0x11) machine->partition().send_interrupt(nmi());
    if (exit.data == 0x41) machine->vp().cancel();
  };
  const auto exit = machine->run();
  ASSERT_TRUE(exit.has_value()) << exit.error().message();
  EXPECT_TRUE(std::holds_alternative<CancelledExit>(*exit));
  EXPECT_EQ(machine->words(), (Words{0x11, 0x41}));
}

TEST_P(Conformance, AnInterruptWindowOpensWhenInterruptsAreEnabled) {
  const auto machine = make();
  machine->start_long_mode(guests::window_guest());
  machine->set_gate(0x70, kCode + 128);
  machine->on_port_write = [&](const PortExit& exit) {
    if (exit.data == 0x11) machine->vp().request_interrupt_window(true);
  };
  const auto window = machine->run();
  ASSERT_TRUE(window.has_value()) << window.error().message();
  ASSERT_TRUE(std::holds_alternative<InterruptWindowExit>(*window)) << window->index();
  EXPECT_EQ(machine->words(), (Words{0x11, 0x12}));  // and not before
  ASSERT_TRUE(machine->vp().inject_external_interrupt(0x70).has_value());
  machine->run_to_the_end();
  EXPECT_EQ(machine->words(), (Words{0x11, 0x12, 0x31, 0x13}));
}

TEST_P(Conformance, AnInterruptWindowWakesAHaltedGuest) {
  const auto machine = make();
  machine->start_long_mode(guests::interrupts_guest());
  machine->set_gate(0x70, kCode + 128);
  std::jthread requester([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    machine->vp().request_interrupt_window(true);
  });
  const auto window = machine->run();
  ASSERT_TRUE(window.has_value()) << window.error().message();
  ASSERT_TRUE(std::holds_alternative<InterruptWindowExit>(*window)) << window->index();
  ASSERT_TRUE(machine->vp().inject_external_interrupt(0x70).has_value());
  machine->on_port_write = [&](const PortExit&) { machine->vp().cancel(); };
  const auto exit = machine->run();
  ASSERT_TRUE(exit.has_value()) << exit.error().message();
  EXPECT_EQ(machine->words(), (Words{0x11, 0x31}));
}

TEST_P(Conformance, TheApicTimerEndsAHalt) {
  const auto machine = make();
  machine->start_long_mode(guests::timer_guest());
  machine->set_gate(0x50, kCode + 64);
  machine->run_to_the_end();
  EXPECT_EQ(machine->words(), (Words{0x21}));
}

TEST_P(Conformance, OneProcessorStartsAnother) {
  const auto machine = make({.vp_count = 2});
  machine->start_long_mode(guests::start_second_guest());
  machine->write(kSecondCode, guests::second_guest());
  Result<Exit> second = CancelledExit{};
  {
    std::jthread runner([&] { second = machine->vp(1).run(); });
    machine->run_to_the_end();
    machine->vp(1).cancel();
  }
  ASSERT_TRUE(second.has_value()) << second.error().message();
  EXPECT_TRUE(std::holds_alternative<CancelledExit>(*second));
  EXPECT_EQ(machine->words(), (Words{0x77}));
}

TEST_P(Conformance, RegistersAreReadAsTheyWereWritten) {
  const auto machine = make();
  machine->start_long_mode(guests::halt_guest());
  std::vector<RegisterAssignment> written;
  const std::vector<RegisterName> plain = {RegisterName::Rax,        RegisterName::Rcx,   RegisterName::Rbx,
                                           RegisterName::R8,         RegisterName::R15,   RegisterName::Cr2,
                                           RegisterName::Dr0,        RegisterName::Dr3,   RegisterName::KernelGsBase,
                                           RegisterName::Star,       RegisterName::Lstar, RegisterName::Sfmask,
                                           RegisterName::SysenterEip};
  for (const auto name : plain)
    written.push_back(number_assignment(name, 0x1000 + 16 * static_cast<std::uint64_t>(name) % 4096));
  RegisterAssignment vector{.name = RegisterName::Xmm7, .value = {}};
  vector.value.raw = {.low = 0x0123456789abcdef, .high = 0xfedcba9876543210};
  written.push_back(vector);
  RegisterAssignment segment{.name = RegisterName::Fs, .value = {}};
  segment.value.segment = {.base = 0x123456789000, .limit = 0xffffffff, .selector = 0x10, .attributes = 0xc093};
  written.push_back(segment);
  const auto set = machine->vp().set_registers(written);
  ASSERT_TRUE(set.has_value()) << set.error().message();
  std::vector<RegisterAssignment> read = written;
  for (auto& assignment : read) assignment.value = {};
  const auto got = machine->vp().get_registers(read);
  ASSERT_TRUE(got.has_value()) << got.error().message();
  for (std::size_t index = 0; index < read.size(); ++index) {
    EXPECT_EQ(read[index].value.raw.low, written[index].value.raw.low)
        << std::hex << static_cast<std::uint32_t>(read[index].name);
    EXPECT_EQ(read[index].value.raw.high, written[index].value.raw.high)
        << std::hex << static_cast<std::uint32_t>(read[index].name);
  }
}

TEST_P(Conformance, RegistersAfterAnExitAreThoseBehindTheInstruction) {
  const auto machine = make();
  machine->start_real_mode(guests::port_write_guest());
  const auto exit = machine->vp().run();
  ASSERT_TRUE(exit.has_value()) << exit.error().message();
  ASSERT_TRUE(std::holds_alternative<PortExit>(*exit));
  EXPECT_EQ(register_number(machine->vp(), RegisterName::Rip), 8u);
  EXPECT_EQ(register_number(machine->vp(), RegisterName::Rax), 0x12345678u);
}

TEST_P(Conformance, ProcessorsStartInTheirResetState) {
  const auto machine = make({.vp_count = 2});
  for (std::uint32_t index = 0; index < 2; ++index) {
    VirtualProcessor& vp = machine->vp(index);
    EXPECT_EQ(register_number(vp, RegisterName::Rip), 0xfff0u);
    EXPECT_EQ(register_number(vp, RegisterName::Rflags), 2u);
    EXPECT_EQ(register_number(vp, RegisterName::Cr0), 0x60000010u);
    RegisterAssignment code{.name = RegisterName::Cs, .value = {}};
    ASSERT_TRUE(vp.get_registers(std::span(&code, 1)).has_value());
    EXPECT_EQ(code.value.segment.base, 0xffff0000u);
    EXPECT_EQ(code.value.segment.selector, 0xf000);
    EXPECT_EQ(register_number(vp, RegisterName::InternalActivityState) & 1, index);
  }
}

TEST_P(Conformance, GuestsFindTheHypervisorInterface) {
  const auto machine = make();
  machine->start_long_mode(guests::hypervisor_leaves_guest());
  machine->run_to_the_end();
  EXPECT_NE(machine->read<std::uint32_t>(0x100000) & 1u << 31, 0u);
  EXPECT_GE(machine->read<std::uint32_t>(0x100010), 0x40000006u);
  EXPECT_EQ(machine->read<std::uint32_t>(0x100020), 0x31237648u);
  // Reference counter, SynIC, timers, APIC MSRs, hypercall MSRs, VP index, reset, reference TSC, guest idle, frequency MSRs.
  const bool native = engine_->capabilities().name == "native";
  if (native || engine_->capabilities().synic) {
    EXPECT_EQ(machine->read<std::uint32_t>(0x100030), native ? 0xefeu : 0xafeu);
    // XMM input, guest idle, frequency MSRs, crash MSRs, direct timers.
    EXPECT_EQ(machine->read<std::uint32_t>(0x100034), native ? 0x80530u : 0x80510u);
  }
  EXPECT_EQ(machine->read<std::uint64_t>(0x100040), engine_->capabilities().tsc_frequency);
  EXPECT_EQ(machine->read<std::uint32_t>(0x100050), 0u);
}

TEST_P(Conformance, TheReferenceTscPageTellsTheSameTimeAsTheReferenceCounter) {
  const auto machine = make();
  machine->start_long_mode(guests::reference_tsc_guest());
  machine->run_to_the_end();
  EXPECT_EQ(machine->read<std::uint64_t>(0x100000), 0x200001u) << "reads back what was written";
  if (machine->read<std::uint32_t>(0x200000) == 0) GTEST_SKIP() << "the page is invalid: no dependable counter here";
  __extension__ using Wide = unsigned __int128;
  const Wide counter = machine->read<std::uint64_t>(0x100020);
  const auto time = static_cast<std::uint64_t>(counter * machine->read<std::uint64_t>(0x200008) >> 64) +
                    machine->read<std::uint64_t>(0x200010);
  EXPECT_GE(time + 1, machine->read<std::uint64_t>(0x100010));
  EXPECT_LE(time, machine->read<std::uint64_t>(0x100030) + 1);
}

TEST_P(Conformance, AnUnknownHypercallIsRefused) {
  const auto machine = make();
  machine->start_long_mode(guests::hypercall_guest());
  machine->run_to_the_end();
  EXPECT_EQ(machine->read<std::uint64_t>(0x100000) & 0xffff, HV_STATUS_INVALID_HYPERCALL_CODE);
}

TEST_P(Conformance, SingleStepStopsBehindAnEmulatedInstruction) {
  const auto machine = make();
  machine->start_long_mode(guests::single_step_guest());
  machine->set_gate(1, kCode + 64);
  machine->run_to_the_end();
  ASSERT_EQ(machine->words().size(), 2u);
  // MOV (%rbx),%eax is at 20, two bytes long.
  EXPECT_EQ(machine->words()[0], kCode + 22);
  EXPECT_EQ(machine->words()[1] & 0xff, 0x66u);
}

/// Hears what a guest sends.
class Listener final : public SynicListener {
 public:
  std::uint16_t message_posted(abi::ConnectionId connection, abi::SynicMessageType type,
                               std::span<const std::uint8_t> bytes) override {
    posted_to = connection;
    posted_type = type;
    payload.assign(bytes.begin(), bytes.end());
    return HV_STATUS_INSUFFICIENT_BUFFERS;
  }
  std::uint16_t event_signaled(abi::ConnectionId connection, std::uint16_t flag) override {
    signals.emplace_back(connection, flag);
    return HV_STATUS_SUCCESS;
  }
  void message_slot_freed(abi::VpIndex vp) override { on_slot_freed(vp); }

  abi::ConnectionId posted_to{};
  abi::SynicMessageType posted_type{};
  std::vector<std::uint8_t> payload;
  std::vector<std::pair<abi::ConnectionId, std::uint16_t>> signals;
  std::function<void(abi::VpIndex)> on_slot_freed = [](abi::VpIndex) {};
};

constexpr abi::Sint kSint{2};

abi::SynicMessage numbered_message(std::uint8_t number) {
  abi::SynicMessage message{};
  message.type = abi::SynicMessageType::VmbusChannel;
  message.payload_size = 4;
  message.payload[0] = number;
  return message;
}

TEST_P(Conformance, MessagesWaitForTheirSlotAndComeOneAfterTheOther) {
  if (!engine_->capabilities().synic) GTEST_SKIP() << "no SynICs here";
  const auto machine = make({.synic = true});
  Listener listener;
  Partition& partition = machine->partition();
  partition.set_synic_listener(&listener);
  machine->start_long_mode(guests::synic_guest());
  machine->set_gate(0x60, kCode + 128);
  EXPECT_EQ(partition.post_message(abi::VpIndex{0}, kSint, numbered_message(1)), SynicStatus::Busy) << "not on yet";
  bool second = false;
  machine->on_port_write = [&](const PortExit& exit) {
    if (exit.data != 0x11 || exit.size != 1) return;
    EXPECT_EQ(partition.post_message(abi::VpIndex{0}, kSint, numbered_message(1)), SynicStatus::Delivered);
    EXPECT_EQ(partition.post_message(abi::VpIndex{0}, kSint, numbered_message(2)), SynicStatus::Busy);
    listener.on_slot_freed = [&](abi::VpIndex vp) {
      EXPECT_EQ(vp, abi::VpIndex{0});
      if (!second) second = partition.post_message(vp, kSint, numbered_message(2)) == SynicStatus::Delivered;
    };
  };
  machine->run_to_the_end();
  EXPECT_EQ(machine->words(), (Words{0x11, 1, 2}));
  EXPECT_EQ(partition.post_message(abi::VpIndex{1}, kSint, numbered_message(1)), SynicStatus::Refused);
  EXPECT_EQ(partition.post_message(abi::VpIndex{0}, abi::Sint{16}, numbered_message(1)), SynicStatus::Refused);
}

TEST_P(Conformance, AnEventSetsItsFlagAndInterrupts) {
  if (!engine_->capabilities().synic) GTEST_SKIP() << "no SynICs here";
  const auto machine = make({.synic = true});
  machine->start_long_mode(guests::synic_guest());
  machine->set_gate(0x60, kCode + 128);
  machine->on_port_write = [&](const PortExit& exit) {
    if (exit.data != 0x11 || exit.size != 1) return;
    EXPECT_EQ(machine->partition().signal_event(abi::VpIndex{0}, kSint, 9), SynicStatus::Delivered);
  };
  machine->run_to_the_end();
  EXPECT_EQ(machine->words(), (Words{0x11, 1u << 9}));
  EXPECT_EQ(machine->partition().signal_event(abi::VpIndex{0}, kSint, 2048), SynicStatus::Refused);
  EXPECT_EQ(machine->partition().signal_event(abi::VpIndex{1}, kSint, 9), SynicStatus::Refused);
}

TEST_P(Conformance, WhatTheGuestSendsReachesTheListener) {
  if (!engine_->capabilities().synic) GTEST_SKIP() << "no SynICs here";
  const auto machine = make({.synic = true});
  Listener listener;
  machine->partition().set_synic_listener(&listener);
  abi::PostMessageInput input{};
  input.connection = abi::ConnectionId{4};
  input.type = abi::SynicMessageType::VmbusChannel;
  input.payload_size = 40;
  input.payload[39] = 0x77;
  machine->put(0x203000, input);
  machine->put(0x203100, abi::SignalEventInput{abi::ConnectionId{0x2002}, 0, 0});
  machine->start_long_mode(guests::synic_calls_guest());
  machine->run_to_the_end();
  EXPECT_EQ(listener.posted_to, abi::ConnectionId{4});
  EXPECT_EQ(listener.posted_type, abi::SynicMessageType::VmbusChannel);
  ASSERT_EQ(listener.payload.size(), 40u);
  EXPECT_EQ(listener.payload[39], 0x77);
  EXPECT_EQ(machine->read<std::uint64_t>(0x100000), HV_STATUS_INSUFFICIENT_BUFFERS) << "the listener's answer";
  ASSERT_EQ(listener.signals.size(), 2u);
  EXPECT_EQ(listener.signals[0], std::pair(abi::ConnectionId{0x2001}, std::uint16_t{5}));
  EXPECT_EQ(listener.signals[1], std::pair(abi::ConnectionId{0x2002}, std::uint16_t{0}));
  EXPECT_EQ(machine->read<std::uint64_t>(0x100008), 0u);
}

TEST_P(Conformance, WhatAnEngineDoesNotHaveItRefuses) {
  EXPECT_FALSE(engine_->create_partition({.vp_count = 0}).has_value());
  EXPECT_FALSE(engine_->create_partition({.vp_count = engine_->capabilities().maximum_vps + 1}).has_value());
  const auto machine = make();
  EXPECT_FALSE(machine->partition().create_vp(1).has_value());
  const auto unknown = static_cast<RegisterName>(0x7fff0000);
  RegisterAssignment assignment = number_assignment(unknown, 0);
  const auto read = machine->vp().get_registers(std::span(&assignment, 1));
  ASSERT_FALSE(read.has_value());
  EXPECT_NE(read.error().message().find("0x7fff0000"), std::string::npos) << read.error().message();
  EXPECT_FALSE(machine->vp().set_registers(std::span(&assignment, 1)).has_value());
}

TEST_P(Conformance, ReferenceTimeStandsStillWhileItIsFrozen) {
  const auto machine = make();
  const auto time = [&] { return register_number(machine->vp(), RegisterName::TimeReferenceCount); };
  const auto before = time();
  ASSERT_TRUE(machine->partition().freeze_time().has_value());
  const auto frozen = time();
  EXPECT_GE(frozen, before);
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_EQ(time(), frozen);
  ASSERT_TRUE(machine->partition().freeze_time().has_value());
  EXPECT_EQ(time(), frozen) << "freezing again changes nothing";
  ASSERT_TRUE(machine->partition().thaw_time().has_value());
  const auto thawed = time();
  EXPECT_GE(thawed, frozen);
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_GT(time(), thawed);
  EXPECT_TRUE(machine->partition().thaw_time().has_value());
}

TEST_P(Conformance, MachinesComeAndGo) {
  for (int round = 0; round < 20; ++round) {
    const auto machine = make({.vp_count = 2});
    machine->start_real_mode(guests::port_write_guest());
    machine->run_to_the_end();
  }
}

}  // namespace
}  // namespace bulkhead::engine
