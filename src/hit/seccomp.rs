//! The program's own seccomp filters, as far as they concern us: a system call that one of them forbids is not
//! made, whatever it would do to the process (kill it, raise SIGSYS in it, or tell it an error).
//!
//! When the program installs a filter by libc, a gate sees it first (`restrict`). The filter is kept here
//! and run by ourselves before each call of ours; the kernel's own copy never changes either. A filter
//! belongs to the thread that installs it, and to those it creates: a thread that has none of ours yet is
//! taken for one that has them all.
//!
//! ```text
//!   ThreadState.filters ──► newest ──► ... ──► oldest       what this thread has installed
//!   ALL ──────────────────► newest ──► ... ──► oldest       what any thread has, for new ones
//! ```

pub mod bpf;

use std::sync::atomic::{AtomicPtr, Ordering::*};

use crate::hit::memory::SafeMemory;
use crate::hit::thread::{self, ThreadState};
use crate::regs::Memory;
use crate::sys::{self, reserve};
use bpf::{Call, Insn, MOST_INSNS};

/// One filter, and those that were there before it. Never freed, never changed.
#[derive(Clone, Copy)]
pub struct Filter {
    below: *const Filter,
    program: Program,
}

/// What decides.
#[derive(Clone, Copy)]
pub enum Program {
    /// SECCOMP_MODE_STRICT.
    Strict,
    /// SECCOMP_MODE_FILTER: instructions in memory of ours.
    Filter(&'static [Insn]),
}

/// What a filter may answer (linux/seccomp.h), less the data.
const RET_ALLOW: u32 = 0x7FFF_0000;
const RET_LOG: u32 = 0x7FFC_0000;
const RET_ERRNO: u32 = 0x0005_0000;
const RET_ACTION: u32 = 0xFFFF_0000;

static ALL: AtomicPtr<Filter> = AtomicPtr::new(std::ptr::null_mut());

/// What a thread that begins is taken to have. Signal-safe.
#[must_use]
pub fn inherited() -> *mut Filter {
    ALL.load(Acquire)
}

fn of_this_thread() -> *const Filter {
    thread::existing().map_or_else(inherited, |thread| thread.filters.load(Acquire))
}

/// Whether the calling thread may make this call, as far as we know. Signal-safe.
#[must_use]
pub fn allows(number: i64, args: &[usize; 6]) -> bool {
    ask(number, args).is_ok()
}

/// As [`allows`], with no particular arguments.
#[must_use]
pub fn allows_any(number: i64) -> bool {
    allows(number, &[0; 6])
}

/// What [`sys`] asks before each call.
fn ask(number: i64, args: &[usize; 6]) -> Result<(), i32> {
    let mut filter = of_this_thread();
    if filter.is_null() {
        return Ok(());
    }
    let call = Call::new(number, sys::unguarded as *const () as u64, args);
    // SAFETY: never freed.
    while let Some(found) = unsafe { filter.as_ref() } {
        found.program.ask(number, &call)?;
        filter = found.below;
    }
    Ok(())
}

impl Program {
    fn ask(&self, number: i64, call: &Call) -> Result<(), i32> {
        const STRICT: [i64; 4] = [libc::SYS_read, libc::SYS_write, libc::SYS_exit, libc::SYS_rt_sigreturn];
        let answer = match self {
            Self::Strict if STRICT.contains(&number) => Some(RET_ALLOW),
            Self::Strict => None,
            Self::Filter(program) => bpf::run(program, call),
        };
        match answer {
            Some(answer) if matches!(answer & RET_ACTION, RET_ALLOW | RET_LOG) => Ok(()),
            // An error of 0 would look like success.
            Some(answer) if answer & RET_ACTION == RET_ERRNO && answer as u16 != 0 => {
                Err(i32::from(answer as u16))
            }
            _ => Err(libc::EPERM),
        }
    }

    /// Whether it lets a call with these arguments through.
    #[must_use]
    pub fn allows(&self, number: i64, args: &[usize; 6]) -> bool {
        self.ask(number, &Call::new(number, sys::unguarded as *const () as u64, args)).is_ok()
    }

    /// Whether the kernel would take it for a filter, as far as one run shows.
    fn is_filter(&self) -> bool {
        match self {
            Self::Strict => true,
            Self::Filter(program) => {
                bpf::run(program, &Call::new(libc::SYS_rt_sigreturn, 0, &[0; 6])).is_some()
            }
        }
    }

    /// A copy of the `struct sock_fprog` at `at`; `None` where it can't be read, or is no filter. Maps memory.
    #[must_use]
    pub fn read(at: u64) -> Option<Self> {
        let mut head = [0_u8; 16];
        if at == 0 || SafeMemory.read(at, &mut head) != head.len() {
            return None;
        }
        let len = usize::from(u16::from_le_bytes([head[0], head[1]]));
        let from = u64::from_le_bytes(std::array::from_fn(|byte| head[8 + byte]));
        if !(1..=MOST_INSNS).contains(&len) {
            return None;
        }
        let bytes = len * size_of::<Insn>();
        let to = reserve::map(bytes)?;
        // SAFETY: our own fresh memory.
        let copy = unsafe { std::slice::from_raw_parts_mut(to as *mut u8, bytes) };
        if SafeMemory.read(from, copy) != bytes {
            return None;
        }
        // SAFETY: eight plain bytes each, in a mapping that stays.
        let read = Self::Filter(unsafe { std::slice::from_raw_parts(to as *const Insn, len) });
        read.is_filter().then_some(read)
    }
}

/// Where a filter that is about to be installed will be kept.
pub struct Room(*mut Filter);

/// Memory for one more filter; `None`: there is none. Before it is installed: afterwards the kernel may not be asked.
#[must_use]
pub fn make_room() -> Option<Room> {
    reserve::map(2 * size_of::<Filter>()).map(|at| Room(at as *mut Filter))
}

/// The calling thread, or with `all` each one, has this filter from now on, besides those it has. Makes no system
/// call. Signal-safe.
pub fn install(Room(nodes): Room, program: Program, all: bool) {
    let thread = thread::existing();
    let mine = thread.map_or_else(inherited, |thread| thread.filters.load(Acquire));
    // SAFETY: room for two.
    let (own, shared) = unsafe { (nodes, nodes.add(1)) };
    // SAFETY: fresh memory, which nobody sees yet.
    unsafe { own.write(Filter { below: mine, program }) };
    let mut below = ALL.load(Acquire);
    loop {
        // SAFETY: as above.
        unsafe { shared.write(Filter { below, program }) };
        match ALL.compare_exchange(below, shared, AcqRel, Acquire) {
            Ok(_) => break,
            Err(now) => below = now,
        }
    }
    if let Some(thread) = thread {
        thread.filters.store(own, Release);
    }
    if all {
        thread::all().for_each(|state: &ThreadState| state.filters.store(shared, Release));
    }
    sys::guard_calls(ask);
}
