//! Our own heap, so that we never enter the program's.
//!
//! The program's malloc may be probed, replaced, not yet ready, or locked by the very thread we
//! interrupted. This one is lock-free (size classes over Treiber stacks whose heads carry a tag
//! against ABA), hence safe in signal handlers and after fork; big blocks are mappings of their own.
//! Freed small blocks are reused, never unmapped: a node may be read after another thread popped it.
//! Whole pages of free blocks are given back to the kernel by [`trim`], and stay mapped: such a read finds zeros, and
//! its exchange fails.

use std::alloc::{GlobalAlloc, Layout};
use std::sync::atomic::{AtomicU64, Ordering::*};

use super::call::{madvise, map_anonymous, munmap};
use super::{beyond, reserve};

/// Sizes are multiples of this, and so are addresses.
const UNIT: usize = 16;
/// Up to here there is a class for each multiple of [`UNIT`].
const FINE: usize = 256;
const FINE_CLASSES: usize = FINE / UNIT;
/// Beyond, so many for each doubling.
const STEPS: usize = 4;
/// Largest class in bytes. Larger blocks are mapped.
const LARGEST: usize = 32 << 10;
const CLASSES: usize = FINE_CLASSES + STEPS * (LARGEST.ilog2() - FINE.ilog2()) as usize;
/// Classes of blocks aligned to their size, a power of two, for who wants more than [`UNIT`].
const ALIGNED_CLASSES: usize = LARGEST.ilog2() as usize + 1;
/// Fresh memory is taken from the kernel in pieces of this many bytes.
const CHUNK: usize = 1 << 20;
const PAGE: usize = 4096;
/// User-space addresses fit below; the tag sits above.
const ADDRESS_BITS: u32 = 48;
const ADDRESS_MASK: u64 = (1 << ADDRESS_BITS) - 1;

/// The global allocator of the library.
pub struct Allocator;

static FREE: [AtomicU64; CLASSES + ALIGNED_CLASSES] =
    [const { AtomicU64::new(0) }; CLASSES + ALIGNED_CLASSES];
/// What is left of the current piece of fresh memory: where, in units, above how many units.
static BUMP: AtomicU64 = AtomicU64::new(0);
/// Pieces of whole pages that [`trim`] has found; a free one holds the next one's address and its own length.
static PIECES: AtomicU64 = AtomicU64::new(0);
/// Low bits of [`BUMP`].
const LEFT_BITS: u32 = 20;

fn class_of(layout: Layout) -> Option<usize> {
    let size = layout.size().max(1);
    if layout.align() > UNIT {
        let size = size.max(layout.align()).next_power_of_two();
        return (size <= LARGEST).then(|| CLASSES + size.ilog2() as usize);
    }
    if size <= FINE {
        return Some((size - 1) / UNIT);
    }
    if size > LARGEST {
        return None;
    }
    let below = (size - 1).ilog2();
    let step = (size - 1 - (1 << below)) >> (below - STEPS.ilog2());
    Some(FINE_CLASSES + (below - FINE.ilog2()) as usize * STEPS + step)
}

/// Bytes and alignment of the blocks of a class.
const fn blocks_of(class: usize) -> (usize, usize) {
    if class >= CLASSES {
        let size = 1 << (class - CLASSES);
        return (size, size);
    }
    if class < FINE_CLASSES {
        return ((class + 1) * UNIT, UNIT);
    }
    let (doubling, step) = ((class - FINE_CLASSES) / STEPS, (class - FINE_CLASSES) % STEPS);
    let base = FINE << doubling;
    (base + (step + 1) * (base / STEPS), UNIT)
}

fn pop(class: usize) -> *mut u8 {
    let head = &FREE[class];
    let mut old = head.load(Acquire);
    loop {
        let address = old & ADDRESS_MASK;
        if address == 0 {
            return std::ptr::null_mut();
        }
        // SAFETY: small blocks are never unmapped; a stale value is caught by the tag.
        let next = unsafe { (*(address as *const AtomicU64)).load(Relaxed) };
        let tag = (old >> ADDRESS_BITS).wrapping_add(1);
        let new = (next & ADDRESS_MASK) | (tag << ADDRESS_BITS);
        match head.compare_exchange_weak(old, new, AcqRel, Acquire) {
            Ok(_) => return address as *mut u8,
            Err(now) => old = now,
        }
    }
}

