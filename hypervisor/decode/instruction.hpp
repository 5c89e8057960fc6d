// SPDX-License-Identifier: Apache-2.0
//
// Decoding of the few instructions that the hypervisor completes itself: those that exit by their nature (only their length
// is of interest, and only where the processor does not tell it), and those with which guests access a local APIC's page.
// All other emulation is user mode's. AMD64 APM volume 3; Intel SDM volume 2.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

namespace bulkhead::hypervisor {

enum class CodeSize : std::uint8_t { k16Bit = 2, k32Bit = 4, k64Bit = 8 };

/// What the decoder knows.
enum class Operation : std::uint8_t {
  // No memory operand.
  Cpuid,
  ReadMsr,
  WriteMsr,
  Hypercall,
  Halt,
  SetXcr,
  Invd,
  Wbinvd,
  Monitor,
  Mwait,
  Pause,
  PortIo,
  // One memory operand.
  Move,
  MoveZeroExtend,
  MoveSignExtend,
  Exchange,
  Test,
  Add,
  Or,
  And,
  Subtract,
  Xor,
  Compare,
};

struct Instruction {
  Operation operation;
  std::uint8_t length = 0;
  /// In bytes: of the memory operand, and of the register operand (larger for MOVZX and MOVSX).
  std::uint8_t memory_size = 0;
  std::uint8_t register_size = 0;
  /// The result goes to memory.
  bool to_memory = false;
  /// The memory operand is the second one: SUB and CMP care.
  bool memory_second = false;
  /// The other operand: a register by its encoding, or a constant.
  bool has_immediate = false;
  std::uint8_t register_index = 0;
  /// AH, CH, DH, BH: the second byte of register_index.
  bool high_byte = false;
  std::uint64_t immediate = 0;
};

/// The longest that an instruction can be.
inline constexpr unsigned kMaximumInstructionLength = 15;

/// The instruction at the start of `bytes`; nothing if it is none of the known ones, has a form that accesses no memory where memory is
/// needed, is longer than 15 bytes, or not all there.
std::optional<Instruction> decode(std::span<const std::uint8_t> bytes, CodeSize code_size);

}  // namespace bulkhead::hypervisor
