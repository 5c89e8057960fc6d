// SPDX-License-Identifier: Apache-2.0
//
// A child whose guest executes one instruction at a time, as a test says: its registers and hypercalls.
#pragma once

#include <gtest/gtest.h>

#include <cstring>

#include "abi/intercept_message.hpp"
#include "tests/hypervisor/fake_machine.hpp"

namespace bulkhead::hypervisor {

/// 256 KiB of memory from guest physical address 0 on. Every VP runs, in 64-bit mode, and takes interrupts.
class GuestTest : public testing::Test {
 protected:
  static constexpr std::uint64_t kInterruptFlag = 1 << 9;
  static constexpr std::uint64_t kMemorySize = 64 * kPageSize;

  explicit GuestTest(std::uint32_t vps = 2) {
    for (std::uint32_t index = 0; index < vps; ++index) create_vp(index);
  }

  void create_vp(std::uint32_t index) {
    ASSERT_EQ(root_.create_vp(id_, index).status, HV_STATUS_SUCCESS);
    const hv_vp_state_page page{
        id_, index, HV_VP_STATE_PAGE_INTERCEPT_MESSAGE, 0, HV_VP_STATE_PAGE_LOCATION_GIVEN, fake::kStatePage + index};
    ASSERT_EQ(root_.call(HV_CALL_MAP_VP_STATE_PAGE, page).status, HV_STATUS_SUCCESS);
    root_.set_register(id_, index, abi::RegisterName::ExplicitSuspend, 0);
    root_.set_register(id_, index, abi::RegisterName::InternalActivityState, 0);
    fake::FakeVpHardware& guest = hardware(index);
    guest.execution_mode.cr0 = 1;
    guest.execution_mode.efer = 0x500;
    guest.execution_mode.cs = {.base = 0, .limit = ~0u, .selector = 8, .attributes = 0xa09b};
    guest.rflags |= kInterruptFlag;
    EXPECT_TRUE(write_msr(index, 0x1b, 0xfee00c00 | (index == 0 ? 0x100u : 0u)));
    EXPECT_TRUE(write_msr(index, 0x80f, 0x1ff));
  }

  fake::FakeVpHardware& hardware(std::uint32_t index = 0) { return *machine_.created[index]; }
  std::byte* memory(std::uint64_t address) { return machine_.at(fake::kGuestPage * kPageSize + address); }
  template <typename T>
  T read(std::uint64_t address) {
    return machine_.read<T>(fake::kGuestPage * kPageSize + address);
  }
  template <typename T>
  void write(std::uint64_t address, const T& value) {
    machine_.write(fake::kGuestPage * kPageSize + address, value);
  }
  const abi::InterceptMessage& message(std::uint32_t index = 0) {
    return *reinterpret_cast<abi::InterceptMessage*>(machine_.at((fake::kStatePage + index) * kPageSize));
  }

  /// The guest executes an instruction of two or three bytes; what it delivers before is in delivered(). The dispatch's end.
  template <typename Guest>
  hv_dispatch_vp_output execute(std::uint32_t index, ExitReason reason, Guest&& guest) {
    Exit exit{};
    exit.reason = reason;
    exit.next_rip = hardware(index).rip + (reason == ExitReason::Hypercall ? 3 : 2);
    hardware(index).then(exit, std::forward<Guest>(guest));
    hardware(index).delivered.clear();
    last_ = root_.dispatch(id_, index, HV_DISPATCH_CLEAR_INTERCEPT_SUSPEND, timer_armed_);
    return last_;
  }
  /// False: #GP.
  bool write_msr(std::uint32_t index, std::uint32_t msr, std::uint64_t value) {
    execute(index, ExitReason::WriteMsr, [=](fake::FakeVpHardware& guest) {
      guest.general[0] = static_cast<std::uint32_t>(value);
      guest.general[1] = msr;
      guest.general[2] = value >> 32;
    });
    return !faulted(index);
  }
  std::uint64_t read_msr(std::uint32_t index, std::uint32_t msr) {
    execute(index, ExitReason::ReadMsr, [=](fake::FakeVpHardware& guest) { guest.general[1] = msr; });
    return hardware(index).general[2] << 32 | static_cast<std::uint32_t>(hardware(index).general[0]);
  }
  /// RAX.
  std::uint64_t hypercall(std::uint32_t index, std::uint64_t control, std::uint64_t input = 0,
                          std::uint64_t output = 0) {
    execute(index, ExitReason::Hypercall, [=](fake::FakeVpHardware& guest) {
      guest.general[1] = control;
      guest.general[2] = input;
      guest.general[8] = output;
    });
    return hardware(index).general[0];
  }
  /// Lets it run until the root is interrupted.
  hv_dispatch_vp_output run(std::uint32_t index = 0) {
    hardware(index).delivered.clear();
    return last_ = root_.dispatch(id_, index, HV_DISPATCH_CLEAR_INTERCEPT_SUSPEND, timer_armed_);
  }
  bool faulted(std::uint32_t index) { return took(index, Event::Type::Exception, 13); }
  bool interrupted(std::uint32_t index, std::uint8_t vector) {
    return took(index, Event::Type::ExternalInterrupt, vector);
  }
  bool took(std::uint32_t index, Event::Type type, std::uint8_t vector) {
    for (const Event& event : hardware(index).delivered) {
      if (event.type == type && event.vector == vector) return true;
    }
    return false;
  }
  void install(std::uint32_t type, std::uint32_t access = HV_INTERCEPT_ACCESS_EXECUTE, std::uint64_t parameter = 0) {
    ASSERT_EQ(root_.call(HV_CALL_INSTALL_INTERCEPT, hv_install_intercept{id_, access, type, parameter}).status,
              HV_STATUS_SUCCESS);
  }

  fake::Machine machine_;
  fake::Root root_{machine_};
  std::uint64_t id_ = root_.create_child();
  hv_dispatch_vp_output last_{};
  /// The root's timer; with a late one, VPs that set theirs end their dispatch.
  std::uint64_t timer_armed_ = 1;
};

}  // namespace bulkhead::hypervisor
