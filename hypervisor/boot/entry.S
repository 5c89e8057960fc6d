// SPDX-License-Identifier: Apache-2.0
//
// Where the machine enters Bulkhead: the multiboot headers, and the ways from a loader's 32-bit mode (boot processor)
// and from real mode (all others) to C++.
//
//   loader ──▶ boot_entry32 ──▶ boot_entry64 ──▶ boot_main()            on the boot stack, at the load address
//   SIPI ───▶ trampoline16 ──▶ trampoline64 ──▶ processor_entry()      on the processor's own stack
//
// Addresses: the image is linked at BULKHEAD_IMAGE_BASE and loaded at BULKHEAD_LOAD_BASE; everything in this file that runs before paging
// therefore uses LOAD(symbol).

#include "hypervisor/boot/layout.h"

#define GIB(address) ((address) >> 30)
#define LOAD(symbol) ((symbol) - BULKHEAD_IMAGE_BASE + BULKHEAD_LOAD_BASE)

// Both headers carry addresses, so a loader takes the file as it is and does not look at its ELF64 headers, which
// QEMU's multiboot 1 loader would refuse.
        .section .headers, "a"
        .balign 8
multiboot1:
        .set MULTIBOOT1_MAGIC, 0x1BADB002
        .set MULTIBOOT1_FLAGS, 0x00010003  // modules page aligned, memory map, address fields
        .long MULTIBOOT1_MAGIC, MULTIBOOT1_FLAGS, -(MULTIBOOT1_MAGIC + MULTIBOOT1_FLAGS)
        .long LOAD(multiboot1), BULKHEAD_LOAD_BASE, LOAD(image_file_end), LOAD(image_end), LOAD(boot_entry32)

        .balign 8
multiboot2:
        .set MULTIBOOT2_MAGIC, 0xE85250D6
        .long MULTIBOOT2_MAGIC, 0, multiboot2_end - multiboot2, -(MULTIBOOT2_MAGIC + 0 + (multiboot2_end - multiboot2))
        .short 2, 0  // addresses
        .long 24, LOAD(multiboot2), BULKHEAD_LOAD_BASE, LOAD(image_file_end), LOAD(image_end)
        .short 3, 0  // entry
        .long 12, LOAD(boot_entry32)
        .balign 8
        .short 6, 0  // modules page aligned
        .long 8
        .short 5, 1  // a framebuffer of any kind, if there is one
        .long 20, 0, 0, 0
        .balign 8
        .short 0, 0
        .long 8
multiboot2_end:

        .section .boot.text, "ax"
        .code32
        .globl boot_entry32
boot_entry32:
        cli
        cld
        movl %eax, %ebp  // loader's magic number
        movl $LOAD(boot_stack_top), %esp

        // Long mode there? Otherwise stop: nothing could be printed by code that is all 64-bit.
        movl $0x80000000, %eax
        pushl %ebx
        cpuid
        cmpl $0x80000001, %eax
        jb no_long_mode
        movl $0x80000001, %eax
        cpuid
        popl %ebx
        btl $29, %edx
        jnc no_long_mode

        // First tables: [0, 1 GiB) at itself, [0, 4 GiB) in the direct map, and the image.
        movl $(LOAD(boot_pdpt) + 3), LOAD(boot_pml4)
        movl $(LOAD(boot_directories) + 3), LOAD(boot_pdpt)
        movl $(LOAD(boot_directory_image) + 3), LOAD(boot_pdpt) + GIB(BULKHEAD_IMAGE_BASE) * 8
        movl $LOAD(boot_pdpt) + GIB(BULKHEAD_DIRECT_MAP) * 8, %edi
        movl $(LOAD(boot_directories) + 3), %eax
        movl $4, %ecx
1:      movl %eax, (%edi)
        addl $8, %edi
        addl $4096, %eax
        loop 1b
        movl $LOAD(boot_directories), %edi
        movl $0x83, %eax
        movl $2048, %ecx
2:      movl %eax, (%edi)
        addl $8, %edi
        addl $0x200000, %eax
        loop 2b
        movl $(LOAD(boot_table_image) + 3), LOAD(boot_directory_image)
        movl $LOAD(boot_table_image), %edi
        movl $(BULKHEAD_LOAD_BASE + 3), %eax
        movl $512, %ecx
3:      movl %eax, (%edi)
        addl $8, %edi
        addl $4096, %eax
        loop 3b

        movl $LOAD(boot_pml4), %eax
        movl %eax, %cr3
        movl $0x20, %eax  // PAE
        movl %eax, %cr4
        movl $0xC0000080, %ecx
        rdmsr
        orl $0x900, %eax  // NXE, LME
        wrmsr
        movl $0x80010011, %eax  // PG, WP, ET, PE
        movl %eax, %cr0
        lgdt LOAD(boot_gdt_pointer)
        ljmp $0x08, $LOAD(boot_entry64_low)

