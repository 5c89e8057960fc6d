// SPDX-License-Identifier: Apache-2.0
#include "engine/native/native_engine.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <thread>

#include "tests/engine/native/fake_vid.hpp"

namespace bulkhead::engine::native {
namespace {

using abi::InterceptAccess;
using abi::MessageType;
using abi::RegisterName;

constexpr std::uint64_t kCode = 0x1000;

/// A guest in 64-bit mode without paging, which no processor has, so that addresses need no tables: what is tested here
/// is the engine and not the emulator.
class NativeEngineTest : public testing::Test {
 protected:
  void SetUp() override {
    engine_ = engine_over(std::make_unique<FakeVid>(state_)).value();
    const GuestMemory::Range range{.base = 0, .size = 0x10000};
    memory_ = GuestMemory::allocate(std::span(&range, 1)).value();
    partition_ = engine_->create_partition({.vp_count = 2}).value();
    ASSERT_TRUE(partition_->map_memory(*memory_).has_value());
    vp_ = partition_->create_vp(0).value();
    state_.page.rip = kCode;
    state_.page.rflags = 2;
    state_.page.efer = 0x500;
    state_.page.segments[1].attributes = 0xa09b;
  }

  void code(std::vector<std::uint8_t> bytes) { ASSERT_TRUE(memory_->write(kCode, bytes)); }
  void port_intercept(InterceptAccess access, std::uint16_t port, std::uint8_t info, unsigned length) {
    state_.runs.push_back([=, this] {
      state_.message = {};
      state_.message.header.type = MessageType::IoPort;
      abi::IoPortIntercept& io = state_.message.io_port;
      io.header.access = access;
      io.header.instruction_length_and_cr8 = static_cast<std::uint8_t>(length);
      io.port = port;
      io.access_info = info;
      io.rax = state_.page.general[0];
      state_.page.valid = 1;
      return RunEnd::Intercept;
    });
  }
  void memory_intercept(InterceptAccess access, std::uint64_t gpa, std::uint16_t execution_state = 0) {
    state_.runs.push_back([=, this] {
      state_.message = {};
      state_.message.header.type = MessageType::UnmappedGpa;
      abi::MemoryIntercept& memory = state_.message.memory;
      memory.header.access = access;
      memory.header.execution_state = execution_state;
      memory.access_info = 2;
      memory.gpa = gpa;
      state_.page.valid = 1;
      return RunEnd::Intercept;
    });
  }
  void plain_intercept(MessageType type) {
    state_.runs.push_back([=, this] {
      state_.message = {};
      state_.message.header.type = type;
      return RunEnd::Intercept;
    });
  }
  void end_with(RunEnd end) {
    state_.runs.push_back([=] { return end; });
  }
  Exit run() {
    auto exit = vp_->run();
    EXPECT_TRUE(exit.has_value()) << exit.error().message();
    return exit ? *exit : FailureExit{"error"};
  }
  std::uint64_t register_value(RegisterName name) { return state_.registers[name].low; }

