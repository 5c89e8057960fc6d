// SPDX-License-Identifier: Apache-2.0
#include "hypervisor/vp/guest_interface.hpp"

#include "abi/hypervisor_leaves.hpp"

namespace bulkhead::hypervisor {
namespace {

using namespace abi::leaves;

constexpr std::uint32_t kPrivilegesLow = kReferenceCounter | kSynicMsrs | kSyntheticTimers | kApicMsrs |
                                         kHypercallMsrs | kVpIndex | kReferenceTsc | kGuestIdle | kFrequencyMsrs;
constexpr std::uint32_t kFeatures =
    kXmmHypercallInput | kGuestIdleState | kFrequencyMsrsAreThere | kCrashMsrs | kDirectSyntheticTimers;
constexpr std::uint32_t kHints =
    kRemoteFlush | kUseApicMsrs | kRelaxedTiming | kDeprecateAutoEoi | kClusterIpi | kExtendedProcessorMasks;

}  // namespace

bool offers_reset(const PartitionConfiguration& configuration) {
  return configuration.intercepts.wants_msr(static_cast<std::uint32_t>(SyntheticMsr::Reset), HV_INTERCEPT_ACCESS_WRITE);
}

std::uint64_t privilege_flags(const PartitionConfiguration& configuration) {
  // Somebody has to be there for what a child sends.
  const std::uint32_t high = configuration.intercepts.wants_connections() ? kPostMessages | kSignalEvents : 0;
  return kPrivilegesLow | (offers_reset(configuration) ? kReset : 0) | std::uint64_t{high} << 32;
}

machine::CpuidResult hypervisor_leaf(std::uint32_t leaf, const PartitionConfiguration& configuration) {
  switch (leaf) {
    case 0x40000000: return {kLastHypervisorLeaf, kVendor[0], kVendor[1], kVendor[2]};
    case 0x40000001: return {kInterface, 0, 0, 0};
    case 0x40000002: return {1, 0 << 16 | 1, 0, 0};  // version 0.1, build 1
    case 0x40000003: {
      const std::uint64_t privileges = privilege_flags(configuration);
      return {static_cast<std::uint32_t>(privileges), static_cast<std::uint32_t>(privileges >> 32), 0, kFeatures};
    }
    case 0x40000004: return {kHints, kSpinsBeforeCall, 0, 0};
    case 0x40000005: return {kMaximumVps, 0, 0, 0};
    case 0x40000006: return {1 << 3, 0, 0, 0};  // second-level paging
    default: return {};
  }
}

}  // namespace bulkhead::hypervisor
