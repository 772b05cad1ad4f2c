//! A thread's own state: found by one load, made at the thread's first hit, reclaimed when the
//! thread is dead. Nothing depends on a thread-exit hook.

mod owners;

use std::cell::UnsafeCell;
use std::sync::atomic::{
    AtomicBool, AtomicI32, AtomicPtr, AtomicU32, AtomicU64, Ordering::*, compiler_fence,
};

use crate::hit::cells::Cells;
use crate::hit::consumer::Consumer;
use crate::hit::defer::{self, Aside};
use crate::hit::dispatch::Dispatch;
use crate::hit::frame::SignalInfo;
use crate::hit::listeners::{ConsumerList, Listeners};
use crate::hit::pending::PendingCell;
use crate::hit::protocol::grace;
use crate::hit::ring::Cursor;
use crate::hit::run::Run;
use crate::hit::seccomp::{self, Filter};
use crate::hit::shadow::OwnStack;
use crate::hit::{asm, barrier, process};
use crate::regs::{Reg, Regs};
use crate::sys;
use crate::trace::LineBuf;
use crate::trace::record::RecordBuf;

pub use owners::{after_fork, all, begin_fork, end_fork, provide, with_dead};

/// How many displaced instructions one thread can have in flight: one, plus one for each signal
/// handler that a fault in such an instruction may have entered, plus tasks that share its TLS.
const STEPS: usize = 4;
/// The signals we own, in the order of [`ThreadState::pending`] and of their numbers, which is the one in which
/// the kernel delivers them.
pub const PROTECTED: [i32; 5] = [libc::SIGILL, libc::SIGTRAP, libc::SIGBUS, libc::SIGFPE, libc::SIGSEGV];
/// Their bits in a kernel signal mask.
pub const PROTECTED_MASK: u64 = sys::sigbit(libc::SIGTRAP)
    | sys::sigbit(libc::SIGSEGV)
    | sys::sigbit(libc::SIGBUS)
    | sys::sigbit(libc::SIGFPE)
    | sys::sigbit(libc::SIGILL);

/// In [`ThreadState::waiting`]: a system call is waiting (the bit of a signal that can't be blocked).
const WAITING: u64 = sys::sigbit(libc::SIGKILL);

/// What a gate does after its system call returned. Whether that was the step's end: a call that returns
/// twice, in a child that uses this thread's state and here, ends with the second.
pub type AfterCall = fn(&ThreadState, &StepRecord, &mut Regs) -> bool;

/// The registers that a gate may change: those that carry a mask, or clone3's arguments.
const CHANGED: [Reg; 4] = [Reg::Rdi, Reg::R8, Reg::R9, Reg::R10];

/// A displaced instruction between its two traps.
#[derive(Default)]
pub struct StepRecord {
    /// Address of the slot; 0 is free.
    pub slot: AtomicU64,
    /// The mask to restore.
    pub mask: AtomicU64,
    /// Who wants the second trap.
    listeners: AtomicPtr<ConsumerList>,
    /// A gate's own business after a system call.
    pub after: AtomicPtr<()>,
    /// A register that the call got changed, and the program's value of it; see [`ThreadState::begin_step`].
    changed: AtomicU64,
    original: AtomicU64,
    /// How many hits this one is inside of, and whose handler it is that runs there.
    outer_depth: AtomicU32,
    outer_running: AtomicPtr<Consumer>,
    /// Larger than that of every step that was begun before.
    began: AtomicU64,
}

impl StepRecord {
    /// Who wants the second trap; kept for it from being freed.
    #[must_use]
    pub fn listeners(&self) -> Option<Listeners> {
        Listeners::of(self.listeners.load(Acquire))
    }

    /// Gives the program back the register that its system call got changed.
    pub fn restore(&self, regs: &mut Regs) {
        let changed = self.changed.load(Relaxed);
        if let Some(reg) = CHANGED.into_iter().find(|reg| 1 + *reg as u64 == changed) {
            *regs.get_mut(reg) = self.original.load(Relaxed);
        }
    }
}

