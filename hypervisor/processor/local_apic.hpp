// SPDX-License-Identifier: Apache-2.0
//
// This logical processor's own local APIC, which is the root's. The hypervisor sends through it and leaves no trace.
// AMD64 APM volume 2, chapter 16.
#pragma once

#include <cstdint>

namespace bulkhead::hypervisor::local_apic {

/// Offsets in the xAPIC page; divided by 16 and added to 0x800, MSRs of the x2APIC.
inline constexpr std::uint32_t kId = 0x020;
inline constexpr std::uint32_t kTaskPriority = 0x080;
inline constexpr std::uint32_t kEoi = 0x0b0;
inline constexpr std::uint32_t kLogicalDestination = 0x0d0;
inline constexpr std::uint32_t kDestinationFormat = 0x0e0;
inline constexpr std::uint32_t kSpurious = 0x0f0;
inline constexpr std::uint32_t kInService = 0x100;
inline constexpr std::uint32_t kInterruptCommandLow = 0x300;
inline constexpr std::uint32_t kInterruptCommandHigh = 0x310;
inline constexpr std::uint32_t kTimerVector = 0x320;
inline constexpr std::uint32_t kThermalVector = 0x330;
inline constexpr std::uint32_t kPerformanceVector = 0x340;
inline constexpr std::uint32_t kLocal0Vector = 0x350;
inline constexpr std::uint32_t kLocal1Vector = 0x360;
inline constexpr std::uint32_t kErrorVector = 0x370;
inline constexpr std::uint32_t kTimerInitialCount = 0x380;

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
