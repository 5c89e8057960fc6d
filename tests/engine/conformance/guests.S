/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guests of the engine conformance tests: a few instructions each. They tell what they saw by port 0x10, and end with
 * a write of port 0xf4. `GUEST name` ... `END name` make the symbols guest_name and guest_name_end.
 */
.macro GUEST name
	.balign 64
	.globl guest_\name
guest_\name:
.endm
.macro END name
	.globl guest_\name\()_end
guest_\name\()_end:
.endm
.macro DONE
	outb	%al, $0xf4
1:	hlt
	jmp	1b
.endm

	.section .rodata, "a"

/* Real mode. */
	.code16

GUEST port_write
	movl	$0x12345678, %eax
	outb	%al, $0x10
	outw	%ax, $0x10
	outl	%eax, $0x10
	movw	$0x1234, %dx
	outb	%al, %dx
	DONE
END port_write

GUEST port_read
	movl	$0xffffffff, %eax
	inb	$0x10, %al
	outl	%eax, $0x10
	inw	$0x10, %ax
	outl	%eax, $0x10
	inl	$0x10, %eax
	outl	%eax, $0x10
	DONE
END port_read

GUEST port_string
	cld
	movw	$0x10, %dx
	movw	$0x3000, %si
	movw	$5, %cx
	rep outsb
	movw	$0x3100, %di
	movw	$3, %cx
	rep insw
	movw	%cx, %ax
	outw	%ax, $0x10
	movw	%di, %ax
	outw	%ax, $0x10
	DONE
END port_string

/* Writes three pages, says 1, writes one of them again and, by a device, a fourth, says 2. */
GUEST page_writer
	movw	$0x3000, %ax
	movw	%ax, %es
	movw	%ax, %es:0x123
	movw	$0x3100, %ax
	movw	%ax, %es
	movb	%al, %es:0
	movw	$0x5000, %ax
	movw	%ax, %es
	movl	%eax, %es:0xffc
	movb	%es:0x2000, %al			/* reading is not writing */
	movb	$1, %al
	outb	%al, $0x10
	movb	%al, %es:0xfff
	movw	$0x4000, %ax
	movw	%ax, %es
	movw	$0x10, %dx
	xorw	%di, %di
	insb
	movb	$2, %al
	outb	%al, $0x10
	DONE
END page_writer

GUEST loop
1:	jmp	1b
END loop

GUEST halt
	cli
1:	hlt
	jmp	1b
END halt

/* 64-bit mode, flat, at privilege level 0; the IDT is at 0x8000 and empty. */
	.code64

GUEST mmio_read
	movabsq	$0xd0000000, %rbx
	movabsq	$-1, %rax
	movb	(%rbx), %al
	movq	%rax, 0x100000
	movw	8(%rbx), %ax
	movq	%rax, 0x100008
	movl	16(%rbx), %eax
	movq	%rax, 0x100010
	movq	24(%rbx), %rax
	movq	%rax, 0x100018
	movzbl	32(%rbx), %eax
	movq	%rax, 0x100020
	movsbq	40(%rbx), %rax
	movq	%rax, 0x100028
	movswl	48(%rbx), %eax
	movq	%rax, 0x100030
	DONE
END mmio_read

GUEST mmio_write
	movabsq	$0xd0000000, %rbx
	movabsq	$0x8877665544332211, %rax
	movb	%al, (%rbx)
	movb	%ah, 1(%rbx)
	movw	%ax, 8(%rbx)
	movl	%eax, 16(%rbx)
	movq	%rax, 24(%rbx)
	movl	$0x01020304, 32(%rbx)
	movq	$-2, 40(%rbx)
	DONE
END mmio_write

GUEST mmio_modify
	movabsq	$0xd0000000, %rbx
	movl	$0x0f0f0f0f, %eax
	orl	%eax, (%rbx)
	pushfq
	popq	0x100000
	xchgl	%eax, 8(%rbx)
	movq	%rax, 0x100008
	cmpb	$7, 16(%rbx)
	pushfq
	popq	0x100010
	DONE
END mmio_modify

GUEST mmio_string
	cld
	movl	$0xd0000000, %edi
	movl	$0x100000, %esi
	movl	$4, %ecx
	rep movsl
	movl	$0xd0000100, %esi
	movl	$0x100100, %edi
	movl	$2, %ecx
	rep movsq
	movq	%rcx, %rax
	outl	%eax, $0x10
	movl	%edi, %eax
	outl	%eax, $0x10
	DONE
END mmio_string

/* The last two bytes of memory and the first two behind it. */
GUEST mmio_straddle
	movl	0x3ffffe, %eax
	outl	%eax, $0x10
	movl	$0xaabbccdd, 0x3ffffe
	movw	0x3ffffe, %ax
	outw	%ax, $0x10
	DONE
