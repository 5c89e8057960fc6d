// SPDX-License-Identifier: Apache-2.0
//
// A processor of KVM as saved state. What the TLFS has names for is written by them (engine/saved_registers.hpp), the rest
// in the layouts of the architecture: the XSAVE area, the local APIC's register page, model-specific registers by
// number. Only pending events and the activity state are the kernel's own notions, as numbers with its meanings.
#pragma once

#include <vector>

#include "engine/kvm/kvm_abi.hpp"
#include "engine/kvm/kvm_host.hpp"
#include "engine/kvm/kvm_time.hpp"
#include "error/error.hpp"
#include "state/saved_state.hpp"

namespace bulkhead::engine::kvm {

/// The processor to save or restore, and what saved state depends on.
struct SavedProcessor {
  int machine;
  int processor;
  std::uint32_t index;
  const KvmHost& host;
  const std::vector<kvm_cpuid_entry2>& cpuid;  // what the guest was told
};

Result<state::SavedUnit> save_processor(const SavedProcessor& from, const FrozenTime& time);
/// Gives the time to thaw with. Errors: as VirtualProcessor::restore says.
Result<FrozenTime> restore_processor(const SavedProcessor& to, const state::SavedUnit& saved);

/// Interrupts the processor with the PIC's vector, or with any other that needs no local APIC.
Result<> inject_interrupt(int processor, std::uint8_t vector);

}  // namespace bulkhead::engine::kvm
