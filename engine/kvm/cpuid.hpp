// SPDX-License-Identifier: Apache-2.0
//
// What CPUID tells a guest on KVM: what the kernel supports, with the machine's own topology (one socket, one thread
// for each core), without nested virtualization, and with our hypervisor leaves in place of KVM's.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/kvm/kvm_abi.hpp"
#include "error/error.hpp"

namespace bulkhead::engine::kvm {

/// What KVM_GET_SUPPORTED_CPUID says, and the features besides that this kernel has with a split irqchip.
Result<std::vector<kvm_cpuid_entry2>> supported_cpuid(int device);

/// The table of processor `vp` of `vp_count`, with or without a SynIC.
std::vector<kvm_cpuid_entry2> guest_cpuid(const std::vector<kvm_cpuid_entry2>& supported, std::uint32_t vp,
                                          std::uint32_t vp_count, bool synic = false);

}  // namespace bulkhead::engine::kvm
