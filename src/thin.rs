//! Bytes of their own, by a pointer of one word: there may be very many of a few bytes each.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ops::Deref;
use std::ptr::NonNull;

/// Their number, and they follow.
type Length = u32;
const HEAD: usize = size_of::<Length>();

/// A boxed slice of bytes without a length beside the pointer. At most 4 GiB.
#[repr(transparent)]
pub struct ThinBytes(NonNull<Length>);

// SAFETY: owns its bytes.
unsafe impl Send for ThinBytes {}
// SAFETY: never changed.
unsafe impl Sync for ThinBytes {}

impl ThinBytes {
    /// All of `parts`, one after the other; what is beyond 4 GiB is left out.
    #[must_use]
    pub fn new(parts: &[&[u8]]) -> Self {
        let wanted: usize = parts.iter().map(|part| part.len()).sum();
        let len = Length::try_from(wanted).unwrap_or(Length::MAX);
        let layout = Self::layout(len);
        // SAFETY: not of size 0.
        let block = unsafe { alloc(layout) };
        let Some(head) = NonNull::new(block.cast::<Length>()) else { handle_alloc_error(layout) };
        let mut at = 0;
        for part in parts {
            let part = &part[..part.len().min(len as usize - at)];
            // SAFETY: inside the fresh block.
            unsafe { block.add(HEAD + at).copy_from_nonoverlapping(part.as_ptr(), part.len()) };
            at += part.len();
        }
        // SAFETY: the block's head, aligned.
        unsafe { head.write(len) };
        Self(head)
    }

    fn layout(len: Length) -> Layout {
        // SAFETY: far from overflowing.
        unsafe { Layout::from_size_align_unchecked(HEAD + len as usize, align_of::<Length>()) }
    }
}

impl Deref for ThinBytes {
    type Target = [u8];

    /// Signal-safe.
    fn deref(&self) -> &[u8] {
        // SAFETY: as they were made.
        unsafe {
            let first = self.0.as_ptr().cast::<u8>().add(HEAD);
            std::slice::from_raw_parts(first, self.0.read() as usize)
        }
    }
}

impl Drop for ThinBytes {
    fn drop(&mut self) {
        // SAFETY: made with this layout.
        unsafe { dealloc(self.0.as_ptr().cast(), Self::layout(self.0.read())) }
    }
}

#[cfg(test)]
mod tests {
    use super::ThinBytes;

    #[test]
    fn bytes_are_kept_by_a_word() {
        for parts in [&[&b""[..]][..], &[b"one"], &[b"one", b"", b"and two"]] {
            let bytes = ThinBytes::new(parts);
            assert_eq!(*bytes, *parts.concat());
        }
        assert_eq!(size_of::<Option<ThinBytes>>(), size_of::<usize>());
    }
}
