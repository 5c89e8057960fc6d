// SPDX-License-Identifier: Apache-2.0
//
// Finishing an instruction that exited. Processors without next-RIP saving do not tell its length, so its bytes are read
// through the guest's page tables; the page of the last one is remembered, since the same few places exit over and over.
#include <cstring>

#include "hypervisor/decode/guest_walk.hpp"
#include "hypervisor/machine.hpp"
#include "hypervisor/vp/virtual_processor.hpp"

namespace bulkhead::hypervisor {
namespace {

constexpr std::uint64_t kTrapFlag = 1 << 8;
constexpr std::uint64_t kResumeFlag = 1 << 16;
constexpr std::uint64_t kSingleStep = 1 << 14;  // in DR6

/// The form without prefixes: its bytes, lowest first.
struct PlainForm {
  std::uint32_t bytes;
  std::uint32_t mask;
  unsigned length;
};
constexpr PlainForm plain_form(Operation operation) {
  switch (operation) {
    case Operation::Cpuid: return {0xa20f, 0xffff, 2};
    case Operation::ReadMsr: return {0x320f, 0xffff, 2};
    case Operation::WriteMsr: return {0x300f, 0xffff, 2};
    case Operation::Hypercall: return {0xd9010f, 0xffffff, 3};
    case Operation::Halt: return {0xf4, 0xff, 1};
    default: return {1, 0, 0};  // matches nothing
  }
}

CodeSize code_size(const ExecutionMode& mode) {
  if (mode.is_64_bit()) return CodeSize::k64Bit;
  return mode.cs.attributes & (1u << 14) ? CodeSize::k32Bit : CodeSize::k16Bit;
}

}  // namespace

void VirtualProcessor::advance(std::uint64_t next_rip) {
  hardware_.rip = next_rip;
  hardware_.interrupt_shadow = false;
  if (hardware_.rflags & (kTrapFlag | kResumeFlag)) [[unlikely]] {
    hardware_.rflags &= ~kResumeFlag;
    if ((hardware_.rflags & kTrapFlag) && !hardware_.event) {
      abi::RegisterValue dr6 = hardware_.get_register(abi::RegisterName::Dr6).value_or(abi::RegisterValue{});
      dr6.number |= kSingleStep;
      (void)hardware_.set_register(abi::RegisterName::Dr6, dr6);
      hardware_.event = {.type = Event::Type::Exception, .vector = 1};
    }
  }
}

VirtualProcessor::Next VirtualProcessor::inject_exception(std::uint8_t vector, std::optional<std::uint32_t> error_code) {
  hardware_.event = {.type = Event::Type::Exception,
                     .vector = vector,
                     .has_error_code = error_code.has_value(),
                     .error_code = error_code.value_or(0)};
  return Next::Enter;
}

/// Whether the last page that was fetched from holds the plain form of `operation` at `linear`.
bool VirtualProcessor::has_cached_bytes(std::uint64_t linear, const ExecutionMode& mode, Operation operation,
                                        unsigned& length) {
  const PlainForm plain = plain_form(operation);
  const std::uint64_t offset = linear % kPageSize;
  if (linear / kPageSize != fetch_cache_.linear_page || mode.cr3 != fetch_cache_.cr3 ||
      seen_generation_ != fetch_cache_.generation || offset > kPageSize - sizeof(std::uint32_t)) {
    return false;
  }
  std::uint32_t bytes;
  std::memcpy(&bytes, fetch_cache_.page + offset, sizeof bytes);
  length = plain.length;
  return (bytes & plain.mask) == plain.bytes;
}

/// The bytes at `linear`, as far as they can be read; returns how many.
unsigned VirtualProcessor::fetch(std::uint64_t linear, const ExecutionMode& mode,
                                 std::uint8_t (&bytes)[kMaximumInstructionLength]) {
  const auto page_at = [this](GuestPage page) -> const std::byte* { return partition_.page_at(page); };
  unsigned count = 0;
  while (count < kMaximumInstructionLength) {
    std::uint64_t address = linear + count;
    if (!mode.is_64_bit()) address = static_cast<std::uint32_t>(address);
    const std::optional<std::uint64_t> gpa = walk_guest(mode, address, page_at);
    const std::byte* page = gpa ? page_at(GuestPage::at(*gpa)) : nullptr;
    if (!page) break;
    if (count == 0) fetch_cache_ = {address / kPageSize, mode.cr3, seen_generation_, page};
    const auto room = static_cast<unsigned>(kPageSize - address % kPageSize);
    const unsigned part = room < kMaximumInstructionLength - count ? room : kMaximumInstructionLength - count;
    std::memcpy(bytes + count, page + address % kPageSize, part);
    count += part;
  }
  return count;
}

std::optional<Instruction> VirtualProcessor::fetch_instruction(const ExecutionMode& mode) {
  std::uint8_t bytes[kMaximumInstructionLength];
  const unsigned count = fetch(mode.linear(hardware_.rip), mode, bytes);
  return decode(std::span(bytes).first(count), code_size(mode));
}

/// Goes on behind the instruction. False if it is not there any more (another processor has changed the code or the page tables meanwhile): then
/// the guest executes whatever is there now.
bool VirtualProcessor::finish_instruction(const Exit& exit, Operation operation) {
  if (exit.next_rip) {
    advance(exit.next_rip);
    return true;
  }
  const ExecutionMode mode = hardware_.mode();
  unsigned length = 0;
  if (!has_cached_bytes(mode.linear(hardware_.rip), mode, operation, length)) {
    const std::optional<Instruction> instruction = fetch_instruction(mode);
    if (!instruction || instruction->operation != operation) return false;
    length = instruction->length;
  }
  const std::uint64_t next = hardware_.rip + length;
  advance(mode.is_64_bit() ? next : static_cast<std::uint32_t>(next));
  return true;
}

}  // namespace bulkhead::hypervisor
