// SPDX-License-Identifier: Apache-2.0
//
// The instruction that exited, read through the guest's page tables.
#include "hypervisor/decode/guest_walk.hpp"
#include "hypervisor/machine.hpp"
#include "hypervisor/vp/finish_instruction.hpp"

namespace bulkhead::hypervisor {
namespace {

constexpr std::uint64_t kSingleStep = 1 << 14;  // in DR6

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

std::optional<Instruction> VirtualProcessor::fetch_instruction(const ExecutionMode& mode) {
  const std::uint64_t linear = mode.linear(hardware_.rip);
  const std::byte* first_page = nullptr;
  const auto page_at = [this](GuestPage page) { return partition_.page_at(page); };
  const std::optional<Instruction> instruction = fetch_guest_instruction(mode, linear, page_at, first_page);
  // Where a code segment's base is not a multiple of pages, RIP and the address cross into a new page at different bytes.
  if (first_page && linear % kPageSize == hardware_.rip % kPageSize) {
    fetch_cache_ = {hardware_.rip / kPageSize, hardware_.code_space(), seen_generation_, first_page};
  }
  return instruction;
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
