// SPDX-License-Identifier: Apache-2.0
#include "hypervisor/decode/instruction.hpp"

#include <algorithm>

namespace bulkhead::hypervisor {
namespace {

/// Reads the bytes one after the other; after the end, or after 15, it says so and gives zeros.
class Cursor {
 public:
  explicit Cursor(std::span<const std::uint8_t> bytes)
      : bytes_(bytes.first(std::min<std::size_t>(bytes.size(), kMaximumInstructionLength))) {}

  std::uint8_t next() {
    if (position_ >= bytes_.size()) {
      failed_ = true;
      return 0;
    }
    return bytes_[position_++];
  }
  /// A little-endian number of `size` bytes, sign-extended.
  std::uint64_t number(unsigned size) {
    std::uint64_t value = 0;
    for (unsigned i = 0; i < size; ++i) value |= std::uint64_t{next()} << (8 * i);
    const unsigned unused = 64 - 8 * size;
    return size == 0 ? 0 : static_cast<std::uint64_t>(static_cast<std::int64_t>(value << unused) >> unused);
  }
  bool failed() const { return failed_; }
  std::uint8_t position() const { return static_cast<std::uint8_t>(position_); }

 private:
  std::span<const std::uint8_t> bytes_;
  std::size_t position_ = 0;
  bool failed_ = false;
};

struct Prefixes {
  bool operand_size = false;
  bool address_size = false;
  bool rep = false;  // F3
  bool repne = false;
  bool lock = false;
  std::uint8_t rex = 0;
};

/// Consumes the prefixes and hands back the first byte of the opcode.
std::uint8_t read_prefixes(Cursor& cursor, CodeSize code_size, Prefixes& prefixes) {
  for (;;) {
    const std::uint8_t byte = cursor.next();
    if (cursor.failed()) return 0;
    switch (byte) {
      case 0x66: prefixes.operand_size = true; break;
      case 0x67: prefixes.address_size = true; break;
      case 0xf0: prefixes.lock = true; break;
      case 0xf2: prefixes.repne = true; break;
      case 0xf3: prefixes.rep = true; break;
      case 0x26:
      case 0x2e:
      case 0x36:
      case 0x3e:
      case 0x64:
      case 0x65: break;
      default:
        if (code_size == CodeSize::k64Bit && (byte & 0xf0) == 0x40) {
          prefixes.rex = byte;
          continue;  // counts only right before the opcode
        }
        return byte;
    }
    prefixes.rex = 0;
  }
}

struct ModRm {
  bool memory;
  std::uint8_t reg;  // without REX.R
};

/// Consumes ModRM, SIB and displacement.
ModRm read_modrm(Cursor& cursor, CodeSize code_size, const Prefixes& prefixes) {
  const std::uint8_t byte = cursor.next();
  const unsigned mod = byte >> 6, rm = byte & 7;
  const ModRm result{mod != 3, static_cast<std::uint8_t>(byte >> 3 & 7)};
  if (mod == 3) return result;
  const bool address_16 = (code_size == CodeSize::k16Bit) != prefixes.address_size && code_size != CodeSize::k64Bit;
  if (address_16) {
    cursor.number(mod == 1 ? 1 : mod == 2 || rm == 6 ? 2 : 0);
    return result;
  }
  bool base_is_displacement = rm == 5;
  if (rm == 4) base_is_displacement = (cursor.next() & 7) == 5;
  cursor.number(mod == 1 ? 1 : mod == 2 || base_is_displacement ? 4 : 0);
  return result;
}

/// Instructions that exit by their nature. Opcode maps: one byte, 0F, 0F 01.
std::optional<Operation> plain_operation(std::uint8_t opcode, const Prefixes& prefixes) {
  if (opcode == 0xf4) return Operation::Halt;
  if (opcode == 0x90 && prefixes.rep) return Operation::Pause;
  const unsigned four = opcode & 0xfc;  // 6C to 6F: INS, OUTS; EC to EF: IN, OUT with the port in DX
  return four == 0x6c || four == 0xec ? std::optional(Operation::PortIo) : std::nullopt;
}
std::optional<Operation> plain_operation_0f(std::uint8_t opcode) {
  switch (opcode) {
    case 0x08: return Operation::Invd;
    case 0x09: return Operation::Wbinvd;
    case 0x30: return Operation::WriteMsr;
    case 0x32: return Operation::ReadMsr;
    case 0xa2: return Operation::Cpuid;
    default: return std::nullopt;
  }
}
std::optional<Operation> plain_operation_0f01(std::uint8_t modrm) {
  switch (modrm) {
    case 0xc1:
    case 0xd9: return Operation::Hypercall;
    case 0xc8: return Operation::Monitor;
    case 0xc9: return Operation::Mwait;
    case 0xd1: return Operation::SetXcr;
    default: return std::nullopt;
  }
}

/// The arithmetic group: bits 5..3 of the opcode, or ModRM.reg of 80, 81 and 83. ADC and SBB are not used on an APIC.
std::optional<Operation> arithmetic(unsigned number) {
  switch (number) {
    case 0: return Operation::Add;
    case 1: return Operation::Or;
    case 4: return Operation::And;
    case 5: return Operation::Subtract;
    case 6: return Operation::Xor;
    case 7: return Operation::Compare;
    default: return std::nullopt;
  }
}

class MemoryDecoder {
 public:
  MemoryDecoder(Cursor& cursor, CodeSize code_size, const Prefixes& prefixes)
      : cursor_(cursor), code_size_(code_size), prefixes_(prefixes) {}

