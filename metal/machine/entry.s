# What a loader that knows PVH jumps to: 32-bit protected mode, flat segments, no paging; ebx holds the address of the
# start information. Maps the first 4 GiB one to one by 2 MiB pages, enables SSE and long mode, calls `machine_start`.

.section .note.Xen, "a", @note
    .balign 4
    .long 4                     # length of the name
    .long 8                     # length of what follows it
    .long 18                    # XEN_ELFNOTE_PHYS32_ENTRY
    .asciz "Xen"
    .quad entry_32

.section .bss.tables, "aw", @nobits
    .balign 4096
level_4:  .skip 4096
level_3:  .skip 4096
level_2:  .skip 4 * 4096

.section .rodata.segments, "a"
    .balign 8
segments:
    .quad 0
    .quad 0x00af9a000000ffff    # 8: code, 64 bit
    .quad 0x00cf92000000ffff    # 16: data
segments_end:
segments_pointer:
    .word segments_end - segments - 1
    .quad segments

.section .text.entry, "ax"
.code32
.globl entry_32
entry_32:
    cli
    cld
    movl $stack_top, %esp
    movl %ebx, %edi

    # Present, writable: the one entry of level 4, the four of level 3.
    movl $level_3 + 3, level_4
    movl $level_2 + 3, %eax
    movl $level_3, %edx
1:  movl %eax, (%edx)
    addl $4096, %eax
    addl $8, %edx
    cmpl $level_3 + 4 * 8, %edx
    jne 1b
    # Present, writable, huge: 2048 pages of 2 MiB.
    movl $0x83, %eax
    movl $level_2, %edx
2:  movl %eax, (%edx)
    addl $0x200000, %eax
    addl $8, %edx
    cmpl $level_2 + 2048 * 8, %edx
    jne 2b
    # The page below the stack is not there.
    movl $stack_guard, %edx
    shrl $21, %edx
    movl $0, level_2(,%edx,8)

    movl %cr4, %eax
    orl $0x620, %eax            # PAE, OSFXSR, OSXMMEXCPT
    movl %eax, %cr4
    movl $level_4, %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx      # EFER: long mode
    rdmsr
    orl $0x100, %eax
    wrmsr
    movl %cr0, %eax
    andl $~4, %eax              # no emulation of the floating-point unit
    orl $0x80000002, %eax       # paging, monitor
    movl %eax, %cr0
    lgdt segments_pointer
    ljmp $8, $entry_64

.code64
entry_64:
    movl $16, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    movl %edi, %edi             # upper half cleared: the address is the first argument
    call machine_start
3:  hlt
    jmp 3b
