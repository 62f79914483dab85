/*
 * A guest of a few instructions that finds out whether KVM really runs guests here. It goes the way that
 * every 64-bit kernel goes (real mode, protected mode, paging, long mode), and then does what broken nested
 * hosts fail at: lock cmpxchg16b. The end is a byte to QEMU's isa-debug-exit port.
 *
 * Runs at 0xf0000, where the firmware would be (Intel SDM volume 3A, 9.1.4 and 9.8.5).
 */
	.section .rodata
	.globl accel_probe_code, accel_probe_code_end

#define AT(label) (0xf0000 + (label - accel_probe_code))
#define IN_SEGMENT(label) (label - accel_probe_code)

	.code16
accel_probe_code:
	cli
	mov $0xf000, %ax
	mov %ax, %ds
	lgdtl IN_SEGMENT(gdt_pointer)
	mov %cr0, %eax
	or $1, %al
	mov %eax, %cr0
	ljmpl $8, $AT(protected_mode)

	.code32
protected_mode:
	mov $0x10, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %ss
	mov $0x1000, %edi
	xor %eax, %eax
	mov $0x3000 / 4, %ecx
	cld
	rep stosl
	movl $0x2003, 0x1000		/* page map -> directory pointers -> directory -> 2 MiB page */
	movl $0x3003, 0x2000
	movl $0x0083, 0x3000
	mov %cr4, %eax
	or $0x20, %eax			/* PAE */
	mov %eax, %cr4
	mov $0x1000, %eax
	mov %eax, %cr3
	mov $0xc0000080, %ecx		/* EFER.LME */
	rdmsr
	or $0x100, %eax
	wrmsr
	mov %cr0, %eax
	or $0x80000000, %eax
	mov %eax, %cr0
	ljmp $0x18, $AT(long_mode)

	.code64
long_mode:
	mov $0x8000, %esi
	movq $0, (%rsi)
	movq $0, 8(%rsi)
	mov $10000, %edi
	xor %eax, %eax
	xor %edx, %edx
again:
	lea 1(%rax), %rbx
	lea 3(%rdx), %rcx
	lock cmpxchg16b (%rsi)
	jne failed
	mov (%rsi), %rax
	mov 8(%rsi), %rdx
	dec %edi
	jnz again
	cmp $10000, %rax
	jne failed
	mov $0x31, %al			/* QEMU ends with status 0x31 * 2 + 1 */
	out %al, $0xf4
failed:
	mov $0x32, %al
	out %al, $0xf4
	hlt

	.balign 8
gdt:
	.quad 0
	.quad 0x00cf9a000000ffff	/* code, 32 bits */
	.quad 0x00cf92000000ffff	/* data */
	.quad 0x00af9a000000ffff	/* code, 64 bits */
gdt_pointer:
	.short gdt_pointer - gdt - 1
	.long AT(gdt)
accel_probe_code_end:
	.section .note.GNU-stack, "", @progbits
