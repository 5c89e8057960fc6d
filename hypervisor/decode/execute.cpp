// SPDX-License-Identifier: Apache-2.0
#include "hypervisor/decode/execute.hpp"

namespace bulkhead::hypervisor {
namespace {

constexpr std::uint64_t kCarry = 1 << 0, kParity = 1 << 2, kAuxiliary = 1 << 4, kZero = 1 << 6, kSign = 1 << 7,
                        kOverflow = 1 << 11;
constexpr std::uint64_t kArithmeticFlags = kCarry | kParity | kAuxiliary | kZero | kSign | kOverflow;

constexpr std::uint64_t mask_of(unsigned size) { return size == 8 ? ~0ull : (1ull << (8 * size)) - 1; }

std::uint64_t read_register(const std::uint64_t (&general)[16], const Instruction& instruction) {
  return general[instruction.register_index] >> (instruction.high_byte ? 8 : 0) & mask_of(instruction.register_size);
}

/// A 32-bit result clears the upper half, smaller ones leave it alone.
void write_register(std::uint64_t (&general)[16], const Instruction& instruction, std::uint64_t value) {
  std::uint64_t& to = general[instruction.register_index];
  const unsigned shift = instruction.high_byte ? 8 : 0;
  const std::uint64_t mask = (instruction.register_size == 4 ? ~0ull : mask_of(instruction.register_size)) << shift;
  to = (to & ~mask) | ((value & mask_of(instruction.register_size)) << shift & mask);
}

std::uint64_t result_flags(std::uint64_t result, unsigned size) {
  std::uint64_t flags = 0;
  if (result == 0) flags |= kZero;
  if (result >> (8 * size - 1) & 1) flags |= kSign;
  if (!__builtin_parity(static_cast<unsigned>(result & 0xff))) flags |= kParity;
  return flags;
}

/// first OP second, both of `size` bytes.
std::uint64_t compute(Operation operation, std::uint64_t first, std::uint64_t second, unsigned size,
                      std::uint64_t& rflags) {
  const std::uint64_t mask = mask_of(size), sign = 1ull << (8 * size - 1);
  std::uint64_t result = 0, flags = 0;
  switch (operation) {
    case Operation::Add:
      result = (first + second) & mask;
      if (result < first) flags |= kCarry;
      if (~(first ^ second) & (first ^ result) & sign) flags |= kOverflow;
      flags |= (first ^ second ^ result) & kAuxiliary;
      break;
    case Operation::Subtract:
    case Operation::Compare:
      result = (first - second) & mask;
      if (first < second) flags |= kCarry;
      if ((first ^ second) & (first ^ result) & sign) flags |= kOverflow;
      flags |= (first ^ second ^ result) & kAuxiliary;
      break;
    case Operation::Or: result = first | second; break;
    case Operation::Xor: result = first ^ second; break;
    default: result = first & second; break;  // AND, TEST
  }
  rflags = (rflags & ~kArithmeticFlags) | flags | result_flags(result, size);
  return result;
}

}  // namespace

std::optional<std::uint64_t> execute(const Instruction& instruction, std::uint64_t memory, std::uint64_t (&general)[16],
                                     std::uint64_t& rflags) {
  const unsigned size = instruction.memory_size;
  memory &= mask_of(size);
  const std::uint64_t other =
      instruction.has_immediate ? instruction.immediate & mask_of(size) : read_register(general, instruction);
  switch (instruction.operation) {
    case Operation::Move:
      if (instruction.to_memory) return other;
      write_register(general, instruction, memory);
      return std::nullopt;
    case Operation::MoveZeroExtend: write_register(general, instruction, memory); return std::nullopt;
    case Operation::MoveSignExtend: {
      const unsigned unused = 64 - 8 * size;
      write_register(general, instruction,
                     static_cast<std::uint64_t>(static_cast<std::int64_t>(memory << unused) >> unused));
      return std::nullopt;
    }
    case Operation::Exchange: write_register(general, instruction, memory); return other;
    case Operation::Test: compute(instruction.operation, memory, other, size, rflags); return std::nullopt;
    case Operation::Compare:
      if (instruction.memory_second)
        compute(instruction.operation, other, memory, size, rflags);
      else
        compute(instruction.operation, memory, other, size, rflags);
      return std::nullopt;
    default: break;
  }
  if (instruction.to_memory) return compute(instruction.operation, memory, other, size, rflags);
  write_register(general, instruction, compute(instruction.operation, other, memory, size, rflags));
  return std::nullopt;
}

}  // namespace bulkhead::hypervisor
