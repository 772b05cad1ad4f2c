//! A hash map that needs no thread-local storage.
//!
//! std's own seeds its hashes from a thread-local variable, whose first use in a library calls the
//! program's malloc: not where a handler registers a probe inside that very malloc.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// [`HashMap`] with a fixed seed; our keys are addresses, inodes and names of functions.
pub type FixedHashMap<K, V> = HashMap<K, V, BuildHasherDefault<FixedHasher>>;

/// Multiplies and folds, a word at a time: our keys are short, and nobody gains by collisions but in the
/// time his own program takes to start.
#[derive(Clone, Copy, Default, Debug)]
pub struct FixedHasher(u64);

impl FixedHasher {
    fn add(&mut self, word: u64) {
        let product = u128::from(self.0 ^ word ^ 0x243F_6A88_85A3_08D3) * 0x9E37_79B9_7F4A_7C15;
        self.0 = (product >> 64) as u64 ^ product as u64;
    }
}

impl Hasher for FixedHasher {
    fn write(&mut self, bytes: &[u8]) {
        for word in bytes.chunks(8) {
            let mut padded = [0; 8];
            padded[..word.len()].copy_from_slice(word);
            self.add(u64::from_le_bytes(padded));
        }
        self.add(bytes.len() as u64);
    }

    fn write_u8(&mut self, word: u8) {
        self.add(u64::from(word));
    }

    fn write_u32(&mut self, word: u32) {
        self.add(u64::from(word));
    }

    fn write_u64(&mut self, word: u64) {
        self.add(word);
    }

    fn write_usize(&mut self, word: usize) {
        self.add(word as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
