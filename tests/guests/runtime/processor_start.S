// SPDX-License-Identifier: Apache-2.0
//
// What a further processor does first, in real mode, on the page that the start-up IPI names. It is copied there, so it
// finds its own addresses by CS.

.text
.code16
.global processor_start_code
processor_start_code:
  cli
  mov %cs, %ax
  mov %ax, %ds
  lgdtl processor_start_pointer - processor_start_code
  mov %cr0, %eax
  or $1, %eax
  mov %eax, %cr0
  ljmpl $0x18, $processor_start_32
processor_start_pointer:
  .word 0x4f
  .long descriptor_table
.global processor_start_code_end
processor_start_code_end:

.code32
processor_start_32:
  mov $0x20, %eax
  mov %eax, %ds
  mov %eax, %es
  mov %eax, %ss
  // Its number, and by it a stack.
  mov $1, %eax
  lock xadd %eax, processors_started
  inc %eax
  cmp $8, %eax
  jae 1f
  mov %eax, %edi
  shl $14, %eax
  lea processor_stacks(%eax), %esp
  jmp enter_long_mode
1:
  cli
  hlt
  jmp 1b

.data
.global processors_started
processors_started:
  .long 0

.bss
.balign 16
processor_stacks:
  .skip 8 << 14

.section .note.GNU-stack, "", @progbits
