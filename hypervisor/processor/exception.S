// SPDX-License-Identifier: Apache-2.0
//
// Exceptions of the hypervisor itself. None is expected but the NMI that wakes a sleeping processor, and a general protection
// fault of an MSR access that was tried on the root's behalf.

        .text
// One entry of 16 bytes for each vector; those without an error code push a zero.
        .balign 16
        .globl exception_entries
exception_entries:
        .set vector, 0
        .rept 32
        .balign 16
        .if vector == 2
        jmp nmi_entry
        .else
        .if vector != 8 && vector != 10 && vector != 11 && vector != 12 && vector != 13 && vector != 14 && vector != 17 && vector != 21 && vector != 29 && vector != 30
        pushq $0
        .endif
        pushq $vector
        jmp exception_common
        .endif
        .set vector, vector + 1
        .endr

        .balign 16
exception_common:
        pushq %rax
        pushq %rcx
        pushq %rdx
        pushq %rsi
        pushq %rdi
        pushq %r8
        pushq %r9
        pushq %r10
        pushq %r11
        movq %rsp, %rdi
        movq %rsp, %rax
        pushq %rbx
        movq %rax, %rbx
        andq $-16, %rsp
        cld
        call exception_in_hypervisor
        leaq -8(%rbx), %rsp
        popq %rbx
        popq %r11
        popq %r10
        popq %r9
        popq %r8
        popq %rdi
        popq %rsi
        popq %rdx
        popq %rcx
        popq %rax
        addq $16, %rsp
        iretq

// An NMI between the check for signals and HLT must not be slept over: it steps over the HLT.
nmi_entry:
        pushq %rax
        leaq wait_halt(%rip), %rax
        cmpq %rax, 8(%rsp)
        jne 1f
        incq 8(%rsp)  // HLT is one byte
1:      popq %rax
        iretq

// bool wait_for_nmi(const std::atomic<std::uint32_t>* signals): sleeps until an NMI comes. False, at once, if *signals is not zero.
        .globl wait_for_nmi
wait_for_nmi:
        xorl %eax, %eax
        cmpl $0, (%rdi)
        jne 1f
        stgi
wait_halt:
        hlt
        clgi
        movl $1, %eax
1:      ret

// bool try_msr_read(index, value*), bool try_msr_write(index, value): false if the processor refuses.
        .globl try_msr_read, try_msr_write, try_msr_read_at, try_msr_write_at, try_msr_refused
try_msr_read:
        movl %edi, %ecx
try_msr_read_at:
        rdmsr
        shlq $32, %rdx
        orq %rdx, %rax
        movq %rax, (%rsi)
        movl $1, %eax
        ret
try_msr_write:
        movl %edi, %ecx
        movl %esi, %eax
        movq %rsi, %rdx
        shrq $32, %rdx
try_msr_write_at:
        wrmsr
        movl $1, %eax
        ret
try_msr_refused:
        xorl %eax, %eax
        ret

        .section .note.GNU-stack, "", @progbits
