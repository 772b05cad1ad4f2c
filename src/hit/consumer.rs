//! Who uses a probed place, and what is done for them at a hit.

mod running;

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, Ordering::*};

use crate::fetch::{EventProgram, Needs};
use crate::hit::behind::Behind;
use crate::hit::c_structs::{CUjprobe, CUprobe, CUretprobe, PreHandler};
use crate::hit::counters::Counters;
use crate::hit::histogram::HistogramCounts;
use crate::hit::latency::LatencyCounts;
use crate::hit::ring::Definition;
use crate::hit::thread::ThreadState;
use crate::hit::trap::Hit;
use crate::hit::{alone, direct, ring};
use crate::place::Label;

pub(super) use running::guarded;

/// Which side of a call an event is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// Before the instruction at the place.
    Entry,
    /// When the function returns.
    Return,
    /// The same, with the time of the call.
    Call,
}

/// What a probe from a config does at a hit.
pub struct EventRole {
    /// When.
    pub side: Side,
    /// Fetch arguments and filter.
    pub program: EventProgram,
    /// What of it must be done.
    pub needs: Needs,
    /// `action = ["log"]`.
    pub log: bool,
    /// `call(PLUGIN.so:FUNCTION)`.
    pub plugins: Vec<PreHandler>,
    /// What a plugin gets as its first argument.
    pub plugin_probe: Box<CUprobe>,
    /// `at`, as the user wrote it.
    pub at: &'static str,
}

