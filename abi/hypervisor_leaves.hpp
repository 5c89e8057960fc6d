// SPDX-License-Identifier: Apache-2.0
//
// What the leaves of CPUID from 40000000h on say to a guest: TLFS, "Feature and Interface Discovery". Only the bits that some engine
// here offers.
#pragma once

#include <cstdint>

namespace bulkhead::abi::leaves {

// 40000003h EAX: the MSRs that there are.
inline constexpr std::uint32_t kReferenceCounter = 1 << 1;
inline constexpr std::uint32_t kSynicMsrs = 1 << 2;
inline constexpr std::uint32_t kSyntheticTimers = 1 << 3;
inline constexpr std::uint32_t kApicMsrs = 1 << 4;
inline constexpr std::uint32_t kHypercallMsrs = 1 << 5;
inline constexpr std::uint32_t kVpIndex = 1 << 6;
inline constexpr std::uint32_t kReset = 1 << 7;
inline constexpr std::uint32_t kReferenceTsc = 1 << 9;
inline constexpr std::uint32_t kGuestIdle = 1 << 10;
inline constexpr std::uint32_t kFrequencyMsrs = 1 << 11;
// EBX: the calls that the guest may make.
inline constexpr std::uint32_t kPostMessages = 1 << 4;
inline constexpr std::uint32_t kSignalEvents = 1 << 5;
// EDX.
inline constexpr std::uint32_t kXmmHypercallInput = 1 << 4;
inline constexpr std::uint32_t kGuestIdleState = 1 << 5;
inline constexpr std::uint32_t kFrequencyMsrsAreThere = 1 << 8;
inline constexpr std::uint32_t kCrashMsrs = 1 << 10;
inline constexpr std::uint32_t kDirectSyntheticTimers = 1 << 19;

// 40000004h EAX: what the guest does best by a call or an MSR.
inline constexpr std::uint32_t kRemoteFlush = 1 << 2;
inline constexpr std::uint32_t kUseApicMsrs = 1 << 3;
inline constexpr std::uint32_t kRelaxedTiming = 1 << 5;
inline constexpr std::uint32_t kDeprecateAutoEoi = 1 << 9;
inline constexpr std::uint32_t kClusterIpi = 1 << 10;
inline constexpr std::uint32_t kExtendedProcessorMasks = 1 << 11;
// EBX: how often to look at a lock before calling for a long spin wait.
inline constexpr std::uint32_t kSpinsBeforeCall = 0xfff;
inline constexpr std::uint32_t kNeverCall = 0xffffffff;

// "Microsoft Hv" in EBX, ECX and EDX of 40000000h, and "Hv#1" in EAX of 40000001h: as guests look for them.
inline constexpr std::uint32_t kVendor[3] = {0x7263694d, 0x666f736f, 0x76482074};
inline constexpr std::uint32_t kInterface = 0x31237648;

}  // namespace bulkhead::abi::leaves
