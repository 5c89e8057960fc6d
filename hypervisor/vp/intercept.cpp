// SPDX-License-Identifier: Apache-2.0
//
// Telling the parent: the intercept message page, and the register page through which the parent looks at the VP's registers
// and changes them. Both are memory of the root, which may change it at any time: each value is read once, and checked after.
#include <algorithm>
#include <cstring>
#include <iterator>
#include <utility>

#include "hypervisor/machine.hpp"
#include "hypervisor/vp/virtual_processor.hpp"

namespace bulkhead::hypervisor {
namespace {

using abi::RegisterName;

constexpr RegisterName kSegments[] = {RegisterName::Es, RegisterName::Cs, RegisterName::Ss,
                                      RegisterName::Ds, RegisterName::Fs, RegisterName::Gs};

}  // namespace

void VirtualProcessor::fill_header(abi::InterceptHeader& header, abi::InterceptAccess access,
                                   unsigned instruction_length) const {
  const ExecutionMode mode = hardware_.mode();
  header.vp_index = index_;
  header.instruction_length_and_cr8 = static_cast<std::uint8_t>((instruction_length & 0xf) | hardware_.cr8 << 4);
  header.access = access;
  header.execution_state = static_cast<std::uint16_t>(mode.cpl | (mode.cr0 & 1) << 2 | (mode.cr0 >> 18 & 1) << 3 |
                                                      (mode.efer >> 10 & 1) << 4 | (hardware_.event ? 1u << 6 : 0u) |
                                                      (hardware_.interrupt_shadow ? 1u << 12 : 0u));
  header.cs = mode.cs;
  header.rip = hardware_.rip;
  header.rflags = hardware_.rflags;
}

/// Only the bytes that mean something are written to the page. The register page follows when the dispatch ends.
VirtualProcessor::Next VirtualProcessor::intercept(abi::MessageType type, abi::InterceptMessage& message,
                                                   unsigned payload_size) {
  message.header = {type, static_cast<std::uint8_t>(payload_size), 0, 0, partition_.id()};
  if (const auto& page = state_pages_[HV_VP_STATE_PAGE_INTERCEPT_MESSAGE]) {
    std::memcpy(machine::frame_pointer(*page), &message, sizeof message.header + payload_size);
  }
  intercept_suspend_ = true;
  return Next::Intercept;
}

abi::InterceptMessage& VirtualProcessor::message_in_place() {
  const auto& page = state_pages_[HV_VP_STATE_PAGE_INTERCEPT_MESSAGE];
  return page ? *reinterpret_cast<abi::InterceptMessage*>(machine::frame_pointer(*page)) : unread_message_;
}

VirtualProcessor::Next VirtualProcessor::intercept_in_place(abi::MessageType type, abi::InterceptMessage& message,
                                                            unsigned payload_size) {
  message.header = {type, static_cast<std::uint8_t>(payload_size), 0, 0, partition_.id()};
  intercept_suspend_ = true;
  return Next::Intercept;
}

VirtualProcessor::Next VirtualProcessor::intercept_plain(abi::MessageType type) {
  abi::InterceptMessage message{};
  fill_header(message.intercept, abi::InterceptAccess::Execute, 0);
  return intercept(type, message, sizeof message.intercept);
}

VirtualProcessor::Next VirtualProcessor::intercept_memory(const MemoryAccess& access) {
  abi::InterceptMessage& message = message_in_place();
  const auto kind = access.fetch   ? abi::InterceptAccess::Execute
                    : access.write ? abi::InterceptAccess::Write
                                   : abi::InterceptAccess::Read;
  fill_header(message.intercept, kind, 0);
  abi::MemoryIntercept& memory = message.memory;
  memory.cache_type = 0;
  memory.access_info = access.during_walk ? 0 : 2;
  memory.tpr_priority = hardware_.cr8;
  memory.reserved = 0;
  memory.gva = 0;
  memory.gpa = access.gpa;
  const std::size_t count = std::min<std::size_t>(access.instruction_byte_count, access.instruction_bytes.size());
  memory.instruction_byte_count = static_cast<std::uint8_t>(count);
  std::memcpy(memory.instruction_bytes, access.instruction_bytes.data(), count);
  const bool mapped = partition_.page_at(GuestPage::at(access.gpa)) != nullptr;
  return intercept_in_place(mapped ? abi::MessageType::GpaIntercept : abi::MessageType::UnmappedGpa, message,
                            sizeof message.memory);
}

// Not in the frequent path, which would have to make room for it.
[[gnu::noinline]] VirtualProcessor::Next VirtualProcessor::intercept_cpuid(const Exit& exit,
                                                                           const machine::CpuidResult& result) {
  abi::InterceptMessage message{};
  fill_header(message.intercept, abi::InterceptAccess::Execute, instruction_length(exit));
  abi::CpuidIntercept& cpuid = message.cpuid;
  cpuid.rax = hardware_.general[0];
  cpuid.rcx = hardware_.general[1];
  cpuid.rdx = hardware_.general[2];
  cpuid.rbx = hardware_.general[3];
  cpuid.default_rax = result.eax;
  cpuid.default_rcx = result.ecx;
  cpuid.default_rdx = result.edx;
  cpuid.default_rbx = result.ebx;
  return intercept(abi::MessageType::Cpuid, message, sizeof cpuid);
}

VirtualProcessor::Next VirtualProcessor::intercept_msr(const Exit& exit, abi::InterceptAccess access) {
  abi::InterceptMessage message{};
  fill_header(message.intercept, access, instruction_length(exit));
  message.msr.msr = static_cast<std::uint32_t>(hardware_.general[1]);
  message.msr.rdx = hardware_.general[2];
  message.msr.rax = hardware_.general[0];
  return intercept(abi::MessageType::Msr, message, sizeof message.msr);
}

VirtualProcessor::Next VirtualProcessor::intercept_hypercall(const Exit& exit) {
  abi::InterceptMessage message{};
  fill_header(message.intercept, abi::InterceptAccess::Execute, instruction_length(exit));
  const std::uint64_t* general = hardware_.general;
  abi::HypercallIntercept& call = message.hypercall;
  call.rax = general[0];
  call.rbx = general[3];
  call.rcx = general[1];
  call.rdx = general[2];
  call.r8 = general[8];
  call.rsi = general[6];
  call.rdi = general[7];
  return intercept(abi::MessageType::HypercallIntercept, message, sizeof call);
}

VirtualProcessor::Next VirtualProcessor::intercept_eoi(std::uint8_t vector) {
  abi::InterceptMessage message{};
  message.eoi = {index_, vector};
  return intercept(abi::MessageType::ApicEoi, message, sizeof message.eoi);
}

void VirtualProcessor::intercept_deliverable(abi::InterruptionType type) {
  abi::InterceptMessage message{};
  fill_header(message.intercept, abi::InterceptAccess::Execute, 0);
  message.deliverable.type = static_cast<std::uint32_t>(type);
  intercept(abi::MessageType::InterruptionDeliverable, message, sizeof message.deliverable);
}

void VirtualProcessor::intercept_deliverable_sints(std::uint16_t sints) {
  abi::InterceptMessage message{};
  fill_header(message.intercept, abi::InterceptAccess::Execute, 0);
  message.sints.sints = sints;
  intercept(abi::MessageType::SynicSintDeliverable, message, sizeof message.sints);
}

unsigned VirtualProcessor::instruction_length(const Exit& exit) {
  if (exit.next_rip && exit.next_rip - hardware_.rip <= kMaximumInstructionLength) {
    return static_cast<unsigned>(exit.next_rip - hardware_.rip);
  }
  const std::optional<Instruction> instruction = fetch_instruction(hardware_.mode());
  return instruction ? instruction->length : 0;
}

void VirtualProcessor::publish_registers() {
  const Published published = std::exchange(published_, Published::All);
  const auto& frame = state_pages_[HV_VP_STATE_PAGE_REGISTERS];
  if (!frame) return;
  auto* page = reinterpret_cast<abi::RegisterPage*>(machine::frame_pointer(*frame));
  if (published != Published::Code) std::memcpy(page->general, hardware_.general, sizeof page->general);
  page->rip = hardware_.rip;
  page->rflags = hardware_.rflags;
  page->cr8 = hardware_.cr8;
  if (published != Published::All) {
    const ExecutionMode mode = hardware_.mode();
    page->segments[1] = mode.cs;  // all that one needs to move RIP on
    page->efer = mode.efer;
  } else {
    hardware_.publish(*page);
  }
  page->pending_interruption = pending_interruption();
  page->interrupt_state = interrupt_state();
  page->dirty = 0;
  page->version = 1;
  page->valid = 1;
}

hv_status VirtualProcessor::take_register_page() {
  const auto& frame = state_pages_[HV_VP_STATE_PAGE_REGISTERS];
  if (!frame) return HV_STATUS_SUCCESS;
  auto* page = reinterpret_cast<volatile abi::RegisterPage*>(machine::frame_pointer(*frame));
  const bool valid = page->valid == 1;
  const std::uint32_t dirty = page->dirty;
  page->valid = 0;
  page->dirty = 0;
  if (!valid || dirty == 0) return HV_STATUS_SUCCESS;
  if (dirty & abi::kDirtyGeneral) {
    for (unsigned i = 0; i < 16; ++i) hardware_.general[i] = page->general[i];
  }
  hv_status status = HV_STATUS_SUCCESS;
  const auto set = [&](RegisterName name, const abi::RegisterValue& value) {
    if (status == HV_STATUS_SUCCESS) status = set_register(name, value);
  };
  if (dirty & abi::kDirtySegments) {
    for (unsigned i = 0; i < std::size(kSegments); ++i) {
      const volatile abi::SegmentRegister& segment = page->segments[i];
      set(kSegments[i], {.segment = {segment.base, segment.limit, segment.selector, segment.attributes}});
    }
  }
  abi::RegisterValue value{};
  if (dirty & abi::kDirtyFlags) {
    value.number = page->rflags;
    set(RegisterName::Rflags, value);
  }
  if (dirty & abi::kDirtyInstructionPointer) {
    if (status == HV_STATUS_SUCCESS) status = set_instruction_pointer(page->rip);
    hardware_.interrupt_shadow = false;  // an instruction was completed
  }
  return status;
}

}  // namespace bulkhead::hypervisor
