//! Random numbers, and operands that lie near boundaries.

#![allow(dead_code, reason = "each test uses its part")]

/// Random numbers (xorshift), the same in every run.
pub struct Random(u64);

impl Random {
    pub const fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub const fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 3 ^ self.0
    }

    pub const fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 8) % limit
    }

    pub fn byte(&mut self) -> u8 {
        self.below(256) as u8
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    pub const fn chance(&mut self, one_in: u64) -> bool {
        self.below(one_in) == 0
    }

    /// A word that is often near a boundary: of its size, of its sign, of zero.
    pub fn word(&mut self) -> u64 {
        const EDGES: [u64; 9] = [
            0,
            0x7f,
            0x80,
            0x7fff,
            0x8000,
            0x7fff_ffff,
            0x8000_0000,
            0x7fff_ffff_ffff_ffff,
            0x8000_0000_0000_0000,
        ];
        match self.below(4) {
            0 => self.pick(&EDGES).wrapping_add(self.below(5)).wrapping_sub(2),
            1 => (self.next() << 32) | (self.pick(&EDGES).wrapping_add(self.below(3)) & 0xffff_ffff),
            _ => self.next(),
        }
    }

    /// rflags with random status flags, IF and the bit that is always set.
    pub const fn flags(&mut self) -> u64 {
        const STATUS: u64 = 0x8d5;
        0x202 | (self.next() & STATUS)
    }
}
