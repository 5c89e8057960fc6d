// SPDX-License-Identifier: Apache-2.0
//
// A processor of the hypervisor as saved state. Everything that has a name in the TLFS is written by it
// (engine/saved_registers.hpp); local APIC, synthetic timers and the XSAVE area are in the layouts of the calls that give them
// (abi/hypercall.h).
//
//   save      local APIC first: what has come for the processor goes in, and may change registers
//   restore   registers, local APIC, and then the registers whose meaning depends on it; what makes a processor run last
#pragma once

#include "engine/native/vid.hpp"
#include "error/error.hpp"
#include "state/saved_state.hpp"

namespace bulkhead::engine::native {

/// The processor to save or restore, and what saved state depends on.
struct SavedProcessor {
  VidProcessor& processor;
  VidPartition& partition;
  std::uint32_t index;
  std::uint64_t tsc_frequency;
};

Result<state::SavedUnit> save_processor(const SavedProcessor& from);
/// Errors: as VirtualProcessor::restore says.
Result<> restore_processor(const SavedProcessor& to, const state::SavedUnit& saved);

}  // namespace bulkhead::engine::native
