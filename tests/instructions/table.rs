//! The instructions of the differential test, and the assembly file made of them.
//!
//! Registers hold pseudo-random values, but rbx, rsi, rdi, rbp, r12 and r13 point into memory
//! that is compared, rsp to the top of a stack that is, rcx is below 16 and r9 below 8.

use std::fmt::Write as _;

/// One probed instruction.
pub struct Cell {
    /// The instruction; `2f` is a second way out, which is told from falling through.
    pub text: String,
    /// The CPU feature it needs, as gcc calls it, or nothing.
    pub feature: &'static str,
    /// Run before; may clobber rax.
    pub prepare: &'static str,
}

fn plain(text: impl Into<String>) -> Cell {
    Cell { text: text.into(), feature: "", prepare: "" }
}

fn with(feature: &'static str, texts: &str) -> Vec<Cell> {
    lines(texts).map(|text| Cell { text, feature, prepare: "" }).collect()
}

fn lines(texts: &str) -> impl Iterator<Item = String> {
    let lines: Vec<String> = texts
        .lines()
        .map(str::trim)
        .filter(|l| !l.is_empty() && !l.starts_with('#'))
        .map(String::from)
        .collect();
    lines.into_iter()
}

const CONDITIONS: [&str; 16] =
    ["o", "no", "b", "ae", "e", "ne", "be", "a", "s", "ns", "p", "np", "l", "ge", "le", "g"];

/// Operand forms of memory: each way to encode an address.
const MEMORY: [&str; 10] = [
    "(%rbx)",
    "8(%rbp)",
    "(%r12)",
    "-16(%r13)",
    "4(%rbx,%r9,4)",
    "0x120(%r12,%r9,8)",
    "cell_datum+8(%rip)",
    "cell_datum+16",
    "cell_datum(,%r9,8)",
    "(%ebx)",
];

fn arithmetic(cells: &mut Vec<Cell>) {
    for op in ["add", "or", "adc", "sbb", "and", "sub", "xor", "cmp"] {
        for operands in [
            "b %al, %dl",
            "w %ax, %r10w",
            "l %eax, %edx",
            "q %rax, %r15",
            "q %r8, %rax",
            "b $0x7f, %al",
            "b $-1, %ah",
            "w $0x1234, %dx",
            "l $-1, %r8d",
            "l $0x12345678, %eax",
            "q $-0x80, %rdx",
            "q $0x7fffffff, %r11",
            "q %rdx, (%rbx)",
            "b $5, 8(%rbp)",
            "q cell_datum+24(%rip), %rax",
            "l $0x1234567, cell_datum+32(%rip)",
            "b %ah, %bh",
            "q %rsp, %rax",
            "q $0, %rdx",
        ] {
            // %bh would change the pointer rbx: compare only.
            if operands.contains("%bh") && op != "cmp" {
                continue;
            }
            cells.push(plain(format!("{op}{operands}")));
        }
        if op != "cmp" {
            cells.push(plain(format!("lock {op}q %rdx, (%rbx)")));
        }
    }
    for operands in
        ["b %al, %dl", "q %rax, %rax", "l $0x80000000, %edx", "q %rdx, (%rbx)", "b $1, cell_datum(%rip)"]
    {
        cells.push(plain(format!("test{operands}")));
    }
    for op in ["inc", "dec", "neg", "not"] {
        for operand in ["b %al", "w %dx", "l %r8d", "q %r14", "q (%rbx)", "b cell_datum+3(%rip)"] {
            cells.push(plain(format!("{op}{operand}")));
        }
    }
    for op in ["shl", "shr", "sar", "rol", "ror", "rcl", "rcr"] {
        for operand in [
            "b $3, %al",
            "w %cl, %dx",
            "l $1, %eax",
            "q %cl, %r10",
            "q $63, %rdx",
            "l %cl, (%rbx)",
            "q $5, cell_datum(%rip)",
        ] {
            cells.push(plain(format!("{op}{operand}")));
        }
    }
    cells.extend(
        lines(
            "shldq $5, %rax, %rdx
             shrdl %cl, %eax, (%rbx)
             imulq %rax, %rdx
             imulq $-7, (%rbx), %r8
             imull $0x12345, cell_datum(%rip), %eax
             mulb %dl
             mulq (%rbx)
             imulq %r15
             imulb cell_datum(%rip)
             bswap %eax
             bswap %r11
             xaddq %rax, %rdx
             lock xaddl %eax, (%rbx)
             xchgq %rax, %r9
             xchgl %eax, (%rbx)
             xchgq %rdx, cell_datum(%rip)
             xchgb %al, %ah
             cmpxchgq %rdx, (%rbx)
             lock cmpxchgl %edx, cell_datum+4(%rip)
             cmpxchg8b (%rbx)
             lock cmpxchg16b (%rbx)
             lock cmpxchg16b cell_datum+16(%rip)
             btq $17, %rax
             btsl $3, (%rbx)
             lock btrq $40, cell_datum(%rip)
             btcq %r9, (%rbx)
             bsfq %rax, %rdx
             bsrl %eax, %edx
             cwd
             cdq
             cqo
             cbw
             cwde
             cdqe
             lahf
             sahf
             cmc
             clc
             stc
             cld
             std
             xlatb
             movbe (%rbx), %rax
             movbe %edx, cell_datum(%rip)
             crc32q %rax, %rdx",
        )
        .map(plain),
    );
    for text in ["divq %r10", "idivl %r8d", "divw cell_datum+6(%rip)"] {
        cells.push(Cell {
            text: text.into(),
            feature: "",
            prepare: "movq $0, state_in+24(%rip); orq $0x1, state_in+64(%rip); orq $1, state_in+80(%rip); \
                      andq $0x7fffffff, state_in+64(%rip); orq $0x7fff0000, cell_datum+4(%rip); andq $0x7ff, state_in(%rip)",
        });
    }
}