no_long_mode:
        hlt
        jmp no_long_mode

        .code64
boot_entry64_low:
        movabsq $boot_entry64, %rax
        jmp *%rax
boot_entry64:
        lgdt processor_gdt_pointer(%rip)
        movl $0x10, %eax
        movl %eax, %ds
        movl %eax, %es
        movl %eax, %ss
        xorl %eax, %eax
        movl %eax, %fs
        movl %eax, %gs
        leaq boot_stack_top(%rip), %rsp
        movl %ebp, %edi
        movl %ebx, %esi
        xorl %ebp, %ebp
        call boot_main
        ud2

// Copied to a page below 1 MiB. The words at its end are filled in for each processor before it is started.
        .globl trampoline_start, trampoline_end
trampoline_start:
        .code16
        cli
        cld
        movw %cs, %ax
        movw %ax, %ds
        movzwl %ax, %ebx
        shll $4, %ebx  // address of this page
        leal trampoline32 - trampoline_start(%ebx), %eax
        movl %eax, trampoline_jump32 - trampoline_start
        leal trampoline_gdt - trampoline_start(%ebx), %eax
        movl %eax, trampoline_gdt_pointer + 2 - trampoline_start
        lgdtl trampoline_gdt_pointer - trampoline_start
        movl $0x11, %eax
        movl %eax, %cr0
        ljmpl *(trampoline_jump32 - trampoline_start)
        .code32
trampoline32:
        movl $0x18, %eax
        movl %eax, %ds
        movl %eax, %es
        movl %eax, %ss
        movl $0x20, %eax
        movl %eax, %cr4
        movl trampoline_cr3 - trampoline_start(%ebx), %eax
        movl %eax, %cr3
        movl $0xC0000080, %ecx
        rdmsr
        orl $0x900, %eax  // NXE, LME
        wrmsr
        movl $0x80010011, %eax
        movl %eax, %cr0
        leal trampoline64 - trampoline_start(%ebx), %eax
        pushl $0x08  // no stack yet: the push goes to the end of this page
        movl %eax, trampoline_jump64 - trampoline_start(%ebx)
        ljmpl *(trampoline_jump64 - trampoline_start)(%ebx)
        .code64
trampoline64:
        movq trampoline_stack - trampoline_start(%rbx), %rsp
        movq trampoline_target - trampoline_start(%rbx), %rax
        movq trampoline_argument - trampoline_start(%rbx), %rdi
        lgdt processor_gdt_pointer
        movl $0x10, %ecx
        movl %ecx, %ds
        movl %ecx, %es
        movl %ecx, %ss
        xorl %ecx, %ecx
        movl %ecx, %fs
        movl %ecx, %gs
        xorl %ebp, %ebp
        pushq $0
        jmp *%rax

        .balign 8
trampoline_gdt:
        .quad 0
        .quad 0x00AF9A000000FFFF  // 08: 64-bit code
        .quad 0x00CF9A000000FFFF  // 10: 32-bit code
        .quad 0x00CF92000000FFFF  // 18: data
trampoline_gdt_pointer:
        .short 31
        .long 0
trampoline_jump32:
        .long 0
        .short 0x10
trampoline_jump64:
        .long 0
        .short 0x08
        .balign 8
        .globl trampoline_cr3, trampoline_stack, trampoline_target, trampoline_argument
trampoline_cr3:
        .quad 0
trampoline_stack:
        .quad 0
trampoline_target:
        .quad 0
trampoline_argument:
        .quad 0
trampoline_end:

        .section .boot.data, "aw"
        .balign 8
boot_gdt:
        .quad 0
        .quad 0x00AF9A000000FFFF
        .quad 0x00CF92000000FFFF
boot_gdt_pointer:
        .short 23
        .long LOAD(boot_gdt)

        .section .rodata.processor_gdt, "a"
        .balign 8
processor_gdt:
        .quad 0
        .quad 0x00AF9B000000FFFF  // 08: 64-bit code
        .quad 0x00CF93000000FFFF  // 10: data
        .globl processor_gdt_pointer
processor_gdt_pointer:
        .short 23
        .quad processor_gdt

        .section .boot.bss, "aw", @nobits
        .balign 4096
        .globl boot_pml4
boot_pml4:
        .skip 4096
boot_pdpt:
        .skip 4096
boot_directories:
        .skip 4 * 4096
boot_directory_image:
        .skip 4096
        .globl boot_table_image
boot_table_image:
        .skip 4096
        .skip 16384
boot_stack_top:

        .section .note.GNU-stack, "", @progbits