fn push(class: usize, block: *mut u8) {
    let head = &FREE[class];
    let mut old = head.load(Relaxed);
    loop {
        // SAFETY: the block is free and at least 16 bytes, 16-aligned.
        unsafe { (*(block as *const AtomicU64)).store(old & ADDRESS_MASK, Relaxed) };
        let tag = (old >> ADDRESS_BITS).wrapping_add(1);
        let new = (block as u64 & ADDRESS_MASK) | (tag << ADDRESS_BITS);
        match head.compare_exchange_weak(old, new, AcqRel, Relaxed) {
            Ok(_) => return,
            Err(now) => old = now,
        }
    }
}

/// Cuts a block from the current piece or the next one.
fn cut(size: usize, align: usize) -> *mut u8 {
    let mut old = BUMP.load(Acquire);
    loop {
        let (from, left) =
            ((old >> LEFT_BITS) as usize * UNIT, (old & ((1 << LEFT_BITS) - 1)) as usize * UNIT);
        let start = (from + align - 1) & !(align - 1);
        let taken = start - from + size;
        if taken <= left {
            match BUMP.compare_exchange_weak(old, bump(from + taken, left - taken), AcqRel, Acquire) {
                Ok(_) => return start as *mut u8,
                Err(now) => old = now,
            }
            continue;
        }
        let Some((piece, len)) = next_piece(size + align) else { return std::ptr::null_mut() };
        match BUMP.compare_exchange(old, bump(piece, len), AcqRel, Acquire) {
            Ok(_) => {
                keep(from, from + left);
                old = bump(piece, len);
            }
            // Who loses the race uses the winner's.
            Err(now) => {
                give_piece(piece, len);
                old = now;
            }
        }
    }
}

const fn bump(from: usize, left: usize) -> u64 {
    ((from / UNIT) as u64) << LEFT_BITS | (left / UNIT) as u64
}

/// A piece of at least so many bytes: one that was trimmed, or fresh.
fn next_piece(least: usize) -> Option<(usize, usize)> {
    let mut old = PIECES.load(Acquire);
    loop {
        let piece = (old & ADDRESS_MASK) as usize;
        if piece == 0 {
            return fresh_piece();
        }
        // SAFETY: pieces are never unmapped; a stale value is caught by the tag.
        let (next, len) = unsafe {
            let words = piece as *const AtomicU64;
            ((*words).load(Relaxed), (*words.add(1)).load(Relaxed) as usize)
        };
        if len < least {
            return fresh_piece();
        }
        match PIECES.compare_exchange_weak(old, retag(old, next), AcqRel, Acquire) {
            Ok(_) => return Some((piece, len)),
            Err(now) => old = now,
        }
    }
}

fn fresh_piece() -> Option<(usize, usize)> {
    reserve::map(CHUNK).map(|chunk| (chunk, CHUNK))
}

/// Keeps a piece of pages for later.
fn give_piece(piece: usize, len: usize) {
    let mut old = PIECES.load(Relaxed);
    loop {
        // SAFETY: nobody else's, a page at least.
        unsafe {
            let words = piece as *const AtomicU64;
            (*words).store(old & ADDRESS_MASK, Relaxed);
            (*words.add(1)).store(len as u64, Relaxed);
        }
        match PIECES.compare_exchange_weak(old, retag(old, piece as u64), AcqRel, Relaxed) {
            Ok(_) => return,
            Err(now) => old = now,
        }
    }
}

const fn retag(old: u64, address: u64) -> u64 {
    (address & ADDRESS_MASK) | (old >> ADDRESS_BITS).wrapping_add(1) << ADDRESS_BITS
}