fn moves(cells: &mut Vec<Cell>) {
    for memory in MEMORY {
        for form in
            ["movq M, %rax", "movl %edx, M", "movb M, %al", "leaq M, %r10", "movzbl M, %eax", "movq $-5, M"]
        {
            cells.push(plain(form.replace('M', memory)));
        }
    }
    cells.extend(
        lines(
            "movq %rax, %rdx
             movq %rsp, %rax
             movq %r8, %r15
             movl %eax, %eax
             movl %r10d, %edx
             movw %ax, %dx
             movb %ah, %dl
             movb %sil, %r8b
             movl $0x87654321, %eax
             movq $-1, %r14
             movabsq $0x123456789abcdef0, %r8
             movabsq cell_datum, %rax
             movabsb %al, cell_datum+5
             movw $0x1234, %r9w
             movb $7, %ah
             movsbq %al, %rdx
             movswl %ax, %r8d
             movslq %eax, %r10
             movzwl %dx, %eax
             movzbq %al, %rax
             movslq cell_datum+12(%rip), %rdx
             leal 5(%eax,%edx,2), %r8d
             leaq -1(%rsp), %rax
             leaw 3(%rdx), %ax
             leaq (%rip), %rax
             movl %ds, %eax
             movw %cs, (%rbx)
             nop
             xchg %ax, %ax
             nopl (%rax)
             nopw 0x200(%rax,%rax,1)
             .byte 0x66,0x66,0x2e,0x0f,0x1f,0x84,0,0,0,0,0
             endbr64
             pause
             lfence
             mfence
             sfence
             prefetcht0 (%rbx)
             prefetchw cell_datum(%rip)
             clflush (%rbx)
             rep; nop
             cs; nop",
        )
        .map(plain),
    );
    for condition in CONDITIONS {
        cells.push(plain(format!("cmov{condition}q %rax, %rdx")));
        cells.push(plain(format!("cmov{condition}l cell_datum(%rip), %r8d")));
        cells.push(plain(format!("set{condition} %al")));
        cells.push(plain(format!("set{condition} (%rbx)")));
    }
}

fn stack(cells: &mut Vec<Cell>) {
    for register in [
        "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp", "r8", "r9", "r10", "r11", "r12", "r13",
        "r14", "r15",
    ] {
        cells.push(plain(format!("pushq %{register}")));
        cells.push(plain(format!("popq %{register}")));
    }
    cells.extend(
        lines(
            "pushq $5
             pushq $-0x12345678
             pushw $7
             pushw %ax
             popw %dx
             pushq (%rbx)
             pushq cell_datum(%rip)
             pushq 8(%rsp)
             popq (%rbx)
             popq cell_datum+8(%rip)
             popq 16(%rsp)
             pushq %fs
             pushfq
             pushfw
             subq $0x40, %rsp
             addq $8, %rsp
             leaq -0x100(%rsp), %rsp
             andq $-64, %rsp
             movq 16(%rsp), %rax
             movq %rdx, -8(%rsp)
             enter $32, $0
             enter $0, $1
             movq %rbx, %rsp",
        )
        .map(plain),
    );
    cells.push(Cell {
        text: "leave".into(),
        feature: "",
        prepare: "leaq cell_stack+0x1f020(%rip), %rax; movq %rax, state_in+48(%rip)",
    });
    for text in ["popfq", "popfw"] {
        cells.push(Cell {
            text: text.into(),
            feature: "",
            prepare: "movq state_in(%rip), %rax; andq $0xcd5, %rax; orq $0x202, %rax; movq %rax, cell_stack+0x1f000(%rip)",
        });
    }
}

