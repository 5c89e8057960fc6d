// SPDX-License-Identifier: Apache-2.0
//
// void svm_world_switch(std::uint64_t general[16], std::uint64_t vmcb)
//
// Enters the guest and comes back at its next exit. RAX and RSP of the guest are in the VMCB, and the processor itself
// keeps ours; the other fourteen are exchanged here. FS, GS, TR and the system call MSRs stay the guest's.

        .text
        .globl svm_world_switch
        .type svm_world_switch, @function
        .balign 16
svm_world_switch:
        pushq %rbx
        pushq %rbp
        pushq %r12
        pushq %r13
        pushq %r14
        pushq %r15
        pushq %rdi
        movq %rsi, %rax
        movq 0x08(%rdi), %rcx
        movq 0x10(%rdi), %rdx
        movq 0x18(%rdi), %rbx
        movq 0x28(%rdi), %rbp
        movq 0x30(%rdi), %rsi
        movq 0x40(%rdi), %r8
        movq 0x48(%rdi), %r9
        movq 0x50(%rdi), %r10
        movq 0x58(%rdi), %r11
        movq 0x60(%rdi), %r12
        movq 0x68(%rdi), %r13
        movq 0x70(%rdi), %r14
        movq 0x78(%rdi), %r15
        movq 0x38(%rdi), %rdi
        vmrun %rax
        xchgq %rdi, (%rsp)  // the guest's RDI for our pointer
        movq %rcx, 0x08(%rdi)
        movq %rdx, 0x10(%rdi)
        movq %rbx, 0x18(%rdi)
        movq %rbp, 0x28(%rdi)
        movq %rsi, 0x30(%rdi)
        movq %r8, 0x40(%rdi)
        movq %r9, 0x48(%rdi)
        movq %r10, 0x50(%rdi)
        movq %r11, 0x58(%rdi)
        movq %r12, 0x60(%rdi)
        movq %r13, 0x68(%rdi)
        movq %r14, 0x70(%rdi)
        movq %r15, 0x78(%rdi)
        popq 0x38(%rdi)
        popq %r15
        popq %r14
        popq %r13
        popq %r12
        popq %rbp
        popq %rbx
        ret
        .size svm_world_switch, . - svm_world_switch

        .section .note.GNU-stack, "", @progbits