END mmio_straddle

/* Memory behind a hole, the hole, and memory above it again. */
GUEST memory_regions
	movl	$0x1234, 0x1000000
	movl	0x1000000, %eax
	outl	%eax, $0x10
	movl	0x800000, %eax
	outl	%eax, $0x10
	movl	%eax, 0x11ffffc
	movl	$0x5678, 0x1200000
	DONE
END memory_regions

GUEST vector_move
	movabsq	$0xd0000000, %rbx
	movdqu	(%rbx), %xmm3
	movdqu	%xmm3, 0x100000
	movdqu	%xmm3, 16(%rbx)
	DONE
END vector_move

GUEST triple_fault
	ud2
END triple_fault

/* The local APIC on, in xAPIC mode; then interrupts come in at gates whose code is below. */
GUEST interrupts
	movl	$0xfee00000, %ebx
	movl	$0x1ff, 0xf0(%rbx)
	movl	$0x700, 0x350(%rbx)		/* LINT0: ExtINT */
	movb	$0x11, %al
	outb	%al, $0x10
	sti
1:	hlt
	jmp	1b
	.balign	64
	/* + 64: a fixed interrupt, edge or level */
	movb	$0x21, %al
	outb	%al, $0x10
	movl	$0, 0xb0(%rbx)
	movb	$0x22, %al
	outb	%al, $0x10
	iretq
	.balign	64
	/* + 128: one from the PIC, which has no EOI at the APIC */
	movb	$0x31, %al
	outb	%al, $0x10
	iretq
	.balign	64
	/* + 192: NMI */
	movb	$0x41, %al
	outb	%al, $0x10
	iretq
END interrupts

/* As above with interrupts off until a device says so. */
GUEST window
	movl	$0xfee00000, %ebx
	movl	$0x1ff, 0xf0(%rbx)
	movl	$0x700, 0x350(%rbx)
	cli
	movb	$0x11, %al
	outb	%al, $0x10
	movb	$0x12, %al
	outb	%al, $0x10
	sti
	nop
	movb	$0x13, %al
	outb	%al, $0x10
	DONE
	.balign	64
	hlt
	.balign	64
	movb	$0x31, %al
	outb	%al, $0x10
	iretq
END window

/* One-shot timer, vector 0x50, whose gate is + 64. */
GUEST timer
	movl	$0xfee00000, %ebx
	movl	$0x1ff, 0xf0(%rbx)
	movl	$0xb, 0x3e0(%rbx)
	movl	$0x50, 0x320(%rbx)
	movl	$100000, 0x380(%rbx)
	sti
1:	hlt
	jmp	1b
	.balign	64
	movl	$0, 0xb0(%rbx)
	movb	$0x21, %al
	outb	%al, $0x10
	DONE
END timer

/* Sends INIT and SIPI to processor 1, whose real-mode code is put at 0x9000. */
GUEST start_second
	movl	$0xfee00000, %ebx
	movl	$0x1ff, 0xf0(%rbx)
	movl	$0x01000000, 0x310(%rbx)
	movl	$0x4500, 0x300(%rbx)
	movl	$0x4609, 0x300(%rbx)
1:	pause
	cmpl	$0x5a5a, 0x9800
	jne	1b
	movb	$0x77, %al
	outb	%al, $0x10
	DONE
END start_second

GUEST hypervisor_leaves
	movl	$1, %eax
	cpuid
	movl	%ecx, 0x100000
	movl	$0x40000000, %eax
	cpuid
	movl	%eax, 0x100010
	movl	$0x40000001, %eax
	cpuid
	movl	%eax, 0x100020
	movl	$0x40000003, %eax
	cpuid
	movl	%eax, 0x100030
	movl	%edx, 0x100034
	movl	$0x40000022, %ecx		/* frequency of the time stamp counter */
	rdmsr
	movl	%eax, 0x100040
	movl	%edx, 0x100044
	movl	$0x40000002, %ecx		/* index of this processor */
	rdmsr
	movl	%eax, 0x100050
	DONE
END hypervisor_leaves

/* Reference TSC page at 0x200000, register read back; then reference counter, time stamp counter, reference counter. */
GUEST reference_tsc
	movl	$0x40000021, %ecx
	movl	$0x200001, %eax
	xorl	%edx, %edx
	wrmsr
	rdmsr
	movl	%eax, 0x100000
	movl	%edx, 0x100004
	movl	$0x40000020, %ecx
	rdmsr
	movl	%eax, 0x100010
	movl	%edx, 0x100014
	rdtsc
	movl	%eax, 0x100020
	movl	%edx, 0x100024
	rdmsr
	movl	%eax, 0x100030
	movl	%edx, 0x100034
	DONE
END reference_tsc