/// `2f` put where the instruction will find it.
const INTO_RAX: &str = "leaq 2f(%rip), %rax; movq %rax, state_in(%rip)";
const INTO_R13: &str = "leaq 2f(%rip), %rax; movq %rax, state_in+104(%rip)";
const INTO_STACK: &str = "leaq 2f(%rip), %rax; movq %rax, cell_stack+0x1f000(%rip)";
const INTO_DATUM: &str = "leaq 2f(%rip), %rax; movq %rax, cell_datum+8(%rip)";
const INTO_MEMORY: &str = "leaq 2f(%rip), %rax; movq %rax, cell_memory+512(%rip)";

fn branches(cells: &mut Vec<Cell>) {
    for condition in CONDITIONS {
        cells.push(plain(format!("j{condition} 2f")));
        cells.push(plain(format!("{{disp32}} j{condition} 2f")));
    }
    cells.extend(
        lines(
            "jmp 2f
             {disp32} jmp 2f
             jne,pn 2f
             je,pt 2f
             bnd jmp 2f
             loop 2f
             loope 2f
             loopne 2f
             addr32 loop 2f
             jrcxz 2f
             jecxz 2f
             call 2f
             bnd call 2f",
        )
        .map(plain),
    );
    for (text, prepare) in [
        ("jmp *%rax", INTO_RAX),
        ("notrack jmp *%rax", INTO_RAX),
        ("call *%rax", INTO_RAX),
        ("call *%r13", INTO_R13),
        ("jmp *%r13", INTO_R13),
        ("bnd call *%rax", INTO_RAX),
        ("jmp *cell_datum+8(%rip)", INTO_DATUM),
        ("call *cell_datum+8(%rip)", INTO_DATUM),
        ("call *cell_datum+8", INTO_DATUM),
        ("jmp *(%rbx)", INTO_MEMORY),
        ("call *(%rbx)", INTO_MEMORY),
        ("jmp *(%rsp)", INTO_STACK),
        ("call *(%rsp)", INTO_STACK),
        ("ret", INTO_STACK),
        ("rep ret", INTO_STACK),
        ("bnd ret", INTO_STACK),
        ("ret $24", INTO_STACK),
        ("ret $0", INTO_STACK),
    ] {
        cells.push(Cell { text: text.into(), feature: "", prepare });
    }
    // getuid: the same in every run. rcx and r11 are what the processor says.
    cells.push(Cell { text: "syscall".into(), feature: "", prepare: "movq $102, state_in(%rip)" });
    cells.push(Cell {
        text: "cpuid".into(),
        feature: "",
        prepare: "movq $0, state_in(%rip); movq $0, state_in+16(%rip)",
    });
    cells.push(Cell { text: "xgetbv".into(), feature: "avx", prepare: "movq $0, state_in+16(%rip)" });
}

fn strings(cells: &mut Vec<Cell>) {
    for op in ["movs", "stos", "lods", "scas", "cmps"] {
        for size in ["b", "w", "l", "q"] {
            cells.push(plain(format!("{op}{size}")));
            for prefix in if matches!(op, "scas" | "cmps") { &["repe", "repne"][..] } else { &["rep"][..] } {
                cells.push(plain(format!("{prefix} {op}{size}")));
            }
        }
    }
    cells.push(plain("addr32 rep stosb"));
}

