// SPDX-License-Identifier: Apache-2.0
//
// Results and flags of the integer instructions: AMD64 APM volume 3, and for flags that are undefined there, what
// processors do.
#pragma once

#include <bit>
#include <cstdint>

#include "engine/emulator/instruction.hpp"
#include "engine/emulator/processor_state.hpp"

namespace bulkhead::engine::emulator {

constexpr std::uint64_t mask_of(unsigned size) { return size >= 8 ? ~0ull : (1ull << (size * 8)) - 1; }
constexpr std::uint64_t sign_of(unsigned size) { return 1ull << (size * 8 - 1); }

struct Arithmetic {
  std::uint64_t result;
  std::uint64_t flags;  // all of RFLAGS
};

constexpr std::uint64_t result_flags(std::uint64_t result, unsigned size) {
  std::uint64_t flags = 0;
  if (result == 0) flags |= kZero;
  if (result & sign_of(size)) flags |= kSign;
  if (std::popcount(result & 0xff) % 2 == 0) flags |= kParity;
  return flags;
}

constexpr Arithmetic add(std::uint64_t left, std::uint64_t right, bool carry, unsigned size, std::uint64_t flags) {
  const std::uint64_t result = (left + right + carry) & mask_of(size);
  const std::uint64_t carries = (left & right) | ((left | right) & ~result);  // out of each bit
  flags = (flags & ~kArithmeticFlags) | result_flags(result, size);
  if (carries & sign_of(size)) flags |= kCarry;
  if (carries & 8) flags |= kAdjust;
  if ((left ^ result) & (right ^ result) & sign_of(size)) flags |= kOverflow;
  return {result, flags};
}

constexpr Arithmetic subtract(std::uint64_t left, std::uint64_t right, bool borrow, unsigned size,
                              std::uint64_t flags) {
  const std::uint64_t result = (left - right - borrow) & mask_of(size);
  const std::uint64_t borrows = (~left & right) | ((~left | right) & result);  // into each bit from the next
  flags = (flags & ~kArithmeticFlags) | result_flags(result, size);
  if (borrows & sign_of(size)) flags |= kCarry;
  if (borrows & 8) flags |= kAdjust;
  if ((left ^ right) & (left ^ result) & sign_of(size)) flags |= kOverflow;
  return {result, flags};
}

constexpr Arithmetic logic(std::uint64_t result, unsigned size, std::uint64_t flags) {
  return {result, (flags & ~kArithmeticFlags) | result_flags(result, size)};
}

/// Operations of two operands that are no more than a function of both and of the flags. `Test` and `Cmp` have a result
/// that is not stored.
constexpr Arithmetic compute(Operation operation, std::uint64_t left, std::uint64_t right, unsigned size,
                             std::uint64_t flags) {
  const bool carry = flags & kCarry;
  switch (operation) {
    case Operation::Add:
    case Operation::Xadd: return add(left, right, false, size, flags);
    case Operation::Adc: return add(left, right, carry, size, flags);
    case Operation::Sub:
    case Operation::Cmp:
    case Operation::Cmpxchg: return subtract(left, right, false, size, flags);
    case Operation::Sbb: return subtract(left, right, carry, size, flags);
    case Operation::And:
    case Operation::Test: return logic(left & right, size, flags);
    case Operation::Or: return logic(left | right, size, flags);
    case Operation::Xor: return logic(left ^ right, size, flags);
    case Operation::Inc: {
      const Arithmetic sum = add(left, 1, false, size, flags);
      return {sum.result, (sum.flags & ~kCarry) | (flags & kCarry)};
    }
    case Operation::Dec: {
      const Arithmetic difference = subtract(left, 1, false, size, flags);
      return {difference.result, (difference.flags & ~kCarry) | (flags & kCarry)};
    }
    case Operation::Neg: return subtract(0, left, false, size, flags);
    case Operation::Not: return {~left & mask_of(size), flags};
    default: return {left, flags};
  }
}

}  // namespace bulkhead::engine::emulator