/// Most pages of a piece: [`BUMP`] counts its units.
const MOST_PAGES: usize = ((1 << LEFT_BITS) - 1) * UNIT / PAGE;

/// Memory that nobody uses any more: its pages as a piece, the edges in blocks.
fn keep(from: usize, to: usize) {
    let (low, high) = (from.next_multiple_of(PAGE), to & !(PAGE - 1));
    if low < high {
        push_part(from, low);
        give_piece(low, high - low);
        push_part(high, to);
    } else {
        push_part(from, to);
    }
}

/// Part of a block, if it is any: in blocks for itself.
fn push_part(mut from: usize, to: usize) {
    while from < to {
        let size = (to - from).min(FINE);
        push((size - 1) / UNIT, from as *mut u8);
        from += size;
    }
}

/// Takes a whole list; its first address.
fn take_list(head: &AtomicU64) -> usize {
    let mut old = head.load(Acquire);
    while let Err(now) = head.compare_exchange_weak(old, retag(old, 0), AcqRel, Acquire) {
        old = now;
    }
    (old & ADDRESS_MASK) as usize
}

/// A word of memory that is ours.
fn word(address: usize) -> usize {
    // SAFETY: the block or piece of a list that was taken.
    unsafe { (*(address as *const AtomicU64)).load(Relaxed) as usize }
}

/// Gives whole pages of free blocks back to the kernel. Others may allocate and free meanwhile. Not at a hit.
pub fn trim() {
    /// In place of a class: what is pages already.
    const PIECE: usize = usize::MAX;
    let mut free: Vec<(usize, usize, usize)> = Vec::new();
    for (class, head) in FREE.iter().enumerate() {
        let mut block = take_list(head);
        while block != 0 {
            free.push((block, block + blocks_of(class).0, class));
            block = word(block) & ADDRESS_MASK as usize;
        }
    }
    // Those of the last time grow, and don't become more and more.
    let mut piece = take_list(&PIECES);
    while piece != 0 {
        free.push((piece, piece + word(piece + size_of::<u64>()), PIECE));
        piece = word(piece) & ADDRESS_MASK as usize;
    }
    free.sort_unstable();
    for run in free.chunk_by(|a, b| a.1 == b.0) {
        let (Some((first, ..)), Some((_, last, _))) = (run.first(), run.last()) else { continue };
        let (low, high) = (first.next_multiple_of(PAGE), last & !(PAGE - 1));
        for (start, end, class) in run {
            if low >= high || *end <= low || *start >= high {
                push(*class, *start as *mut u8);
            } else {
                // Over the edges there is a part of it left.
                push_part(*start, low);
                push_part(high, *end);
            }
        }
        let mut from = low;
        while from < high {
            let len = (high - from).min(MOST_PAGES * PAGE);
            // SAFETY: nothing in these pages is used.
            let _ = unsafe { madvise(from, len, libc::MADV_DONTNEED) };
            give_piece(from, len);
            from += len;
        }
    }
}

// SAFETY: blocks are disjoint (CAS on BUMP, tagged stacks), aligned as their class is, and mapped for as long as anybody may use them.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match class_of(layout) {
            Some(class) => {
                let block = pop(class);
                let (size, align) = blocks_of(class);
                if block.is_null() { cut(size, align) } else { block }
            }
            // Pages are enough alignment for everything std asks for.
            None if layout.align() <= 4096 => {
                let size = layout.size();
                let block = map_anonymous(size).ok().or_else(|| reserve::take(size, 4096));
                // What is below stays when the block is given back: a page without access.
                let block = block.or_else(|| beyond::map(size));
                block.map_or(std::ptr::null_mut(), |a| a as *mut u8)
            }
            None => std::ptr::null_mut(),
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match class_of(layout) {
            Some(class) => push(class, block),
            None if reserve::contains(block as usize) => {}
            // SAFETY: a mapping of our own, given back by its one owner.
            None => drop(unsafe { munmap(block as usize, layout.size()) }),
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        let Ok(new) = Layout::from_size_align(new_size, layout.align()) else {
            return std::ptr::null_mut();
        };
        match (class_of(layout), class_of(new)) {
            (Some(old), Some(wanted)) if old == wanted => block,
            (None, None) if !reserve::contains(block as usize) => {
                // SAFETY: a mapping of our own; MREMAP_MAYMOVE keeps the contents.
                let moved = unsafe {
                    super::call::syscall4(
                        libc::SYS_mremap,
                        block as usize,
                        layout.size(),
                        new_size,
                        libc::MREMAP_MAYMOVE as usize,
                    )
                };
                // SAFETY: the caller's promise.
                moved.map_or_else(|_| unsafe { self.copy(block, layout, new) }, |a| a as *mut u8)
            }
            // SAFETY: the caller's promise.
            _ => unsafe { self.copy(block, layout, new) },
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as alloc; mapped blocks are zero already.
        unsafe {
            let block = self.alloc(layout);
            if !block.is_null() && class_of(layout).is_some() {
                std::ptr::write_bytes(block, 0, layout.size());
            }
            block
        }
    }
}