  FakeVidState state_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<GuestMemory> memory_;
  std::unique_ptr<Partition> partition_;
  std::unique_ptr<VirtualProcessor> vp_;
};

TEST_F(NativeEngineTest, CreationInitializesMapsAndInterceptsAllPortsAndEois) {
  EXPECT_TRUE(state_.initialized);
  EXPECT_EQ(state_.mapped, std::vector<std::uint64_t>{0});
  bool ports = false, eoi = false;
  for (const auto& call : state_.hypercalls) {
    if (call.code != HV_CALL_INSTALL_INTERCEPT) continue;
    hv_install_intercept intercept;
    ASSERT_EQ(call.input.size(), sizeof(intercept));
    std::memcpy(&intercept, call.input.data(), sizeof(intercept));
    ports |= intercept.intercept_type == HV_INTERCEPT_TYPE_IO_PORT_RANGE &&
             intercept.intercept_parameter == 0xffff0000 && intercept.access_mask == 3;
    eoi |= intercept.intercept_type == HV_INTERCEPT_TYPE_APIC_EOI && intercept.access_mask != 0;
  }
  EXPECT_TRUE(ports);
  EXPECT_TRUE(eoi);
  EXPECT_EQ(register_value(RegisterName::ExplicitSuspend), 0u);
  EXPECT_TRUE(state_.registers.contains(RegisterName::ExplicitSuspend));
}

TEST_F(NativeEngineTest, APortWriteMovesOnAtOnce) {
  state_.page.general[0] = 0x11223344;
  port_intercept(InterceptAccess::Write, 0x3f8, 1, 2);
  const auto port = std::get<PortExit>(run());
  EXPECT_EQ(port.port, 0x3f8);
  EXPECT_TRUE(port.write);
  EXPECT_EQ(port.data, 0x44u);
  EXPECT_EQ(state_.page.rip, kCode + 2);
  EXPECT_EQ(state_.page.dirty, abi::kDirtyInstructionPointer);
}

TEST_F(NativeEngineTest, APortReadGoesIntoItsPartOfRax) {
  const std::vector<std::pair<int, std::uint64_t>> expected = {
      {1, 0xffffffffffffff89}, {2, 0xffffffffffff6789}, {4, 0x23456789}};
  for (const auto& [size, value] : expected) {
    state_.page.general[0] = ~0ull;
    state_.page.rip = kCode;
    port_intercept(InterceptAccess::Read, 0x60, static_cast<std::uint8_t>(size), 1);
    EXPECT_FALSE(std::get<PortExit>(run()).write);
    vp_->complete_read(0x123456789);
    end_with(RunEnd::Cancelled);
    vp_->cancel();
    EXPECT_TRUE(std::holds_alternative<CancelledExit>(run()));
    EXPECT_EQ(state_.page.general[0], value);
    EXPECT_EQ(state_.page.rip, kCode + 1);
    EXPECT_EQ(state_.last_dirty, abi::kDirtyInstructionPointer | abi::kDirtyGeneral);
  }
}

TEST_F(NativeEngineTest, AddressesWrapAsWideAsTheCodeIs) {
  state_.page.efer = 0;
  state_.page.segments[1].attributes = 0x9b;
  state_.page.rip = 0xffff;
  port_intercept(InterceptAccess::Write, 0x80, 1, 2);
  run();
  EXPECT_EQ(state_.page.rip, 1u);
}

TEST_F(NativeEngineTest, AnMmioReadIsEmulated) {
  code({0x8b, 0x03});  // MOV (%rbx), %eax
  state_.page.general[0] = ~0ull;
  state_.page.general[3] = 0xd0000010;
  memory_intercept(InterceptAccess::Read, 0xd0000010);
  const auto access = std::get<MmioExit>(run());
  EXPECT_EQ(access.address, 0xd0000010u);
  EXPECT_EQ(access.size, 4);
  EXPECT_FALSE(access.write);
  vp_->complete_read(0x87654321);
  plain_intercept(MessageType::UnrecoverableException);
  EXPECT_TRUE(std::holds_alternative<TripleFaultExit>(run()));
  EXPECT_EQ(state_.page.general[0], 0x87654321u);
  EXPECT_EQ(state_.page.rip, kCode + 2);
  EXPECT_NE(state_.last_dirty & abi::kDirtyGeneral, 0u);
}

TEST_F(NativeEngineTest, AStringPortInstructionIsOneExitForEachElement) {
  code({0xf3, 0x6e});  // REP OUTSB
  state_.page.general[1] = 3;
  state_.page.general[2] = 0x3f8;
  state_.page.general[6] = 0x2000;
  ASSERT_TRUE(memory_->write(0x2000, std::vector<std::uint8_t>{'a', 'b', 'c'}));
  port_intercept(InterceptAccess::Write, 0x3f8, 1 | 8 | 16, 0);
  for (const auto letter : {'a', 'b', 'c'})
    EXPECT_EQ(std::get<PortExit>(run()).data, static_cast<std::uint32_t>(letter));
  plain_intercept(MessageType::UnrecoverableException);
  run();
  EXPECT_EQ(state_.page.general[1], 0u);
  EXPECT_EQ(state_.page.general[6], 0x2003u);
  EXPECT_EQ(state_.page.rip, kCode + 2);
}

TEST_F(NativeEngineTest, AFaultOfAnEmulatedInstructionIsInjected) {
  code({0x8b, 0x03});
  state_.page.general[3] = 0x8000000000000000;  // not canonical
  memory_intercept(InterceptAccess::Read, 0xd0000000);
  plain_intercept(MessageType::UnrecoverableException);
  EXPECT_TRUE(std::holds_alternative<TripleFaultExit>(run()));
  // Pending, an exception with error code 0, vector 13.
  EXPECT_EQ(register_value(RegisterName::PendingInterruption), 1u | 3u << 1 | 1u << 4 | 13u << 16);
  EXPECT_EQ(state_.page.rip, kCode);
}

TEST_F(NativeEngineTest, SingleStepRaisesADebugExceptionBehindTheInstruction) {
  state_.page.rflags = 0x102;
  port_intercept(InterceptAccess::Write, 0x80, 1, 2);
  run();
  EXPECT_EQ(register_value(RegisterName::PendingInterruption), 1u | 3u << 1 | 1u << 16);
  EXPECT_EQ(register_value(RegisterName::Dr6) & 0x4000, 0x4000u);
}

TEST_F(NativeEngineTest, WhatCannotBeEmulatedIsAFailureThatNamesIt) {
  code({0x0f, 0xae, 0x03});  // FXSAVE (%rbx)
  state_.page.general[3] = 0xd0000000;
  memory_intercept(InterceptAccess::Write, 0xd0000000);
  EXPECT_NE(std::get<FailureExit>(run()).why.find("0f ae 03"), std::string::npos);
}

TEST_F(NativeEngineTest, CodeAndEventsWithoutMemoryAreFailures) {
  memory_intercept(InterceptAccess::Execute, 0xd0000000);
  EXPECT_NE(std::get<FailureExit>(run()).why.find("executes"), std::string::npos);
  memory_intercept(InterceptAccess::Write, 0xd0000000, 1 << 6);
  EXPECT_NE(std::get<FailureExit>(run()).why.find("delivered"), std::string::npos);
  plain_intercept(MessageType::InvalidVpRegister);
  EXPECT_TRUE(std::holds_alternative<FailureExit>(run()));
}

TEST_F(NativeEngineTest, AnEndOfInterruptNamesItsVector) {
  state_.runs.push_back([this] {
    state_.message = {};
    state_.message.header.type = MessageType::ApicEoi;
    state_.message.eoi = {.vp_index = 0, .vector = 0x61};
    return RunEnd::Intercept;
  });
  EXPECT_EQ(std::get<EoiExit>(run()).vector, 0x61);
}

TEST_F(NativeEngineTest, AnInterruptWindowIsAskedForAndReportedOnce) {
  vp_->request_interrupt_window(true);
  EXPECT_EQ(state_.cancels, 0);  // nobody runs it
  plain_intercept(MessageType::InterruptionDeliverable);
  EXPECT_TRUE(std::holds_alternative<InterruptWindowExit>(run()));
  EXPECT_EQ(register_value(RegisterName::DeliverabilityNotifications), 2u);
  ASSERT_TRUE(vp_->inject_external_interrupt(0x30).has_value());
  ASSERT_EQ(state_.interrupts.size(), 1u);
  EXPECT_EQ(state_.interrupts[0].interrupt_type, static_cast<std::uint32_t>(HV_INTERRUPT_TYPE_EXTINT));
  EXPECT_EQ(state_.interrupts[0].vector, 0x30u);
  // A notification that nobody wants any more is not an exit.
  plain_intercept(MessageType::InterruptionDeliverable);
  plain_intercept(MessageType::UnrecoverableException);
  EXPECT_TRUE(std::holds_alternative<TripleFaultExit>(run()));
}

TEST_F(NativeEngineTest, AWishForAWindowWhileTheGuestRunsIsHeard) {
  state_.runs.push_back([this] {
    std::jthread other([this] { vp_->request_interrupt_window(true); });
    other.join();
    EXPECT_EQ(state_.cancels, 1);
    return RunEnd::Cancelled;
  });
  plain_intercept(MessageType::InterruptionDeliverable);
  EXPECT_TRUE(std::holds_alternative<InterruptWindowExit>(run()));
}

TEST_F(NativeEngineTest, MessagesBecomeInterruptRequests) {
  partition_->send_interrupt({.address = 0xfee01004, .data = 0xc161});  // to logical 1, lowest priority, level
  ASSERT_EQ(state_.interrupts.size(), 1u);
  EXPECT_EQ(state_.interrupts[0].interrupt_type, static_cast<std::uint32_t>(HV_INTERRUPT_TYPE_LOWEST_PRIORITY));
  EXPECT_EQ(state_.interrupts[0].flags, HV_INTERRUPT_LEVEL_TRIGGERED | HV_INTERRUPT_LOGICAL_DESTINATION);
  EXPECT_EQ(state_.interrupts[0].destination, 1u);
  EXPECT_EQ(state_.interrupts[0].vector, 0x61u);
}

TEST_F(NativeEngineTest, MessagesAndEventsGoDownToTheHypervisor) {
  abi::SynicMessage message{};
  message.type = abi::SynicMessageType::VmbusChannel;
  message.payload[3] = 7;
  EXPECT_EQ(partition_->post_message(abi::VpIndex{1}, abi::Sint{2}, message), SynicStatus::Delivered);
  ASSERT_EQ(state_.messages.size(), 1u);
  EXPECT_EQ(state_.messages[0].vp_index, 1u);
  EXPECT_EQ(state_.messages[0].sint, 2);
  EXPECT_EQ(state_.messages[0].message[16 + 3], 7);
  state_.synic_status = SynicStatus::Busy;
  EXPECT_EQ(partition_->signal_event(abi::VpIndex{1}, abi::Sint{3}, 99), SynicStatus::Busy);
  ASSERT_EQ(state_.events.size(), 1u);
  EXPECT_EQ(state_.events[0].sint, 3);
  EXPECT_EQ(state_.events[0].flag, 99);
}

TEST_F(NativeEngineTest, AGuestsSignalIsHeardAndAnswered) {
  class Listener final : public SynicListener {
   public:
    std::uint16_t message_posted(abi::ConnectionId, abi::SynicMessageType, std::span<const std::uint8_t>) override {
      return 0;
    }
    std::uint16_t event_signaled(abi::ConnectionId connection, std::uint16_t) override {
      signaled = connection;
      return 0x12;
    }
    void message_slot_freed(abi::VpIndex vp) override { freed = vp; }
    abi::ConnectionId signaled{};
    abi::VpIndex freed{99};
  } listener;
  partition_->set_synic_listener(&listener);
  const auto hypercall = [this](std::uint64_t rax, std::uint64_t rbx, std::uint64_t rcx, std::uint64_t rdx) {
    state_.runs.push_back([=, this] {
      state_.message = {};
      state_.message.header.type = MessageType::HypercallIntercept;
      abi::HypercallIntercept& call = state_.message.hypercall;
      call.header.instruction_length_and_cr8 = 3;
      call.rax = rax;
      call.rbx = rbx;
      call.rcx = rcx;
      call.rdx = rdx;
      state_.page.valid = 1;
      return RunEnd::Intercept;
    });
  };
  hypercall(0, 0, 0x1005d, 0x2001);
  plain_intercept(MessageType::SynicSintDeliverable);
  plain_intercept(MessageType::UnrecoverableException);
  run();
  EXPECT_EQ(listener.signaled, abi::ConnectionId{0x2001});
  EXPECT_EQ(listener.freed, abi::VpIndex{0});
  EXPECT_EQ(state_.page.general[0], 0x12u);
  EXPECT_EQ(state_.page.rip, kCode + 3);
  // In 32-bit mode the words are in pairs of registers, and so is the result.
  state_.page.segments[1].attributes = 0xc09b;
  state_.page.general[2] = 99;
  hypercall(0x1005d, 0, 0x2002, 0);
  plain_intercept(MessageType::UnrecoverableException);
  run();
  EXPECT_EQ(listener.signaled, abi::ConnectionId{0x2002});
  EXPECT_EQ(state_.page.general[2], 0u);
}

TEST_F(NativeEngineTest, RegistersByNameSeeWhatTheRegisterPageHas) {
  port_intercept(InterceptAccess::Write, 0x80, 1, 2);
  run();
  RegisterAssignment rip{.name = RegisterName::Rip, .value = {}};
  ASSERT_TRUE(vp_->get_registers(std::span(&rip, 1)).has_value());
  EXPECT_EQ(rip.value.number, kCode + 2);
  EXPECT_EQ(state_.page.dirty, 0u);
}

TEST_F(NativeEngineTest, AnotherInterfaceVersionIsRefused) {
  state_.information.vid_version = 7;
  EXPECT_FALSE(engine_over(std::make_unique<FakeVid>(state_)).has_value());
  state_.information.vid_version = BULKHEAD_VID_VERSION;
  state_.information.hypervisor.abi_level = 9;
  EXPECT_FALSE(engine_over(std::make_unique<FakeVid>(state_)).has_value());
}

// Saved state.

/// Another machine, into which a state is restored.
class SavedNativeTest : public NativeEngineTest {
 protected:
  void SetUp() override {
    NativeEngineTest::SetUp();
    for (const auto name : {RegisterName::Rax, RegisterName::Star, RegisterName::Sint0, RegisterName::Tsc,
                            RegisterName::ApicTaskPriority}) {
      state_.registers[name].low = 0x1000 + static_cast<std::uint32_t>(name);
    }
    state_.states[HV_VP_STATE_LOCAL_APIC] = std::vector<std::uint8_t>(184, 0x11);
    state_.states[HV_VP_STATE_XSAVE] = std::vector<std::uint8_t>(4096, 0x22);
    state_.states[HV_VP_STATE_SYNTHETIC_TIMERS] = std::vector<std::uint8_t>(200, 0x33);
    there_engine_ = engine_over(std::make_unique<FakeVid>(there_)).value();
    there_partition_ = there_engine_->create_partition({.vp_count = 2}).value();
    ASSERT_TRUE(there_partition_->map_memory(*memory_).has_value());
    there_vp_ = there_partition_->create_vp(0).value();
    ASSERT_TRUE(partition_->freeze_time().has_value());
    ASSERT_TRUE(there_partition_->freeze_time().has_value());
  }
  std::string refusal(const state::SavedUnit& saved) {
    const auto restored = there_vp_->restore(saved);
    return restored ? "taken" : restored.error().message();
  }
  /// Whether the partition's property was set to the value.
  static bool was_set(const FakeVidState& state, std::uint32_t code, std::uint64_t value) {
    return std::ranges::any_of(state.hypercalls, [=](const FakeVidState::Hypercall& call) {
      if (call.code != HV_CALL_SET_PARTITION_PROPERTY) return false;
      hv_partition_property property;
      std::memcpy(&property, call.input.data(), sizeof property);
      return property.code == code && property.value == value;
    });
  }

