// SPDX-License-Identifier: Apache-2.0
//
// A processor's registers in saved state: their names as the TLFS numbers them, and their values. Both engines write
// those of kSavedRegisters this way.
#pragma once

#include <array>
#include <span>
#include <string_view>

#include "engine/engine.hpp"

namespace bulkhead::engine {

/// What every engine has by name, in an order in which each value is valid beside those before it.
inline constexpr std::array kSavedRegisters = {
    abi::RegisterName::ApicBase, abi::RegisterName::Efer, abi::RegisterName::Cr4,    abi::RegisterName::Cr3,
    abi::RegisterName::Cr2,      abi::RegisterName::Cr0,  abi::RegisterName::Cr8,    abi::RegisterName::Es,
    abi::RegisterName::Cs,       abi::RegisterName::Ss,   abi::RegisterName::Ds,     abi::RegisterName::Fs,
    abi::RegisterName::Gs,       abi::RegisterName::Ldtr, abi::RegisterName::Tr,     abi::RegisterName::Idtr,
    abi::RegisterName::Gdtr,     abi::RegisterName::Rax,  abi::RegisterName::Rcx,    abi::RegisterName::Rdx,
    abi::RegisterName::Rbx,      abi::RegisterName::Rsp,  abi::RegisterName::Rbp,    abi::RegisterName::Rsi,
    abi::RegisterName::Rdi,      abi::RegisterName::R8,   abi::RegisterName::R9,     abi::RegisterName::R10,
    abi::RegisterName::R11,      abi::RegisterName::R12,  abi::RegisterName::R13,    abi::RegisterName::R14,
    abi::RegisterName::R15,      abi::RegisterName::Rip,  abi::RegisterName::Rflags, abi::RegisterName::Dr0,
    abi::RegisterName::Dr1,      abi::RegisterName::Dr2,  abi::RegisterName::Dr3,    abi::RegisterName::Dr6,
    abi::RegisterName::Dr7,
};

/// As the field `name` of a unit: for each register its name (4 bytes) and its value (16).
void save_registers(state::SavedUnit& unit, std::string_view name, std::span<const RegisterAssignment> registers);

/// Fills in the values. The saved names must be just those of `registers`, in their order.
Result<> read_saved_registers(std::span<const std::uint8_t> saved, std::span<RegisterAssignment> registers);

/// Assignments without values for the names.
std::vector<RegisterAssignment> assignments_for(std::span<const abi::RegisterName> names);

}  // namespace bulkhead::engine
