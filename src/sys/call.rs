//! The system calls we use, one wrapper each; errors are positive errno values.
//! Source: syscalls(2), arch/x86/entry/syscalls/syscall_64.tbl.

use std::arch::asm;
use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, Ordering::*};

/// What a system call returned: a value, or errno.
pub type SysResult = Result<usize, i32>;

/// Says of a system call whether it may be made: the error is what the caller gets instead.
/// Signal-safe; makes none itself.
pub type Guard = fn(i64, &[usize; 6]) -> Result<(), i32>;

static GUARD: AtomicPtr<()> = AtomicPtr::new(std::ptr::null_mut());

/// From now on every call of ours is shown to `guard` first: a filter of the program's (seccomp) may
/// kill the process for it.
pub fn guard_calls(guard: Guard) {
    GUARD.store(guard as *mut (), Release);
}

/// Issues system call `number`, unless the guard says that it can't be.
///
/// # Safety
/// As the call itself demands of its arguments.
#[inline]
pub unsafe fn syscall6(number: i64, a: usize, b: usize, c: usize, d: usize, e: usize, f: usize) -> SysResult {
    let guard = GUARD.load(Relaxed);
    if !guard.is_null() {
        // SAFETY: stored from a Guard.
        unsafe { std::mem::transmute::<*mut (), Guard>(guard)(number, &[a, b, c, d, e, f]) }?;
    }
    // SAFETY: the caller's promise.
    unsafe { unguarded(number, [a, b, c, d, e, f]) }
}

/// Issues a system call whatever the guard says: one that the program itself makes here.
///
/// # Safety
/// As [`syscall6`].
#[inline]
pub unsafe fn unguarded(number: i64, [a, b, c, d, e, f]: [usize; 6]) -> SysResult {
    let result: isize;
    // SAFETY: the kernel clobbers rcx, r11 and rax only; memory effects are the caller's promise.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e, in("r9") f,
            lateout("rcx") _, lateout("r11") _,
            options(nostack)
        );
    }
    if (-4095..0).contains(&result) { Err(-result as i32) } else { Ok(result as usize) }
}

/// [`syscall6`] with three arguments.
///
/// # Safety
/// As [`syscall6`].
#[inline]
pub unsafe fn syscall3(number: i64, a: usize, b: usize, c: usize) -> SysResult {
    // SAFETY: the caller's promise.
    unsafe { syscall6(number, a, b, c, 0, 0, 0) }
}

/// [`syscall6`] with four arguments.
///
/// # Safety
/// As [`syscall6`].
#[inline]
pub unsafe fn syscall4(number: i64, a: usize, b: usize, c: usize, d: usize) -> SysResult {
    // SAFETY: the caller's promise.
    unsafe { syscall6(number, a, b, c, d, 0, 0) }
}

/// getpid(2). Where a filter forbids it, what it was when it was asked last.
#[must_use]
pub fn getpid() -> i32 {
    static LAST: AtomicI32 = AtomicI32::new(0);
    // SAFETY: no arguments.
    match unsafe { syscall3(libc::SYS_getpid, 0, 0, 0) } {
        Ok(pid) => {
            if LAST.load(Relaxed) != pid as i32 {
                LAST.store(pid as i32, Relaxed);
            }
            pid as i32
        }
        Err(_) => LAST.load(Relaxed),
    }
}

/// getuid(2). Where a filter forbids it, 0.
#[must_use]
pub fn getuid() -> u32 {
    // SAFETY: no arguments.
    unsafe { syscall3(libc::SYS_getuid, 0, 0, 0) }.map_or(0, |uid| uid as u32)
}

/// gettid(2). Where a filter forbids it, what libc knows.
#[must_use]
pub fn gettid() -> i32 {
    // SAFETY: no arguments.
    unsafe { syscall3(libc::SYS_gettid, 0, 0, 0) }.map_or_else(|_| tid_of_libc(), |tid| tid as i32)
}

/// Whether [`tid_of_libc`] tells the truth.
static LIBC_TELLS: AtomicBool = AtomicBool::new(false);