/* With an identity and the hypercall page at 0x200000: call 0x7abc, which nobody knows. */
GUEST hypercall
	movl	$0x40000000, %ecx
	movl	$0x0001, %eax
	movl	$0x8100, %edx
	wrmsr
	movl	$0x40000001, %ecx
	movl	$0x200001, %eax
	xorl	%edx, %edx
	wrmsr
	movl	$0x17abc, %ecx
	xorl	%edx, %edx
	xorl	%r8d, %r8d
	movl	$0x200000, %eax
	call	*%rax
	movq	%rax, 0x100000
	DONE
END hypercall

/*
 * SynIC on: messages at 0x201000, events at 0x202000, SINT 2 with vector 0x60, whose gate is + 128. It says so by 0x11. Of each
 * message it tells the first four bytes, of each event the first four of the flags; after a message of 2, and any event, it is done.
 */
GUEST synic
	movl	$0xfee00000, %ebx
	movl	$0x1ff, 0xf0(%rbx)
	xorl	%edx, %edx
	movl	$0x40000083, %ecx
	movl	$0x201001, %eax
	wrmsr
	movl	$0x40000082, %ecx
	movl	$0x202001, %eax
	wrmsr
	movl	$0x40000092, %ecx
	movl	$0x60, %eax
	wrmsr
	movl	$0x40000080, %ecx
	movl	$1, %eax
	wrmsr
	movb	$0x11, %al
	outb	%al, $0x10
	sti
1:	hlt
	jmp	1b
	.balign	64
	/* + 128 */
	movl	$0, 0xb0(%rbx)
	cmpl	$0, 0x201200
	je	3f
	movl	0x201210, %eax
	outl	%eax, $0x10
	movl	%eax, %esi
	movl	$0, 0x201200			/* the slot is free */
	mfence
	testb	$1, 0x201205			/* another message waits */
	jz	2f
	movl	$0x40000084, %ecx
	xorl	%eax, %eax
	xorl	%edx, %edx
	wrmsr
2:	cmpl	$2, %esi
	je	4f
	iretq
3:	movl	0x202200, %eax
	outl	%eax, $0x10
4:	DONE
END synic

/* With the hypercall page at 0x200000: the message whose input is at 0x203000, then a signal in registers, then one in memory. */
GUEST synic_calls
	movl	$0x40000000, %ecx
	movl	$0x0001, %eax
	movl	$0x8100, %edx
	wrmsr
	movl	$0x40000001, %ecx
	movl	$0x200001, %eax
	xorl	%edx, %edx
	wrmsr
	movl	$0x200000, %ebx
	movl	$0x5c, %ecx
	movl	$0x203000, %edx
	xorl	%r8d, %r8d
	call	*%rbx
	movq	%rax, 0x100000
	movl	$0x1005d, %ecx
	movabsq	$0x500002001, %rdx
	call	*%rbx
	movq	%rax, 0x100008
	movl	$0x5d, %ecx
	movl	$0x203100, %edx
	call	*%rbx
	movq	%rax, 0x100010
	DONE
END synic_calls

GUEST single_step
	movabsq	$0xd0000000, %rbx
	pushfq
	orq	$0x100, (%rsp)
	popfq
	movl	(%rbx), %eax
	movb	$0x66, %al
	outb	%al, $0x10
	DONE
	.balign	64
	/* + 64: the debug exception. Says where it came from, and ends stepping. */
	movq	(%rsp), %rax
	outl	%eax, $0x10
	andq	$~0x100, 16(%rsp)
	iretq
END single_step

/*
 * Puts something into everything that a processor has, says 1, and writes down what is there afterwards, from 0x100100 on.
 * Then it waits for the second tick of its periodic timer, whose gate (vector 0x50) is + 1024.
 */
	.balign	1024