/// What the engine's own consumers do at a hit.
pub type InternalHandler = fn(&mut Hit<'_>) -> Flow;

/// What a consumer is.
#[derive(Clone, Copy)]
pub enum Role {
    /// From a config; the same for all places of a pattern in one object.
    Event(&'static EventRole),
    /// From the C API; the struct is the caller's.
    Handlers(*mut CUprobe),
    /// A return probe of the C API.
    Return(*mut CUretprobe),
    /// A jprobe of the C API.
    Jump(*mut CUjprobe),
    /// Calls go to this address instead. Not a handler: done at every hit, nested or not.
    Replace(u64),
    /// The engine's own. Runs at every hit, nested or not, after all others.
    Internal(InternalHandler),
}

/// Which [`Role`]: these bits of a byte.
const KIND: u8 = 7;
const EVENT: u8 = 0;
const HANDLERS: u8 = 1;
const RETURN: u8 = 2;
const JUMP: u8 = 3;
const REPLACE: u8 = 4;
const INTERNAL: u8 = 5;

/// What is noted of a consumer before it is published: bits of the same byte.
#[derive(Clone, Copy)]
#[repr(u8)]
pub enum Mark {
    /// No jump instead of int3.
    OnlyInt3 = 1 << 3,
    /// It has something to do after the instruction. Noted: the caller's struct may be gone before a hit that has
    /// found the consumer ends.
    WantsPost = 1 << 4,
    /// What is behind is a label: see [`Consumer::label`].
    HasLabel = 1 << 5,
    /// The engine's own [`masks::on_restorer`](super::masks::on_restorer), which a jump may lead to.
    AtRestorer = 1 << 6,
}

impl EventRole {
    /// Whether anything is done at a hit besides counting it.
    #[must_use]
    pub const fn acts(&self) -> bool {
        self.log || self.needs.values || !self.plugins.is_empty()
    }
}

impl Role {
    /// The caller's struct, where the consumer is one of the C API's: each of them begins with a `CUprobe`.
    #[must_use]
    pub const fn up(&self) -> Option<*mut CUprobe> {
        match self {
            Self::Handlers(up) => Some(*up),
            Self::Return(rp) => Some((*rp).cast()),
            Self::Jump(jp) => Some((*jp).cast()),
            Self::Event(_) | Self::Replace(_) | Self::Internal(_) => None,
        }
    }
}

/// Whether the displaced instruction runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flow {
    /// It does.
    Continue,
    /// It does not: rip was changed.
    RipChanged,
    /// It does not: the function was replaced, and rip is the replacement.
    Replaced,
}

/// One user of a probed place. There may be very many of the C API's with one handler each: these have
/// nothing but this.
#[repr(C)]
pub struct Consumer {
    /// Called at hits. False while disabled, after unregister, after a crash.
    pub alive: AtomicBool,
    /// Hits are counted in [`Counters::hits`], not in the caller's struct: copied there when it asks. Then it has a
    /// [`More`]. (Beside `alive` for [`super::direct`], which looks at both at once.)
    apart: bool,
    /// The signal of the handler's crash, or 0.
    crash_signal: AtomicU8,
    /// What it does, [`KIND`] (see [`Consumer::role`]), and the [`Mark`]s it has.
    kind_and_marks: u8,
    /// Where [`super::direct`] counts it if `apart`: the cell of [`Counters::hits`]; 0: there is none.
    pub(super) cell: u32,
    /// And to whom it does it. [`super::direct`] reads the struct of [`Role::Handlers`] here.
    pub(super) target: *const (),
    /// For [`super::direct`]: what calls the struct's pre_handler, one of the guarded calls; 0: there is none.
    pub call: usize,
    /// [`Consumer::more`] or, where it has just that, [`Consumer::label`].
    pub(super) behind: Behind,
}
const _: () = assert!(size_of::<Consumer>() == 32);

/// What a consumer needs that counts, or follows calls, or has a name.
pub struct More {
    /// The counts.
    pub counters: Counters,
    /// Name for events and messages: of those from a config.
    pub name: &'static str,
    /// The function it is in, where known: of those from a config.
    pub symbol: Option<&'static Symbol>,
    /// What few need.
    pub special: Option<Box<Special>>,
    /// The next in the list of all consumers with counts of their own.
    pub next: AtomicPtr<Consumer>,
}

/// What a place is called in its file.
pub struct Symbol {
    /// The function's name; `None`: that of the consumer.
    name: Option<&'static str>,
    /// Distance from it.
    pub offset: u64,
}

impl Symbol {
    /// Of places that have the name of the function that begins there: most places of patterns.
    pub const LIKE_THE_PROBE: Self = Self { name: None, offset: 0 };

    /// A function, and the distance from it.
    #[must_use]
    pub const fn new(name: &'static str, offset: u64) -> Self {
        Self { name: Some(name), offset }
    }
}

/// What a consumer needs that does more than to count.
pub struct Special {
    /// Every Nth hit; 1 is every one.
    pub sample: u64,
    /// Stop after so many hits; 0 is never.
    pub limit: u64,
    /// Executions that passed the filter.
    pub seen: AtomicU64,
    /// Executions that were let through by sample, up to and beyond the limit.
    pub taken: AtomicU64,
    /// Most calls followed at once; 0 is no limit of its own.
    pub maxactive: u32,
    /// Calls followed now, kept where there is a limit.
    pub active: AtomicU32,
    /// The times of its calls, where they are wanted.
    pub latency: Option<Box<LatencyCounts>>,
    /// `hist(NAME)`: those of its values.
    pub hists: Vec<HistogramCounts>,
    /// The function returns twice, first in a child that borrows its parent's memory (vfork).
    pub returns_twice: bool,
    /// What the binary trace knows of it.
    pub definition: Definition,
    /// Of one of the C API: where it is, for messages.
    pub label: Option<Label>,
    /// Where its handler crashed: of those from a config, which tell it later.
    pub crash_address: AtomicU64,
}

impl Special {
    /// Nothing special.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            sample: 1,
            limit: 0,
            seen: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            maxactive: 0,
            active: AtomicU32::new(0),
            latency: None,
            hists: Vec::new(),
            returns_twice: false,
            definition: ring::undefined(),
            label: None,
            crash_address: AtomicU64::new(0),
        }
    }
}

impl Default for Special {
    fn default() -> Self {
        Self::new()
    }
}

