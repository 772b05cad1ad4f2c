//! Our own heap, so that we never enter the program's.
//!
//! The program's malloc may be probed, replaced, not yet ready, or locked by the very thread we
//! interrupted. This one is lock-free (size classes over Treiber stacks whose heads carry a tag
//! against ABA), hence safe in signal handlers and after fork; big blocks are mappings of their own.
//! Freed small blocks are reused, never unmapped: a node may be read after another thread popped it.

use std::alloc::{GlobalAlloc, Layout};
use std::sync::atomic::{AtomicU64, Ordering::*};

use super::call::{map_anonymous, munmap};
use super::reserve;

/// Smallest class in bytes; a free block holds the next pointer.
const MIN_CLASS_BITS: u32 = 4;
/// Largest class in bytes: 32 KiB. Larger blocks are mapped.
const MAX_CLASS_BITS: u32 = 15;
const CLASSES: usize = (MAX_CLASS_BITS - MIN_CLASS_BITS + 1) as usize;
/// Fresh memory is taken from the kernel in pieces of this many bytes.
const CHUNK: usize = 1 << 20;
/// User-space addresses fit below; the tag sits above.
const ADDRESS_BITS: u32 = 48;
const ADDRESS_MASK: u64 = (1 << ADDRESS_BITS) - 1;

/// The global allocator of the library.
pub struct Allocator;

static FREE: [AtomicU64; CLASSES] = [const { AtomicU64::new(0) }; CLASSES];
/// Next free byte and end of the current chunk, both in units of 16 bytes: one word, one CAS.
static BUMP: AtomicU64 = AtomicU64::new(0);

fn class_of(layout: Layout) -> Option<usize> {
    let size = layout.size().max(layout.align()).max(1 << MIN_CLASS_BITS);
    let bits = usize::BITS - (size - 1).leading_zeros();
    let bits = bits.max(MIN_CLASS_BITS);
    (bits <= MAX_CLASS_BITS).then(|| (bits - MIN_CLASS_BITS) as usize)
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

/// Cuts a block of 2^bits bytes, so aligned, from the current chunk or a new one. The word BUMP is
/// the next free address; a chunk ends at a multiple of CHUNK, so the end follows from the address.
fn cut(size: usize) -> *mut u8 {
    let mut old = BUMP.load(Acquire) as usize;
    loop {
        let start = (old + size - 1) & !(size - 1);
        let chunk_end = (old + CHUNK - 1) & !(CHUNK - 1);
        if old != 0 && start + size <= chunk_end && old != chunk_end {
            match BUMP.compare_exchange_weak(old as u64, (start + size) as u64, AcqRel, Acquire) {
                Ok(_) => return start as *mut u8,
                Err(now) => old = now as usize,
            }
            continue;
        }
        let Some(chunk) = map_chunk() else { return std::ptr::null_mut() };
        // 16 bytes in, so that the word is never a multiple of CHUNK at a chunk's beginning. Who
        // loses the race leaves its chunk untouched (never resident) and uses the winner's.
        match BUMP.compare_exchange(old as u64, (chunk + 16) as u64, AcqRel, Acquire) {
            Ok(_) => old = chunk + 16,
            Err(now) => {
                if !reserve::contains(chunk) {
                    // SAFETY: nobody has seen this chunk.
                    let _ = unsafe { munmap(chunk, CHUNK) };
                }
                old = now as usize;
            }
        }
    }
}

/// CHUNK bytes aligned to CHUNK.
fn map_chunk() -> Option<usize> {
    let Ok(base) = map_anonymous(2 * CHUNK) else { return reserve::take(CHUNK, CHUNK) };
    let chunk = (base + CHUNK - 1) & !(CHUNK - 1);
    if chunk > base {
        // SAFETY: the unused front of our fresh mapping.
        let _ = unsafe { munmap(base, chunk - base) };
    }
    let tail = base + 2 * CHUNK - (chunk + CHUNK);
    if tail > 0 {
        // SAFETY: the unused back of our fresh mapping.
        let _ = unsafe { munmap(chunk + CHUNK, tail) };
    }
    Some(chunk)
}

// SAFETY: blocks are disjoint (CAS on BUMP, tagged stacks), aligned to their power-of-two class,
// and mapped for as long as anybody may use them.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match class_of(layout) {
            Some(class) => {
                let block = pop(class);
                if block.is_null() { cut(1 << (class as u32 + MIN_CLASS_BITS)) } else { block }
            }
            // Pages are enough alignment for everything std asks for.
            None if layout.align() <= 4096 => {
                let block = map_anonymous(layout.size()).ok().or_else(|| reserve::take(layout.size(), 4096));
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

    #[test]
    fn classes_round_up_to_powers_of_two() {
        for (size, align, class) in [
            (1, 1, Some(0)),
            (16, 8, Some(0)),
            (17, 8, Some(1)),
            (8, 64, Some(2)),
            (32768, 8, Some(11)),
            (32769, 8, None),
        ] {
            assert_eq!(class_of(Layout::from_size_align(size, align).unwrap()), class, "{size} {align}");
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