impl Allocator {
    /// A block of another size with the same contents, instead of this one.
    ///
    /// # Safety
    /// As for `realloc`.
    unsafe fn copy(&self, block: *mut u8, layout: Layout, new: Layout) -> *mut u8 {
        // SAFETY: a fresh block, then both are valid for the smaller size.
        unsafe {
            let fresh = self.alloc(new);
            if !fresh.is_null() {
                std::ptr::copy_nonoverlapping(block, fresh, layout.size().min(new.size()));
                self.dealloc(block, layout);
            }
            fresh
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::{alone::is_alone, memory_usage};

    #[test]
    fn classes_hold_what_they_are_asked_for() {
        let class = |size, align| class_of(Layout::from_size_align(size, align).unwrap());
        for (size, expected) in [
            (1, 16),
            (16, 16),
            (17, 32),
            (112, 112),
            (113, 128),
            (128, 128),
            (129, 144),
            (161, 176),
            (256, 256),
            (257, 320),
            (32767, 32768),
        ] {
            assert_eq!(class(size, 8).map(blocks_of), Some((expected, UNIT)), "{size}");
        }
        assert_eq!(class(32769, 8), None);
        assert_eq!(class(8, 64).map(blocks_of), Some((64, 64)));
        assert_eq!(class(100, 128).map(blocks_of), Some((128, 128)));
        for size in 1..=LARGEST {
            let (block, _) = blocks_of(class(size, 16).unwrap());
            assert!(block >= size && block < size + size / 4 + UNIT, "{size} {block}");
        }
    }

    #[test]
    fn pages_of_free_blocks_are_given_back_and_used_again() {
        // Beside others, in CI, they took what this gave back before it was counted.
        if !is_alone("sys::alloc::tests::pages_of_free_blocks_are_given_back_and_used_again") {
            return;
        }
        let resident = || memory_usage().resident;
        const BLOCKS: usize = 100_000;
        let take = || (0..BLOCKS).map(|n| Box::new([n; 12])).collect::<Vec<_>>();
        for _ in 0..3 {
            let blocks = take();
            assert!(blocks.iter().enumerate().all(|(n, block)| block.iter().all(|word| *word == n)));
            let full = resident();
            drop(blocks);
            trim();
            // Older kernels count by processor, and say the sum of it roughly.
            assert!(resident() + BLOCKS * 48 < full, "{} {full}", resident());
        }
    }

    #[test]
    fn threads_never_share_a_block() {
        let threads: Vec<_> = (0..4_u64)
            .map(|id| {
                std::thread::spawn(move || {
                    let mut live: Vec<Vec<u64>> = Vec::new();
                    let mut seed = id + 1;
                    for _ in 0..100_000 {
                        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                        if seed >> 63 == 0 || live.is_empty() {
                            live.push(vec![id; 1 + (seed >> 33) as usize % 300]);
                        } else {
                            let at = (seed >> 33) as usize % live.len();
                            assert!(live.swap_remove(at).iter().all(|word| *word == id));
                        }
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
    }
}
