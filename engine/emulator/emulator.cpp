// SPDX-License-Identifier: Apache-2.0
#include "engine/emulator/emulator.hpp"

#include <fmt/format.h>

#include <cstring>

namespace bulkhead::engine::emulator {
namespace {

constexpr std::uint64_t kPageMask = 4095;

Mode mode_of(const ProcessorState& state) {
  if (state.is_64_bit()) return Mode::Bits64;
  const bool is_32_bit = (state.segments[kCs].attributes & kSegmentDefault) && !(state.rflags & kVirtual8086);
  return is_32_bit ? Mode::Bits32 : Mode::Bits16;
}

std::uint64_t code_address(const ProcessorState& state) {
  if (state.is_64_bit()) return state.rip;
  return (state.segments[kCs].base + (state.rip & 0xffffffff)) & 0xffffffff;
}

}  // namespace

Step Emulator::begin(ProcessorState& state, AccessHint hint) {
  state_ = &state;
  hint_ = hint;
  hint_applies_ = false;
  instruction_ = nullptr;
  code_ = {};
  recorded_ = 0;
  repetitions_ = 0;
  touched_device_ = false;
  if (!fetch() || instruction_ == nullptr) return step_;
  switch (instruction_->operation) {
    case Operation::Push:
    case Operation::Pop:
    case Operation::Movs:
    case Operation::Stos:
    case Operation::Lods:
    case Operation::Scas:
    case Operation::Cmps:
    case Operation::Ins:
    case Operation::Outs: break;  // two operands in memory, or other addresses at the next repetition
    default: hint_applies_ = hint.is_operand && !hint.is_fetch;
  }
  return go_on();
}

Step Emulator::resume() {
  // A store that is a single access is over with it, and need not be executed again.
  if (instruction_->operation == Operation::Store && is_whole_operand()) [[likely]] {
    finish();
    return step_;
  }
  record(0);
  return go_on();
}

Step Emulator::resume(std::uint64_t value) {
  if (instruction_->operation == Operation::Load && is_whole_operand()) [[likely]] {
    finish_load(value & mask_of(instruction_->size));
    return step_;
  }
  if (const auto* access = std::get_if<MemoryAccess>(&step_)) {
    record(value & mask_of(access->size));
  } else if (const auto* port = std::get_if<PortAccess>(&step_)) {
    record(value & mask_of(port->size));
  }
  return go_on();
}

bool Emulator::is_whole_operand() const {
  const auto* access = std::get_if<MemoryAccess>(&step_);
  return access != nullptr && access->size == instruction_->size;
}

Step Emulator::go_on() {
  position_ = 0;
  execute();
  return step_;
}

std::string Emulator::describe() const {
  std::string text = "the instruction";
  for (std::size_t index = 0; index < code_.count; ++index) text += fmt::format(" {:02x}", code_.bytes[index]);
  if (code_.count == 0) text += " (no memory)";
  if (state_ != nullptr) text += fmt::format(" at {:#x}", code_address(*state_));
  return text;
}

bool Emulator::fetch() {
  const Mode mode = mode_of(*state_);
  const std::uint64_t start = code_address(*state_);
  const AccessKind access = {.fetch = true, .user = state_->privilege_level() == 3};
  std::uint64_t address = start;
  for (int page = 0; page < 2; ++page) {
    const Translation translation = translate(*state_, memory_, address, access, written_);
    if (translation.outcome == Translation::Outcome::PageFault) return page_fault(address, translation.error_code);
    if (translation.outcome != Translation::Outcome::Mapped) return unsupported();
    const std::size_t room = kLongestInstruction - code_.count;
    const std::size_t in_page = kPageMask + 1 - (address & kPageMask);
    const std::size_t size = room < in_page ? room : in_page;
    const auto bytes = memory_.at(translation.address, size);
    if (!bytes) return unsupported();
    std::memcpy(code_.bytes.data() + code_.count, bytes->data(), size);
    code_.count = static_cast<std::uint8_t>(code_.count + size);
    const DecodeResult result = decoder_.decode(mode, code_, start, instruction_);
    if (result == DecodeResult::Decoded) return true;
    if (result == DecodeResult::Unsupported) return unsupported();
    address += size;
    if (mode != Mode::Bits64) address &= 0xffffffff;
  }
  return unsupported();
}

bool Emulator::execute() {
  switch (instruction_->operation) {
    case Operation::Load:
    case Operation::LoadSwapped: return execute_load();
    case Operation::Store:
    case Operation::StoreSwapped: return execute_store();
    case Operation::Add:
    case Operation::Or:
    case Operation::Adc:
    case Operation::Sbb:
    case Operation::And:
    case Operation::Sub:
    case Operation::Xor:
    case Operation::Cmp:
    case Operation::Test:
    case Operation::Inc:
    case Operation::Dec:
    case Operation::Not:
    case Operation::Neg: return execute_two_operands();
    case Operation::Xchg:
    case Operation::Xadd: return execute_exchange();
    case Operation::Cmpxchg: return execute_compare_exchange();
    case Operation::Bt:
    case Operation::Bts:
    case Operation::Btr:
    case Operation::Btc: return execute_bit();
    case Operation::Push: return execute_push();
    case Operation::Pop: return execute_pop();
    case Operation::VectorLoad:
    case Operation::VectorStore: return execute_vector();
    case Operation::TouchOnly: return execute_touch();
    case Operation::Movs:
    case Operation::Stos:
    case Operation::Lods:
    case Operation::Scas:
    case Operation::Cmps:
    case Operation::Ins:
    case Operation::Outs: return execute_string();
  }
  return unsupported();
}

bool Emulator::fault(std::uint8_t vector, std::optional<std::uint32_t> error_code) {
  step_ = Fault{.vector = vector,
                .has_error_code = error_code.has_value(),
                .sets_cr2 = false,
                .error_code = error_code.value_or(0),
                .cr2 = 0};
  return false;
}

bool Emulator::page_fault(std::uint64_t linear, std::uint32_t error_code) {
  step_ = Fault{.vector = 14, .has_error_code = true, .sets_cr2 = true, .error_code = error_code, .cr2 = linear};
  return false;
}

bool Emulator::unsupported() {
  step_ = Unsupported{};
  return false;
}

/// The instruction is through.
void Emulator::finish() {
  const std::uint64_t next = state_->rip + instruction_->length;
  switch (mode_of(*state_)) {
    case Mode::Bits64: state_->rip = next; break;
    case Mode::Bits32: state_->rip = next & 0xffffffff; break;
    case Mode::Bits16: state_->rip = next & 0xffff; break;
  }
  state_->rflags &= ~kResume;
  step_ = Completed{.single_step = (state_->rflags & kTrap) != 0};
}

std::uint64_t Emulator::effective_offset() const {
  std::uint64_t offset = static_cast<std::uint64_t>(instruction_->displacement);
  if (instruction_->base == kInstructionPointer) {
    offset += state_->rip + instruction_->length;
  } else if (instruction_->base != kNoRegister) {
    offset += state_->general[instruction_->base];
  }
  if (instruction_->index != kNoRegister) offset += state_->general[instruction_->index] * instruction_->scale;
  return offset & mask_of(instruction_->address_size);
}

std::uint64_t Emulator::partner_value() const {
  if (instruction_->partner == Partner::Immediate) return instruction_->immediate;
  if (instruction_->partner == Partner::None) return 0;
  const std::uint64_t value = state_->general[instruction_->partner_register];
  return (instruction_->partner_is_high_byte ? value >> 8 : value) & mask_of(instruction_->partner_size);
}

void Emulator::set_register(unsigned number, unsigned size, std::uint64_t value, bool high_byte) {
  std::uint64_t& place = state_->general[number];
  if (size >= 4) {
    place = value & mask_of(size);  // 32-bit results clear the upper half
    return;
  }
  const unsigned shift = high_byte ? 8 : 0;
  const std::uint64_t mask = mask_of(size) << shift;
  place = (place & ~mask) | ((value << shift) & mask);
}

unsigned Emulator::stack_address_size() const {
  if (state_->is_64_bit()) return 8;
  return (state_->segments[kSs].attributes & kSegmentDefault) ? 4 : 2;
}

bool Emulator::execute_load() {
  Location location;
  std::uint64_t value = 0;
  if (!locate_operand(false, location) || !load(location, value)) return false;
  finish_load(value);
  return true;
}

void Emulator::finish_load(std::uint64_t value) {
  if (instruction_->operation == Operation::LoadSwapped) value = std::byteswap(value) >> (64 - 8 * instruction_->size);
  if (instruction_->sign_extend && (value & sign_of(instruction_->size))) value |= ~mask_of(instruction_->size);
  set_register(instruction_->partner_register, instruction_->partner_size, value, instruction_->partner_is_high_byte);
  finish();
}

bool Emulator::execute_store() {
  Location location;
  std::uint64_t value = partner_value();
  if (instruction_->operation == Operation::StoreSwapped) value = std::byteswap(value) >> (64 - 8 * instruction_->size);
  if (!locate_operand(true, location) || !store(location, value)) return false;
  finish();
  return true;
}

bool Emulator::execute_two_operands() {
  const Operation operation = instruction_->operation;
  const bool discards = operation == Operation::Cmp || operation == Operation::Test;
  const bool stores = instruction_->memory_is_destination && !discards;
  Location location;
  std::uint64_t memory = 0;
  if (!locate_operand(stores, location) || !load(location, memory)) return false;
  const std::uint64_t partner = partner_value() & mask_of(instruction_->size);
  const Arithmetic outcome = instruction_->memory_is_destination
                                 ? compute(operation, memory, partner, instruction_->size, state_->rflags)
                                 : compute(operation, partner, memory, instruction_->size, state_->rflags);
  if (stores && !store(location, outcome.result)) return false;
  if (!stores && !discards) {
    set_register(instruction_->partner_register, instruction_->partner_size, outcome.result,
                 instruction_->partner_is_high_byte);
  }
  state_->rflags = outcome.flags;
  finish();
  return true;
}

bool Emulator::execute_exchange() {
  Location location;
  std::uint64_t memory = 0;
  if (!locate_operand(true, location) || !load(location, memory)) return false;
  std::uint64_t value = partner_value();
  std::uint64_t flags = state_->rflags;
  if (instruction_->operation == Operation::Xadd) {
    const Arithmetic sum = compute(Operation::Xadd, memory, value, instruction_->size, flags);
    value = sum.result;
    flags = sum.flags;
  }
  if (!store(location, value)) return false;
  set_register(instruction_->partner_register, instruction_->partner_size, memory, instruction_->partner_is_high_byte);
  state_->rflags = flags;
  finish();
  return true;
}

bool Emulator::execute_compare_exchange() {
  Location location;
  std::uint64_t memory = 0;
  if (!locate_operand(true, location) || !load(location, memory)) return false;
  const Arithmetic outcome =
      compute(Operation::Cmpxchg, register_part(0, instruction_->size), memory, instruction_->size, state_->rflags);
  const bool equal = outcome.flags & kZero;
  // The processor writes in either case.
  if (!store(location, equal ? partner_value() : memory)) return false;
  if (!equal) set_register(0, instruction_->size, memory);
  state_->rflags = outcome.flags;
  finish();
  return true;
}

bool Emulator::execute_bit() {
  const unsigned size = instruction_->size;
  const unsigned bits = size * 8;
  const bool stores = instruction_->operation != Operation::Bt;
  std::uint64_t offset = effective_offset();
  std::uint64_t number = partner_value();
  if (instruction_->partner == Partner::Register) {
    // The register counts bits from the operand on, in both directions, over all of memory.
    const unsigned unused = 64 - bits;
    const auto distance = static_cast<std::int64_t>(number << unused) >> unused;
    offset =
        (offset + static_cast<std::uint64_t>((distance >> std::countr_zero(bits)) * static_cast<std::int64_t>(size))) &
        mask_of(instruction_->address_size);
  }
  number &= bits - 1;
  Location location;
  std::uint64_t memory = 0;
  if (!locate(instruction_->segment, offset, size, stores, location) || !load(location, memory)) return false;
  const std::uint64_t bit = 1ull << number;
  const bool was_set = memory & bit;
  if (instruction_->operation == Operation::Bts) memory |= bit;
  if (instruction_->operation == Operation::Btr) memory &= ~bit;
  if (instruction_->operation == Operation::Btc) memory ^= bit;
  if (stores && !store(location, memory)) return false;
  state_->rflags = (state_->rflags & ~kCarry) | (was_set ? kCarry : 0);
  finish();
  return true;
}

bool Emulator::execute_push() {
  const unsigned stack_size = stack_address_size();
  const std::uint64_t pointer = (state_->general[4] - instruction_->size) & mask_of(stack_size);
  Location from, to;
  std::uint64_t value = 0;
  // Both places first, so that nothing was read from a device when the stack faults.
  if (!locate_operand(false, from) || !locate(kSs, pointer, instruction_->size, true, to)) return false;
  if (!load(from, value) || !store(to, value)) return false;
  set_register(4, stack_size, pointer);
  finish();
  return true;
}

bool Emulator::execute_pop() {
  const unsigned stack_size = stack_address_size();
  const std::uint64_t pointer = register_part(4, stack_size);
  Location from, to;
  std::uint64_t value = 0;
  if (!locate(kSs, pointer, instruction_->size, false, from)) return false;
  // An address that is made with RSP is made with what it is after the pop.
  const std::uint64_t before = state_->general[4];
  set_register(4, stack_size, pointer + instruction_->size);
  const std::uint64_t after = state_->general[4];
  const std::uint64_t offset = effective_offset();
  state_->general[4] = before;
  if (!locate(instruction_->segment, offset, instruction_->size, true, to)) return false;
  if (!load(from, value) || !store(to, value)) return false;
  state_->general[4] = after;
  finish();
  return true;
}

bool Emulator::execute_vector() {
  const bool is_load = instruction_->operation == Operation::VectorLoad;
  if (instruction_->must_be_aligned) {
    std::uint64_t linear = 0;
    if (!linear_address(instruction_->segment, effective_offset(), instruction_->size, !is_load, linear)) return false;
    if (linear % instruction_->size != 0) return fault(13, 0);
  }
  Location location;
  if (!locate_operand(!is_load, location)) return false;
  alignas(16) std::array<std::uint8_t, 16> value{};
  if (!is_load && !vectors_.read(instruction_->partner_register, value)) return unsupported();
  for (unsigned offset = 0; offset < instruction_->size; offset += 8) {
    const unsigned size = instruction_->size - offset < 8 ? instruction_->size - offset : 8;
    std::uint64_t part = 0;
    std::memcpy(&part, value.data() + offset, size);
    if (is_load ? !load(location, offset, size, part) : !store(location, offset, size, part)) return false;
    std::memcpy(value.data() + offset, &part, size);
  }
  if (is_load && !vectors_.write(instruction_->partner_register, value, instruction_->clears_upper))
    return unsupported();
  finish();
  return true;
}

bool Emulator::execute_touch() {
  Location location;
  if (!locate(instruction_->segment, effective_offset(), 1, false, location)) return false;
  finish();
  return true;
}

}  // namespace bulkhead::engine::emulator
