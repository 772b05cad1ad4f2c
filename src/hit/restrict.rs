//! The calls by which a program takes rights from itself: another user, another root, limits, filters. What the
//! engine will need later must be opened before.

use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering::*};

use crate::hit::actions;
use crate::hit::consumer::Flow;
use crate::hit::dispatch::{self, PR_SET_SYSCALL_USER_DISPATCH};
use crate::hit::gates::skip;
use crate::hit::process;
use crate::hit::seccomp::{self, Program};
use crate::hit::thread;
use crate::hit::trap::Hit;
use crate::sys;

/// Gated for this, besides prctl(2).
pub const RESTRICTING: [i64; 19] = [
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setreuid,
    libc::SYS_setregid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setfsuid,
    libc::SYS_setfsgid,
    libc::SYS_setgroups,
    libc::SYS_capset,
    libc::SYS_chroot,
    libc::SYS_pivot_root,
    libc::SYS_setns,
    libc::SYS_setrlimit,
    libc::SYS_prlimit64,
    libc::SYS_mlockall,
    libc::SYS_munlockall,
    libc::SYS_seccomp,
    libc::SYS_landlock_restrict_self,
];

/// What the program is about to lose.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Loss {
    /// New memory, and new access to memory.
    pub memory: bool,
    /// The return from signal handlers, and so from breakpoints.
    pub breakpoints: bool,
    /// A death by a signal that has had a handler: the call that takes the handler away.
    pub death: bool,
    /// The time stamp counter.
    pub counter: bool,
    /// System calls of whoever is not excepted.
    pub dispatched: bool,
}

/// Called before.
static ON_LOSS: AtomicPtr<()> = AtomicPtr::new(std::ptr::null_mut());
/// The only thread has given up making others.
static IS_ALONE: AtomicBool = AtomicBool::new(false);

/// Remembers what to call before such a call.
pub fn start(on_loss: fn(Loss)) {
    ON_LOSS.store(on_loss as *mut (), Release);
    sys::learn_tid_of_libc();
}

fn prepare(loss: Loss) {
    let hook = ON_LOSS.load(Acquire);
    if !hook.is_null() {
        // SAFETY: stored from a fn(Loss) in start().
        unsafe { std::mem::transmute::<*mut (), fn(Loss)>(hook)(loss) };
    }
}

/// A gate before one of [`RESTRICTING`]. A child that borrows our memory is about to become another program.
pub fn on_call(hit: &mut Hit<'_>, number: i64, args: [u64; 6]) -> Flow {
    /// SECCOMP_SET_MODE_STRICT, SECCOMP_SET_MODE_FILTER (linux/seccomp.h).
    const STRICT: u64 = 0;
    const FILTER: u64 = 1;
    if process::is_borrowed() {
        return Flow::Continue;
    }
    match number {
        libc::SYS_seccomp if args[0] == STRICT => return filter(hit, Program::Strict, 0),
        libc::SYS_seccomp if args[0] == FILTER => {
            if let Some(program) = Program::read(args[2]) {
                return filter(hit, program, args[1]);
            }
        }
        libc::SYS_seccomp => {}
        // Memory is set aside already; of the others, only descriptors will be wanted.
        libc::SYS_setrlimit if args[0] != u64::from(libc::RLIMIT_NOFILE) => {}
        libc::SYS_prlimit64 if args[1] != u64::from(libc::RLIMIT_NOFILE) || args[2] == 0 => {}
        libc::SYS_prlimit64 if args[0] != 0 && args[0] as i32 != process::pid() => {}
        libc::SYS_munlockall => sys::note_locking(0),
        libc::SYS_mlockall => {
            prepare(Loss::default());
            sys::note_locking(args[0] as i32);
        }
        _ => prepare(Loss::default()),
    }
    Flow::Continue
}

/// prctl(PR_SET_SECCOMP), and what else takes calls or instructions away.
pub fn on_prctl(hit: &mut Hit<'_>, args: [u64; 6]) -> Flow {
    /// SECCOMP_MODE_STRICT, SECCOMP_MODE_FILTER.
    const STRICT: u64 = 1;
    const FILTER: u64 = 2;
    if process::is_borrowed() {
        return Flow::Continue;
    }
    if args[0] as i32 == libc::PR_SET_TSC && args[1] == libc::PR_TSC_SIGSEGV as u64 {
        prepare(Loss { counter: true, ..Loss::default() });
    }
    if args[0] as i32 == PR_SET_SYSCALL_USER_DISPATCH {
        prepare(Loss { dispatched: true, ..Loss::default() });
        return dispatch::on_prctl(hit, args);
    }
    if args[0] as i32 != libc::PR_SET_SECCOMP {
        return Flow::Continue;
    }
    match args[1] {
        STRICT => filter(hit, Program::Strict, 0),
        FILTER => Program::read(args[2]).map_or(Flow::Continue, |program| filter(hit, program, 0)),
        _ => Flow::Continue,
    }
}

