// SPDX-License-Identifier: Apache-2.0
//
// modes.hpp. The same instructions are assembled for code of 16, 32 and 64 bits, all with addresses of 32 bits.

#define REQUEST_PAGE_TABLE 0
#define REQUEST_CR4 4
#define REQUEST_LONG_MODE 8
#define REQUEST_CODE_SIZE 12
#define REQUEST_DEVICE 16
#define REQUEST_STRADDLE 20
#define REQUEST_BUFFER 24
#define REQUEST_FRAGMENT 28
#define REQUEST_FOUND(number) (32 + 4 * number)

#define REAL_MODE_CODE 0x7000
#define SCRATCH_PORT 0x3ff
#define HOLE_PORT 0xd00
#define SELECT_VERSION 1
#define SELECT_LAST_ENTRY 0x3e

// What is done in each mode. EBP: the request. `wide`: the prefix for addresses of 32 bits in string instructions;
// `jump`: jumps to EDI; `origin`: what is to be subtracted from a label to get its address.
.macro touch_devices wide, jump, origin
  cld
  movl REQUEST_DEVICE(%ebp), %ebx
  // Loads and stores.
  movl $SELECT_VERSION, (%ebx)
  movl 0x10(%ebx), %eax
  movl %eax, REQUEST_FOUND(0)(%ebp)
  movl $SELECT_LAST_ENTRY, (%ebx)
  movzbl (%ebx), %eax
  movl %eax, REQUEST_FOUND(1)(%ebp)
  // Both in one instruction.
  movl $0x10055, 0x10(%ebx)
  orl $0x22, 0x10(%ebx)
  movl $0x10033, %eax
  xchgl %eax, 0x10(%ebx)
  movl %eax, REQUEST_FOUND(2)(%ebp)
  // A scaled index; flags.
  movl $2, %ecx
  movl 8(%ebx,%ecx,4), %eax
  movl %eax, REQUEST_FOUND(3)(%ebp)
  xorl %eax, %eax
  cmpl $0x10033, 0x10(%ebx)
  sete %al
  movl %eax, REQUEST_FOUND(4)(%ebp)
  // String instructions on a device's memory.
  leal 0x10(%ebx), %edi
  movl $0x10011, %eax
  \wide
  stosl
  leal 0x10(%ebx), %esi
  leal REQUEST_FOUND(5)(%ebp), %edi
  \wide
  movsl
  // A load and a store on two pages.
  movl REQUEST_STRADDLE(%ebp), %esi
  movl (%esi), %eax
  movl %eax, REQUEST_FOUND(6)(%ebp)
  movl $0x99998888, (%esi)
  // String instructions on ports, forwards and backwards, with the buffer on two pages.
  movl $SCRATCH_PORT, %edx
  movl REQUEST_BUFFER(%ebp), %esi
  movl $16, %ecx
  \wide
  rep outsb
  inb %dx, %al
  movzbl %al, %eax
  movl %eax, REQUEST_FOUND(7)(%ebp)
  std
  leal -1(%esi), %edi
  movl $14, %ecx
  \wide
  rep insb
  cld
  subl REQUEST_BUFFER(%ebp), %edi
  movl %edi, REQUEST_FOUND(8)(%ebp)
  movl %ecx, REQUEST_FOUND(9)(%ebp)
  movl $HOLE_PORT, %edx
  movl REQUEST_BUFFER(%ebp), %edi
  addl $6, %edi
  \wide
  insl
  // An instruction on two pages.
  movl $SELECT_VERSION, (%ebx)
  addl $0x10, %ebx
  movl REQUEST_FRAGMENT(%ebp), %edi
  movl $(9f \origin), %edx
  \jump
9:
  movl %eax, REQUEST_FOUND(10)(%ebp)
.endm

.text
.code64
.global mode_run
mode_run:
  push %rbx
  push %rbp
  push %r12
  push %r13
  push %r14
  push %r15
  pushfq
  cli
  mov %rsp, mode_stack
  mov %rdi, %rbp
  mov %cr4, %rax
  mov %rax, mode_cr4
  pushq $0x18
  pushq $1f
  lretq

.code32
1:
  call leave_paging
  mov REQUEST_CR4(%ebp), %eax
  mov %eax, %cr4
  mov $0xc0000080, %ecx
  rdmsr
  or REQUEST_LONG_MODE(%ebp), %eax
  wrmsr
  mov REQUEST_PAGE_TABLE(%ebp), %eax
  test %eax, %eax
  jz 2f
  mov %eax, %cr3
  mov %cr0, %eax
  or $0x80000000, %eax
  mov %eax, %cr0
2:
  mov REQUEST_CODE_SIZE(%ebp), %eax
  cmp $1, %eax
  je 3f
  ja 4f
  touch_devices "", "jmp *%edi",
  jmp come_back
3:
  ljmp $0x28, $REAL_MODE_CODE
4:
  ljmp $0x08, $5f

.code64
5:
  touch_devices ".byte 0x67", "jmp *%rdi",
  pushq $0x18
  pushq $come_back
  lretq

.code16
.global mode_code_16
mode_code_16:
  mov %cr0, %eax
  and $~1, %eax
  mov %eax, %cr0
  ljmp $0, $(6f - mode_code_16 + REAL_MODE_CODE)
6:
  touch_devices ".byte 0x67", "jmpl *%edi", -mode_code_16 + REAL_MODE_CODE
  // As programs of real mode do it: a segment's base, and addresses of 16 bits. Over the border from 5fff to 6000.
  mov $0x500, %ax
  mov %ax, %es
  mov $0xffc, %di
  mov $8, %cx
  mov $SCRATCH_PORT, %dx
  rep insb
  movzwl %di, %edi
  movl %edi, REQUEST_FOUND(11)(%ebp)
  mov %cr0, %eax
  or $1, %eax
  mov %eax, %cr0
  ljmpl $0x18, $come_back
.global mode_code_16_end
mode_code_16_end:

.code32
// Where the mode, of whatever kind, ends.
come_back:
  call leave_paging
  mov mode_cr4, %eax
  mov %eax, %cr4
  mov $page_map, %eax
  mov %eax, %cr3
  mov $0xc0000080, %ecx
  rdmsr
  or $0x100, %eax
  wrmsr
  mov %cr0, %eax
  or $0x80000000, %eax
  mov %eax, %cr0
  ljmp $0x08, $7f

// Paging and EFER.LME off, segments flat.
leave_paging:
  mov $0x20, %eax
  mov %eax, %ds
  mov %eax, %es
  mov %eax, %ss
  mov %cr0, %eax
  and $~0x80000000, %eax
  mov %eax, %cr0
  mov $0xc0000080, %ecx
  rdmsr
  and $~0x100, %eax
  wrmsr
  ret

.code64
7:
  mov $0x10, %eax
  mov %eax, %ds
  mov %eax, %es
  mov %eax, %ss
  mov mode_stack, %rsp
  popfq
  pop %r15
  pop %r14
  pop %r13
  pop %r12
  pop %rbp
  pop %rbx
  ret

.global mode_fragment_16, mode_fragment_32, mode_fragment_64, mode_fragment_end
.code16
mode_fragment_16:
  movl (%ebx), %eax
  jmpl *%edx
.code32
mode_fragment_32:
  movl (%ebx), %eax
  jmp *%edx
.code64
mode_fragment_64:
  movl (%ebx), %eax
  jmp *%rdx
mode_fragment_end:

.bss
.balign 8
mode_stack:
  .skip 8
mode_cr4:
  .skip 8

.section .note.GNU-stack, "", @progbits
