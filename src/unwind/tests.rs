//! Walks over a made-up process: one object with an unwind table, a stack, a signal frame.

use super::*;

const CODE: u64 = 0x40_1000;
const CODE_END: u64 = 0x40_2000;
const HEADER: u64 = 0x40_3000;
const STACK: u64 = 0x7fff_0000;
/// Landing of the one return probe, and where it goes.
const LANDING: u64 = 0x50_0006;
const REAL: u64 = CODE + 0x205;
/// An out-of-line slot, and its place.
const SLOT: u64 = 0x60_0000;
const PLACE: u64 = CODE + 0x104;

struct Image {
    tables: Vec<u8>,
    code: Vec<u8>,
    stack: Vec<u8>,
}

/// A CIE "zR" whose rows begin with CFA = rsp + 8 and the return address below it.
fn cie(augmentation: &[u8]) -> Vec<u8> {
    let mut body = vec![0, 0, 0, 0, 1];
    body.extend_from_slice(augmentation);
    body.extend_from_slice(&[0, 1, 0x78, 16, 1, 0x1b, 0x0c, 7, 8, 0x90, 1]);
    entry(&body)
}

/// With its length, padded with DW_CFA_nop.
fn entry(body: &[u8]) -> Vec<u8> {
    let mut bytes = body.to_vec();
    bytes.resize(body.len().next_multiple_of(8) + 4, 0);
    [(bytes.len() as u32).to_le_bytes().to_vec(), bytes].concat()
}

/// A table of functions (start, length, augmentation of its CIE, instructions), sorted.
fn tables(functions: &[(u64, u32, &[u8], &[u8])]) -> Vec<u8> {
    let mut header = vec![1, 0x1b, 3, 0x3b];
    let frames = 12 + 8 * functions.len();
    header.extend_from_slice(&(frames as u32 - 4).to_le_bytes());
    header.extend_from_slice(&(functions.len() as u32).to_le_bytes());
    let mut frame = Vec::new();
    for (start, len, augmentation, instructions) in functions {
        let cie_at = frames + frame.len();
        frame.extend(cie(augmentation));
        let fde_at = frames + frame.len();
        let mut body = (fde_at as u32 + 4 - cie_at as u32).to_le_bytes().to_vec();
        body.extend_from_slice(&(start.wrapping_sub(HEADER + fde_at as u64 + 8) as u32).to_le_bytes());
        body.extend_from_slice(&len.to_le_bytes());
        body.push(0);
        body.extend_from_slice(instructions);
        frame.extend(entry(&body));
        header.extend_from_slice(&(start.wrapping_sub(HEADER) as u32).to_le_bytes());
        header.extend_from_slice(&(fde_at as u32).to_le_bytes());
    }
    header.extend(frame);
    header
}

/// `push rbp; mov rbp, rsp; …; pop rbp; ret` of 0x20 bytes, the pop at 0x1e.
const FRAMED: &[u8] = &[0x41, 0x0e, 16, 0x86, 2, 0x43, 0x0d, 6, 0x5a, 0x0c, 7, 8];
/// rip is undefined: nobody called this.
const OUTERMOST: &[u8] = &[0x07, 16];
/// CFA is the word at rsp + 0x10 (DW_CFA_def_cfa_expression: breg7 16, deref).
const EXPRESSION: &[u8] = &[0x0f, 3, 0x77, 16, 0x06];

impl Image {
    fn new() -> Self {
        let functions: [(u64, u32, &[u8], &[u8]); 4] = [
            (CODE, 0x20, b"zR", OUTERMOST),
            (CODE + 0x100, 0x20, b"zR", FRAMED),
            (CODE + 0x200, 0x20, b"zR", &[]),
            (CODE + 0x300, 0x20, b"zR", EXPRESSION),
        ];
        let mut code = vec![0x90; (CODE_END - CODE) as usize];
        // A restorer without description, and code without description behind a call.
        code[0x400..0x409].copy_from_slice(&[0x48, 0xc7, 0xc0, 15, 0, 0, 0, 0x0f, 0x05]);
        code[0x500] = 0xe8;
        Self { tables: tables(&functions), code, stack: vec![0; 0x1000] }
    }

    fn push(mut self, at: u64, words: &[u64]) -> Self {
        for (i, word) in words.iter().enumerate() {
            let at = (at - STACK) as usize + 8 * i;
            self.stack[at..at + 8].copy_from_slice(&word.to_le_bytes());
        }
        self
    }

    fn walk(&self, regs: Regs) -> Vec<u64> {
        let mut out = [0; 16];
        let count = walk(&regs, self, &mut out);
        out[..count].to_vec()
    }
}

impl Memory for Image {
    fn read(&self, addr: u64, dst: &mut [u8]) -> usize {
        for (base, bytes) in [(HEADER, &self.tables), (CODE, &self.code), (STACK, &self.stack)] {
            if let Some(from) = addr.checked_sub(base).and_then(|at| bytes.get(at as usize..))
                && !from.is_empty()
            {
                let n = from.len().min(dst.len());
                dst[..n].copy_from_slice(&from[..n]);
                return n;
            }
        }
        0
    }

    fn write(&self, _: u64, _: &[u8]) -> usize {
        0
    }
}

impl World for Image {
    fn frame_header(&self, pc: u64) -> Option<u64> {
        (CODE..CODE_END).contains(&pc).then_some(HEADER)
    }

    fn real_return(&self, pc: u64) -> Option<u64> {
        (pc == LANDING).then_some(REAL)
    }