/// A fault as the processor reported it.
#[derive(Clone, Copy)]
pub struct CopyFault {
    /// Its siginfo.
    pub info: SignalInfo,
    /// Page-fault error code.
    pub error: u64,
    /// Vector.
    pub trap_number: u64,
    /// Address of the page fault.
    pub cr2: u64,
}

/// One thread's state. Written by its thread only, but for what is atomic and says so.
pub struct ThreadState {
    /// Owner; 0 is free. Written by whoever claims the state.
    pub tid: AtomicI32,
    /// Odd while inside a hit. Read by those who free what a hit may be reading.
    pub sequence: AtomicU64,
    /// How many hits are nested now.
    pub depth: AtomicU32,
    /// The consumer for which this thread counts a hit as missed. Read by unregister.
    pub missing: AtomicPtr<Consumer>,
    /// The consumer this thread waits for in unregister. Read by other waiters, to break a circle.
    pub waiting_for: AtomicPtr<Consumer>,
    /// Greater than 0 while our own code runs outside a hit: hits then are ours, not the program's.
    pub library: AtomicU32,
    /// What the last recovered fault was.
    pub fault_signal: AtomicI32,
    /// And where.
    pub fault_address: AtomicU64,
    /// Which of the protected signals the program believes blocked (kernel mask bits).
    pub blocked: AtomicU64,
    /// The rest of the thread's mask when `blocked` was last set.
    beside_blocked: AtomicU64,
    /// While a system call waits with a mask of its own (sigsuspend and its kin): that mask, with [`WAITING`].
    pub waiting: AtomicU64,
    /// Address of the frame that leads to that system call. It says so as long as the call has not been made.
    pub leads_to_wait: AtomicU64,
    /// The kernel's mask of the thread when it began to fork, with [`WAITING`].
    mask_before_fork: AtomicU64,
    /// Which of them it waits for in sigwait and its kin. Cleared by whoever sends it one.
    pub accepts: AtomicU64,
    /// A vfork child runs on this thread's TLS while its parent waits: what it does to our signals is
    /// kept apart. Its pid, or 0.
    pub borrower: AtomicI32,
    /// The parent's own `blocked` meanwhile.
    pub lender_blocked: AtomicU64,
    lender_beside_blocked: AtomicU64,
    /// Which protected signals the child set to default.
    pub borrower_defaults: AtomicU64,
    /// And which to ignore.
    pub borrower_ignores: AtomicU64,
    /// Whether it is to be traced by its parent (see `gates::execute`).
    pub borrower_is_traced: AtomicBool,
    /// Which are pending for the parent meanwhile, and how they were sent.
    lender_pending: AtomicU32,
    lender_info: UnsafeCell<[SignalInfo; PROTECTED.len()]>,
    /// Which of them are pending for this thread, and whether there is something in `aside`.
    pub pending: AtomicU32,
    /// Set while `comm` holds the thread's name.
    pub comm_known: AtomicBool,
    /// Several tasks have one thread-local storage, and run at once: this is the state of the one that `tid` says.
    pub is_shared: AtomicBool,
    /// In the middle of [`super::alone::add`].
    pub counting: AtomicBool,
    /// Where it counts, and which handler it runs.
    pub cells: Cells,
    /// The latter, where it has no cells.
    run_without_cells: Run,
    /// Where it writes the binary trace.
    pub cursor: Cursor,
    /// Its own stack, and the calls followed there.
    pub stack: OwnStack,
    /// Displaced instructions in flight.
    pub steps: [StepRecord; STEPS],
    /// The siginfo of the pending ones.
    pub pending_info: UnsafeCell<[SignalInfo; PROTECTED.len()]>,
    /// A SIGTRAP that another thread is sending. Written by that one (see `pending::send`).
    pub announced: PendingCell,
    /// The same of SIGFPE, which [`hidden`](super::hidden) raises itself.
    pub announced_division: PendingCell,
    /// Other signals that wait for the end of a hit.
    pub aside: Aside,
    /// The kernel's vector of its last exception is that of an int3 only where nobody has seen it (see `hidden`).
    pub is_settled: AtomicBool,
    /// rip and rsp with which the thread went on after it last had an instruction emulated.
    resumed: [AtomicU64; 2],
    /// The last fault in [`asm::uprobe_safe_copy`].
    pub copy_fault: UnsafeCell<CopyFault>,
    /// The seccomp filters the thread has, newest first (see [`seccomp`]).
    pub filters: AtomicPtr<Filter>,
    /// Which of its system calls are caught.
    pub dispatch: Dispatch,
    /// The thread's name.
    pub comm: UnsafeCell<[u8; 16]>,
    /// The event being made.
    pub record: UnsafeCell<RecordBuf>,
    /// And its line.
    pub line: UnsafeCell<LineBuf>,
}