  FakeVidState there_;
  std::unique_ptr<Engine> there_engine_;
  std::unique_ptr<Partition> there_partition_;
  std::unique_ptr<VirtualProcessor> there_vp_;
};

TEST_F(SavedNativeTest, AProcessorIsRestoredWithAllItsParts) {
  state_.reads.clear();
  const auto saved = vp_->save();
  ASSERT_TRUE(saved.has_value()) << saved.error().message();
  ASSERT_FALSE(state_.reads.empty());
  EXPECT_EQ(state_.reads.front(), "state") << "what has come for it goes in first";
  ASSERT_TRUE(there_vp_->restore(*saved).has_value());
  EXPECT_EQ(there_.states, state_.states);
  for (const auto& [name, value] : state_.registers) {
    EXPECT_EQ(there_.registers[name].low, value.low) << static_cast<std::uint32_t>(name);
  }
  const auto again = there_vp_->save();
  ASSERT_TRUE(again.has_value());
  EXPECT_TRUE(*again == *saved);
}

TEST_F(SavedNativeTest, WhatTheRegisterPageHasIsSaved) {
  state_.page.general[3] = 77;
  state_.page.dirty = abi::kDirtyGeneral;
  ASSERT_TRUE(vp_->save().has_value());
  EXPECT_EQ(register_value(RegisterName::Rbx), 77u);
  EXPECT_EQ(state_.page.dirty, 0u);
}

TEST_F(SavedNativeTest, AWishForAWindowIsNotSavedAndAWaitingMessageIs) {
  state_.registers[RegisterName::DeliverabilityNotifications].low = 1ull << 50 | 2;
  const auto saved = vp_->save();
  ASSERT_TRUE(saved.has_value() && there_vp_->restore(*saved).has_value());
  EXPECT_EQ(there_.registers[RegisterName::DeliverabilityNotifications].low, 1ull << 50);
}

TEST_F(SavedNativeTest, TimeStandsStillByThePartitionsPropertyAndOnlyThenIsAnythingSaved) {
  EXPECT_TRUE(was_set(state_, HV_PARTITION_PROPERTY_TIME_FREEZE, 1));
  state_.reference_time = 123456;
  EXPECT_EQ(partition_->reference_time(), 123456u);
  const auto saved = partition_->save();
  ASSERT_TRUE(saved.has_value() && there_partition_->restore(*saved).has_value());
  EXPECT_TRUE(was_set(there_, HV_PARTITION_PROPERTY_REFERENCE_TIME, 123456));
  const auto processor = vp_->save();
  ASSERT_TRUE(processor.has_value());
  ASSERT_TRUE(partition_->thaw_time().has_value());
  EXPECT_TRUE(was_set(state_, HV_PARTITION_PROPERTY_TIME_FREEZE, 0));
  EXPECT_FALSE(partition_->save().has_value());
  EXPECT_FALSE(partition_->restore(*saved).has_value());
  EXPECT_FALSE(vp_->save().has_value());
  EXPECT_FALSE(vp_->restore(*processor).has_value());
}

TEST_F(SavedNativeTest, StatesOfOthersAreRefusedWithAReason) {
  const auto saved = vp_->save();
  ASSERT_TRUE(saved.has_value());
  EXPECT_NE(refusal(partition_->save().value()).find("engine"), std::string::npos);
  there_.cpuid_leaves = 0xb;
  EXPECT_NE(refusal(*saved).find("CPUID leaf 0x0"), std::string::npos) << refusal(*saved);
  there_.cpuid_leaves = state_.cpuid_leaves;
  there_vp_ = there_partition_->create_vp(1).value();
  EXPECT_NE(refusal(*saved).find("processor 0, this is 1"), std::string::npos);

  there_vp_.reset();
  there_partition_.reset();
  there_.information.hypervisor.tsc_frequency = 2'000'000'000;
  there_engine_ = engine_over(std::make_unique<FakeVid>(there_)).value();
  there_partition_ = there_engine_->create_partition({.vp_count = 2}).value();
  ASSERT_TRUE(there_partition_->map_memory(*memory_).has_value());
  there_vp_ = there_partition_->create_vp(0).value();
  ASSERT_TRUE(there_partition_->freeze_time().has_value());
  EXPECT_NE(refusal(*saved).find("2000000000 Hz"), std::string::npos) << refusal(*saved);
}

// Dirty pages.

TEST_F(NativeEngineTest, DirtyPagesAreTheHypervisorsAndTheEmulators) {
  using Addresses = std::vector<GuestPhysicalAddress>;
  EXPECT_FALSE(partition_->harvest_dirty_pages().has_value());
  state_.dirty = {1, 3};
  ASSERT_TRUE(partition_->track_dirty_pages(true).has_value());
  EXPECT_TRUE(state_.dirty.empty()) << "what was written before does not count";
  state_.dirty = {5, 0xf, 0x10};
  EXPECT_EQ(partition_->harvest_dirty_pages()->addresses(), (Addresses{0x5000, 0xf000}))
      << "and no page behind the end";

  code({0x6c});  // INSB
  state_.page.general[7] = 0x2000;
  state_.page.general[2] = 0x60;
  port_intercept(InterceptAccess::Read, 0x60, 1 | 8, 0);
  run();
  vp_->complete_read(0x5a);
  plain_intercept(MessageType::UnrecoverableException);
  run();
  EXPECT_EQ(partition_->harvest_dirty_pages()->addresses(), Addresses{0x2000});
  EXPECT_EQ(partition_->harvest_dirty_pages()->count(), 0u);
  ASSERT_TRUE(partition_->track_dirty_pages(false).has_value());
  EXPECT_EQ(state_.dirty.size(), 17u) << "all pages, so that the large ones are put together";
  EXPECT_FALSE(partition_->harvest_dirty_pages().has_value());
}

}  // namespace
}  // namespace bulkhead::engine::native