/// Finds out whether libc's own note of a thread's id is where it has been for twenty years.
pub fn learn_tid_of_libc() {
    // SAFETY: no arguments.
    let tid = unsafe { syscall3(libc::SYS_gettid, 0, 0, 0) }.unwrap_or(0) as i32;
    LIBC_TELLS.store(true, Relaxed);
    LIBC_TELLS.store(tid != 0 && tid_of_libc() == tid, Relaxed);
}

/// `struct pthread`'s `tid` (glibc, nptl/descr.h); 0 where it is not known to be there.
fn tid_of_libc() -> i32 {
    let tid: i32;
    if !LIBC_TELLS.load(Relaxed) {
        return 0;
    }
    // SAFETY: inside the thread control block, which has 0x900 bytes.
    unsafe { asm!("mov {0:e}, fs:[0x2d0]", out(reg) tid, options(nostack, readonly, preserves_flags)) };
    tid
}

/// The calling thread's name, as prctl(PR_GET_NAME) gives it.
#[must_use]
pub fn thread_name() -> [u8; 16] {
    let mut name = [0_u8; 16];
    // SAFETY: the kernel writes at most 16 bytes.
    let _ = unsafe { syscall3(libc::SYS_prctl, libc::PR_GET_NAME as usize, name.as_mut_ptr() as usize, 0) };
    name
}

/// Whether rdtsc may be used: PR_TSC_ENABLE or PR_TSC_SIGSEGV (prctl(2), PR_GET_TSC).
#[must_use]
pub fn tsc_mode() -> Option<i32> {
    let mut mode = 0_i32;
    // SAFETY: the kernel writes one int.
    let result = unsafe { syscall3(libc::SYS_prctl, libc::PR_GET_TSC as usize, (&raw mut mode) as usize, 0) };
    result.ok().map(|_| mode)
}

/// Whether thread `tid` of process `pid` exists.
#[must_use]
pub fn thread_exists(pid: i32, tid: i32) -> bool {
    tgkill(pid, tid, 0) != Err(libc::ESRCH)
}

/// Whether the file whose name is at `path` may be executed. A name that can't be read is none.
#[must_use]
pub fn is_executable(path: usize) -> bool {
    // SAFETY: the kernel reads the name, or says EFAULT.
    unsafe { syscall3(libc::SYS_access, path, libc::X_OK as usize, 0) }.is_ok()
}

/// sched_yield(2).
pub fn yield_now() {
    // SAFETY: no arguments.
    let _ = unsafe { syscall3(libc::SYS_sched_yield, 0, 0, 0) };
}

/// Sleeps for about `ms` milliseconds.
pub fn sleep_ms(ms: i64) {
    let time = libc::timespec { tv_sec: ms / 1000, tv_nsec: ms % 1000 * 1_000_000 };
    // SAFETY: one timespec.
    let _ = unsafe { syscall3(libc::SYS_nanosleep, &raw const time as usize, 0, 0) };
}

/// exit(2): ends the calling thread alone.
pub fn exit_thread(status: i32) -> ! {
    loop {
        // SAFETY: does not return.
        let _ = unsafe { unguarded(libc::SYS_exit, [status as usize, 0, 0, 0, 0, 0]) };
    }
}

/// exit_group(2).
pub fn exit_group(status: i32) -> ! {
    loop {
        // SAFETY: does not return.
        let _ = unsafe { unguarded(libc::SYS_exit_group, [status as usize, 0, 0, 0, 0, 0]) };
    }
}

/// mmap(2); `address` is a hint unless `flags` has MAP_FIXED.
///
/// # Safety
/// With MAP_FIXED the range must be the caller's to replace.
pub unsafe fn mmap(address: usize, len: usize, prot: i32, flags: i32, fd: i32, offset: usize) -> SysResult {
    // SAFETY: the caller's promise.
    unsafe { syscall6(libc::SYS_mmap, address, len, prot as usize, flags as usize, fd as usize, offset) }
}

/// Private anonymous zeroed memory, readable and writable, page-rounded.
pub fn map_anonymous(len: usize) -> Result<usize, i32> {
    // SAFETY: no MAP_FIXED: no existing mapping changes.
    unsafe {
        mmap(0, len, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)
    }
}

