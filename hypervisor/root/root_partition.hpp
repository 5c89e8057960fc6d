// SPDX-License-Identifier: Apache-2.0
//
// The root partition on one logical processor: enter, see why it came back, do what the root may not do itself. The root is
// an ordinary operating system on almost all of the machine; it exits for
//
//   CPUID             cpuid_policy.hpp       hypercalls     hypercall/root_hypercall.hpp
//   some MSRs         msr_policy.hpp         local APIC writes (xAPIC page, x2APIC ICR)   root_apic.cpp
//   the sleep port    port_policy.hpp        NMIs, and writes to memory that is not there for it
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "hypervisor/decode/instruction.hpp"
#include "hypervisor/hypervisor.hpp"
#include "hypervisor/processor/logical_processor.hpp"
#include "hypervisor/root/port_policy.hpp"
#include "hypervisor/vp/vp_hardware.hpp"

namespace bulkhead::hypervisor::root {

/// The same on every processor, and set before the first one runs.
struct Machine {
  SleepControl sleep;
  std::span<const FrameRange> ram;
};
extern Machine root_machine;

/// Runs the root on this processor for ever.
[[noreturn]] void run(LogicalProcessor& processor);

/// Makes the root's next instruction fault with this exception.
void inject(VpHardware& root, std::uint8_t vector);
void inject_general_protection(VpHardware& root);

/// The instruction at RIP. Nothing: it is not a known one, or its page is not there any more.
std::optional<Instruction> fetch(const VpHardware& root);

void handle_msr(LogicalProcessor& processor, VpHardware& root, bool write);
/// A write to the local APIC's page.
void handle_apic_write(LogicalProcessor& processor, VpHardware& root, std::uint64_t gpa);
/// A command to the interrupt command register.
void send_interrupt_command(LogicalProcessor& processor, std::uint32_t low, std::uint32_t destination, bool x2apic);
/// RIP after the instruction that exited.
void advance(VpHardware& root, const Exit& exit);

}  // namespace bulkhead::hypervisor::root
