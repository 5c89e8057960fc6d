// SPDX-License-Identifier: Apache-2.0
#include "engine/emulator/decoder.hpp"

#include <Zydis/Zydis.h>

#include <cstring>
#include <optional>

#include "engine/emulator/processor_state.hpp"

namespace bulkhead::engine::emulator {
namespace {

const ZydisDecoder& zydis_decoder(Mode mode) {
  static const std::array<ZydisDecoder, 3> decoders = [] {
    std::array<ZydisDecoder, 3> made;
    ZydisDecoderInit(made.data(), ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16);
    ZydisDecoderInit(&made[1], ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32);
    ZydisDecoderInit(&made[2], ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
    return made;
  }();
  return decoders[static_cast<std::size_t>(mode)];
}

struct Meaning {
  Operation operation;
  bool is_vector = false;
  bool must_be_aligned = false;
  bool sign_extend = false;
  std::uint8_t vector_size = 0;  // where it differs from what Zydis says
};

std::optional<Meaning> string_meaning(ZydisMnemonic mnemonic) {
  switch (mnemonic) {
    case ZYDIS_MNEMONIC_MOVSB:
    case ZYDIS_MNEMONIC_MOVSW:
    case ZYDIS_MNEMONIC_MOVSD:
    case ZYDIS_MNEMONIC_MOVSQ: return Meaning{Operation::Movs};
    case ZYDIS_MNEMONIC_STOSB:
    case ZYDIS_MNEMONIC_STOSW:
    case ZYDIS_MNEMONIC_STOSD:
    case ZYDIS_MNEMONIC_STOSQ: return Meaning{Operation::Stos};
    case ZYDIS_MNEMONIC_LODSB:
    case ZYDIS_MNEMONIC_LODSW:
    case ZYDIS_MNEMONIC_LODSD:
    case ZYDIS_MNEMONIC_LODSQ: return Meaning{Operation::Lods};
    case ZYDIS_MNEMONIC_SCASB:
    case ZYDIS_MNEMONIC_SCASW:
    case ZYDIS_MNEMONIC_SCASD:
    case ZYDIS_MNEMONIC_SCASQ: return Meaning{Operation::Scas};
    case ZYDIS_MNEMONIC_CMPSB:
    case ZYDIS_MNEMONIC_CMPSW:
    case ZYDIS_MNEMONIC_CMPSD:
    case ZYDIS_MNEMONIC_CMPSQ: return Meaning{Operation::Cmps};
    case ZYDIS_MNEMONIC_INSB:
    case ZYDIS_MNEMONIC_INSW:
    case ZYDIS_MNEMONIC_INSD: return Meaning{Operation::Ins};
    case ZYDIS_MNEMONIC_OUTSB:
    case ZYDIS_MNEMONIC_OUTSW:
    case ZYDIS_MNEMONIC_OUTSD: return Meaning{Operation::Outs};
    default: return std::nullopt;
  }
}

std::optional<Meaning> vector_meaning(ZydisMnemonic mnemonic) {
  const auto move = [](bool aligned) {
    return Meaning{.operation = Operation::VectorLoad, .is_vector = true, .must_be_aligned = aligned};
  };
  switch (mnemonic) {
    case ZYDIS_MNEMONIC_MOVUPS:
    case ZYDIS_MNEMONIC_MOVUPD:
    case ZYDIS_MNEMONIC_MOVDQU:
    case ZYDIS_MNEMONIC_LDDQU:
    case ZYDIS_MNEMONIC_VMOVUPS:
    case ZYDIS_MNEMONIC_VMOVUPD:
    case ZYDIS_MNEMONIC_VMOVDQU:
    case ZYDIS_MNEMONIC_VLDDQU:
    case ZYDIS_MNEMONIC_MOVD:
    case ZYDIS_MNEMONIC_MOVQ:
    case ZYDIS_MNEMONIC_MOVSS:
    case ZYDIS_MNEMONIC_VMOVD:
    case ZYDIS_MNEMONIC_VMOVQ:
    case ZYDIS_MNEMONIC_VMOVSS:
    case ZYDIS_MNEMONIC_VMOVSD: return move(false);
    case ZYDIS_MNEMONIC_MOVAPS:
    case ZYDIS_MNEMONIC_MOVAPD:
    case ZYDIS_MNEMONIC_MOVDQA:
    case ZYDIS_MNEMONIC_MOVNTPS:
    case ZYDIS_MNEMONIC_MOVNTPD:
    case ZYDIS_MNEMONIC_MOVNTDQ:
    case ZYDIS_MNEMONIC_MOVNTDQA:
    case ZYDIS_MNEMONIC_VMOVAPS:
    case ZYDIS_MNEMONIC_VMOVAPD:
    case ZYDIS_MNEMONIC_VMOVDQA:
    case ZYDIS_MNEMONIC_VMOVNTPS:
    case ZYDIS_MNEMONIC_VMOVNTPD:
    case ZYDIS_MNEMONIC_VMOVNTDQ:
    case ZYDIS_MNEMONIC_VMOVNTDQA: return move(true);
    default: return std::nullopt;
  }
}

std::optional<Meaning> integer_meaning(ZydisMnemonic mnemonic) {
  switch (mnemonic) {
    case ZYDIS_MNEMONIC_MOV:
    case ZYDIS_MNEMONIC_MOVNTI:
    case ZYDIS_MNEMONIC_MOVZX: return Meaning{Operation::Load};
    case ZYDIS_MNEMONIC_MOVSX:
    case ZYDIS_MNEMONIC_MOVSXD: return Meaning{.operation = Operation::Load, .sign_extend = true};
    case ZYDIS_MNEMONIC_MOVBE: return Meaning{Operation::LoadSwapped};
    case ZYDIS_MNEMONIC_ADD: return Meaning{Operation::Add};
    case ZYDIS_MNEMONIC_OR: return Meaning{Operation::Or};
    case ZYDIS_MNEMONIC_ADC: return Meaning{Operation::Adc};
    case ZYDIS_MNEMONIC_SBB: return Meaning{Operation::Sbb};
    case ZYDIS_MNEMONIC_AND: return Meaning{Operation::And};
    case ZYDIS_MNEMONIC_SUB: return Meaning{Operation::Sub};
    case ZYDIS_MNEMONIC_XOR: return Meaning{Operation::Xor};
    case ZYDIS_MNEMONIC_CMP: return Meaning{Operation::Cmp};
    case ZYDIS_MNEMONIC_TEST: return Meaning{Operation::Test};
    case ZYDIS_MNEMONIC_INC: return Meaning{Operation::Inc};
    case ZYDIS_MNEMONIC_DEC: return Meaning{Operation::Dec};
    case ZYDIS_MNEMONIC_NOT: return Meaning{Operation::Not};
    case ZYDIS_MNEMONIC_NEG: return Meaning{Operation::Neg};
    case ZYDIS_MNEMONIC_XCHG: return Meaning{Operation::Xchg};
    case ZYDIS_MNEMONIC_CMPXCHG: return Meaning{Operation::Cmpxchg};
    case ZYDIS_MNEMONIC_XADD: return Meaning{Operation::Xadd};
    case ZYDIS_MNEMONIC_BT: return Meaning{Operation::Bt};
    case ZYDIS_MNEMONIC_BTS: return Meaning{Operation::Bts};
    case ZYDIS_MNEMONIC_BTR: return Meaning{Operation::Btr};
    case ZYDIS_MNEMONIC_BTC: return Meaning{Operation::Btc};
    case ZYDIS_MNEMONIC_PUSH: return Meaning{Operation::Push};
    case ZYDIS_MNEMONIC_POP: return Meaning{Operation::Pop};
    case ZYDIS_MNEMONIC_CLFLUSH:
    case ZYDIS_MNEMONIC_CLFLUSHOPT:
    case ZYDIS_MNEMONIC_CLWB: return Meaning{Operation::TouchOnly};
    default: return std::nullopt;
  }
}

std::optional<std::uint8_t> segment_number(ZydisRegister segment) {
  switch (segment) {
    case ZYDIS_REGISTER_ES: return kEs;
    case ZYDIS_REGISTER_CS: return kCs;
    case ZYDIS_REGISTER_SS: return kSs;
    case ZYDIS_REGISTER_DS: return kDs;
    case ZYDIS_REGISTER_FS: return kFs;
    case ZYDIS_REGISTER_GS: return kGs;
    default: return std::nullopt;
  }
}

std::optional<std::uint8_t> general_number(ZydisRegister from) {
  if (from == ZYDIS_REGISTER_NONE) return kNoRegister;
  if (from == ZYDIS_REGISTER_RIP || from == ZYDIS_REGISTER_EIP) return kInstructionPointer;
  switch (ZydisRegisterGetClass(from)) {
    case ZYDIS_REGCLASS_GPR16:
    case ZYDIS_REGCLASS_GPR32:
    case ZYDIS_REGCLASS_GPR64: return static_cast<std::uint8_t>(ZydisRegisterGetId(from));
    default: return std::nullopt;
  }
}

/// A register as the partner of memory: general or XMM.
bool take_register(ZydisRegister from, Instruction& to, bool is_vector) {
  to.partner = Partner::Register;
  to.partner_is_high_byte =
      from == ZYDIS_REGISTER_AH || from == ZYDIS_REGISTER_CH || from == ZYDIS_REGISTER_DH || from == ZYDIS_REGISTER_BH;
  const ZydisRegisterClass kind = ZydisRegisterGetClass(from);
  to.partner_size = static_cast<std::uint8_t>(ZydisRegisterGetWidth(ZYDIS_MACHINE_MODE_LONG_64, from) / 8);
  if (is_vector) {
    to.partner_register = static_cast<std::uint8_t>(ZydisRegisterGetId(from));
    return kind == ZYDIS_REGCLASS_XMM && to.partner_register < 16;
  }
  switch (kind) {
    case ZYDIS_REGCLASS_GPR8:
      to.partner_register = static_cast<std::uint8_t>(to.partner_is_high_byte      ? from - ZYDIS_REGISTER_AH
                                                      : from <= ZYDIS_REGISTER_BL  ? from - ZYDIS_REGISTER_AL
                                                      : from >= ZYDIS_REGISTER_R8B ? from - ZYDIS_REGISTER_R8B + 8
                                                                                   : from - ZYDIS_REGISTER_SPL + 4);
      return true;
    case ZYDIS_REGCLASS_GPR16:
    case ZYDIS_REGCLASS_GPR32:
    case ZYDIS_REGCLASS_GPR64: to.partner_register = static_cast<std::uint8_t>(ZydisRegisterGetId(from)); return true;
    default: return false;
  }
}

bool take_memory(const ZydisDecodedOperand& from, Instruction& to) {
  const auto segment = segment_number(from.mem.segment);
  const auto base = general_number(from.mem.base);
  const auto index = general_number(from.mem.index);
  if (!segment || !base || !index) return false;
  to.segment = *segment;
  to.base = *base;
  to.index = *index;
  to.scale = from.mem.scale == 0 ? 1 : from.mem.scale;
  to.displacement = from.mem.disp.has_displacement ? from.mem.disp.value : 0;
  to.size = static_cast<std::uint8_t>(from.size / 8);
  return true;
}

/// The explicit operands: one in memory, and at most one beside it.
bool take_operands(const ZydisDecodedInstruction& zydis, std::span<const ZydisDecodedOperand> operands,
                   const Meaning& meaning, Instruction& to) {
  bool has_memory = false;
  for (std::size_t number = 0; number < zydis.operand_count_visible; ++number) {
    const ZydisDecodedOperand& operand = operands[number];
    switch (operand.type) {
      case ZYDIS_OPERAND_TYPE_MEMORY:
        if (has_memory || !take_memory(operand, to)) return false;
        has_memory = true;
        to.memory_is_destination = number == 0;
        break;
      case ZYDIS_OPERAND_TYPE_REGISTER:
        if (to.partner != Partner::None || !take_register(operand.reg.value, to, meaning.is_vector)) return false;
        break;
      case ZYDIS_OPERAND_TYPE_IMMEDIATE:
        if (to.partner != Partner::None) return false;
        to.partner = Partner::Immediate;
        to.immediate = operand.imm.value.u;
        break;
      default: return false;
    }
  }
  return has_memory;
}

/// String instructions name their operands by themselves: DS:RSI (the segment can be another) and ES:RDI.
bool take_string(const ZydisDecodedInstruction& zydis, std::span<const ZydisDecodedOperand> operands, Instruction& to) {
  to.segment = kDs;
  for (std::size_t number = 0; number < zydis.operand_count; ++number) {
    const ZydisDecodedOperand& operand = operands[number];
    if (operand.type != ZYDIS_OPERAND_TYPE_MEMORY) continue;
    to.size = static_cast<std::uint8_t>(operand.size / 8);
    if (ZydisRegisterGetId(operand.mem.base) != 6) continue;
    const auto segment = segment_number(operand.mem.segment);
    if (!segment) return false;
    to.segment = *segment;
  }
  // Zydis drops a REPNE that is not meant for the instruction, but the processor repeats all the same.
  for (std::size_t number = 0; number < zydis.raw.prefix_count; ++number) {
    if (zydis.raw.prefixes[number].value == 0xf3) to.repeat = Repeat::Equal;
    if (zydis.raw.prefixes[number].value == 0xf2) to.repeat = Repeat::NotEqual;
  }
  return true;
}

/// Load and store are one mnemonic; which one it is, is told by the operands' order.
void give_direction(Instruction& to) {
  if (!to.memory_is_destination) return;
  switch (to.operation) {
    case Operation::Load: to.operation = Operation::Store; break;
    case Operation::LoadSwapped: to.operation = Operation::StoreSwapped; break;
    case Operation::VectorLoad: to.operation = Operation::VectorStore; break;
    default: break;
  }
}

}  // namespace

DecodeResult decode(Mode mode, std::span<const std::uint8_t> bytes, Instruction& instruction) {
  ZydisDecodedInstruction zydis;
  std::array<ZydisDecodedOperand, ZYDIS_MAX_OPERAND_COUNT> operands;
  const ZyanStatus status =
      ZydisDecoderDecodeFull(&zydis_decoder(mode), bytes.data(), bytes.size(), &zydis, operands.data());
  if (status == ZYDIS_STATUS_NO_MORE_DATA) {
    return bytes.size() < kLongestInstruction ? DecodeResult::NeedsMoreBytes : DecodeResult::Unsupported;
  }
  if (!ZYAN_SUCCESS(status)) return DecodeResult::Unsupported;

  instruction = Instruction{};
  instruction.length = zydis.length;
  instruction.address_size = static_cast<std::uint8_t>(zydis.address_width / 8);

  const bool is_string =
      zydis.meta.category == ZYDIS_CATEGORY_STRINGOP || zydis.meta.category == ZYDIS_CATEGORY_IOSTRINGOP;
  auto meaning = is_string ? string_meaning(zydis.mnemonic) : integer_meaning(zydis.mnemonic);
  if (is_string) {
    if (!meaning || !take_string(zydis, operands, instruction)) return DecodeResult::Unsupported;
    instruction.operation = meaning->operation;
    return DecodeResult::Decoded;
  }
  if (!meaning) meaning = vector_meaning(zydis.mnemonic);
  if (!meaning && zydis.mnemonic == ZYDIS_MNEMONIC_MOVSD)
    meaning = Meaning{.operation = Operation::VectorLoad, .is_vector = true};
  if (!meaning) return DecodeResult::Unsupported;
  instruction.operation = meaning->operation;
  instruction.sign_extend = meaning->sign_extend;
  instruction.must_be_aligned = meaning->must_be_aligned;
  instruction.clears_upper = zydis.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX;
  if (zydis.encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX || zydis.encoding == ZYDIS_INSTRUCTION_ENCODING_MVEX) {
    return DecodeResult::Unsupported;
  }
  if (!take_operands(zydis, operands, *meaning, instruction)) return DecodeResult::Unsupported;
  give_direction(instruction);
  const bool is_vector =
      instruction.operation == Operation::VectorLoad || instruction.operation == Operation::VectorStore;
  const std::uint8_t largest = is_vector ? 16 : 8;
  if (instruction.operation != Operation::TouchOnly && (instruction.size == 0 || instruction.size > largest)) {
    return DecodeResult::Unsupported;
  }
  return DecodeResult::Decoded;
}

DecodeResult Decoder::decode(Mode mode, const InstructionBytes& code, std::uint64_t code_address,
                             const Instruction*& instruction) {
  Entry& entry = entries_[(code_address ^ (code_address >> 6)) % entries_.size()];
  if (entry.used && entry.mode == mode && entry.instruction.length <= code.count) {
    std::uint64_t here[2], kept[2], mask[2];
    std::memcpy(here, code.bytes.data(), 16);
    std::memcpy(kept, entry.bytes.data(), 16);
    std::memcpy(mask, entry.mask.data(), 16);
    if ((((here[0] ^ kept[0]) & mask[0]) | ((here[1] ^ kept[1]) & mask[1])) == 0) {
      instruction = &entry.instruction;
      return DecodeResult::Decoded;
    }
  }
  entry.used = false;
  const DecodeResult result = emulator::decode(mode, std::span(code.bytes).first(code.count), entry.instruction);
  if (result != DecodeResult::Decoded) return result;
  entry.used = true;
  entry.mode = mode;
  entry.bytes = code.bytes;
  entry.mask.fill(0);
  std::memset(entry.mask.data(), 0xff, entry.instruction.length);
  instruction = &entry.instruction;
  return DecodeResult::Decoded;
}

}  // namespace bulkhead::engine::emulator
