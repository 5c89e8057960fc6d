// SPDX-License-Identifier: Apache-2.0
//
// Finishing an instruction that exited. Processors without next-RIP saving do not tell its length, so its bytes are looked at.
// The page of the last one is remembered, since the same few places exit over and over: then the usual form is compared
// right here, in line, and only what is unusual goes through the guest's page tables and the decoder.
#pragma once

#include <cstring>

#include "hypervisor/vp/virtual_processor.hpp"

namespace bulkhead::hypervisor {

inline constexpr std::uint64_t kTrapFlag = 1 << 8;
inline constexpr std::uint64_t kResumeFlag = 1 << 16;

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

[[gnu::always_inline]] inline void VirtualProcessor::advance(std::uint64_t next_rip) {
  hardware_.rip = next_rip;
  hardware_.interrupt_shadow = false;
  if (hardware_.rflags & (kTrapFlag | kResumeFlag)) [[unlikely]]
    end_debugged_instruction();
}

/// Goes on behind the instruction. False if it is not there any more (another processor has changed the code or the page
/// tables meanwhile): then the guest executes whatever is there now.
[[gnu::always_inline]] inline bool VirtualProcessor::finish_instruction(const Exit& exit, Operation operation) {
  const std::uint64_t rip = hardware_.rip;
  if (exit.next_rip) {
    advance(exit.next_rip);
    return true;
  }
  const PlainForm plain = plain_form(operation);
  const std::uint64_t offset = rip % kPageSize;
  if (rip / kPageSize == fetch_cache_.rip_page && seen_generation_ == fetch_cache_.generation &&
      hardware_.code_space() == fetch_cache_.code_space && offset <= kPageSize - sizeof(std::uint32_t)) [[likely]] {
    std::uint32_t bytes;
    std::memcpy(&bytes, fetch_cache_.instruction_page + offset, sizeof bytes);
    if ((bytes & plain.mask) == plain.bytes) [[likely]] {
      // Not at the end of a page, so not at the end of the address space either.
      advance(rip + plain.length);
      return true;
    }
  }
  return finish_unknown_length(operation);
}

}  // namespace bulkhead::hypervisor
