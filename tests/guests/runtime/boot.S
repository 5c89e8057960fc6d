// SPDX-License-Identifier: Apache-2.0
//
// From the multiboot loader (32-bit protected mode, no paging) to guest_entry in 64-bit mode.

#define MULTIBOOT_MAGIC 0x1badb002
#define MULTIBOOT_FLAGS 3 /* page-aligned modules, memory information */

.section .multiboot, "a"
.balign 4
.long MULTIBOOT_MAGIC, MULTIBOOT_FLAGS, -(MULTIBOOT_MAGIC + MULTIBOOT_FLAGS)

.text
.code32
.global guest_start
guest_start:
  cli
  mov $stack_top, %esp
  mov %ebx, multiboot_information

  // Four page directories of 2 MiB pages: the low 4 GiB.
  mov $page_directories, %edi
  mov $0x87, %eax // present, writable, user, large
1:
  mov %eax, (%edi)
  movl $0, 4(%edi)
  add $0x200000, %eax
  add $8, %edi
  cmp $page_directories_end, %edi
  jb 1b

  mov $page_directory_pointers, %edi
  mov $page_directories + 7, %eax
2:
  mov %eax, (%edi)
  add $0x1000, %eax
  add $8, %edi
  cmp $page_directories_end + 7, %eax
  jb 2b
  movl $page_directory_pointers + 7, page_map
  xor %edi, %edi // the boot processor

// EDI: the number of the processor, ESP: its stack.
.global enter_long_mode
enter_long_mode:
  mov %cr4, %eax
  or $0x620, %eax // PAE, OSFXSR, OSXMMEXCPT
  mov %eax, %cr4
  mov $page_map, %eax
  mov %eax, %cr3
  mov $0xc0000080, %ecx
  rdmsr
  or $0x900, %eax // LME, NXE
  wrmsr
  mov %cr0, %eax
  and $~0x60000004, %eax // caches on, no FPU emulation
  or $0x80010003, %eax // PG, WP, MP, PE
  mov %eax, %cr0
  lgdt descriptor_table_pointer
  ljmp $0x08, $1f

.code64
1:
  mov $0x10, %eax
  mov %eax, %ds
  mov %eax, %es
  mov %eax, %ss
  xor %eax, %eax
  mov %eax, %fs
  mov %eax, %gs
  mov %esp, %esp
  mov %edi, %edi
  xor %ebp, %ebp
  jmp guest_entry

.data
.balign 16
.global descriptor_table
// Flat: 08 code 64, 10 data, 18 code 32, 20 data 32, 28 code 16, 30 data 16, 38 user data, 40 user code 64, 48 TSS (two slots)
descriptor_table:
  .quad 0
  .quad 0x00af9b000000ffff
  .quad 0x00cf93000000ffff
  .quad 0x00cf9b000000ffff
  .quad 0x00cf93000000ffff
  .quad 0x00009b000000ffff
  .quad 0x000093000000ffff
  .quad 0x00cff3000000ffff
  .quad 0x00affb000000ffff
  .quad 0, 0
descriptor_table_end:
.global descriptor_table_pointer
descriptor_table_pointer:
  .word descriptor_table_end - descriptor_table - 1
  .quad descriptor_table

.global multiboot_information
multiboot_information:
  .quad 0

.bss
.balign 4096
.global page_map
page_map:
  .skip 4096
.global page_directory_pointers
page_directory_pointers:
  .skip 4096
.global page_directories
page_directories:
  .skip 4 * 4096
page_directories_end:
stack:
  .skip 32768
stack_top:

.section .note.GNU-stack, "", @progbits
