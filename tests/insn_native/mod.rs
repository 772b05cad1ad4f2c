//! Runs one instruction on the processor, from a state we choose, and gives the state it leaves.
//!
//! ```text
//! ARENA_AT  +0      control: the number of the pad reached
//!           +0x1000 code:    the instruction, and the pads control may reach from it
//!           +0x3000 data:    what memory operands point at
//!           +0x5000 stack
//! FAR_AT            slots:   1.5 GiB away, so that relocation moves a long way
//! BEYOND_AT         slots:   12 GiB away, out of reach of 32 bits
//! ```
//!
//! Everything lies below 2 GiB, so that operands with 32-bit addresses reach it too. A pad notes
//! its number without touching a register or flag, and goes to the assembly that saves them all.
//! Nothing needs a usable rsp between entry and exit.

#![expect(unsafe_code, reason = "runs code of its own making")]
#![allow(dead_code, unused_imports, reason = "each test uses its part")]

mod caught;
mod random;

use std::sync::{Mutex, MutexGuard};

pub use caught::Fault;
pub use random::Random;

use uprobe::regs::{Memory, Regs};

pub const ARENA_AT: u64 = 0x1000_0000;
pub const CODE_AT: u64 = ARENA_AT + 0x1000;
pub const DATA_AT: u64 = ARENA_AT + 0x3000;
pub const STACK_AT: u64 = ARENA_AT + 0x5000;
pub const ARENA_LEN: usize = 0x7000;
pub const FAR_AT: u64 = ARENA_AT + 0x6000_0000;
pub const BEYOND_AT: u64 = ARENA_AT + 0x3_0000_0000;
const FAR_LEN: usize = 0x1000;

/// Data and stack: what is compared and reset.
pub const MEMORY_AT: u64 = DATA_AT;
pub const MEMORY_LEN: usize = 0x4000;

pub const PAD_LEN: u64 = 24;
const XSAVE_LEN: usize = 8192;
/// x87, SSE, AVX, AVX-512: bits of XCR0.
const VECTORS: u64 = 0xe7;

/// Shared with the assembly; offsets are written out there.
#[repr(C, align(64))]
struct Control {
    xsave_host: [u8; XSAVE_LEN],
    xsave: [u8; XSAVE_LEN],
    /// In the order of `Regs`.
    regs: [u64; 18],
    host_rsp: u64,
    start: u64,
    mask: u64,
}

static mut INSN_NATIVE_CONTROL: Control = Control {
    xsave_host: [0; XSAVE_LEN],
    xsave: [0; XSAVE_LEN],
    regs: [0; 18],
    host_rsp: 0,
    start: 0,
    mask: 0,
};

unsafe extern "C" {
    fn insn_native_enter();
    fn insn_native_exit();
}