/// Set where the program has all its future memory locked (mlockall(2), MCL_FUTURE).
static LOCKS_FUTURE: AtomicBool = AtomicBool::new(false);

/// The program has called mlockall(2), or munlockall(2), with these flags.
pub fn note_locking(flags: i32) {
    LOCKS_FUTURE.store(flags & libc::MCL_FUTURE != 0, Relaxed);
}

/// Memory that is only promised until it is touched; also where the program locks all it maps, which
/// would touch it at once.
pub fn map_reserved(len: usize) -> Result<usize, i32> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    let access = libc::PROT_READ | libc::PROT_WRITE;
    if LOCKS_FUTURE.load(Relaxed) {
        return open(map_inaccessible(len)?, len);
    }
    // SAFETY: no MAP_FIXED: no existing mapping changes.
    unsafe { mmap(0, len, access, flags, -1, 0) }
}

/// Gives access to fresh memory of ours that had none; nothing of it is locked, and so filled.
fn open(base: usize, len: usize) -> Result<usize, i32> {
    if LOCKS_FUTURE.load(Relaxed) {
        // SAFETY: our own fresh mapping.
        let _ = unsafe { syscall3(libc::SYS_munlock, base, len, 0) };
    }
    protect(base, len, libc::PROT_READ | libc::PROT_WRITE)?;
    Ok(base)
}

/// Memory without access, which costs nothing until [`protect`] gives it some.
pub fn map_inaccessible(len: usize) -> Result<usize, i32> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: no MAP_FIXED: no existing mapping changes.
    unsafe { mmap(0, len, libc::PROT_NONE, flags, -1, 0) }
}

/// The same, of which the kernel counts nothing as data (RLIMIT_DATA) when [`protect`] makes it writable: so it does with
/// what may be a stack. It does not grow: below is a page without access, in which it ends.
pub fn map_inaccessible_not_data(len: usize) -> Result<usize, i32> {
    const GUARD: usize = 4096;
    let base = map_inaccessible(len + GUARD)? + GUARD;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: the upper part of what was just mapped.
    let made =
        unsafe { mmap(base, len, libc::PROT_NONE, flags | libc::MAP_FIXED | libc::MAP_GROWSDOWN, -1, 0) };
    // Where that can't be had it is data.
    Ok(made.unwrap_or(base))
}

/// [`map_reserved`], not counted as data either, which would leave the program less of what it may have.
pub fn map_reserved_not_data(len: usize) -> Result<usize, i32> {
    open(map_inaccessible_not_data(len)?, len)
}

/// The limits of a resource, soft and hard, as they were before these were set. getrlimit(2).
pub fn limits(resource: libc::__rlimit_resource_t, new: Option<[u64; 2]>) -> Option<[u64; 2]> {
    let mut old = [0_u64; 2];
    let new = new.as_ref().map_or(std::ptr::null(), |new| new.as_ptr());
    let to = old.as_mut_ptr() as usize;
    // SAFETY: two words each, the layout of struct rlimit64.
    unsafe { syscall4(libc::SYS_prlimit64, 0, resource as usize, new as usize, to) }.ok()?;
    Some(old)
}

/// The soft one; the greatest number where there is none.
#[must_use]
pub fn soft_limit(resource: libc::__rlimit_resource_t) -> u64 {
    limits(resource, None).map_or(u64::MAX, |[soft, _]| soft)
}

/// mprotect(2) of memory of ours.
pub fn protect(address: usize, len: usize, access: i32) -> Result<(), i32> {
    // SAFETY: data of our own, which nobody uses with less access.
    unsafe { syscall3(libc::SYS_mprotect, address, len, access as usize) }.map(|_| ())
}

/// munmap(2).
///
/// # Safety
/// Nothing may use the range afterwards.
pub unsafe fn munmap(address: usize, len: usize) -> SysResult {
    // SAFETY: the caller's promise.
    unsafe { syscall3(libc::SYS_munmap, address, len, 0) }
}

/// madvise(2).
///
/// # Safety
/// As the advice demands.
pub unsafe fn madvise(address: usize, len: usize, advice: i32) -> SysResult {
    // SAFETY: the caller's promise.
    unsafe { syscall3(libc::SYS_madvise, address, len, advice as usize) }
}

