// SPDX-License-Identifier: Apache-2.0
//
// The local APIC, by memory (xAPIC) or by MSR (x2APIC), whichever mode the processor is in.
#pragma once

#include <cstdint>

namespace bulkhead::guest::local_apic {

enum Register : std::uint32_t {
  kId = 0x20,
  kVersion = 0x30,
  kTaskPriority = 0x80,
  kProcessorPriority = 0xa0,
  kEoi = 0xb0,
  kLogicalDestination = 0xd0,
  kDestinationFormat = 0xe0,
  kSpurious = 0xf0,
  kInService = 0x100,
  kTriggerMode = 0x180,
  kRequest = 0x200,
  kErrorStatus = 0x280,
  kCommandLow = 0x300,
  kCommandHigh = 0x310,
  kTimer = 0x320,
  kLint0 = 0x350,
  kLint1 = 0x360,
  kError = 0x370,
  kTimerInitial = 0x380,
  kTimerCurrent = 0x390,
  kTimerDivide = 0x3e0,
};
inline constexpr std::uint64_t kBase = 0xfee00000;
inline constexpr std::uint32_t kBaseMsr = 0x1b;
inline constexpr std::uint32_t kX2Msr = 0x800;
inline constexpr std::uint64_t kBaseX2 = 1u << 10;
inline constexpr std::uint64_t kBaseEnable = 1u << 11;
inline constexpr std::uint32_t kMasked = 1u << 16;
inline constexpr std::uint32_t kTimerOneShot = 0, kTimerPeriodic = 1u << 17, kTimerDeadline = 2u << 17;
inline constexpr std::uint32_t kDeadlineMsr = 0x6e0;

enum DeliveryMode : std::uint32_t { kFixed = 0, kLowestPriority = 1, kNmi = 4, kInit = 5, kStartUp = 6 };
inline constexpr std::uint32_t kLogical = 1u << 11, kAssert = 1u << 14, kLevel = 1u << 15;
inline constexpr std::uint32_t kToSelf = 1u << 18, kToAll = 2u << 18, kToOthers = 3u << 18;

/// Whether this processor is in x2APIC mode.
bool is_x2();
std::uint32_t read(Register reg);
void write(Register reg, std::uint32_t value);
/// The ICR: `command` is its low half, `destination` an APIC id or a logical destination.
void send(std::uint32_t command, std::uint32_t destination);
std::uint32_t id();
inline void end_of_interrupt() { write(kEoi, 0); }
/// Enabled, with spurious vector 0xff.
void enable();

}  // namespace bulkhead::guest::local_apic
