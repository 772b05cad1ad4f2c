//! The function around a place: its text, how far it goes on, and how far there is nothing else.

use super::file::{Bounds, BoundsFrom, ElfFile};
use crate::addr::LinkAddr;

/// What a jump at a place must know of its surroundings.
#[derive(Clone, Copy, Debug)]
pub struct Extent<'a> {
    /// Where the function begins.
    pub start: LinkAddr,
    /// Its bytes in the file; fewer where the segment ends.
    pub text: &'a [u8],
    /// The place is the first byte of a function that is known as such.
    pub is_entry: bool,
    /// Bytes from the place to the function's end.
    pub code_len: usize,
    /// Bytes from the place to what comes next: another function, or the section's end. What lies between
    /// is padding, or code that nobody has named.
    pub room: usize,
}

impl<'a> Extent<'a> {
    /// The surroundings of `link`, as far as they are known without opening another file. `None` outside code.
    #[must_use]
    pub fn at(file: &'a ElfFile, link: LinkAddr) -> Option<Self> {
        let bounds = file.bounds_at(link)?;
        let after = file.bounds_at(bounds.end).map_or(bounds.end, |next| gap_end(&next, bounds.end));
        let distance =
            |from: LinkAddr, to: LinkAddr| usize::try_from(to.0.saturating_sub(from.0)).unwrap_or(usize::MAX);
        Some(Self {
            start: bounds.start,
            text: file.bytes_at(bounds.start, distance(bounds.start, bounds.end)),
            is_entry: file.is_called_at(link),
            code_len: distance(link, bounds.end),
            room: distance(link, after),
        })
    }
}

/// Where the gap that begins at `end` ends; `next` is what covers that address.
fn gap_end(next: &Bounds, end: LinkAddr) -> LinkAddr {
    match next.from {
        BoundsFrom::Symbol | BoundsFrom::Fde => end,
        _ => next.end,
    }
}