// SAFETY: the cells are touched by the owning thread only, inside a hit.
unsafe impl Sync for ThreadState {}

/// The calling thread's state; `None` where memory for a new one can't be had. Signal-safe.
#[inline]
#[must_use]
pub fn current() -> Option<&'static ThreadState> {
    let state = asm::thread_pointer();
    if state.is_null() {
        return owners::claim();
    }
    // SAFETY: states are never unmapped.
    let state = unsafe { &*state };
    if state.is_shared.load(Relaxed) {
        return state.of_task().or_else(owners::claim_for_task);
    }
    Some(state)
}

/// The calling thread's state where it has one already. Signal-safe.
#[inline]
#[must_use]
pub fn existing() -> Option<&'static ThreadState> {
    let state = asm::thread_pointer();
    // SAFETY: states are never unmapped.
    let state = unsafe { state.as_ref() }?;
    if state.is_shared.load(Relaxed) { state.of_task() } else { Some(state) }
}

impl ThreadState {
    fn reset(&self) {
        let sequence = self.sequence.load(Relaxed);
        self.sequence.store(sequence + (sequence & 1), Relaxed);
        self.depth.store(0, Relaxed);
        self.run().reset();
        self.missing.store(std::ptr::null_mut(), Relaxed);
        self.waiting_for.store(std::ptr::null_mut(), Relaxed);
        self.library.store(0, Relaxed);
        self.is_shared.store(false, Relaxed);
        self.counting.store(false, Relaxed);
        self.is_settled.store(false, Relaxed);
        self.blocked.store(0, Relaxed);
        self.waiting.store(0, Relaxed);
        self.leads_to_wait.store(0, Relaxed);
        self.mask_before_fork.store(0, Relaxed);
        self.accepts.store(0, Relaxed);
        self.borrower.store(0, Relaxed);
        self.pending.store(0, Relaxed);
        self.announced.clear();
        self.announced_division.clear();
        self.aside.clear();
        self.comm_known.store(false, Relaxed);
        self.filters.store(seccomp::inherited(), Release);
        self.dispatch.clear();
        self.cursor.rename();
        self.stack.reset();
        for step in &self.steps {
            step.slot.store(0, Relaxed);
        }
    }

    /// Which handler it runs. Read by unregister.
    #[inline]
    #[must_use]
    pub fn run(&self) -> &Run {
        self.cells.run().unwrap_or(&self.run_without_cells)
    }

    /// The caller is about to make a task that has its thread-local storage, and runs beside it (clone with
    /// CLONE_VM and without CLONE_SETTLS and CLONE_VFORK): from now on it is asked who comes, and compiled code counts
    /// nothing.
    pub fn share(&self) {
        self.is_shared.store(true, SeqCst);
        asm::set_cells(std::ptr::null_mut());
    }

