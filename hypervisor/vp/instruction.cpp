// SPDX-License-Identifier: Apache-2.0
//
// The instruction that exited, read through the guest's page tables.
#include <cstring>

#include "hypervisor/decode/guest_walk.hpp"
#include "hypervisor/machine.hpp"
#include "hypervisor/vp/finish_instruction.hpp"

namespace bulkhead::hypervisor {
namespace {

constexpr std::uint64_t kSingleStep = 1 << 14;  // in DR6

CodeSize code_size(const ExecutionMode& mode) {
  if (mode.is_64_bit()) return CodeSize::k64Bit;
  return mode.cs.attributes & (1u << 14) ? CodeSize::k32Bit : CodeSize::k16Bit;
}

}  // namespace

void VirtualProcessor::end_debugged_instruction() {
  hardware_.rflags &= ~kResumeFlag;
  if (!(hardware_.rflags & kTrapFlag) || hardware_.event) return;
  abi::RegisterValue dr6 = hardware_.get_register(abi::RegisterName::Dr6).value_or(abi::RegisterValue{});
  dr6.number |= kSingleStep;
  (void)hardware_.set_register(abi::RegisterName::Dr6, dr6);
  hardware_.event = {.type = Event::Type::Exception, .vector = 1};
}

VirtualProcessor::Next VirtualProcessor::inject_exception(std::uint8_t vector,
                                                          std::optional<std::uint32_t> error_code) {
  hardware_.event = {.type = Event::Type::Exception,
                     .vector = vector,
                     .has_error_code = error_code.has_value(),
                     .error_code = error_code.value_or(0)};
  return Next::Enter;
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
    // Where a code segment's base is not a multiple of pages, RIP and the address cross into a new page at different bytes.
    if (count == 0 && address % kPageSize == hardware_.rip % kPageSize) {
      fetch_cache_ = {hardware_.rip / kPageSize, hardware_.code_space(), seen_generation_, page};
    }
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

/// The form is not the plain one, or the page is not the last one.
bool VirtualProcessor::finish_unknown_length(Operation operation) {
  const ExecutionMode mode = hardware_.mode();
  const std::optional<Instruction> instruction = fetch_instruction(mode);
  if (!instruction || instruction->operation != operation) return false;
  const std::uint64_t next = hardware_.rip + instruction->length;
  advance(mode.is_64_bit() ? next : static_cast<std::uint32_t>(next));
  return true;
}

}  // namespace bulkhead::hypervisor