impl More {
    /// The name of the function it is in, and the distance from there.
    #[must_use]
    pub fn function(&self) -> Option<(&'static str, u64)> {
        self.symbol.map(|symbol| (symbol.name.unwrap_or(self.name), symbol.offset))
    }

    /// With nothing counted.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self {
            counters: Counters::new(),
            name,
            symbol: None,
            special: None,
            next: AtomicPtr::new(std::ptr::null_mut()),
        }
    }
}

/// That of all who have none: who counts there counts for nobody.
static NOTHING_MORE: More = More::new("");
/// The same.
static NOTHING_SPECIAL: Special = Special::new();

impl Deref for Consumer {
    type Target = More;

    #[inline]
    fn deref(&self) -> &More {
        self.more().unwrap_or(&NOTHING_MORE)
    }
}

impl Deref for More {
    type Target = Special;

    #[inline]
    fn deref(&self) -> &Special {
        self.special.as_deref().unwrap_or(&NOTHING_SPECIAL)
    }
}

const _: () = assert!(std::mem::offset_of!(Consumer, apart) == std::mem::offset_of!(Consumer, alive) + 1);

// SAFETY: what is not atomic is written before the consumer is published and then only read; the
// raw struct pointer is the caller's promise (include/uprobe.h).
unsafe impl Sync for Consumer {}
// SAFETY: as above.
unsafe impl Send for Consumer {}

/// Consumers whose counters a fork child must zero: append-only.
static COUNTED: AtomicPtr<Consumer> = AtomicPtr::new(std::ptr::null_mut());

impl Consumer {
    /// A consumer, not alive yet.
    #[must_use]
    pub const fn new(role: Role) -> Self {
        let (kind, target) = match role {
            Role::Event(event) => (EVENT, std::ptr::from_ref(event).cast()),
            Role::Handlers(up) => (HANDLERS, up.cast_const().cast()),
            Role::Return(rp) => (RETURN, rp.cast_const().cast()),
            Role::Jump(jp) => (JUMP, jp.cast_const().cast()),
            Role::Replace(to) => (REPLACE, std::ptr::without_provenance(to as usize)),
            Role::Internal(run) => (INTERNAL, run as *const ()),
        };
        Self {
            alive: AtomicBool::new(false),
            apart: false,
            crash_signal: AtomicU8::new(0),
            kind_and_marks: kind,
            cell: 0,
            target,
            call: 0,
            behind: Behind::NOTHING,
        }
    }

    /// Whether that is noted of it. Signal-safe.
    #[inline]
    #[must_use]
    pub const fn has(&self, mark: Mark) -> bool {
        self.kind_and_marks & mark as u8 != 0
    }

    /// Notes it, or that it is not so. Before it is published.
    pub const fn mark(&mut self, mark: Mark, is_so: bool) {
        self.kind_and_marks = self.kind_and_marks & !(mark as u8) | if is_so { mark as u8 } else { 0 };
    }

    /// What it does.
    #[inline]
    #[must_use]
    pub fn role(&self) -> Role {
        match self.kind_and_marks & KIND {
            // SAFETY: what `new` has stored.
            EVENT => Role::Event(unsafe { &*self.target.cast() }),
            HANDLERS => Role::Handlers(self.target.cast_mut().cast()),
            RETURN => Role::Return(self.target.cast_mut().cast()),
            JUMP => Role::Jump(self.target.cast_mut().cast()),
            REPLACE => Role::Replace(self.target.addr() as u64),
            _ => {
                // SAFETY: as above.
                Role::Internal(unsafe { std::mem::transmute::<*const (), InternalHandler>(self.target) })
            }
        }
    }

