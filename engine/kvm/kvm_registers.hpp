// SPDX-License-Identifier: Apache-2.0
//
// A processor's registers by TLFS name, over KVM's groups of registers. Only the groups that are named are read, and
// written back.
#pragma once

#include <span>

#include "engine/engine.hpp"
#include "error/error.hpp"

namespace bulkhead::engine::kvm {

/// Errors: a name that KVM has nothing for; a value the processor cannot have. All or nothing for each group.
Result<> write_registers(int processor, std::span<const RegisterAssignment> assignments);
Result<> read_registers(int processor, std::uint32_t vp_index, std::span<RegisterAssignment> assignments);

}  // namespace bulkhead::engine::kvm
