//! Memory for what is never freed: one after the other, without the rounding of a heap that has to know the sizes of
//! what comes back. Not at a hit.

use super::reserve;

/// Bytes taken from the kernel at once. A power of two.
const CHUNK: usize = 64 << 10;

/// Where the next goes.
#[derive(Default, Debug)]
pub struct Shelf {
    at: usize,
    end: usize,
}

impl Shelf {
    /// Keeps `value` for ever.
    #[must_use]
    pub fn keep<T: 'static>(&mut self, value: T) -> &'static T {
        const { assert!(size_of::<T>() <= CHUNK && align_of::<T>() <= CHUNK) };
        let mut start = self.at.next_multiple_of(align_of::<T>());
        if start + size_of::<T>() > self.end {
            let Some(chunk) = reserve::map(CHUNK) else { return Box::leak(Box::new(value)) };
            (start, self.end) = (chunk, chunk + CHUNK);
        }
        self.at = start + size_of::<T>();
        let place = start as *mut T;
        // SAFETY: fresh memory that is nobody else's, large enough and aligned, never given back.
        unsafe {
            place.write(value);
            &*place
        }
    }

    /// Keeps a copy of `text` for ever.
    #[must_use]
    pub fn keep_text(&mut self, text: &str) -> &'static str {
        if self.end - self.at < text.len() {
            // The next begins a chunk, if it is not as large itself.
            return String::leak(text.to_owned());
        }
        let place = self.at as *mut u8;
        self.at += text.len();
        // SAFETY: as above; a copy of a string is one.
        unsafe {
            place.copy_from_nonoverlapping(text.as_ptr(), text.len());
            std::str::from_utf8_unchecked(std::slice::from_raw_parts(place, text.len()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_stays_as_it_was_and_lies_close() {
        let mut shelf = Shelf::default();
        let words: Vec<&[u64; 5]> = (0..5000).map(|n| shelf.keep([n; 5])).collect();
        assert!(words.iter().enumerate().all(|(n, word)| word.iter().all(|part| *part == n as u64)));
        let close = words
            .windows(2)
            .filter(|pair| pair[1].as_ptr().addr().wrapping_sub(pair[0].as_ptr().addr()) == 40)
            .count();
        assert!(close > 4990, "{close}");
        assert_eq!((shelf.keep_text("one"), shelf.keep_text(""), shelf.keep_text("two")), ("one", "", "two"));
        let byte = shelf.keep(7_u8);
        let aligned = shelf.keep(8_u64);
        assert_eq!((*byte, *aligned), (7, 8));
        assert!(std::ptr::from_ref(aligned).is_aligned());
    }
}