  std::optional<Instruction> one_byte(std::uint8_t opcode) {
    size_ = opcode & 1 ? wide_size() : 1;
    if (opcode < 0x40 && (opcode & 7) < 4) {
      const auto operation = arithmetic(opcode >> 3);
      if (!operation) return std::nullopt;
      auto result = with_register(*operation, !(opcode & 2) && *operation != Operation::Compare);
      if (result) result->memory_second = opcode & 2;
      return result;
    }
    if (opcode == 0x83) return with_immediate(1, std::nullopt);
    const unsigned immediate_size = std::min<unsigned>(size_, 4);
    switch (opcode & ~1u) {  // the odd ones are the same with a wide operand
      case 0x80: return with_immediate(immediate_size, std::nullopt);
      case 0x84: return with_register(Operation::Test, false);
      case 0x86: return with_register(Operation::Exchange, true);
      case 0x88: return with_register(Operation::Move, true);
      case 0x8a: return with_register(Operation::Move, false);
      case 0xa0: return with_offset(false);
      case 0xa2: return with_offset(true);
      case 0xc6: return with_immediate(immediate_size, Operation::Move);
      case 0xf6: return with_immediate(immediate_size, Operation::Test);
      default: return std::nullopt;
    }
  }

  std::optional<Instruction> two_byte(std::uint8_t opcode) {
    if (opcode != 0xb6 && opcode != 0xb7 && opcode != 0xbe && opcode != 0xbf) return std::nullopt;
    size_ = opcode & 1 ? 2 : 1;
    auto result = with_register(opcode < 0xb8 ? Operation::MoveZeroExtend : Operation::MoveSignExtend, false);
    if (result) {
      result->register_size = wide_size();
      result->register_index = static_cast<std::uint8_t>(full_register_);
      result->high_byte = false;
    }
    return result;
  }

 private:
  std::uint8_t wide_size() const {
    if (prefixes_.rex & 8) return 8;
    return (code_size_ == CodeSize::k16Bit) != prefixes_.operand_size ? 2 : 4;
  }

  std::optional<Instruction> with_register(Operation operation, bool to_memory) {
    const ModRm modrm = read_modrm(cursor_, code_size_, prefixes_);
    if (!modrm.memory) return std::nullopt;
    full_register_ = modrm.reg | (prefixes_.rex & 4 ? 8u : 0u);
    // Without REX, byte registers 4 to 7 are AH to BH.
    const bool high = size_ == 1 && !prefixes_.rex && modrm.reg >= 4;
    return Instruction{.operation = operation,
                       .memory_size = size_,
                       .register_size = size_,
                       .to_memory = to_memory,
                       .register_index = static_cast<std::uint8_t>(high ? modrm.reg - 4u : full_register_),
                       .high_byte = high};
  }

  /// Without `operation`, ModRM.reg tells it; else ModRM.reg must be 0.
  std::optional<Instruction> with_immediate(unsigned immediate_size, std::optional<Operation> operation) {
    const ModRm modrm = read_modrm(cursor_, code_size_, prefixes_);
    if (!modrm.memory) return std::nullopt;
    if (!operation)
      operation = arithmetic(modrm.reg);
    else if (modrm.reg != 0)
      return std::nullopt;
    if (!operation) return std::nullopt;
    return Instruction{.operation = *operation,
                       .memory_size = size_,
                       .register_size = size_,
                       .to_memory = *operation != Operation::Test && *operation != Operation::Compare,
                       .has_immediate = true,
                       .immediate = cursor_.number(immediate_size)};
  }

  /// MOV between AL/eAX/RAX and an address in the instruction.
  std::optional<Instruction> with_offset(bool to_memory) {
    unsigned address = static_cast<unsigned>(code_size_);
    if (prefixes_.address_size) address = code_size_ == CodeSize::k32Bit ? 2 : 4;
    cursor_.number(address);
    return Instruction{
        .operation = Operation::Move, .memory_size = size_, .register_size = size_, .to_memory = to_memory};
  }

  Cursor& cursor_;
  CodeSize code_size_;
  const Prefixes& prefixes_;
  std::uint8_t size_ = 0;
  unsigned full_register_ = 0;
};

std::optional<Instruction> decode_operation(Cursor& cursor, CodeSize code_size) {
  Prefixes prefixes;
  const std::uint8_t opcode = read_prefixes(cursor, code_size, prefixes);
  const auto plain = [](std::optional<Operation> operation) -> std::optional<Instruction> {
    return operation ? std::optional(Instruction{.operation = *operation}) : std::nullopt;
  };
  MemoryDecoder memory(cursor, code_size, prefixes);
  std::optional<Instruction> result;
  if (opcode == 0x0f) {
    const std::uint8_t second = cursor.next();
    if (second == 0x01) return prefixes.lock ? std::nullopt : plain(plain_operation_0f01(cursor.next()));
    result = plain(plain_operation_0f(second));
    if (!result) result = memory.two_byte(second);
  } else if (opcode >= 0xe4 && opcode <= 0xe7) {
    cursor.next();
    result = Instruction{.operation = Operation::PortIo};
  } else {
    result = plain(plain_operation(opcode, prefixes));
    if (!result) result = memory.one_byte(opcode);
  }
  if (!result || !prefixes.lock) return result;
  // LOCK is only for what reads and writes memory.
  const bool lockable = result->to_memory && result->operation != Operation::Move;
  return lockable ? result : std::nullopt;
}

}  // namespace

std::optional<Instruction> decode(std::span<const std::uint8_t> bytes, CodeSize code_size) {
  Cursor cursor(bytes);
  std::optional<Instruction> result = decode_operation(cursor, code_size);
  if (!result || cursor.failed()) return std::nullopt;
  result->length = cursor.position();
  return result;
}

}  // namespace bulkhead::hypervisor