    /// `at`, as the user wrote it: of those from a config.
    #[must_use]
    pub fn at(&self) -> &'static str {
        match self.role() {
            Role::Event(event) => event.at,
            _ => "",
        }
    }

    /// The signal of its handler's crash; 0: it has not crashed.
    #[must_use]
    pub fn crash_signal(&self) -> i32 {
        i32::from(self.crash_signal.load(Acquire))
    }

    /// Notes its handlers: what is to be done after the instruction, and what [`super::direct`] may call.
    /// `with_vectors`: which may touch vector registers.
    pub fn note_handlers(&mut self, with_vectors: bool) {
        let Role::Handlers(up) = self.role() else { return };
        // SAFETY: registered: the struct is there.
        let (before, after) = unsafe { ((*up).pre_handler, (*up).post_handler) };
        self.mark(Mark::WantsPost, after.is_some());
        self.call = before.map_or(0, |handler| match with_vectors {
            true => direct::uprobe_direct_vectors as *const () as usize,
            false => handler as usize,
        });
    }

    /// Lets each thread count its hits for itself, where its `more` says: it must have one. Before the first hit.
    pub fn count_apart(&mut self) {
        debug_assert!(self.more().is_some());
        self.apart = true;
        self.cell = self.counters.hits.cell().unwrap_or(0);
    }

    /// Whether it has cells that whoever frees it gives back.
    #[must_use]
    pub const fn has_kept_cells(&self) -> bool {
        self.apart || self.follows_calls()
    }

    /// Counts `n` hits (wrapping) where the caller of the C API looks for them. It is alive. Signal-safe.
    #[inline]
    pub(super) fn count_hit(&self, thread: &ThreadState, nhit: &AtomicU64, n: u64) {
        if !self.apart {
            alone::add(thread, nhit, n);
        } else if !self.follows_calls() {
            self.counters.hits.add(thread, n);
        }
    }

    /// Whose `nhit` does not have them, and what is counted so far.
    #[must_use]
    pub fn counted_apart(&self) -> Option<(*mut CUprobe, u64)> {
        let up = self.role().up().filter(|_| self.apart)?;
        Some((up, self.counters.hits.read()))
    }

    /// Puts it on the list that [`reset_all`] walks. It must live for ever.
    pub fn keep_counts(&'static self) {
        let Some(more) = self.more() else { return };
        let mut head = COUNTED.load(Acquire);
        loop {
            more.next.store(head, Relaxed);
            match COUNTED.compare_exchange(head, std::ptr::from_ref(self).cast_mut(), AcqRel, Acquire) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    /// Whether calls outlive the hits that began them: they refer to this consumer until they are over.
    #[must_use]
    pub const fn follows_calls(&self) -> bool {
        self.kind_and_marks & KIND == RETURN
    }

    /// Calls followed that have neither returned nor been unwound.
    #[must_use]
    pub fn outstanding(&self) -> u64 {
        if self.follows_calls() { self.counters.outstanding() } else { 0 }
    }

    /// Counts a hit that no handler sees. Signal-safe.
    pub fn miss(&self, thread: &ThreadState) {
        if !self.alive.load(Acquire) {
            return;
        }
        self.counters.nmissed.fetch_add(1, Relaxed);
        if let Some(up) = self.role().up() {
            // SAFETY: alive, so the struct is there.
            alone::add(thread, unsafe { &(*up).nmissed }, 1);
        }
        if let Role::Return(rp) = self.role() {
            // SAFETY: as above.
            alone::add(thread, unsafe { &(*rp).nmissed }, 1);
        }
    }
}

/// Zeroes the counts of every consumer from a config. Signal-safe; for fork children.
pub fn reset_all() {
    all_counted(|consumer| {
        consumer.counters.reset();
        if let Some(latency) = &consumer.latency {
            latency.reset();
        }
        consumer.hists.iter().for_each(HistogramCounts::reset);
        consumer.seen.store(0, Relaxed);
        consumer.taken.store(0, Relaxed);
    });
}

/// Every consumer from a config. Signal-safe.
pub fn all_counted(each: impl Fn(&Consumer)) {
    let mut consumer = COUNTED.load(Acquire);
    // SAFETY: listed consumers live for ever.
    while let Some(current) = unsafe { consumer.as_ref() } {
        each(current);
        consumer = current.more().map_or(std::ptr::null_mut(), |more| more.next.load(Acquire));
    }
}
