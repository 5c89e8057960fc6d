/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The instructions that the emulator is compared with this machine's processor on, and what executes them there.
 * RBX, RSI and RDI point into a window of memory, RCX is 0 to 4, RDX is small and has a sign, RSP is a stack.
 */
.macro CASE text:vararg
	.section .rodata.oracle_code, "a"
2:	\text
3:
	.section .rodata.oracle_text, "a"
4:	.asciz "\text"
	.section .data.rel.ro.oracle_table, "aw"
	.quad	2b, 3b - 2b, 4b
.endm

	.section .data.rel.ro.oracle_table, "aw"
	.balign	8
	.globl	oracle_table
oracle_table:

.irp register, %al, %ah, %bl, %r9b, %bpl
	CASE movb \register, (%rbx)
	CASE movb 5(%rbx), \register
	CASE addb \register, (%rbx)
	CASE subb (%rbx), \register
	CASE cmpb \register, 1(%rbx)
.endr
.irp register, %ax, %r8w
	CASE movw \register, (%rbx, %rcx, 2)
	CASE movw (%rbx), \register
	CASE adcw \register, (%rbx)
	CASE sbbw (%rbx), \register
	CASE xchgw \register, (%rbx)
	CASE xaddw \register, (%rbx)
	CASE movbew \register, (%rbx)
	CASE movbew (%rbx), \register
.endr
.irp register, %eax, %r15d, %ebp
	CASE movl \register, (%rbx, %rcx, 8)
	CASE movl -4(%rbx), \register
	CASE addl \register, (%rbx)
	CASE orl \register, (%rbx)
	CASE adcl (%rbx), \register
	CASE sbbl \register, (%rbx)
	CASE andl \register, (%rbx)
	CASE subl \register, (%rbx)
	CASE xorl (%rbx), \register
	CASE cmpl (%rbx), \register
	CASE testl \register, (%rbx)
	CASE xchgl \register, (%rbx)
	CASE lock cmpxchgl \register, (%rbx)
	CASE lock xaddl \register, (%rbx)
	CASE movntil \register, (%rbx)
	CASE movbel \register, (%rbx)
	CASE movbel (%rbx), \register
.endr
.irp register, %rax, %r12, %rbp
	CASE movq \register, (%rbx)
	CASE movq 8(%rbx), \register
	CASE addq \register, (%rbx)
	CASE adcq \register, (%rbx)
	CASE sbbq (%rbx), \register
	CASE cmpq \register, (%rbx)
	CASE xchgq \register, (%rbx)
	CASE cmpxchgq \register, (%rbx)
	CASE xaddq \register, (%rbx)
	CASE movntiq \register, (%rbx)
	CASE movbeq (%rbx), \register
	CASE movslq (%rbx), \register
	CASE movzwl (%rbx), %r11d
	CASE movsbw (%rbx), %r11w
	CASE movzbq (%rbx), %r11
	CASE movsbq (%rbx), %r11
	CASE movswl (%rbx), %r11d
.endr
	CASE movb $0x5a, (%rbx)
	CASE movw $0x5aa5, (%rbx)
	CASE movl $0x89abcdef, (%rbx)
	CASE movq $-3, (%rbx)
	CASE addb $-1, (%rbx)
	CASE orw $0x8001, (%rbx)
	CASE adcl $-1, (%rbx)
	CASE sbbq $0x7fffffff, (%rbx)
	CASE andq $-256, (%rbx)
	CASE cmpl $0, (%rbx)
	CASE cmpb $0x80, (%rbx)
	CASE testb $0x81, (%rbx)
	CASE testq $-1, (%rbx)
.irp suffix, b, w, l, q
	CASE inc\suffix (%rbx)
	CASE dec\suffix (%rbx)
	CASE not\suffix (%rbx)
	CASE neg\suffix (%rbx)
	CASE movs\suffix
	CASE stos\suffix
	CASE lods\suffix
	CASE scas\suffix
	CASE cmps\suffix
	CASE rep movs\suffix
	CASE rep stos\suffix
	CASE rep lods\suffix
	CASE repe scas\suffix
	CASE repne scas\suffix
	CASE repe cmps\suffix
	CASE repne cmps\suffix
