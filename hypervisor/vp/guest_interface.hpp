// SPDX-License-Identifier: Apache-2.0
//
// What a child can discover about the hypervisor: TLFS, "Feature and Interface Discovery". Minimal and true: each bit that is set
// here is implemented in this folder.
#pragma once

#include <cstdint>

#include "hypervisor/machine.hpp"
#include "hypervisor/partition/partition.hpp"

namespace bulkhead::hypervisor {

inline constexpr std::uint32_t kHypervisorLeaves = 0x40000000;
inline constexpr std::uint32_t kLastHypervisorLeaf = 0x40000006;

/// The RESET register is the parent's, if it wants to hear of it.
bool offers_reset(const PartitionConfiguration& configuration);
/// 40000003 EAX and EBX, EBX in the high half.
std::uint64_t privilege_flags(const PartitionConfiguration& configuration);

enum class SyntheticMsr : std::uint32_t {
  GuestOsId = 0x40000000,
  Hypercall = 0x40000001,
  VpIndex = 0x40000002,
  Reset = 0x40000003,
  TimeReferenceCount = 0x40000020,
  ReferenceTsc = 0x40000021,
  TscFrequency = 0x40000022,
  ApicFrequency = 0x40000023,
  EndOfInterrupt = 0x40000070,
  InterruptCommand = 0x40000071,
  TaskPriority = 0x40000072,
  VpAssistPage = 0x40000073,
  GuestIdle = 0x400000f0,
  CrashControl = 0x40000105,
};
/// Configuration and count of each of four synthetic timers; the crash registers P0 to P4. The SynIC's: abi/synic.hpp.
inline constexpr std::uint32_t kFirstTimerMsr = 0x400000b0, kLastTimerMsr = 0x400000b7;
inline constexpr std::uint32_t kFirstCrashMsr = 0x40000100;

/// CRASH_CTL: tell the host now; P3 and P4 are address and length of a text.
inline constexpr std::uint64_t kCrashNotify = 1ull << 63, kCrashMessage = 1ull << 62;

inline constexpr std::uint64_t kCr4OsXsave = 1u << 18;
inline constexpr std::uint64_t kCr4ProtectionKeys = 1u << 22;
inline constexpr std::uint64_t kApicEnabled = 1u << 11;

/// Of one of the leaves above.
machine::CpuidResult hypervisor_leaf(std::uint32_t leaf, const PartitionConfiguration& configuration);

}  // namespace bulkhead::hypervisor
