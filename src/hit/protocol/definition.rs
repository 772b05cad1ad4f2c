//! What the trace knows of a consumer. Its id and its events' length become known in different threads;
//! whoever is second makes the word of an event from both.

use crate::sys::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::*};

/// What the trace knows of a consumer.
#[derive(Default)]
pub struct Definition {
    /// Its id, plus 1; 0: it was not defined.
    pub id: AtomicU32,
    /// The address it was defined with; 0: none yet.
    pub address: AtomicU64,
    /// Bytes of each event, where all are the same; else 0.
    pub len: AtomicUsize,
    /// Such an event's word without the processor; 0: it was not defined.
    pub word: AtomicU64,
}

impl Definition {
    /// Events from `address` will all have `len` bytes: where the word of such an event will be found.
    /// `None`: it is defined with another address. `word` makes it from the length and the id. Not at a hit.
    #[must_use]
    pub fn announce(&self, address: u64, len: usize, word: impl Fn(usize, u32) -> u64) -> Option<&AtomicU64> {
        let known = self.address.compare_exchange(0, address, SeqCst, SeqCst);
        if known.is_err_and(|other| other != address) {
            return None;
        }
        self.len.store(len, SeqCst);
        self.make_word(word);
        Some(&self.word)
    }

    /// It was defined under this id, unless it is already. Signal-safe.
    pub fn define(&self, id: u32, word: impl Fn(usize, u32) -> u64) {
        let _ = self.id.compare_exchange(0, id + 1, SeqCst, Relaxed);
        self.make_word(word);
    }

    /// After the length, or the id, has become known: whoever is second sees both.
    fn make_word(&self, word: impl Fn(usize, u32) -> u64) {
        let (len, id) = (self.len.load(SeqCst), self.id.load(SeqCst));
        if len != 0 && id != 0 {
            self.word.store(word(len, id - 1), Release);
        }
    }
}
