//! Raw calls to the kernel, and what else replaces libc in our own code.
//!
//! Nothing here goes through libc: its functions may be probed, are cancellation points, set
//! errno, and take locks the program may hold. Everything is async-signal-safe.

/// The processor's. `tests/interleavings/` has a model's in its place.
pub mod atomic {
    pub use std::sync::atomic::*;
}

mod alloc;
#[cfg(test)]
mod alone;
mod beyond;
mod call;
mod file;
mod high;
mod map;
pub mod reserve;
mod shelf;
mod string;
mod tasks;
mod usage;

pub use alloc::{Allocator, trim};
pub use call::*;
pub use file::{Fd, FileId, Mapping, file_id, map_stack, read_whole, stat_raw, write_raw};
pub use high::{descriptors_are_scarce, move_out_of_reach, with_more_descriptors};
pub use map::{FixedHashMap, FixedHasher};
pub use shelf::Shelf;
pub use tasks::{blocked_signals, main_thread_has_ended, thread_ids};
pub use usage::{MemoryUsage, memory_usage};
