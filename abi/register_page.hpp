// SPDX-License-Identifier: Apache-2.0
//
// The register page of a virtual processor: the registers that an intercept handler looks at most, in memory that the
// hypervisor and the virtualization stack share. The hypervisor fills it when a dispatch ends with an intercept, and
// sets `valid`; at the next dispatch it takes the groups named in `dirty`, if `valid` is still set, and clears both.
// The layout is known from public headers, not from the TLFS; docs/hypercalls.md defines what it means here.
#pragma once

#include <cstddef>
#include <cstdint>

#include "abi/register.hpp"

namespace bulkhead::abi {

enum RegisterPageDirty : std::uint32_t {
  kDirtyGeneral = 1u << 0,
  kDirtyInstructionPointer = 1u << 1,
  kDirtyXmm = 1u << 2,
  kDirtySegments = 1u << 3,
  kDirtyFlags = 1u << 4,
};

struct RegisterPage {
  std::uint16_t version;  // 1
  std::uint8_t valid;
  std::uint8_t reserved0;
  std::uint32_t dirty;
  std::uint64_t general[16];  // RAX RCX RDX RBX RSP RBP RSI RDI R8..R15
  std::uint64_t rip;
  std::uint64_t rflags;
  std::uint64_t reserved1;
  std::uint8_t xmm[6][16];                      // not filled in and never taken: use the register calls
  SegmentRegister segments[6];                  // ES CS SS DS FS GS
  std::uint64_t cr0, cr3, cr4, cr8, efer, dr7;  // read only
  std::uint64_t pending_interruption;
  std::uint64_t interrupt_state;
  std::uint64_t instruction_emulation_hints;
  std::uint64_t xfem;
  std::uint8_t reserved2[4096 - 0x1b0];
};
static_assert(offsetof(RegisterPage, general) == 0x8);
static_assert(offsetof(RegisterPage, rip) == 0x88);
static_assert(offsetof(RegisterPage, xmm) == 0xa0);
static_assert(offsetof(RegisterPage, segments) == 0x100);
static_assert(offsetof(RegisterPage, cr0) == 0x160);
static_assert(offsetof(RegisterPage, pending_interruption) == 0x190);
static_assert(offsetof(RegisterPage, xfem) == 0x1a8);
static_assert(sizeof(RegisterPage) == 4096);

}  // namespace bulkhead::abi