/// Where the heap ends, as of brk(2); 0 when the kernel does not say.
#[must_use]
pub fn heap_end() -> u64 {
    // SAFETY: an impossible end changes nothing.
    unsafe { syscall3(libc::SYS_brk, 0, 0, 0) }.unwrap_or(0) as u64
}

/// How large the main thread's stack may become, in bytes: RLIMIT_STACK, `u64::MAX` for no limit.
#[must_use]
pub fn stack_limit() -> u64 {
    let mut limit = libc::rlimit64 { rlim_cur: u64::MAX, rlim_max: u64::MAX };
    let to = std::ptr::from_mut(&mut limit) as usize;
    // SAFETY: `to` is where the kernel writes one; nothing is set.
    let _ = unsafe { syscall4(libc::SYS_prlimit64, 0, libc::RLIMIT_STACK as usize, 0, to) };
    limit.rlim_cur
}

/// MEMBARRIER_CMD_PRIVATE_EXPEDITED (linux/membarrier.h): a fence in every running thread of ours.
pub const MEMBARRIER: i32 = 1 << 3;
/// MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED: what it needs first.
pub const MEMBARRIER_REGISTER: i32 = 1 << 4;
/// MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE: the same, and each drops instructions it has fetched.
pub const MEMBARRIER_SYNC_CORE: i32 = 1 << 5;
/// MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE.
pub const MEMBARRIER_REGISTER_SYNC_CORE: i32 = 1 << 6;

/// membarrier(2).
pub fn membarrier(command: i32) -> SysResult {
    // SAFETY: no pointers.
    unsafe { syscall3(libc::SYS_membarrier, command as usize, 0, 0) }
}

/// The kernel's `struct sigaction` (x86-64).
#[repr(C)]
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct KernelSigaction {
    /// Handler, SIG_DFL or SIG_IGN.
    pub handler: usize,
    /// SA_*.
    pub flags: u64,
    /// SA_RESTORER's function.
    pub restorer: usize,
    /// Blocked while the handler runs; bit n-1 is signal n.
    pub mask: u64,
}

/// The flag that says `restorer` is set; required on x86-64.
pub const SA_RESTORER: u64 = 0x0400_0000;

/// Size in bytes of the kernel's sigset_t.
pub const SIGSET_SIZE: usize = 8;

/// The bit of signal `signal` in a kernel signal mask.
#[must_use]
pub const fn sigbit(signal: i32) -> u64 {
    1 << (signal - 1)
}

/// rt_sigaction(2): sets `new` where given, returns the old one.
///
/// # Safety
/// A new handler must be fit to run in any thread at any instruction.
pub unsafe fn sigaction(signal: i32, new: Option<&KernelSigaction>) -> Result<KernelSigaction, i32> {
    let mut old = KernelSigaction::default();
    let new = new.map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: both structs have the kernel's layout.
    unsafe {
        syscall4(
            libc::SYS_rt_sigaction,
            signal as usize,
            new as usize,
            std::ptr::from_mut(&mut old) as usize,
            SIGSET_SIZE,
        )
    }?;
    Ok(old)
}

const NO_STACK: libc::stack_t =
    libc::stack_t { ss_sp: std::ptr::null_mut(), ss_flags: libc::SS_DISABLE, ss_size: 0 };

/// The thread's alternate signal stack, and whether it is on it. sigaltstack(2).
///
/// # Errors
/// errno.
pub fn alternate_stack() -> Result<libc::stack_t, i32> {
    let mut stack = NO_STACK;
    // SAFETY: the kernel writes one stack_t.
    unsafe { syscall3(libc::SYS_sigaltstack, 0, &raw mut stack as usize, 0) }?;
    Ok(stack)
}

/// Sets it to what it was before. The thread must not be on it.
pub fn set_alternate_stack(stack: &libc::stack_t) {
    // SAFETY: what the program itself gave to the kernel, or nothing.
    let _ = unsafe { syscall3(libc::SYS_sigaltstack, std::ptr::from_ref(stack) as usize, 0, 0) };
}