std::arch::global_asm!(
    ".text",
    ".globl insn_native_enter",
    "insn_native_enter:",
    "push rbx; push rbp; push r12; push r13; push r14; push r15",
    "mov rax, qword ptr [rip + {c} + {mask}]",
    "mov rdx, rax; shr rdx, 32",
    "xsave64 [rip + {c}]",
    "xrstor64 [rip + {c} + {xsave}]",
    "mov qword ptr [rip + {c} + {host_rsp}], rsp",
    "push qword ptr [rip + {c} + {regs} + 17*8]",
    "popfq",
    "mov r8, qword ptr [rip + {c} + {regs} + 0*8]",
    "mov r9, qword ptr [rip + {c} + {regs} + 1*8]",
    "mov r10, qword ptr [rip + {c} + {regs} + 2*8]",
    "mov r11, qword ptr [rip + {c} + {regs} + 3*8]",
    "mov r12, qword ptr [rip + {c} + {regs} + 4*8]",
    "mov r13, qword ptr [rip + {c} + {regs} + 5*8]",
    "mov r14, qword ptr [rip + {c} + {regs} + 6*8]",
    "mov r15, qword ptr [rip + {c} + {regs} + 7*8]",
    "mov rdi, qword ptr [rip + {c} + {regs} + 8*8]",
    "mov rsi, qword ptr [rip + {c} + {regs} + 9*8]",
    "mov rbp, qword ptr [rip + {c} + {regs} + 10*8]",
    "mov rbx, qword ptr [rip + {c} + {regs} + 11*8]",
    "mov rdx, qword ptr [rip + {c} + {regs} + 12*8]",
    "mov rax, qword ptr [rip + {c} + {regs} + 13*8]",
    "mov rcx, qword ptr [rip + {c} + {regs} + 14*8]",
    "mov rsp, qword ptr [rip + {c} + {regs} + 15*8]",
    "jmp qword ptr [rip + {c} + {start}]",
    ".globl insn_native_exit",
    "insn_native_exit:",
    "mov qword ptr [rip + {c} + {regs} + 0*8], r8",
    "mov qword ptr [rip + {c} + {regs} + 1*8], r9",
    "mov qword ptr [rip + {c} + {regs} + 2*8], r10",
    "mov qword ptr [rip + {c} + {regs} + 3*8], r11",
    "mov qword ptr [rip + {c} + {regs} + 4*8], r12",
    "mov qword ptr [rip + {c} + {regs} + 5*8], r13",
    "mov qword ptr [rip + {c} + {regs} + 6*8], r14",
    "mov qword ptr [rip + {c} + {regs} + 7*8], r15",
    "mov qword ptr [rip + {c} + {regs} + 8*8], rdi",
    "mov qword ptr [rip + {c} + {regs} + 9*8], rsi",
    "mov qword ptr [rip + {c} + {regs} + 10*8], rbp",
    "mov qword ptr [rip + {c} + {regs} + 11*8], rbx",
    "mov qword ptr [rip + {c} + {regs} + 12*8], rdx",
    "mov qword ptr [rip + {c} + {regs} + 13*8], rax",
    "mov qword ptr [rip + {c} + {regs} + 14*8], rcx",
    "mov qword ptr [rip + {c} + {regs} + 15*8], rsp",
    "mov rsp, qword ptr [rip + {c} + {host_rsp}]",
    "pushfq",
    "pop qword ptr [rip + {c} + {regs} + 17*8]",
    "cld",
    "mov rax, qword ptr [rip + {c} + {mask}]",
    "mov rdx, rax; shr rdx, 32",
    "xsave64 [rip + {c} + {xsave}]",
    "xrstor64 [rip + {c}]",
    "pop r15; pop r14; pop r13; pop r12; pop rbp; pop rbx",
    "ret",
    c = sym INSN_NATIVE_CONTROL,
    xsave = const std::mem::offset_of!(Control, xsave),
    regs = const std::mem::offset_of!(Control, regs),
    host_rsp = const std::mem::offset_of!(Control, host_rsp),
    start = const std::mem::offset_of!(Control, start),
    mask = const std::mem::offset_of!(Control, mask),
);

static ONE_AT_A_TIME: Mutex<bool> = Mutex::new(false);

/// The processor, for one instruction at a time.
pub struct Native {
    _turn: MutexGuard<'static, bool>,
    page: Option<u64>,
}

/// What the instruction starts from and what it leaves.
#[derive(Clone, PartialEq, Eq)]
pub struct State {
    pub regs: Regs,
    pub vectors: Box<[u8; XSAVE_LEN]>,
    pub memory: Box<[u8; MEMORY_LEN]>,
}

impl Native {
    /// Takes the processor; maps the arena the first time.
    pub fn take() -> Self {
        let mut turn = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if !*turn {
            map(ARENA_AT, ARENA_LEN);
            map(FAR_AT, FAR_LEN);
            map(BEYOND_AT, FAR_LEN);
            *turn = true;
        }
        Self { _turn: turn, page: None }
    }

    /// Runs `during` while code can be written in the page at `at`.
    pub fn with_page(&mut self, at: u64, during: impl FnOnce(&mut Self)) {
        const PAGE: usize = 0x1000;
        map(at, PAGE);
        self.page = Some(at);
        during(self);
        self.page = None;
        // SAFETY: mapped above, for this alone.
        unsafe { libc::munmap(at as *mut libc::c_void, PAGE) };
    }

