// SPDX-License-Identifier: Apache-2.0
//
// What the kernel's KVM offers on this host: asked for once, when the engine is opened.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/kvm/kvm_abi.hpp"

namespace bulkhead::engine::kvm {

struct KvmHost {
  std::vector<kvm_cpuid_entry2> cpuid;  // supported_cpuid
  std::vector<std::uint32_t> msrs;      // that are a processor's state, in ascending order
  std::size_t run_size = 0;             // of a processor's shared pages, bytes
  bool synic = false;                   // processors have SynICs, and what needs one
  bool saved_state = false;             // everything that saving takes is there
};

}  // namespace bulkhead::engine::kvm