fn vectors(cells: &mut Vec<Cell>) {
    cells.extend(with(
        "",
        "movaps %xmm1, %xmm2
         movups (%rbx), %xmm3
         movups %xmm4, cell_datum(%rip)
         movaps cell_datum+16(%rip), %xmm5
         movdqu 3(%rsi), %xmm6
         movntdq %xmm1, (%rbx)
         movnti %rax, cell_datum(%rip)
         movq %rax, %xmm7
         movd %xmm1, %edx
         movq %xmm8, (%rbx)
         movhps (%rbx), %xmm2
         movlps %xmm9, cell_datum(%rip)
         movmskps %xmm3, %eax
         pmovmskb %xmm3, %r8d
         pxor %xmm1, %xmm1
         paddq cell_datum(%rip), %xmm2
         pshufd $0x1b, %xmm1, %xmm2
         pshufd $0x4e, cell_datum+16(%rip), %xmm12
         psrldq $5, %xmm3
         punpcklbw %xmm1, %xmm14
         pcmpeqb (%rbx), %xmm2
         pand cell_datum(%rip), %xmm0
         pinsrw $3, %eax, %xmm1
         pextrw $2, %xmm1, %edx
         maskmovdqu %xmm1, %xmm2
         cvtsi2sdq %rax, %xmm1
         cvttsd2si %xmm1, %rdx
         cvtsi2ssl cell_datum(%rip), %xmm3
         addsd cell_datum+8(%rip), %xmm2
         mulps %xmm1, %xmm2
         sqrtsd %xmm3, %xmm4
         ucomisd %xmm1, %xmm2
         comiss cell_datum(%rip), %xmm1
         cmpltps %xmm1, %xmm3
         ldmxcsr cell_mxcsr(%rip)
         stmxcsr (%rbx)
         fnstcw (%rbx)
         fnstsw %ax
         fldl cell_datum(%rip)
         fldt (%rbx)
         fildq cell_datum+8(%rip)
         fldpi
         fninit
         fld1
         fnclex
         emms
         movq %mm0, %mm1",
    ));
    cells.extend(with(
        "ssse3",
        "pshufb %xmm1, %xmm2
         palignr $5, cell_datum(%rip), %xmm3
         pabsd (%rbx), %xmm4",
    ));
    cells.extend(with(
        "sse4.2",
        "pcmpistri $0x0c, %xmm1, %xmm2
         pcmpestrm $0x18, cell_datum(%rip), %xmm2
         ptest %xmm1, %xmm2
         pblendvb %xmm1, %xmm2
         roundsd $3, cell_datum(%rip), %xmm1
         pextrq $1, %xmm1, cell_datum(%rip)
         pinsrq $0, (%rbx), %xmm3
         pmovzxbw cell_datum(%rip), %xmm2
         crc32b cell_datum(%rip), %eax",
    ));
    cells.extend(with("popcnt", "popcntq %rax, %rdx\npopcntl cell_datum(%rip), %eax"));
    cells.extend(with("aes", "aesenc cell_datum(%rip), %xmm1\naeskeygenassist $1, %xmm1, %xmm2"));
    cells.extend(with("pclmul", "pclmulqdq $0x11, cell_datum(%rip), %xmm2"));
    cells.extend(with(
        "bmi",
        "andnq (%rbx), %rax, %rdx
         andnl cell_datum(%rip), %eax, %r8d
         bextrq %rax, cell_datum+8(%rip), %rdx
         blsiq %rax, %rdx
         blsrl (%rbx), %eax
         blsmskq cell_datum(%rip), %r10
         tzcntq %rax, %rdx
         lzcntl cell_datum(%rip), %eax",
    ));
    cells.extend(with(
        "bmi2",
        "mulxq (%rbx), %rax, %r8
         rorxq $7, cell_datum(%rip), %rdx
         sarxq %rax, (%rbx), %rdx
         shlxl %eax, cell_datum(%rip), %edx
         pdepq cell_datum(%rip), %rax, %rdx
         pextl (%rbx), %eax, %r14d
         bzhiq %rax, cell_datum+8(%rip), %rdx
         adcxq %rax, %rdx
         adoxq cell_datum(%rip), %rdx",
    ));
    cells.extend(with(
        "avx",
        "vmovdqu (%rbx), %ymm1
         vmovdqu %ymm2, cell_datum(%rip)
         vmovdqu %ymm2, 0x40(%r12,%r9,8)
         vmovdqa cell_datum(%rip), %xmm3
         vaddps cell_datum(%rip), %ymm1, %ymm2
         vaddpd %ymm12, %ymm13, %ymm14
         vpxor %xmm1, %xmm1, %xmm1
         vxorps %ymm8, %ymm9, %ymm10
         vmovd %eax, %xmm1
         vmovq cell_datum(%rip), %xmm11
         vcvtsi2sdq cell_datum+8(%rip), %xmm1, %xmm2
         vucomisd cell_datum(%rip), %xmm2
         vpmovmskb %xmm2, %eax
         vmovmskpd %ymm3, %r9d
         vinsertf128 $1, cell_datum(%rip), %ymm1, %ymm2
         vextractf128 $1, %ymm1, cell_datum+16(%rip)
         vbroadcastss cell_datum+4(%rip), %ymm5
         vperm2f128 $0x21, (%rbx), %ymm1, %ymm2
         vmaskmovps %ymm1, %ymm2, (%rbx)
         vblendvps %ymm1, cell_datum(%rip), %ymm2, %ymm3
         vptest %ymm1, %ymm2
         vzeroupper
         vzeroall
         vmovntps %ymm1, (%rbx)
         vpslldq $3, %xmm1, %xmm2
         vstmxcsr cell_datum+32(%rip)",
    ));
    cells.extend(with(
        "avx2",
        "vpaddq cell_datum(%rip), %ymm1, %ymm2
         vpcmpeqb (%rbx), %ymm1, %ymm2
         vpcmpeqd %ymm3, %ymm4, %ymm5
         vpmovmskb %ymm2, %eax
         vpsrlq $7, %ymm1, %ymm2
         vpsllvd cell_datum(%rip), %ymm1, %ymm2
         vpermq $0x1b, cell_datum(%rip), %ymm1
         vpermd (%rbx), %ymm1, %ymm2
         vpbroadcastb cell_datum+3(%rip), %ymm6
         vpshufb cell_datum(%rip), %ymm1, %ymm2
         vpblendd $0x5a, %ymm1, %ymm2, %ymm3
         vpmaskmovd (%rbx), %ymm1, %ymm2
         vpalignr $5, cell_datum(%rip), %ymm1, %ymm2
         vpminub %ymm14, %ymm15, %ymm0",
    ));
    cells.push(Cell {
        text: "vpgatherdd %ymm1, cell_memory(,%ymm2,1), %ymm3".into(),
        feature: "avx2",
        prepare: "movq $0x10, state_in+256(%rip); movq $0x20, state_in+264(%rip); \
                  movq $0x30, state_in+272(%rip); movq $0x40, state_in+280(%rip)",
    });
    cells.extend(with(
        "fma",
        "vfmadd213pd cell_datum(%rip), %ymm1, %ymm2
         vfnmsub231ss (%rbx), %xmm1, %xmm2",
    ));
    cells.extend(
        with(
            "avx512f",
            "vmovdqu64 %zmm1, (%rbx)
         vmovdqu64 cell_datum(%rip), %zmm2
         vaddpd cell_datum(%rip){1to8}, %zmm1, %zmm2
         vpternlogq $0x96, cell_datum(%rip), %zmm1, %zmm2
         vpcompressq %zmm1, (%rbx){%k0}
         vmovdqu64 %zmm3, 0x40(%r12,%r9,8)
         kmovw %eax, %k1
         vpcmpeqd cell_datum(%rip), %zmm1, %k2
         vpbroadcastq %rax, %zmm4
         valignq $3, cell_datum(%rip), %zmm1, %zmm2",
        )
        .into_iter()
        .filter(|c| !c.text.contains("{%k0}")),
    );
    cells.extend(with(
        "avx512vl",
        "vmovdqu64 cell_datum(%rip), %ymm16
         vmovdqu64 %ymm1, cell_datum+32(%rip)
         vpaddd cell_datum(%rip){1to8}, %ymm1, %ymm2
         vpternlogd $0xe8, %ymm1, %ymm2, %ymm3
         vpcmpuq $2, cell_datum(%rip), %ymm1, %k3
         vpminsq (%rbx), %ymm1, %ymm2
         vmovdqa32 %xmm1, cell_datum+16(%rip)
         vmovups 0x20(%r13), %ymm5",
    ));
    cells.extend(with(
        "avx512bw",
        "vmovdqu8 cell_datum+1(%rip), %zmm1\nvpcmpeqb (%rbx), %zmm1, %k1\nkmovq %k1, %rax",
    ));
    cells.extend(with("gfni", "gf2p8mulb cell_datum(%rip), %xmm2"));
}

