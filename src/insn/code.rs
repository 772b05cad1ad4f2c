//! Code under construction: bytes, and the address where they will run.

use super::slot::relative32;

/// Most bytes a [`Code`] holds.
pub const CODE_CAPACITY: usize = 1024;

/// Length in bytes of `jmp rel32`.
const NEAR_JUMP_LEN: usize = 5;
/// Length in bytes of `jmp *0(%rip)` and the address behind it.
const FAR_JUMP_LEN: usize = 14;

/// Bytes that will run at an address known from the start. No heap, no process: the finished
/// bytes are written there by whoever owns the memory.
#[derive(Clone, Debug)]
pub struct Code {
    bytes: [u8; CODE_CAPACITY],
    len: usize,
    at: u64,
}

/// It does not fit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CodeFull;

impl Code {
    /// Nothing yet, to run at the runtime address `at`.
    #[must_use]
    pub const fn new(at: u64) -> Self {
        Self { bytes: [0; CODE_CAPACITY], len: 0, at }
    }

    /// The runtime address of the first byte.
    #[must_use]
    pub const fn at(&self) -> u64 {
        self.at
    }

    /// The runtime address of the next byte appended.
    #[must_use]
    pub const fn here(&self) -> u64 {
        self.at.wrapping_add(self.len as u64)
    }

    /// How many bytes there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// Appends bytes as they are.
    ///
    /// # Errors
    /// [`CodeFull`]: nothing was appended.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), CodeFull> {
        let room = self.bytes.get_mut(self.len..self.len + bytes.len()).ok_or(CodeFull)?;
        room.copy_from_slice(bytes);
        self.len += bytes.len();
        Ok(())
    }

    /// Appends a jump to `target`, which changes no register, flag or memory: 5 bytes within
    /// 2 GiB, 14 beyond (`jmp *0(%rip)` and the address).
    ///
    /// # Errors
    /// [`CodeFull`]: nothing was appended.
    pub fn append_jump(&mut self, target: u64) -> Result<(), CodeFull> {
        match relative32(target, self.here().wrapping_add(NEAR_JUMP_LEN as u64)) {
            Some([a, b, c, d]) => self.append(&[0xe9, a, b, c, d]),
            None => {
                let mut jump = [0xff, 0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
                jump[6..].copy_from_slice(&target.to_le_bytes());
                self.append(&jump)
            }
        }
    }

    /// The length of a jump to `target` appended after `skip` more bytes.
    pub(super) fn jump_len(&self, skip: usize, target: u64) -> usize {
        let next = self.here().wrapping_add((skip + NEAR_JUMP_LEN) as u64);
        if relative32(target, next).is_some() { NEAR_JUMP_LEN } else { FAR_JUMP_LEN }
    }
}
