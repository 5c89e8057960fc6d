// SPDX-License-Identifier: Apache-2.0
#include "hypervisor/vp/guest_interface.hpp"

#include "hypervisor/partition/partition.hpp"

namespace bulkhead::hypervisor {

machine::CpuidResult hypervisor_leaf(std::uint32_t leaf) {
  switch (leaf) {
    case 0x40000000:
      return {kLastHypervisorLeaf, 0x7263694d, 0x666f736f, 0x76482074};            // "Microsoft Hv", as TLFS has it
    case 0x40000001: return {0x31237648, 0, 0, 0};                                 // "Hv#1"
    case 0x40000002: return {1, 0 << 16 | 1, 0, 0};                                // version 0.1, build 1
    case 0x40000003: return {kPrivilegeFlagsLow, kPrivilegeFlagsHigh, 0, 1 << 8};  // frequency MSRs
    case 0x40000004: return {1 << 5, 0xffffffff, 0, 0};  // relaxed timing; never call for a long spin wait
    case 0x40000005: return {kMaximumVps, 0, 0, 0};
    case 0x40000006: return {1 << 3, 0, 0, 0};  // second-level paging
    default: return {};
  }
}

}  // namespace bulkhead::hypervisor