    /// Writes bytes anywhere in the arena or the far pages.
    pub fn write(&mut self, at: u64, bytes: &[u8]) {
        let end = at + bytes.len() as u64;
        let in_arena = at >= ARENA_AT && end <= ARENA_AT + ARENA_LEN as u64;
        let in_far = at >= FAR_AT && end <= FAR_AT + FAR_LEN as u64;
        let in_beyond = at >= BEYOND_AT && end <= BEYOND_AT + FAR_LEN as u64;
        let in_page = self.page.is_some_and(|page| at >= page && end <= page + 0x1000);
        assert!(in_arena || in_far || in_beyond || in_page, "write at {at:#x}");
        // SAFETY: the range was checked to lie in our own mappings, and we hold the lock.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), at as *mut u8, bytes.len()) };
    }

    /// Writes a pad: control that arrives at `at` ends the run, and is reported as `at`.
    pub fn write_pad(&mut self, at: u64) {
        // movl $at, ARENA_AT(%rip); jmp *0(%rip); .quad exit
        let mut pad = vec![0xc7, 0x05];
        pad.extend((ARENA_AT.wrapping_sub(at + 10) as u32).to_le_bytes());
        pad.extend((at as u32).to_le_bytes());
        pad.extend([0xff, 0x25, 0, 0, 0, 0]);
        pad.extend((insn_native_exit as *const () as u64).to_le_bytes());
        assert_eq!(pad.len() as u64, PAD_LEN);
        self.write(at, &pad);
    }

    /// Runs from `start` with `state` until a pad is reached; rip is then the pad's address.
    pub fn run(&mut self, start: u64, state: &State) -> State {
        self.write(ARENA_AT, &[0; 8]);
        self.write(MEMORY_AT, &state.memory[..]);
        let mut after = state.clone();
        let regs = state.regs;
        // SAFETY: the lock makes this the only user of the control block; the caller put code
        // at `start` whose every way out is a pad, so that control comes back here with all
        // callee-saved registers, the stack and the vector state restored.
        unsafe {
            let control = &raw mut INSN_NATIVE_CONTROL;
            (*control).xsave = *state.vectors;
            (*control).regs = std::mem::transmute::<Regs, [u64; 18]>(regs);
            (*control).start = start;
            (*control).mask = VECTORS & enabled_features();
            insn_native_enter();
            after.regs = std::mem::transmute::<[u64; 18], Regs>((*control).regs);
            *after.vectors = (*control).xsave;
            after.regs.rip = u64::from(*(ARENA_AT as *const u32));
            std::ptr::copy_nonoverlapping(MEMORY_AT as *const u8, after.memory.as_mut_ptr(), MEMORY_LEN);
        }
        forget_x87_pointers(&mut after.vectors);
        after
    }
}

impl State {
    /// Random registers, status flags, vectors and memory; rsp and rbp in the stack, rbx, rsi and
    /// rdi in the data, all on a multiple of 64; the word at rsp is a sane rflags.
    pub fn random(random: &mut Random) -> Self {
        let mut regs = [0_u64; 18];
        regs.fill_with(|| random.word());
        // SAFETY: `Regs` is eighteen words.
        let mut regs = unsafe { std::mem::transmute::<[u64; 18], Regs>(regs) };
        regs.rbx = DATA_AT + 0x400;
        regs.rsi = DATA_AT + 0x800;
        regs.rdi = DATA_AT + 0x1000;
        regs.rsp = STACK_AT + 0xc00;
        regs.rbp = STACK_AT + 0xe00;
        regs.rcx = random.next() % 64;
        regs.rflags = random.flags();
        let mut memory = Box::new([0; MEMORY_LEN]);
        memory.chunks_exact_mut(8).for_each(|word| word.copy_from_slice(&random.next().to_le_bytes()));
        let mut state = Self { regs, vectors: random_vectors(random), memory };
        state.poke(state.regs.rsp, random.flags());
        state
    }

    /// A word of the state's memory.
    pub fn peek(&self, at: u64) -> u64 {
        let offset = (at - MEMORY_AT) as usize;
        self.memory[offset..].first_chunk().map_or(0, |word| u64::from_le_bytes(*word))
    }

    /// Writes one.
    pub fn poke(&mut self, at: u64, word: u64) {
        let offset = (at - MEMORY_AT) as usize;
        self.memory[offset..offset + 8].copy_from_slice(&word.to_le_bytes());
    }

