// SPDX-License-Identifier: Apache-2.0
//
// What the root sees of the processor: the processor, less what the hypervisor keeps for itself, plus a leaf that says
// that there is a hypervisor. The root must not take itself for a guest of Hyper-V, so the signature is our own.
#pragma once

#include <cstdint>

#include "abi/hypercall.h"
#include "hypervisor/machine.hpp"

namespace bulkhead::hypervisor::root {

inline constexpr std::uint32_t kSignatureLeaf = 0x40000000;

constexpr machine::CpuidResult filter_cpuid(std::uint32_t leaf, std::uint32_t subleaf, machine::CpuidResult raw,
                                            std::uint64_t cr4) {
  const bool xsave_on = cr4 & (1u << 18), protection_keys_on = cr4 & (1u << 22);
  if (leaf >= 0x40000000 && leaf < 0x50000000) {
    // "BulkheadRoot"
    if (leaf == kSignatureLeaf) return {kSignatureLeaf + 1, 0x6b6c7542, 0x64616568, 0x746f6f52};
    if (leaf == kSignatureLeaf + 1) return {HV_BULKHEAD_ABI_LEVEL, 0, 0, 0};
    return {0, 0, 0, 0};
  }
  switch (leaf) {
    case 1:
      raw.ecx |= 1u << 31;    // a hypervisor is there
      raw.ecx &= ~(1u << 5);  // VMX
      raw.ecx = (raw.ecx & ~(1u << 27)) | (xsave_on ? 1u << 27 : 0);
      return raw;
    case 7:
      if (subleaf == 0) raw.ecx = (raw.ecx & ~(1u << 4)) | (protection_keys_on ? 1u << 4 : 0);
      return raw;
    case 0x80000001:
      raw.ecx &= ~((1u << 2) | (1u << 12));  // SVM, SKINIT
      return raw;
    case 0x8000000a:  // SVM's features
    case 0x8000001f:  // memory encryption
      return {0, 0, 0, 0};
    default: return raw;
  }
}

}  // namespace bulkhead::hypervisor::root