GUEST survivor
	movl	$0xfee00000, %ebx
	movl	$0x1ff, 0xf0(%rbx)
	movl	$0xb, 0x3e0(%rbx)
	movl	$0x20050, 0x320(%rbx)		/* periodic */
	movl	$5000000, 0x380(%rbx)
	movl	$0x30, 0x80(%rbx)		/* task priority */
	movl	$0xc0000102, %ecx		/* base of GS for the kernel */
	movl	$0x33445566, %eax
	movl	$0x1122, %edx
	wrmsr
	movl	$0xc0000082, %ecx		/* entry of SYSCALL */
	wrmsr
	movabsq	$0x1234567, %rax
	movq	%rax, %dr1
	movq	%rax, %cr2
	fninit
	fldpi
	movabsq	$0x0123456789abcdef, %rax
	movq	%rax, %xmm9
	pslldq	$8, %xmm9
	movl	$0x40000020, %ecx		/* the reference counter, then the time stamp counter */
	rdmsr
	movl	%eax, 0x100000
	movl	%edx, 0x100004
	rdtsc
	movl	%eax, 0x100008
	movl	%edx, 0x10000c
	movabsq	$0x8888888888888888, %r8
	movabsq	$0xffffffffffffffff, %r15
	movq	$0x777, %rdi
	stc
	movb	$1, %al
	outb	%al, $0x10
	pushfq
	popq	0x100100
	movq	%r8, 0x100108
	movq	%r15, 0x100110
	movq	%rdi, 0x100118
	movq	%dr1, %rax
	movq	%rax, 0x100120
	movq	%cr2, %rax
	movq	%rax, 0x100128
	fstpl	0x100130
	movdqu	%xmm9, 0x100140
	movl	$0xc0000102, %ecx
	rdmsr
	movl	%eax, 0x100160
	movl	%edx, 0x100164
	movl	$0xc0000082, %ecx
	rdmsr
	movl	%eax, 0x100168
	movl	%edx, 0x10016c
	movl	0x80(%rbx), %eax
	movl	%eax, 0x100170
	movl	0x320(%rbx), %eax
	movl	%eax, 0x100174
	movl	0x380(%rbx), %eax
	movl	%eax, 0x100178
	movl	$0x40000020, %ecx
	rdmsr
	movl	%eax, 0x100180
	movl	%edx, 0x100184
	rdtsc
	movl	%eax, 0x100188
	movl	%edx, 0x10018c
	movl	$0, 0x80(%rbx)
	xorl	%r12d, %r12d
	sti
1:	pause
	cmpl	$2, %r12d
	jb	1b
	DONE
	.balign	1024
	incl	%r12d
	movl	$0, 0xb0(%rbx)
	iretq
END survivor

/*
 * Counts in a register, in a vector register and in memory, and looks whether they agree, until its periodic timer (vector 0x50, whose
 * gate is + 1024) has ticked 60 times: then it says 1. If they ever differ it says 2.
 */
	.balign	1024
GUEST traveller
	movl	$0xfee00000, %ebx
	movl	$0x1ff, 0xf0(%rbx)
	movl	$0xb, 0x3e0(%rbx)
	movl	$0x20050, 0x320(%rbx)		/* periodic */
	movl	$1000000, 0x380(%rbx)
	xorl	%r12d, %r12d
	xorl	%ecx, %ecx
	sti
1:	incq	%rcx
	movq	%rcx, %xmm3
	movq	%rcx, 0x100000
	pause
	movq	%xmm3, %rax
	cmpq	%rax, %rcx
	jne	2f
	cmpq	0x100000, %rcx
	jne	2f
	cmpl	$60, %r12d
	jb	1b
	movb	$1, %al
	outb	%al, $0x10
	DONE
2:	movb	$2, %al
	outb	%al, $0x10
	DONE
	.balign	1024
	incl	%r12d
	movl	$0, 0xb0(%rbx)
	iretq
END traveller

/* Writes the number of the round to the first and the last word of each page from 1 to 3 MiB, 500 rounds. */
GUEST page_rounds
	xorl	%ecx, %ecx
1:	movl	$0x100000, %edi
2:	movl	%ecx, (%rdi)
	movl	%ecx, 0xffc(%rdi)
	addl	$0x1000, %edi
	cmpl	$0x300000, %edi
	jb	2b
	incl	%ecx
	cmpl	$500, %ecx
	jb	1b
	DONE
END page_rounds

/* Takes messages at SINT 2 (vector 0x52, whose gate is + 256): tells the first word of each, and frees the slot. */
	.balign	256
GUEST message_taker
	movl	$0xfee00000, %ebx
	movl	$0x1ff, 0xf0(%rbx)
	movl	$0x40000083, %ecx		/* SIMP */
	movl	$0x300001, %eax
	xorl	%edx, %edx
	wrmsr
	movl	$0x40000082, %ecx		/* SIEFP */
	movl	$0x301001, %eax
	wrmsr
	movl	$0x40000092, %ecx		/* SINT2 */
	movl	$0x52, %eax
	wrmsr
	movl	$0x40000080, %ecx		/* SCONTROL */
	movl	$1, %eax
	wrmsr
	movb	$0x11, %al
	outb	%al, $0x10
	sti
1:	hlt
	jmp	1b
	.balign	256
	movl	0x300210, %eax
	outl	%eax, $0x10
	movl	0x301200, %eax
	outl	%eax, $0x10
	movl	$0, 0x301200
	movl	$0, 0x300200
	mfence
	movl	$0x40000084, %ecx		/* EOM */
	xorl	%eax, %eax
	xorl	%edx, %edx
	wrmsr
	movl	$0, 0xb0(%rbx)
	iretq
END message_taker

/* The second processor's, in real mode. */
	.code16
GUEST second
	movw	$0x5a5a, %cs:0x800
1:	hlt
	jmp	1b
END second

	.section .note.GNU-stack, "", @progbits