/// Leaves the thread without one; what it was, where there was one.
#[must_use]
pub fn disable_alternate_stack() -> Option<libc::stack_t> {
    // A program that has never had one has no SS_DISABLE in its signal frames either: with it, the return from a
    // handler would take away the one that the handler sets.
    let old = alternate_stack().ok().filter(|stack| stack.ss_flags & libc::SS_DISABLE == 0)?;
    // SAFETY: it has the kernel's size.
    let done = unsafe { syscall3(libc::SYS_sigaltstack, std::ptr::from_ref(&NO_STACK) as usize, 0, 0) };
    done.ok().map(|_| old)
}

/// `mov rax, 15; syscall`: what every return from a signal consists of, ours, glibc's, musl's; debuggers and libgcc
/// know it by these bytes too.
pub const SIGNAL_RETURN: [u8; 9] = [0x48, 0xC7, 0xC0, 15, 0, 0, 0, 0x0F, 0x05];

/// Replaces the thread's signal mask; returns the old one.
pub fn set_signal_mask(mask: u64) -> u64 {
    try_set_signal_mask(mask).unwrap_or(0)
}

/// The same, where a filter may forbid it.
///
/// # Errors
/// errno of rt_sigprocmask(2).
pub fn try_set_signal_mask(mask: u64) -> Result<u64, i32> {
    let mut old = 0_u64;
    // SAFETY: both words have the kernel's size.
    unsafe {
        syscall4(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK as usize,
            std::ptr::from_ref(&mask) as usize,
            std::ptr::from_mut(&mut old) as usize,
            SIGSET_SIZE,
        )
    }
    .map(|_| old)
}

/// Sends the signal with exactly this `siginfo_t` to a thread of ours.
///
/// # Safety
/// `info` must point to a siginfo_t.
pub unsafe fn tgsigqueueinfo(pid: i32, tid: i32, signal: i32, info: *const u8) -> SysResult {
    // SAFETY: the caller's promise.
    unsafe {
        syscall4(libc::SYS_rt_tgsigqueueinfo, pid as usize, tid as usize, signal as usize, info as usize)
    }
}

/// tgkill(2).
pub fn tgkill(pid: i32, tid: i32, signal: i32) -> SysResult {
    // SAFETY: no pointers.
    unsafe { syscall3(libc::SYS_tgkill, pid as usize, tid as usize, signal as usize) }
}

/// Waits while `*word == expected`, at most a millisecond.
pub fn futex_wait(word: &std::sync::atomic::AtomicU32, expected: u32) {
    let timeout = libc::timespec { tv_sec: 0, tv_nsec: 1_000_000 };
    // SAFETY: the word outlives the call; the timeout is relative.
    let _ = unsafe {
        syscall4(
            libc::SYS_futex,
            word.as_ptr() as usize,
            (libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG) as usize,
            expected as usize,
            std::ptr::from_ref(&timeout) as usize,
        )
    };
}

/// Wakes one waiter of `word`.
pub fn futex_wake(word: &std::sync::atomic::AtomicU32) {
    // SAFETY: the word outlives the call.
    let _ = unsafe {
        syscall3(
            libc::SYS_futex,
            word.as_ptr() as usize,
            (libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG) as usize,
            1,
        )
    };
}

/// readlink(2) into `buffer`; the bytes of the target.
pub fn readlink<'a>(path: &CStr, buffer: &'a mut [u8]) -> Result<&'a [u8], i32> {
    // SAFETY: path is terminated, the buffer's length is passed.
    let n = unsafe {
        syscall3(libc::SYS_readlink, path.as_ptr() as usize, buffer.as_mut_ptr() as usize, buffer.len())
    }?;
    Ok(&buffer[..n])
}

/// getcwd(2): an absolute path, or one that begins `(unreachable)`. None: it has none any more.
#[must_use]
pub fn working_directory() -> Option<PathBuf> {
    let mut buffer = [0_u8; 4096];
    // SAFETY: the buffer's length is passed.
    let n = unsafe { syscall3(libc::SYS_getcwd, buffer.as_mut_ptr() as usize, buffer.len(), 0) }.ok()?;
    Some(PathBuf::from(OsStr::from_bytes(&buffer[..n.saturating_sub(1)])))
}
