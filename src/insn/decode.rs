//! One instruction or a run of them, out of bytes. Called at registration; the text allocates.

use iced_x86::{Decoder, DecoderOptions, Formatter, GasFormatter, Instruction};

/// The processor's limit on the length of an instruction, in bytes (SDM vol. 2, 2.3.11).
pub const MAX_INSN_LEN: usize = 15;

/// Decodes the instruction that starts `bytes`, which lie at the runtime address `at`.
///
/// Hints of newer processors, which older ones run as nops, are decoded as the nops they are.
pub(super) fn decode(bytes: &[u8], at: u64) -> Option<(Instruction, iced_x86::ConstantOffsets)> {
    const TRIES: [u32; 2] = [DecoderOptions::NONE, DecoderOptions::FORCE_RESERVED_NOP];
    TRIES.iter().find_map(|&options| {
        let mut decoder = Decoder::with_ip(64, bytes, at, options);
        let insn = decoder.decode();
        (!insn.is_invalid()).then(|| (insn, decoder.get_constant_offsets(&insn)))
    })
}

/// Length in bytes of the instruction that starts `bytes`, or `None` where they are none, or are
/// cut short.
#[must_use]
pub fn decode_len(bytes: &[u8]) -> Option<usize> {
    decode(bytes, 0).map(|(insn, _)| insn.len())
}

/// The instruction that starts `bytes` in gas syntax (AT&T), or `(bad)`.
#[must_use]
pub fn disassemble(bytes: &[u8], at: u64) -> String {
    decode(bytes, at).map_or_else(|| "(bad)".to_owned(), |(insn, _)| text(&insn))
}

/// `insn` in gas syntax.
pub(super) fn text(insn: &Instruction) -> String {
    let mut formatter = GasFormatter::new();
    let options = formatter.options_mut();
    options.set_uppercase_hex(false);
    options.set_branch_leading_zeros(false);
    options.set_rip_relative_addresses(true);
    let mut text = String::new();
    formatter.format(insn, &mut text);
    text
}

/// Where instructions begin in `code`, which lies at the runtime address `at`, decoded one after
/// the other from its first byte.
///
/// `code` must hold the program's own bytes: a breakpoint in it decodes as one.
#[must_use]
pub const fn boundaries(code: &[u8], at: u64) -> Boundaries<'_> {
    Boundaries { code, at, stopped: false }
}

/// Iterator over `(address, length in bytes)`, made by [`boundaries`].
///
/// Ends with the code, or before the first bytes that are no instruction.
#[derive(Clone, Debug)]
pub struct Boundaries<'a> {
    code: &'a [u8],
    at: u64,
    stopped: bool,
}

impl Boundaries<'_> {
    /// The address of the first bytes that are no instruction, or are one cut short by the end
    /// of the code; `None` while none were met.
    #[must_use]
    pub const fn stopped_at(&self) -> Option<u64> {
        if self.stopped { Some(self.at) } else { None }
    }
}

impl Iterator for Boundaries<'_> {
    type Item = (u64, usize);

    fn next(&mut self) -> Option<Self::Item> {
        if self.stopped || self.code.is_empty() {
            return None;
        }
        let Some(len) = decode_len(self.code) else {
            self.stopped = true;
            return None;
        };
        let at = self.at;
        self.code = self.code.get(len..).unwrap_or_default();
        self.at = at.wrapping_add(len as u64);
        Some((at, len))
    }
}