    /// The state of the calling task, of those that share this one's storage. One system call.
    #[cold]
    fn of_task(&self) -> Option<&'static ThreadState> {
        let tid = sys::gettid();
        all().find(|state| state.tid.load(Relaxed) == tid)
    }

    /// Whether its owner `tid` runs: a thread of this process, or a task that shares its memory.
    fn is_of_living(&self, tid: i32) -> bool {
        sys::thread_exists(process::pid(), tid)
            || (self.is_shared.load(Relaxed) && sys::thread_exists(tid, tid))
    }

    /// Enters a hit: from here on nothing it may read is freed.
    #[inline]
    pub fn enter(&self) {
        let depth = self.depth.load(Relaxed);
        self.depth.store(depth + 1, Relaxed);
        if depth == 0 {
            asm::set_cells(std::ptr::null_mut());
            // After the depth, for the same reason as in `leave`.
            compiler_fence(SeqCst);
            grace::enter(&self.sequence, barrier::light);
        }
    }

    /// Leaves a hit.
    #[inline]
    pub fn leave(&self) {
        let depth = self.depth.load(Relaxed) - 1;
        if depth == 0 {
            // Before the depth: a signal in between is set aside. Its handler's hits would find the
            // sequence odd, and make it even.
            grace::leave(&self.sequence);
            compiler_fence(SeqCst);
        }
        self.depth.store(depth, Relaxed);
        self.show_cells();
    }

    /// Shows compiled code where the thread counts, unless our own code is at work: what that executes is
    /// counted otherwise, or not at all. (Of handlers it knows itself: [`Run`].) To be called where that may
    /// have changed; to show nothing is always right.
    #[inline]
    fn show_cells(&self) {
        let is_free = self.depth.load(Relaxed) == 0 && self.library.load(Relaxed) == 0;
        if is_free && !self.is_shared.load(Relaxed) {
            compiler_fence(SeqCst);
            asm::set_cells(self.cells.address());
        }
    }

    /// Begins to run `consumer`, whose `alive` is to be looked at only now: unregister clears it first
    /// and looks at this second.
    #[inline]
    pub fn begin_run(&self, consumer: &Consumer) {
        self.run().begin(consumer, barrier::light);
    }

    /// Ends what [`ThreadState::begin_run`] began.
    #[inline]
    pub fn end_run(&self) {
        self.run().end();
    }

    /// Counts a hit of `consumer` as missed, which unregister waits for as for a run.
    pub fn miss(&self, consumer: &Consumer) {
        grace::begin_run(&self.missing, std::ptr::from_ref(consumer).cast_mut(), barrier::light);
        consumer.miss(self);
        grace::end_run(&self.missing);
    }

    /// Called where the caller may be a vfork child, or its parent again: keeps what is the child's
    /// apart from what is the thread's. System calls only when there is a child.
    pub fn settle_borrower(&self) {
        if self.borrower.load(Relaxed) == 0 || process::is_borrowed() {
            return;
        }
        // A signal that comes in between settles, too, and may be made pending: that must not be undone here.
        let mask = sys::set_signal_mask(!0);
        if self.borrower.load(Relaxed) != 0 {
            self.blocked.store(self.lender_blocked.load(Relaxed), Relaxed);
            self.beside_blocked.store(self.lender_beside_blocked.load(Relaxed), Relaxed);
            let pending = self.lender_pending.load(Relaxed);
            if pending != 0 {
                // SAFETY: this thread's own cells.
                unsafe { *self.pending_info.get() = *self.lender_info.get() };
            }
            // What somebody sent meanwhile came to the child: to the thread itself nobody could.
            self.pending.store(pending | (self.pending.load(Relaxed) & defer::ASIDE), Relaxed);
            self.borrower.store(0, Relaxed);
        }
        sys::set_signal_mask(mask);
    }

    /// The caller is about to change its signals, and may be a vfork child. Whether it is.
    pub fn lend_if_borrowed(&self) -> bool {
        let is_borrowed = process::is_borrowed();
        if is_borrowed {
            self.lend();
        }
        is_borrowed
    }

    /// The same of one that is.
    pub fn lend(&self) {
        let pid = sys::getpid();
        if self.borrower.swap(pid, Relaxed) != pid {
            self.lender_blocked.store(self.blocked.load(Relaxed), Relaxed);
            self.lender_beside_blocked.store(self.beside_blocked.load(Relaxed), Relaxed);
            let pending = self.pending.load(Relaxed) & !defer::ASIDE;
            self.lender_pending.store(pending, Relaxed);
            if pending != 0 {
                // SAFETY: this thread's own cells: the parent waits.
                unsafe { *self.lender_info.get() = *self.pending_info.get() };
                self.pending.fetch_and(defer::ASIDE, Relaxed);
            }
            self.borrower_defaults.store(0, Relaxed);
            self.borrower_ignores.store(0, Relaxed);
            self.borrower_is_traced.store(false, Relaxed);
        }
    }

    /// The thread's mask, as the program sees it.
    pub fn set_mask(&self, mask: u64) {
        self.beside_blocked.store(mask & !PROTECTED_MASK, Relaxed);
        self.blocked.store(mask & PROTECTED_MASK, SeqCst);
    }

    /// Whether `mask` blocks every signal but ours, as it does while our own code is at work.
    #[must_use]
    pub const fn is_all(mask: u64) -> bool {
        const UNBLOCKABLE: u64 = sys::sigbit(libc::SIGKILL) | sys::sigbit(libc::SIGSTOP);
        mask | UNBLOCKABLE | PROTECTED_MASK == u64::MAX
    }

    /// `mask` is what the kernel says. Where the program has changed the rest of it by system calls of its own
    /// (Go does), it has let our five through as well: one that blocked them there would not get any. To be
    /// asked where the thread runs the program's code.
    pub fn reconcile(&self, mask: u64) {
        const UNBLOCKABLE: u64 = sys::sigbit(libc::SIGKILL) | sys::sigbit(libc::SIGSTOP);
        const NOT_OURS: u64 = !(PROTECTED_MASK | UNBLOCKABLE);
        if self.blocked.load(Relaxed) == 0 || self.waiting.load(Relaxed) != 0 {
            return;
        }
        if !Self::is_all(mask) && (mask ^ self.beside_blocked.load(Relaxed)) & NOT_OURS != 0 {
            self.set_mask(mask & !PROTECTED_MASK);
        }
    }

    /// The protected signals blocked now: by the mask of a waiting system call, or by the thread's own.
    pub fn blocked_now(&self) -> u64 {
        match self.waiting.load(SeqCst) {
            0 => self.blocked.load(SeqCst),
            mask => mask & PROTECTED_MASK,
        }
    }

    /// The mask of a system call that waits with one of its own, as the program sees it.
    pub fn waiting_mask(&self) -> Option<u64> {
        Some(self.waiting.load(Relaxed)).filter(|mask| *mask != 0).map(|mask| mask & !WAITING)
    }

    /// The thread goes on with `regs`, the place's instruction emulated.
    pub fn resumes_at(&self, regs: &Regs) {
        self.resumed[0].store(regs.rip, Relaxed);
        self.resumed[1].store(regs.rsp, Relaxed);
    }

    /// Whether it is where it went on then.
    pub fn has_resumed_at(&self, regs: &Regs) -> bool {
        self.resumed[0].load(Relaxed) == regs.rip && self.resumed[1].load(Relaxed) == regs.rsp
    }

    /// Whether our own code is at work in this thread: a hit, a handler, a change of the registry.
    pub fn is_ours(&self) -> bool {
        self.depth.load(Relaxed) > 0 || self.library.load(Relaxed) > 0 || self.run().is_on()
    }

    /// A sigwait is about to take one of `signals`.
    pub fn begin_accept(&self, signals: u64) {
        self.accepts.store(signals & PROTECTED_MASK, SeqCst);
    }

    /// A system call is about to wait with `mask` in force.
    pub fn begin_wait(&self, mask: u64) {
        self.waiting.store(mask | WAITING, SeqCst);
    }

    /// It returned, or a handler ran.
    pub fn end_wait(&self) {
        self.waiting.store(0, Relaxed);
        self.leads_to_wait.store(0, Relaxed);
    }

    /// Leaves all nested hits at once, before the program's own code runs on top of them; gives back
    /// how many they were.
    pub fn suspend(&self) -> u32 {
        let depth = self.depth.swap(0, Relaxed);
        if depth > 0 {
            self.sequence.fetch_add(1, Release);
            self.show_cells();
        }
        depth
    }

    /// Undoes [`ThreadState::suspend`].
    pub fn resume(&self, depth: u32) {
        if depth > 0 {
            asm::set_cells(std::ptr::null_mut());
            self.sequence.fetch_add(1, SeqCst);
        }
        self.depth.store(depth, Relaxed);
    }

    /// Takes a step record for the slot at `slot`. A system call that a handler interrupted may be made
    /// again by the handler: two of one slot, of which the later ends first. The oldest gives way when
    /// all are taken (it was left by longjmp, and nobody will come back).
    /// `changed`: a register that must have this value afterwards.
    pub fn begin_step(
        &self,
        slot: u64,
        mask: u64,
        listeners: Option<&Listeners>,
        after: Option<AfterCall>,
        changed: Option<(Reg, u64)>,
    ) {
        let began = |step: &&StepRecord| step.began.load(Relaxed);
        let is_free = |step: &&StepRecord| step.slot.load(Relaxed) == 0;
        let latest = self.steps.iter().map(|step| began(&step)).max().unwrap_or(0);
        let free = self.steps.iter().find(is_free).or_else(|| self.steps.iter().min_by_key(began));
        let Some(record) = free else { return };
        record.began.store(latest + 1, Relaxed);
        record.mask.store(mask, Relaxed);
        record.listeners.store(listeners.map_or(std::ptr::null_mut(), Listeners::word), Relaxed);
        record.after.store(after.map_or(std::ptr::null_mut(), |after| after as *mut ()), Relaxed);
        record.changed.store(changed.map_or(0, |(reg, _)| 1 + reg as u64), Relaxed);
        record.original.store(changed.map_or(0, |(_, value)| value), Relaxed);
        record.outer_depth.store(self.depth.load(Relaxed).saturating_sub(1), Relaxed);
        record.outer_running.store(self.run().consumer(), Relaxed);
        record.slot.store(slot, SeqCst);
    }

    /// The latest record of the slot at `slot`: mask and consumers. The record stays taken.
    #[must_use]
    pub fn step(&self, slot: u64) -> Option<&StepRecord> {
        let of_slot = self.steps.iter().filter(|step| step.slot.load(Relaxed) == slot);
        of_slot.max_by_key(|step| step.began.load(Relaxed))
    }

    /// Ends all hits that were begun since `step`: a child that ran on this thread's state was killed in
    /// the middle of them.
    pub fn abandon_hits(&self, step: &StepRecord) {
        let depth = step.outer_depth.load(Relaxed);
        self.run().resume(step.outer_running.load(Relaxed));
        self.missing.store(std::ptr::null_mut(), Release);
        if self.depth.swap(depth, Relaxed) != depth && depth == 0 {
            self.counting.store(false, Relaxed);
            let sequence = self.sequence.load(Relaxed);
            self.sequence.store(sequence + (sequence & 1), Release);
        }
        self.show_cells();
    }

    /// Gives up the step at `slot`, which will not be finished.
    pub fn drop_step(&self, slot: u64) {
        if let Some(record) = self.step(slot) {
            record.slot.store(0, Release);
        }
    }

    /// The thread's name, asked for once and kept until it changes (see `gates`).
    pub fn comm(&self) -> &[u8; 16] {
        if !self.comm_known.load(Relaxed) {
            // SAFETY: only this thread touches the cell.
            unsafe { *self.comm.get() = sys::thread_name() };
            self.comm_known.store(true, Relaxed);
            self.cursor.rename();
        }
        // SAFETY: only this thread writes the cell, and not while the reference lives.
        unsafe { &*self.comm.get() }
    }
}

/// Marks a stretch of our own code outside hits: what it executes is not the program's, so hits
/// there run no handler and count nowhere.
pub struct LibrarySection(Option<&'static ThreadState>);

impl LibrarySection {
    /// Begins; ends when dropped.
    #[must_use]
    pub fn enter() -> Self {
        let state = current();
        if let Some(state) = state {
            state.library.store(state.library.load(Relaxed) + 1, Relaxed);
            asm::set_cells(std::ptr::null_mut());
        }
        Self(state)
    }
}

impl Drop for LibrarySection {
    fn drop(&mut self) {
        if let Some(state) = self.0 {
            state.library.store(state.library.load(Relaxed).saturating_sub(1), Relaxed);
            state.show_cells();
        }
    }
}
