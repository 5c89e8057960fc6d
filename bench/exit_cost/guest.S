/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest of bench/exits: two processors, no firmware, no operating system. See guest.hpp for how it is talked to.
 *
 * It is copied to 0x1000, where processor 1 starts by SIPI with vector 1, and processor 0 by a jump from the reset
 * vector. Both go to 32-bit protected mode without paging; processor 0 then does what the mailbox says, processor 1
 * answers interrupt kRequest by interrupt kReply.
 */
#define AT(label) (label - exit_cost_guest + 0x1000)
#define MAILBOX_OPERATION 0x500
#define MAILBOX_COUNT 0x504
#define REPLIED 0x508 /* set by the handler of the reply */
#define ALIVE 0x50c   /* set by processor 1 */
#define END_PORT 0x510
#define REQUEST 0x40
#define REPLY 0x41
#define MSR_APIC_BASE 0x1b
#define MSR_X2APIC_EOI 0x80b
#define MSR_X2APIC_SPURIOUS 0x80f
#define MSR_X2APIC_ICR 0x830
#define MSR_GUEST_OS_ID 0x40000000
#define MSR_HYPERCALL 0x40000001

	.section .rodata
	.global exit_cost_guest, exit_cost_guest_end, exit_cost_reset_vector
	.balign 16
exit_cost_reset_vector: /* 16 bytes at 0xfffffff0 */
	.code16
	ljmpw $0, $0x1000
	.balign 16

exit_cost_guest:
	cli
	xorw %ax, %ax
	movw %ax, %ds
	lgdtl AT(gdt_pointer)
	movl %cr0, %eax
	orl $1, %eax
	movl %eax, %cr0
	ljmpl $8, $AT(protected)

	.code32
protected:
	movl $16, %eax
	movl %eax, %ds
	movl %eax, %es
	movl %eax, %ss
	lidtl AT(idt_pointer)
	movl $MSR_APIC_BASE, %ecx
	rdmsr
	orl $0xc00, %eax /* x2APIC mode */
	wrmsr
	movl $MSR_X2APIC_SPURIOUS, %ecx
	movl $0x1ff, %eax /* enabled */
	xorl %edx, %edx
	wrmsr
	movl $1, %eax
	cpuid
	shrl $24, %ebx
	jnz answerer

	movl $0x8000, %esp
	call enable_hypercalls
	movl $MSR_X2APIC_ICR, %ecx
	movl $1, %edx
	movl $0x4500, %eax /* INIT */
	wrmsr
	movl $0x4601, %eax /* SIPI, vector 1 */
	wrmsr
1:	pause
	cmpl $0, ALIVE
	je 1b

next:
	movl $END_PORT, %edx
	outb %al, %dx
	movl MAILBOX_COUNT, %ebp
	movl MAILBOX_OPERATION, %eax
	jmp *AT(operations)(, %eax, 4)

	/* Each operation repeats one instruction that exits, %ebp times. */
empty:
1:	xorl %eax, %eax
	decl %ebp
	jnz 1b
	jmp next

identify:
1:	xorl %eax, %eax
	cpuid
	decl %ebp
	jnz 1b
	jmp next

hypercall: /* an unknown call, without parameters */
	xorl %ebx, %ebx
	xorl %ecx, %ecx
	xorl %edi, %edi
	xorl %esi, %esi
1:	movl $0x7fff, %eax
	xorl %edx, %edx
	vmmcall
	decl %ebp
	jnz 1b
	jmp next

read_msr:
1:	movl $MSR_APIC_BASE, %ecx
	rdmsr
	decl %ebp
	jnz 1b
	jmp next

port_write:
1:	outb %al, $0x10
	decl %ebp
	jnz 1b
	jmp next

mmio_read:
1:	movl 0xd0000000, %eax
	decl %ebp
	jnz 1b
	jmp next

interrupt: /* there and back: two interrupts, two halts */
1:	movl $0, REPLIED
	movl $MSR_X2APIC_ICR, %ecx
	movl $1, %edx
	movl $(0x4000 | REQUEST), %eax
	wrmsr
2:	cmpl $0, REPLIED
	jne 3f
	sti
	hlt
	cli
	jmp 2b
3:	decl %ebp
	jnz 1b
	jmp next

answerer:
	movl $0x9000, %esp
	movl $1, ALIVE
1:	sti
	hlt
	jmp 1b

on_request: /* on processor 1 */
	call end_of_interrupt
	movl $MSR_X2APIC_ICR, %ecx
	xorl %edx, %edx
	movl $(0x4000 | REPLY), %eax
	wrmsr
	iretl

on_reply: /* on processor 0 */
	movl $1, REPLIED
	call end_of_interrupt
	iretl

end_of_interrupt:
	movl $MSR_X2APIC_EOI, %ecx
	xorl %eax, %eax
	xorl %edx, %edx
	wrmsr
	ret

enable_hypercalls: /* where the hypervisor speaks Hv#1; others take the instruction without */
	movl $0x40000001, %eax
	cpuid
	cmpl $0x31237648, %eax
	jne 1f
	movl $MSR_GUEST_OS_ID, %ecx
	movl $1, %eax
	movl $0x80000000, %edx
	wrmsr
	movl $MSR_HYPERCALL, %ecx
	movl $0xa001, %eax /* the page at 0xa000, enabled */
	xorl %edx, %edx
	wrmsr
1:	ret

	.balign 8
operations:
	.long AT(empty), AT(identify), AT(hypercall), AT(read_msr), AT(port_write), AT(mmio_read), AT(interrupt)

	.balign 8
gdt:
	.quad 0
	.quad 0x00cf9b000000ffff
	.quad 0x00cf93000000ffff
gdt_pointer:
	.word 23
	.long AT(gdt)

	.balign 8
idt:
	.fill REQUEST, 8, 0
	.word AT(on_request), 8, 0x8e00, 0
	.word AT(on_reply), 8, 0x8e00, 0
idt_pointer:
	.word (REPLY + 1) * 8 - 1
	.long AT(idt)
exit_cost_guest_end:

	.section .note.GNU-stack, "", @progbits