/// All of them.
pub fn cells() -> Vec<Cell> {
    let mut cells = Vec::new();
    arithmetic(&mut cells);
    moves(&mut cells);
    stack(&mut cells);
    branches(&mut cells);
    strings(&mut cells);
    vectors(&mut cells);
    cells
}

/// Where each register is in `struct state`.
const SAVED: [(&str, u32); 15] = [
    ("rbx", 8),
    ("rcx", 16),
    ("rdx", 24),
    ("rsi", 32),
    ("rdi", 40),
    ("rbp", 48),
    ("r8", 64),
    ("r9", 72),
    ("r10", 80),
    ("r11", 88),
    ("r12", 96),
    ("r13", 104),
    ("r14", 112),
    ("r15", 120),
    ("rax", 0),
];

fn common_code(text: &mut String) -> std::fmt::Result {
    // The state goes in: flags from the stack of the caller, rsp last but for them.
    writeln!(text, "cell_load:")?;
    for register in ["rbx", "rbp", "r12", "r13", "r14", "r15"] {
        writeln!(text, "  pushq %{register}")?;
    }
    writeln!(text, "  fninit\n  movq %rsp, cell_saved_rsp(%rip)")?;
    for i in 0..16 {
        writeln!(text, "  vmovdqu state_in+{}(%rip), %ymm{i}", 192 + i * 32)?;
    }
    writeln!(text, "  kxorw %k1, %k1, %k1")?;
    for (register, at) in SAVED {
        writeln!(text, "  movq state_in+{at}(%rip), %{register}")?;
    }
    writeln!(
        text,
        "  pushq state_in+128(%rip)\n  popfq\n  movq state_in+56(%rip), %rsp\n  jmp *cell_target(%rip)"
    )?;
    // And out again, by instructions that change no flag.
    writeln!(text, "cell_other_way:\n  movb $2, state_out+136(%rip)\n  jmp cell_store_all")?;
    writeln!(text, "cell_store:\n  movb $1, state_out+136(%rip)\ncell_store_all:")?;
    for (register, at) in SAVED {
        writeln!(text, "  movq %{register}, state_out+{at}(%rip)")?;
    }
    writeln!(text, "  movq %rsp, state_out+56(%rip)\n  movq cell_saved_rsp(%rip), %rsp")?;
    writeln!(text, "  pushfq\n  popq state_out+128(%rip)\n  cld")?;
    for i in 0..16 {
        writeln!(text, "  vmovdqu %ymm{i}, state_out+{}(%rip)", 192 + i * 32)?;
    }
    writeln!(text, "  vzeroupper\n  emms\n  ldmxcsr cell_mxcsr(%rip)")?;
    for register in ["r15", "r14", "r13", "r12", "rbp", "rbx"] {
        writeln!(text, "  popq %{register}")?;
    }
    writeln!(text, "  ret\n.balign 8\ncell_mxcsr: .long 0x1f80, 0")
}

