//! Whether a place is the first byte of an instruction: the function is decoded from its start, as
//! a disassembler would. A probe in the middle of an instruction would change what the program does.

use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic};

use super::file::{Bounds, ElfFile};
use crate::addr::LinkAddr;
use crate::error::Refusal;

/// No instruction is longer (SDM 2.3.11).
const INSN_MAX: usize = 15;

/// Accepts `at` when decoding from the start of the function it is in arrives there and finds an
/// instruction.
///
/// # Errors
/// [`Refusal::NotExecutable`], [`Refusal::Undecodable`] for the place itself, [`Refusal::NotABoundary`],
/// and [`Refusal::DataInText`] where something before the place in the function is no instruction.
pub fn check(file: &ElfFile, at: LinkAddr, bounds: &Bounds) -> Result<(), Refusal> {
    let in_file = |link: LinkAddr| file.offset_of(link).map_or(link.0, |offset| offset.0);
    if !file.is_executable(at) {
        return Err(Refusal::NotExecutable { offset: in_file(at) });
    }
    if at < bounds.start {
        return Err(Refusal::DataInText { offset: in_file(at) });
    }
    if at > bounds.start {
        let before = file.bytes_at(bounds.start, distance(bounds.start, at) + INSN_MAX);
        let mut starts = Starts::new(before, bounds.start);
        let mut last = bounds.start;
        loop {
            match starts.next() {
                Some(Ok(start)) if start < at => last = start,
                Some(Ok(start)) if start == at => break,
                Some(Err(bad)) if bad < at => return Err(Refusal::DataInText { offset: in_file(bad) }),
                Some(Err(bad)) if bad == at => break,
                _ => return Err(Refusal::NotABoundary { offset: in_file(at), insn: in_file(last) }),
            }
        }
    }
    let here = file.bytes_at(at, INSN_MAX);
    match Starts::new(here, at).next() {
        Some(Ok(_)) => Ok(()),
        _ => Err(Refusal::Undecodable { bytes: here[..here.len().min(8)].to_vec() }),
    }
}

fn distance(from: LinkAddr, to: LinkAddr) -> usize {
    usize::try_from(to.0.saturating_sub(from.0)).unwrap_or(usize::MAX - INSN_MAX)
}

/// The addresses of the instructions of `bounds`, ended by an `Err` with the address where the
/// bytes are none.
pub fn starts<'a>(
    file: &'a ElfFile,
    bounds: &Bounds,
) -> impl Iterator<Item = Result<LinkAddr, LinkAddr>> + 'a {
    Starts::new(file.bytes_at(bounds.start, distance(bounds.start, bounds.end)), bounds.start)
}

struct Starts<'a> {
    decoder: Decoder<'a>,
    insn: Instruction,
    failed: bool,
}

impl<'a> Starts<'a> {
    fn new(bytes: &'a [u8], at: LinkAddr) -> Self {
        let decoder = Decoder::with_ip(64, bytes, at.0, DecoderOptions::NONE);
        Self { decoder, insn: Instruction::default(), failed: false }
    }
}

impl Iterator for Starts<'_> {
    type Item = Result<LinkAddr, LinkAddr>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || !self.decoder.can_decode() {
            return None;
        }
        let at = LinkAddr(self.decoder.ip());
        self.decoder.decode_out(&mut self.insn);
        self.failed = self.insn.is_invalid() || is_text(self.insn.mnemonic());
        Some(if self.failed { Err(at) } else { Ok(at) })
    }
}

/// String input and output from ports: no program that runs as a user has them, but the letters l, m, n, o
/// (6c to 6f) are just these, so they tell where a string stands among the code (as in `RC4_options` of
/// OpenSSL).
fn is_text(mnemonic: Mnemonic) -> bool {
    matches!(
        mnemonic,
        Mnemonic::Insb
            | Mnemonic::Insw
            | Mnemonic::Insd
            | Mnemonic::Outsb
            | Mnemonic::Outsw
            | Mnemonic::Outsd
    )
}