    fn original(&self, pc: u64) -> u64 {
        if pc == SLOT { PLACE } else { pc }
    }
}

#[test]
fn each_instruction_of_a_function_has_its_row() {
    let image = Image::new().push(STACK + 0x100, &[0x1111, REAL, CODE + 5]);
    let (entry, framed) = (STACK + 0x108, STACK + 0x100);
    for (pc, rsp, rbp) in [
        (0x100, entry, 0),
        (0x101, framed, 0),
        (0x104, framed, framed),
        // Anywhere: rbp leads.
        (0x110, STACK + 8, framed),
        (0x11e, entry, 0x1111),
    ] {
        let regs = Regs { rip: CODE + pc, rsp, rbp, ..Regs::default() };
        assert_eq!(image.walk(regs), [REAL, CODE + 5], "at {pc:#x}");
    }
}

#[test]
fn replaced_return_addresses_and_slots_are_seen_through() {
    let image = Image::new().push(STACK + 0x100, &[0x1111, LANDING, CODE + 5]);
    let regs = Regs { rip: SLOT, rsp: STACK, rbp: STACK + 0x100, ..Regs::default() };
    assert_eq!(image.walk(regs), [REAL, CODE + 5]);
    // After the return, at the landing itself.
    let regs = Regs { rip: LANDING, rsp: STACK + 0x110, ..Regs::default() };
    assert_eq!(image.walk(regs), [REAL, CODE + 5]);
}

#[test]
fn a_cfa_may_be_an_expression() {
    let image = Image::new().push(STACK + 0x10, &[STACK + 0x88]).push(STACK + 0x80, &[REAL, CODE + 5]);
    let regs = Regs { rip: CODE + 0x300, rsp: STACK, ..Regs::default() };
    assert_eq!(image.walk(regs), [REAL, CODE + 5]);
}

#[test]
fn signal_frames_lead_to_the_interrupted_instruction() {
    // A handler called by the kernel: the restorer's address, then the ucontext.
    let context = STACK + 0x208;
    let image = Image::new()
        .push(context - 8, &[CODE + 0x400])
        .push(context + 40 + 8 * 10, &[STACK + 0x800])
        .push(context + 40 + 8 * 15, &[STACK + 0x700, CODE + 0x200])
        .push(STACK + 0x700, &[CODE + 5]);
    let regs = Regs { rip: CODE + 0x200, rsp: context - 8, ..Regs::default() };
    // The interrupted one is at its first instruction: it is not looked up one byte before.
    assert_eq!(image.walk(regs), [CODE + 0x400, CODE + 0x200, CODE + 5]);
}

#[test]
fn without_a_description_calls_and_rbp_lead_on() {
    let image = Image::new().push(STACK + 0x100, &[CODE + 0x505, CODE + 5]);
    // Outside every object, as after a call of a wild pointer.
    let regs = Regs { rip: 0, rsp: STACK + 0x100, ..Regs::default() };
    assert_eq!(image.walk(regs), [CODE + 0x505]);
    let image = Image::new().push(STACK + 0x100, &[STACK + 0x200, CODE + 0x505]);
    let regs = Regs { rip: CODE + 0x600, rsp: STACK, rbp: STACK + 0x100, ..Regs::default() };
    assert_eq!(image.walk(regs), [CODE + 0x505]);
    // Nothing there looks like a return address.
    let regs = Regs { rip: CODE + 0x600, rsp: STACK, rbp: STACK + 0x300, ..Regs::default() };
    assert_eq!(image.walk(regs), [] as [u64; 0]);
}

#[test]
fn no_more_than_there_is_room_for() {
    let image = Image::new().push(STACK + 0x108, &[REAL, REAL, REAL, REAL, CODE + 5]);
    let regs = Regs { rip: CODE + 0x200, rsp: STACK + 0x108, ..Regs::default() };
    for room in 0..7 {
        let mut out = vec![7; room + 1];
        let count = walk(&regs, &image, &mut out[..room]);
        assert_eq!(count, room.min(5));
        assert_eq!(out[room], 7);
    }
}

struct Noise(u64);

impl Noise {
    /// xorshift64 (Marsaglia).
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

/// Tables and stacks full of noise: a walk ends, and does not panic.
#[test]
fn noise_is_survived() {
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    let mut longest = 0;
    for round in 0..200_000 {
        let mut image = Image::new();
        for _ in 0..noise.below(6) {
            let at = noise.below(image.tables.len());
            image.tables[at] = noise.next() as u8;
        }
        if round % 2 == 0 {
            // Instructions and expressions made of nothing else.
            let from = 12 + 8 * 4;
            for byte in image.tables[from..].iter_mut().filter(|_| round % 16 == 0) {
                *byte = noise.next() as u8;
            }
        }
        for _ in 0..64 {
            let at = noise.below(image.stack.len() / 8) * 8;
            let word = match noise.below(3) {
                0 => CODE + noise.next() % 0x500,
                1 => STACK + noise.next() % 0x1000,
                _ => noise.next(),
            };
            image.stack[at..at + 8].copy_from_slice(&word.to_le_bytes());
        }
        let mut regs = Regs { rip: CODE + noise.next() % 0x410, ..Regs::default() };
        regs.rsp = STACK + noise.next() % 0x800;
        regs.rbp = STACK + noise.next() % 0x1000;
        longest = longest.max(image.walk(regs).len());
    }
    assert!(longest > 3, "the noise never got far: {longest}");
}
