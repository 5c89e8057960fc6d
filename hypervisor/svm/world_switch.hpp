// SPDX-License-Identifier: Apache-2.0
//
// Into the guest, and back at its next exit. RAX and RSP of the guest are in the VMCB, and the processor itself keeps ours;
// the other fourteen are exchanged here. FS, GS, TR and the system call MSRs stay the guest's.
//
// It is part of the function that enters guests, so that the compiler saves what that function needs and no more.
#pragma once

#include <cstdint>

namespace bulkhead::hypervisor::svm {

/// `general`: RAX RCX RDX RBX RSP RBP RSI RDI R8 .. R15. `vmcb`: a physical address.
[[gnu::always_inline]] inline void switch_world(std::uint64_t (&general)[16], std::uint64_t vmcb) {
  std::uint64_t* pointer = general;
  asm volatile(
      "push %%rbp\n\t"
      "push %%rdi\n\t"
      "mov 0x08(%%rdi), %%rcx\n\t"
      "mov 0x10(%%rdi), %%rdx\n\t"
      "mov 0x18(%%rdi), %%rbx\n\t"
      "mov 0x28(%%rdi), %%rbp\n\t"
      "mov 0x30(%%rdi), %%rsi\n\t"
      "mov 0x40(%%rdi), %%r8\n\t"
      "mov 0x48(%%rdi), %%r9\n\t"
      "mov 0x50(%%rdi), %%r10\n\t"
      "mov 0x58(%%rdi), %%r11\n\t"
      "mov 0x60(%%rdi), %%r12\n\t"
      "mov 0x68(%%rdi), %%r13\n\t"
      "mov 0x70(%%rdi), %%r14\n\t"
      "mov 0x78(%%rdi), %%r15\n\t"
      "mov 0x38(%%rdi), %%rdi\n\t"
      "vmrun %%rax\n\t"
      "xchg %%rdi, (%%rsp)\n\t"  // the guest's RDI for our pointer
      "mov %%rcx, 0x08(%%rdi)\n\t"
      "mov %%rdx, 0x10(%%rdi)\n\t"
      "mov %%rbx, 0x18(%%rdi)\n\t"
      "mov %%rbp, 0x28(%%rdi)\n\t"
      "mov %%rsi, 0x30(%%rdi)\n\t"
      "mov %%r8, 0x40(%%rdi)\n\t"
      "mov %%r9, 0x48(%%rdi)\n\t"
      "mov %%r10, 0x50(%%rdi)\n\t"
      "mov %%r11, 0x58(%%rdi)\n\t"
      "mov %%r12, 0x60(%%rdi)\n\t"
      "mov %%r13, 0x68(%%rdi)\n\t"
      "mov %%r14, 0x70(%%rdi)\n\t"
      "mov %%r15, 0x78(%%rdi)\n\t"
      "pop 0x38(%%rdi)\n\t"
      "pop %%rbp"
      : "+D"(pointer), "+a"(vmcb)
      :
      : "rcx", "rdx", "rbx", "rsi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "memory", "cc");
}

}  // namespace bulkhead::hypervisor::svm
