// SPDX-License-Identifier: Apache-2.0
//
// The 256 entry points, 16 bytes each, and the frame of interrupt.hpp.

.text
.code64
.balign 16
.global interrupt_entries
interrupt_entries:
.set vector, 0
.rept 256
  .balign 16
  // Those that come without an error code get one.
  .if !(vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21 || vector == 29 || vector == 30)
  push $0
  .endif
  pushq $vector
  jmp interrupt_common
  .set vector, vector + 1
.endr

interrupt_common:
  push %rax
  push %rcx
  push %rdx
  push %rbx
  push %rbp
  push %rsi
  push %rdi
  push %r8
  push %r9
  push %r10
  push %r11
  push %r12
  push %r13
  push %r14
  push %r15
  cld
  mov %rsp, %rdi
  mov %rsp, %rbp
  and $~15, %rsp
  call interrupt_dispatch
  mov %rbp, %rsp
  pop %r15
  pop %r14
  pop %r13
  pop %r12
  pop %r11
  pop %r10
  pop %r9
  pop %r8
  pop %rdi
  pop %rsi
  pop %rbp
  pop %rbx
  pop %rdx
  pop %rcx
  pop %rax
  add $16, %rsp
  iretq

// attempt_call(function, argument, saved_stack *): 0, or 1 when attempt_abandon ended it.
.global attempt_call
attempt_call:
  push %rbx
  push %rbp
  push %r12
  push %r13
  push %r14
  push %r15
  sub $8, %rsp
  mov %rsp, (%rdx)
  mov %rdi, %rax
  mov %rsi, %rdi
  call *%rax
  xor %eax, %eax
  jmp 1f
// Where interrupt_dispatch sends the processor, with the saved stack.
.global attempt_abandon
attempt_abandon:
  cld
  mov $1, %eax
1:
  add $8, %rsp
  pop %r15
  pop %r14
  pop %r13
  pop %r12
  pop %rbp
  pop %rbx
  ret

.section .note.GNU-stack, "", @progbits