/// A filter is about to be installed.
fn filter(hit: &mut Hit<'_>, program: Program, flags: u64) -> Flow {
    /// SECCOMP_FILTER_FLAG_TSYNC.
    const TSYNC: u64 = 1;
    let may = |number: i64, args: [usize; 6]| program.allows(number, &args);
    let anonymous = [0, 4096, 3, (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as usize, usize::MAX, 0];
    let loss = Loss {
        memory: !may(libc::SYS_mmap, anonymous) || !may(libc::SYS_mprotect, [0, 4096, 3, 0, 0, 0]),
        breakpoints: !may(libc::SYS_rt_sigreturn, [0; 6]),
        death: !may(libc::SYS_rt_sigaction, [libc::SIGTERM as usize, 8, 0, sys::SIGSET_SIZE, 0, 0]),
        // The kernel takes it away with everything else.
        counter: matches!(program, Program::Strict),
        dispatched: false,
    };
    if !may(libc::SYS_rt_sigprocmask, [0; 6]) {
        actions::forbid();
    }
    let is_for_all = flags & TSYNC != 0;
    let makes_threads = [libc::SYS_clone, libc::SYS_clone3].iter().any(|number| may(*number, [0; 6]));
    if !makes_threads && sys::thread_ids().len() == 1 {
        IS_ALONE.store(true, Relaxed);
    }
    let Some(room) = seccomp::make_room() else { return Flow::Continue };
    if !loss.breakpoints {
        prepare(loss);
        let regs = &hit.regs;
        let args = [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9].map(|arg| arg as usize);
        // SAFETY: the program's own call with its own arguments.
        let result = unsafe { sys::unguarded(hit.regs.rax as i64, args) };
        // With TSYNC a thread's id means that this thread is in the way.
        if result.is_ok_and(|value| value == 0 || !is_for_all) {
            seccomp::install(room, program, is_for_all);
        }
        return skip(hit, result);
    }
    // No return from here once it is there: the program makes the call itself, and what comes of it must be known
    // before.
    if is_permitted() {
        prepare(loss);
        seccomp::install(room, program, is_for_all);
    }
    Flow::Continue
}

/// Whether this thread may install filters: it has given up new privileges, or may administer the system.
fn is_permitted() -> bool {
    const CAP_SYS_ADMIN: u32 = 1 << 21;
    // SAFETY: no pointers.
    let given_up =
        unsafe { sys::syscall6(libc::SYS_prctl, libc::PR_GET_NO_NEW_PRIVS as usize, 0, 0, 0, 0, 0) };
    // struct __user_cap_header_struct, version 3, and two of __user_cap_data_struct.
    let (head, mut sets) = ([0x2008_0522_u32, 0], [0_u32; 6]);
    let (head, to) = (head.as_ptr() as usize, sets.as_mut_ptr() as usize);
    // SAFETY: both have the kernel's layout.
    let asked = unsafe { sys::syscall3(libc::SYS_capget, head, to, 0) };
    given_up == Ok(1) || (asked.is_ok() && sets[0] & CAP_SYS_ADMIN != 0)
}

/// At the end of the process or thread: where no handler returns, the call is made here.
pub fn end_here(number: i64, status: u64) {
    if seccomp::allows_any(libc::SYS_rt_sigreturn) {
        return;
    }
    match number {
        libc::SYS_exit => sys::exit_thread(status as i32),
        _ => sys::exit_group(status as i32),
    }
}

/// Whether the calling thread is the only one, where it is the first. Asks the kernel.
#[must_use]
pub fn is_last_thread() -> bool {
    if sys::gettid() != process::pid() {
        return false;
    }
    let _section = thread::LibrarySection::enter();
    match sys::thread_ids().len() {
        0 => IS_ALONE.load(Relaxed),
        number => number == 1,
    }
}
