// SPDX-License-Identifier: Apache-2.0
//
// The door through which the root partition's hypercalls come in. The machine side calls `hypercall` when the root executes
// VMMCALL or VMCALL at CPL 0 in 64-bit mode (anywhere else it gives #UD), and writes the registers back.
#pragma once

#include <cstdint>

namespace bulkhead::hypervisor::root {

struct HypercallRegisters {
  std::uint64_t rax;  // out: the result
  std::uint64_t rcx;  // in: control word; out, if `again`: with the repetition to go on at
  std::uint64_t rdx;  // in: GPA of the input, or the input itself
  std::uint64_t r8;   // in: GPA of the output, or the input's second half
  /// Out: the call is not done. Leave RIP at the instruction, so that the root takes its interrupts and then goes on.
  bool again;
};

void hypercall(HypercallRegisters& registers);

}  // namespace bulkhead::hypervisor::root
