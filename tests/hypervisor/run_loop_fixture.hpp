// SPDX-License-Identifier: Apache-2.0
//
// A partition of up to a few virtual processors, whose processors do what the test says, and its parent.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "abi/intercept_message.hpp"
#include "abi/register_page.hpp"
#include "tests/hypervisor/fake_machine.hpp"

namespace bulkhead::hypervisor {

using abi::RegisterName;
using fake::FakeVpHardware;
using fake::kGuestPage;
using fake::kStatePage;

inline constexpr std::uint32_t kAllAccess = HV_INTERCEPT_ACCESS_READ | HV_INTERCEPT_ACCESS_WRITE;
inline constexpr std::uint64_t kInterruptFlag = 1 << 9;

/// The guest accesses a port, with no string instruction.
inline Exit port_exit(std::uint16_t port, std::uint8_t size, bool write) {
  Exit exit{};
  exit.reason = ExitReason::Port;
  exit.port = {.port = port, .size = size, .write = write, .string = false, .rep = false};
  return exit;
}
/// The guest accesses memory that is not mapped, or not so; the processor gives no bytes of its instruction.
inline Exit page_fault(std::uint64_t gpa, bool write) {
  Exit exit{};
  exit.reason = ExitReason::NestedPageFault;
  exit.memory = {.gpa = gpa,
                 .write = write,
                 .fetch = false,
                 .during_walk = false,
                 .instruction_byte_count = 0,
                 .instruction_bytes = {}};
  return exit;
}

class RunLoopTest : public testing::Test {
 protected:
  void create_vps(std::uint32_t count) {
    for (std::uint32_t index = 0; index < count; ++index) {
      ASSERT_EQ(root_.create_vp(id_, index).status, HV_STATUS_SUCCESS);
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
  std::uint64_t id_ = root_.create_child();
};

}  // namespace bulkhead::hypervisor
