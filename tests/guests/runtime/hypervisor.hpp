// SPDX-License-Identifier: Apache-2.0
//
// The hypervisor's interface Hv#1 as guests use it: its registers, its hypercall page, its CPUID leaves. TLFS.
#pragma once

#include <cstdint>

namespace bulkhead::guest::hypervisor {

enum Msr : std::uint32_t {
  kGuestOsId = 0x40000000,
  kHypercall = 0x40000001,
  kVpIndex = 0x40000002,
  kTimeReferenceCount = 0x40000020,
  kReferenceTsc = 0x40000021,
  kEoi = 0x40000070,
  kInterruptCommand = 0x40000071,
  kTaskPriority = 0x40000072,
  kVpAssistPage = 0x40000073,
  kScontrol = 0x40000080,
  kSiefp = 0x40000082,
  kSimp = 0x40000083,
  kEom = 0x40000084,
  kSint0 = 0x40000090,
  kTimer0Config = 0x400000b0,
  kTimer0Count = 0x400000b1,
  kGuestIdle = 0x400000f0,
};

enum Call : std::uint16_t {
  kFlushSpace = 2,
  kFlushList = 3,
  kLongSpinWait = 8,
  kClusterIpi = 0xb,
  kFlushSpaceEx = 0x13,
  kClusterIpiEx = 0x15,
  kPostMessage = 0x5c,
  kSignalEvent = 0x5d,
};
inline constexpr std::uint64_t kFast = 1 << 16;

/// 40000003 EAX and EDX, 40000004 EAX.
inline constexpr std::uint32_t kHasSynic = 1 << 2, kHasTimers = 1 << 3, kHasApicMsrs = 1 << 4,
                               kHasReferenceTsc = 1 << 9, kHasGuestIdle = 1 << 10;
inline constexpr std::uint32_t kHasDirectTimers = 1 << 19;
inline constexpr std::uint32_t kHintRemoteFlush = 1 << 2, kHintApicMsrs = 1 << 3, kHintClusterIpi = 1 << 10,
                               kHintExMasks = 1 << 11;

/// Whether there is such a hypervisor.
bool is_there();
/// Of 40000003 and 40000004; 0 where there is none.
std::uint32_t privileges();
std::uint32_t features();
std::uint32_t hints();

/// Identifies the guest and enables the hypercall page.
void enable_calls();
/// The result word. `first` and `second` are addresses of input and output, or a fast call's input.
std::uint64_t call(std::uint64_t control, std::uint64_t first = 0, std::uint64_t second = 0);

}  // namespace bulkhead::guest::hypervisor