/// The assembly file, and the names of its cells: `insn_N`.
pub fn assembly(cells: &[Cell], avx512: bool) -> String {
    let mut text = String::from(".text\n");
    common_code(&mut text).expect("a String takes all");
    if !avx512 {
        text = text.replace("  kxorw %k1, %k1, %k1\n", "");
    }
    let mut table = String::new();
    // Labels, not functions: what lies below the stack pointer is looked at, too.
    for (i, cell) in cells.iter().enumerate() {
        let escaped = cell.text.replace('"', "'");
        text += &format!(
            "entry_{i}:\n  {}\n  leaq insn_{i}(%rip), %rax\n  movq %rax, cell_target(%rip)\n  jmp cell_load\n\
             .balign 16\n.globl insn_{i}\n\
             insn_{i}:\n  {}\nnext_{i}:\n  jmp cell_store\n.size insn_{i}, . - insn_{i}\n\
             2: jmp cell_other_way\n",
            cell.prepare, cell.text
        );
        table += &format!(
            "  .quad 91f, 92f, entry_{i}, insn_{i}, next_{i}\n\
             .pushsection .rodata.names, \"a\"\n91: .asciz \"{i} {escaped}\"\n92: .asciz \"{}\"\n.popsection\n",
            cell.feature
        );
    }
    text += &format!(
        ".section .data.rel.ro, \"aw\"\n.balign 8\n.globl cells, cells_count\ncells:\n{table}cells_count: .quad {}\n\
         .section .note.GNU-stack, \"\", @progbits\n",
        cells.len()
    );
    text
}
