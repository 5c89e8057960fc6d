// SPDX-License-Identifier: Apache-2.0
//
// This logical processor's own local APIC, which is the root's. The hypervisor sends through it and leaves no trace.
// AMD64 APM volume 2, chapter 16.
#pragma once

#include <cstdint>

namespace bulkhead::hypervisor::local_apic {

/// Offsets in the xAPIC page; divided by 16 and added to 0x800, MSRs of the x2APIC.
enum Register : std::uint32_t {
  kId = 0x020,
  kTaskPriority = 0x080,
  kEoi = 0x0b0,
  kLogicalDestination = 0x0d0,
  kDestinationFormat = 0x0e0,
  kSpurious = 0x0f0,
  kInService = 0x100,
  kInterruptCommandLow = 0x300,
  kInterruptCommandHigh = 0x310,
  kTimerVector = 0x320,
  kThermalVector = 0x330,
  kPerformanceVector = 0x340,
  kLocal0Vector = 0x350,
  kLocal1Vector = 0x360,
  kErrorVector = 0x370,
  kTimerInitialCount = 0x380,
};

inline constexpr std::uint64_t kAddress = 0xfee00000;
inline constexpr std::uint32_t kDeliveryPending = 1u << 12;

bool is_x2apic();
std::uint32_t id();
std::uint32_t read(std::uint32_t offset);
void write(std::uint32_t offset, std::uint32_t value);

/// ICR: `destination` is an APIC id or a logical destination, as `low` says.
void send(std::uint32_t destination, std::uint32_t low);
void send_nmi(std::uint32_t apic_id);

/// What an INIT does to it: software-disabled, everything masked, nothing in service.
void reset();

}  // namespace bulkhead::hypervisor::local_apic
