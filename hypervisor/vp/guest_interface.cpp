// SPDX-License-Identifier: Apache-2.0
#include "hypervisor/vp/guest_interface.hpp"

namespace bulkhead::hypervisor {
namespace {

// 40000003 EAX.
constexpr std::uint32_t kAccessReferenceCounter = 1 << 1;
constexpr std::uint32_t kAccessSynic = 1 << 2;
constexpr std::uint32_t kAccessSyntheticTimers = 1 << 3;
constexpr std::uint32_t kAccessApicMsrs = 1 << 4;
constexpr std::uint32_t kAccessHypercallMsrs = 1 << 5;
constexpr std::uint32_t kAccessVpIndex = 1 << 6;
constexpr std::uint32_t kAccessReset = 1 << 7;
constexpr std::uint32_t kAccessReferenceTsc = 1 << 9;
constexpr std::uint32_t kAccessGuestIdle = 1 << 10;
constexpr std::uint32_t kAccessFrequencyMsrs = 1 << 11;
constexpr std::uint32_t kPrivilegesLow = kAccessReferenceCounter | kAccessSynic | kAccessSyntheticTimers |
                                         kAccessApicMsrs | kAccessHypercallMsrs | kAccessVpIndex | kAccessReferenceTsc |
                                         kAccessGuestIdle | kAccessFrequencyMsrs;
// EBX.
constexpr std::uint32_t kPostMessages = 1 << 4;
constexpr std::uint32_t kSignalEvents = 1 << 5;
// EDX.
constexpr std::uint32_t kXmmHypercallInput = 1 << 4;
constexpr std::uint32_t kGuestIdleState = 1 << 5;
constexpr std::uint32_t kFrequencyMsrs = 1 << 8;
constexpr std::uint32_t kCrashMsrs = 1 << 10;
constexpr std::uint32_t kDirectSyntheticTimers = 1 << 19;
constexpr std::uint32_t kFeatures =
    kXmmHypercallInput | kGuestIdleState | kFrequencyMsrs | kCrashMsrs | kDirectSyntheticTimers;

// 40000004 EAX.
constexpr std::uint32_t kRemoteFlush = 1 << 2;
constexpr std::uint32_t kApicMsrs = 1 << 3;
constexpr std::uint32_t kRelaxedTiming = 1 << 5;
constexpr std::uint32_t kDeprecateAutoEoi = 1 << 9;
constexpr std::uint32_t kClusterIpi = 1 << 10;
constexpr std::uint32_t kExtendedProcessorMasks = 1 << 11;
constexpr std::uint32_t kHints =
    kRemoteFlush | kApicMsrs | kRelaxedTiming | kDeprecateAutoEoi | kClusterIpi | kExtendedProcessorMasks;
// EBX: how often to look at a lock before calling for a long spin wait.
constexpr std::uint32_t kSpins = 0xfff;

}  // namespace

bool offers_reset(const PartitionConfiguration& configuration) {
  return configuration.intercepts.wants_msr(static_cast<std::uint32_t>(SyntheticMsr::Reset), HV_INTERCEPT_ACCESS_WRITE);
}

std::uint64_t privilege_flags(const PartitionConfiguration& configuration) {
  // Somebody has to be there for what a child sends.
  const std::uint32_t high = configuration.intercepts.wants_connections() ? kPostMessages | kSignalEvents : 0;
  return kPrivilegesLow | (offers_reset(configuration) ? kAccessReset : 0) | std::uint64_t{high} << 32;
}

machine::CpuidResult hypervisor_leaf(std::uint32_t leaf, const PartitionConfiguration& configuration) {
  switch (leaf) {
    case 0x40000000:
      return {kLastHypervisorLeaf, 0x7263694d, 0x666f736f, 0x76482074};  // "Microsoft Hv", as TLFS has it
    case 0x40000001: return {0x31237648, 0, 0, 0};                       // "Hv#1"
    case 0x40000002: return {1, 0 << 16 | 1, 0, 0};                      // version 0.1, build 1
    case 0x40000003: {
      const std::uint64_t privileges = privilege_flags(configuration);
      return {static_cast<std::uint32_t>(privileges), static_cast<std::uint32_t>(privileges >> 32), 0, kFeatures};
    }
    case 0x40000004: return {kHints, kSpins, 0, 0};
    case 0x40000005: return {kMaximumVps, 0, 0, 0};
    case 0x40000006: return {1 << 3, 0, 0, 0};  // second-level paging
    default: return {};
  }
}

}  // namespace bulkhead::hypervisor
