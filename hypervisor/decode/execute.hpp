// SPDX-License-Identifier: Apache-2.0
//
// What a decoded instruction with a memory operand does: its results from its operands, apart from where they come from.
#pragma once

#include <cstdint>
#include <optional>

#include "hypervisor/decode/instruction.hpp"

namespace bulkhead::hypervisor {

/// Of an instruction whose memory operand held `memory`. `general`: RAX .. R15, changed; `rflags`: changed.
/// Returns what is written to memory, if anything.
std::optional<std::uint64_t> execute(const Instruction& instruction, std::uint64_t memory, std::uint64_t (&general)[16],
                                     std::uint64_t& rflags);

/// Whether the memory operand is read at all: a plain store does not, and a device may care.
constexpr bool reads_memory(const Instruction& instruction) {
  return instruction.operation != Operation::Move || !instruction.to_memory;
}

/// Whether it is one with a memory operand.
constexpr bool has_memory_operand(const Instruction& instruction) { return instruction.memory_size != 0; }

}  // namespace bulkhead::hypervisor
