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

/// What KVM_GET_SUPPORTED_CPUID says, and the features besides that this kernel has with a split irqchip; in place of KVM's own
/// hypervisor leaves those of its Hyper-V interface, if the kernel tells them.
Result<std::vector<kvm_cpuid_entry2>> supported_cpuid(int device);

struct GuestCpuid {
  std::uint32_t vp;
  std::uint32_t vp_count;
  bool synic = false;        // the processors have SynICs, and with them all that needs one
  bool connections = false;  // somebody hears the guest's messages and events
};
/// The table of a processor.
std::vector<kvm_cpuid_entry2> guest_cpuid(const std::vector<kvm_cpuid_entry2>& supported, const GuestCpuid& guest);

}  // namespace bulkhead::engine::kvm
