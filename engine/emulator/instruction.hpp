// SPDX-License-Identifier: Apache-2.0
//
// An instruction as the emulator executes it: Zydis' answer cut down to what matters for an operand in memory. Small,
// because decoded instructions are kept.
#pragma once

#include <cstdint>

namespace bulkhead::engine::emulator {

enum class Operation : std::uint8_t {
  Load,   // register <- memory, with extension; MOV, MOVZX, MOVSX, MOVSXD
  Store,  // memory <- register or immediate; MOV, MOVNTI
  LoadSwapped,
  StoreSwapped,  // MOVBE
  Add,
  Or,
  Adc,
  Sbb,
  And,
  Sub,
  Xor,
  Cmp,
  Test,
  Inc,
  Dec,
  Not,
  Neg,
  Xchg,
  Cmpxchg,
  Xadd,
  Bt,
  Bts,
  Btr,
  Btc,
  Push,
  Pop,
  Movs,
  Stos,
  Lods,
  Scas,
  Cmps,
  Ins,
  Outs,
  VectorLoad,
  VectorStore,
  TouchOnly,  // CLFLUSH and the like: an access that moves no data
};

/// What stands beside the operand in memory.
enum class Partner : std::uint8_t { None, Register, Immediate };

enum class Repeat : std::uint8_t { None, Equal, NotEqual };  // Equal: also plain REP

inline constexpr std::uint8_t kNoRegister = 0xff;
inline constexpr std::uint8_t kInstructionPointer = 0x10;

struct Instruction {
  Operation operation;
  std::uint8_t length;
  std::uint8_t size;          // of the operand in memory, in bytes
  std::uint8_t address_size;  // 2, 4 or 8

  Partner partner = Partner::None;
  std::uint8_t partner_register = 0;  // number; of XMM registers too
  std::uint8_t partner_size = 0;
  bool partner_is_high_byte = false;  // AH, CH, DH, BH
  bool memory_is_destination = false;
  bool sign_extend = false;
  bool must_be_aligned = false;  // vector moves that fault when the operand is not
  bool clears_upper = false;     // vector: VEX form, which zeroes the register above 128 bits

  Repeat repeat = Repeat::None;
  std::uint8_t segment = 0;  // kEs to kGs
  std::uint8_t base = kNoRegister, index = kNoRegister, scale = 1;
  std::int64_t displacement = 0;
  std::uint64_t immediate = 0;
};

}  // namespace bulkhead::engine::emulator