    /// What differs from `other`, for the message of a failed test.
    pub fn differences(&self, other: &Self) -> String {
        use std::fmt::Write as _;
        let mut text = String::new();
        if self.regs != other.regs {
            let _ = writeln!(text, " {:x?}\n {:x?}", self.regs, other.regs);
        }
        let memory = self.memory.iter().zip(other.memory.iter()).enumerate().filter(|(_, (a, b))| a != b);
        for (offset, (a, b)) in memory.take(16) {
            let _ = writeln!(text, " memory {:#x}: {a:02x} {b:02x}", MEMORY_AT + offset as u64);
        }
        let vectors = self.vectors.iter().zip(other.vectors.iter()).enumerate().filter(|(_, (a, b))| a != b);
        for (offset, (a, b)) in vectors.take(16) {
            let _ = writeln!(text, " xsave +{offset:#x}: {a:02x} {b:02x}");
        }
        text
    }
}

/// The state's memory as a hit sees it: nothing outside of it can be accessed.
pub struct TestMemory(pub std::cell::RefCell<Box<[u8; MEMORY_LEN]>>);

impl TestMemory {
    fn range(addr: u64, len: usize) -> std::ops::Range<usize> {
        let Some(start) = addr.checked_sub(MEMORY_AT).filter(|start| *start < MEMORY_LEN as u64) else {
            return 0..0;
        };
        start as usize..MEMORY_LEN.min(start as usize + len)
    }
}

impl Memory for TestMemory {
    fn read(&self, addr: u64, dst: &mut [u8]) -> usize {
        let range = Self::range(addr, dst.len());
        dst[..range.len()].copy_from_slice(&self.0.borrow()[range.clone()]);
        range.len()
    }

    fn write(&self, addr: u64, src: &[u8]) -> usize {
        let range = Self::range(addr, src.len());
        self.0.borrow_mut()[range.clone()].copy_from_slice(&src[..range.len()]);
        range.len()
    }
}

/// Bits of XCR0.
fn enabled_features() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: xgetbv with rcx 0 reads XCR0 and changes nothing; the tests need xsave anyway.
    unsafe { std::arch::asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") high) };
    u64::from(high) << 32 | u64::from(low)
}

/// A standard-format xsave image with every component in use, and exceptions masked.
fn random_vectors(random: &mut Random) -> Box<[u8; XSAVE_LEN]> {
    let mut image = Box::new([0; XSAVE_LEN]);
    let enabled = VECTORS & enabled_features();
    fn fill(random: &mut Random, image: &mut [u8; XSAVE_LEN], start: usize, len: usize) {
        image[start..start + len].fill_with(|| random.byte());
    }
    for component in (2..8).filter(|component| enabled >> component & 1 != 0) {
        let area = std::arch::x86_64::__cpuid_count(0xd, component);
        fill(random, &mut image, area.ebx as usize, area.eax as usize);
    }
    fill(random, &mut image, 160, 256);
    for register in 0..8 {
        let at = 32 + register * 16;
        fill(random, &mut image, at, 8);
        image[at + 7] |= 0x80;
        image[at + 8..at + 10].copy_from_slice(&(0x3ff0_u16 + random.below(32) as u16).to_le_bytes());
    }
    // FCW, FSW, FTW (four registers in use, so that loads and stores both work), MXCSR, XSTATE_BV.
    image[0..2].copy_from_slice(&0x037f_u16.to_le_bytes());
    image[4] = 0x0f;
    image[24..28].copy_from_slice(&0x1f80_u32.to_le_bytes());
    image[512..520].copy_from_slice(&enabled.to_le_bytes());
    image
}

/// FOP, FIP and FDP: FIP is where the last x87 instruction ran, in a slot the slot's address.
fn forget_x87_pointers(image: &mut [u8; XSAVE_LEN]) {
    image[6..24].fill(0);
}

fn map(at: u64, len: usize) {
    // SAFETY: MAP_FIXED_NOREPLACE maps nothing over what exists.
    let got = unsafe {
        libc::mmap(
            at as *mut libc::c_void,
            len,
            libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE,
            -1,
            0,
        )
    };
    assert_eq!(got as u64, at, "map {len:#x} bytes at {at:#x}: {}", std::io::Error::last_os_error());
}
