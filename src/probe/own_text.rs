//! Our own code and tables, most of which only registering needs: disassembler, symbols, parsers. Their pages are in
//! the page cache whether this process has them mapped or not.

use crate::probe::frames::ProgramHeaders;
use crate::probe::modules::Module;
use crate::sys::{self, Fd};

const PAGE: u64 = 4096;
/// Bits of an entry (proc_pid_pagemap(5)): there is a page; it is the file's, not a copy.
const PRESENT: u64 = 1 << 63;
const OF_FILE: u64 = 1 << 61;

/// Gives back the pages of what is never written in our own file; whoever needs one again finds it in the page cache.
/// A page that somebody has written to nevertheless (a debugger's breakpoint) is left alone. Not at a hit.
pub(super) fn release(own: &Module) {
    let Some(headers) = ProgramHeaders::read(own.low) else { return };
    let Ok(map) = Fd::open(c"/proc/self/pagemap", libc::O_RDONLY, 0) else { return };
    for (start, end) in headers.read_only() {
        release_pages(&map, start.next_multiple_of(PAGE), end & !(PAGE - 1));
    }
}

fn release_pages(map: &Fd, start: u64, end: u64) {
    const AT_ONCE: u64 = 512;
    let mut from = start;
    while from < end {
        let mut entries = [0; 8 * AT_ONCE as usize];
        let pages = ((end - from) / PAGE).min(AT_ONCE);
        let wanted = &mut entries[..8 * pages as usize];
        if map.read_at(wanted, from / PAGE * 8).ok() != Some(wanted.len()) {
            return;
        }
        let (entries, _) = wanted.as_chunks::<8>();
        let is_ours = |entry: &[u8; 8]| u64::from_le_bytes(*entry) & (PRESENT | OF_FILE) == PRESENT | OF_FILE;
        let mut at = from;
        for run in entries.chunk_by(|a, b| is_ours(a) == is_ours(b)) {
            let len = run.len() as u64 * PAGE;
            if run.first().is_some_and(is_ours) {
                // SAFETY: a private mapping, of which these pages were never written: they are read anew from the file.
                let _ = unsafe { sys::madvise(at as usize, len as usize, libc::MADV_DONTNEED) };
            }
            at += len;
        }
        from = at;
    }
}
