# What compiled code calls without naming it. Bytes are moved 16 at a time where there are as many.

.section .text.symbols, "ax"

.globl memcpy
.globl memmove
memcpy:
memmove:
    movq %rdi, %rax
    movq %rdi, %rcx
    subq %rsi, %rcx
    cmpq %rdx, %rcx             # unsigned: the target begins inside the source
    jb 4f
1:  subq $16, %rdx
    jb 2f
    movups (%rsi), %xmm0
    movups %xmm0, (%rdi)
    addq $16, %rsi
    addq $16, %rdi
    jmp 1b
2:  addq $16, %rdx
    jz 3f
5:  movb (%rsi), %cl
    movb %cl, (%rdi)
    incq %rsi
    incq %rdi
    decq %rdx
    jnz 5b
3:  ret
4:  subq $16, %rdx              # backwards
    jb 6f
    movups (%rsi,%rdx), %xmm0
    movups %xmm0, (%rdi,%rdx)
    jmp 4b
6:  addq $16, %rdx
    jz 3b
7:  movb -1(%rsi,%rdx), %cl
    movb %cl, -1(%rdi,%rdx)
    decq %rdx
    jnz 7b
    ret

.globl memset
memset:
    movq %rdi, %rax
    movzbl %sil, %ecx
    movabsq $0x0101010101010101, %r8
    imulq %r8, %rcx
    movq %rcx, %xmm0
    punpcklqdq %xmm0, %xmm0
1:  subq $16, %rdx
    jb 2f
    movups %xmm0, (%rdi)
    addq $16, %rdi
    jmp 1b
2:  addq $16, %rdx
    jz 4f
3:  movb %cl, (%rdi)
    incq %rdi
    decq %rdx
    jnz 3b
4:  ret

.globl memcmp
.globl bcmp
memcmp:
bcmp:
    xorl %eax, %eax
1:  subq $8, %rdx
    jb 2f
    movq (%rdi), %rcx
    cmpq (%rsi), %rcx
    jne 2f                      # the byte that differs is among these 8
    addq $8, %rdi
    addq $8, %rsi
    jmp 1b
2:  addq $8, %rdx
3:  jz 5f
    movzbl (%rdi), %eax
    movzbl (%rsi), %ecx
    subl %ecx, %eax
    jne 5f
    incq %rdi
    incq %rsi
    decq %rdx
    jmp 3b
5:  ret

.globl strlen
strlen:
    xorl %eax, %eax
1:  cmpb $0, (%rdi,%rax)
    je 2f
    incq %rax
    jmp 1b
2:  ret

# Named by the compiled libraries, never called: nothing unwinds.
.globl rust_eh_personality
.globl _Unwind_Resume
rust_eh_personality:
_Unwind_Resume:
    ud2
