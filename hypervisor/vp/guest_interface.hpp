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

/// 40000003 EAX and EBX, EBX in the high half.
std::uint64_t privilege_flags(const PartitionConfiguration& configuration);

enum class SyntheticMsr : std::uint32_t {
  GuestOsId = 0x40000000,
  Hypercall = 0x40000001,
  VpIndex = 0x40000002,
  TimeReferenceCount = 0x40000020,
  ReferenceTsc = 0x40000021,
  TscFrequency = 0x40000022,
  ApicFrequency = 0x40000023,
  VpAssistPage = 0x40000073,
};

inline constexpr std::uint64_t kCr4OsXsave = 1u << 18;
inline constexpr std::uint64_t kCr4ProtectionKeys = 1u << 22;
inline constexpr std::uint64_t kApicEnabled = 1u << 11;

/// Of one of the leaves above.
machine::CpuidResult hypervisor_leaf(std::uint32_t leaf, const PartitionConfiguration& configuration);

}  // namespace bulkhead::hypervisor