.endr
.irp operation, bt, bts, btr, btc
	CASE \operation\()w %dx, (%rbx)
	CASE \operation\()l %edx, (%rbx)
	CASE \operation\()l $5, (%rbx)
	CASE \operation\()q %rdx, (%rbx)
	CASE \operation\()q $63, (%rbx)
	CASE \operation\()w $31, (%rbx)
.endr
	CASE lock btsl $5, (%rbx)
	CASE lock incl (%rbx)
	CASE pushq (%rbx)
	CASE pushw (%rbx)
	CASE popq (%rbx)
	CASE popw (%rbx)
	CASE movl %eax, (%ebx)
	CASE rep addr32 stosb
	CASE clflush (%rbx)
	CASE movups (%rbx), %xmm1
	CASE movups %xmm1, (%rbx)
	CASE movdqu 3(%rbx), %xmm15
	CASE movdqa %xmm0, (%rsi)
	CASE movapd (%rsi), %xmm9
	CASE movntdq %xmm2, (%rsi)
	CASE movntps %xmm2, (%rsi)
	CASE movq %xmm3, (%rbx)
	CASE movq (%rbx), %xmm3
	CASE movd %xmm3, (%rbx)
	CASE movd (%rbx), %xmm3
	CASE movss (%rbx), %xmm4
	CASE movss %xmm4, (%rbx)
	CASE movsd (%rbx), %xmm5
	CASE movsd %xmm5, (%rbx)
	CASE lddqu (%rbx), %xmm6
	.section .data.rel.ro.oracle_table, "aw"
	.quad	0, 0, 0

/*
 * oracle_execute(registers, code): sets the registers, jumps to the code, which jumps to oracle_return. At `registers`: 16
 * general ones, RFLAGS, padding to 144, 16 XMM registers.
 */
	.text
	.globl	oracle_execute
oracle_execute:
	pushq	%rbx
	pushq	%rbp
	pushq	%r12
	pushq	%r13
	pushq	%r14
	pushq	%r15
	pushq	%rdi
	movq	%rsp, own_stack(%rip)
	movq	%rsi, target(%rip)
.irp number, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
	movups	144 + 16 * \number(%rdi), %xmm\number
.endr
	pushq	128(%rdi)
	popfq
	movq	0(%rdi), %rax
	movq	8(%rdi), %rcx
	movq	16(%rdi), %rdx
	movq	24(%rdi), %rbx
	movq	32(%rdi), %rsp
	movq	40(%rdi), %rbp
	movq	48(%rdi), %rsi
	movq	64(%rdi), %r8
	movq	72(%rdi), %r9
	movq	80(%rdi), %r10
	movq	88(%rdi), %r11
	movq	96(%rdi), %r12
	movq	104(%rdi), %r13
	movq	112(%rdi), %r14
	movq	120(%rdi), %r15
	movq	56(%rdi), %rdi
	jmp	*target(%rip)

	.globl	oracle_return
oracle_return:
	movq	%rsp, code_stack(%rip)
	movq	own_stack(%rip), %rsp
	xchgq	%rdi, (%rsp)
	movq	%rax, 0(%rdi)
	movq	%rcx, 8(%rdi)
	movq	%rdx, 16(%rdi)
	movq	%rbx, 24(%rdi)
	movq	%rbp, 40(%rdi)
	movq	%rsi, 48(%rdi)
	movq	%r8, 64(%rdi)
	movq	%r9, 72(%rdi)
	movq	%r10, 80(%rdi)
	movq	%r11, 88(%rdi)
	movq	%r12, 96(%rdi)
	movq	%r13, 104(%rdi)
	movq	%r14, 112(%rdi)
	movq	%r15, 120(%rdi)
	pushfq
	popq	128(%rdi)
	cld
	popq	%rax
	movq	%rax, 56(%rdi)
	movq	code_stack(%rip), %rax
	movq	%rax, 32(%rdi)
.irp number, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
	movups	%xmm\number, 144 + 16 * \number(%rdi)
.endr
	popq	%r15
	popq	%r14
	popq	%r13
	popq	%r12
	popq	%rbp
	popq	%rbx
	ret

	.bss
	.balign	8
own_stack:
	.quad	0
code_stack:
	.quad	0
target:
	.quad	0

	.section .note.GNU-stack, "", @progbits
