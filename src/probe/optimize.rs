//! From int3 to a jump and back, while threads run there.
//!
//! ```text
//!          first byte   boundaries inside   the rest        between the steps
//!  armed   int3         original            original
//!  1                    trap bytes                          membarrier
//!  2                                        of the jump     membarrier
//!  3       of the jump                                      membarrier
//! ```
//!
//! and back in the reverse order. A thread that stands inside the five bytes is at a boundary: it
//! finds the original instruction, or a byte that traps, never half a jump. The barrier makes every
//! processor fetch anew what it may have fetched before (membarrier(2), SYNC_CORE). One batch of
//! probes takes three barriers.
//!
//! The breakpoint's machinery stays under the jump: its trap handler serves the steps between.

use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering::*};

use crate::addr::RuntimeAddr;
use crate::code::{Patch, Usage};
use crate::elf::Extent;
use crate::error::NotOptimized;
use crate::hit::c_structs::FLAG_OPTIMIZED;
use crate::hit::compiled::{Action, Compiled, Place, Then};
use crate::hit::consumer::{Consumer, Mark, Role, Side};
use crate::hit::detour::{self, Calls, Detour, HEAD, JUMP_LEN, QuickDetour, compiled_entry};
use crate::hit::memory::SafeMemory;
use crate::hit::point::{self, ProbePoint};
use crate::hit::quick::Quick;
use crate::hit::quick_log::QuickLog;
use crate::hit::{quick, vectors};
use crate::insn::{
    CODE_CAPACITY, Code, Planner, Relocated, Surroundings, WINDOW_TEXT, Window, flags_are_dead, relocate,
};
use crate::probe::action::{compiled_action, filters_compiled, only_consumer};
use crate::probe::commit::{has_listener, read_text};
use crate::probe::registry::{Registry, parsed};
use crate::regs::Memory;
use crate::sys;

const INT3: u8 = 0xCC;
const JUMP: u8 = 0xE9;
/// Most bytes a window displaces: four instructions of one byte, and a longest one.
const MAX_DISPLACED: u64 = 19;

/// Whether SYNC_CORE barriers can be had: 0 not asked, 1 yes, 2 no.
static BARRIERS: AtomicU32 = AtomicU32::new(0);

/// Asks for SYNC_CORE barriers, and what else jumps need; cheap while there is one thread.
pub fn register_barriers() -> bool {
    if BARRIERS.load(Acquire) == 0 {
        let given = sys::membarrier(sys::MEMBARRIER_REGISTER_SYNC_CORE).is_ok();
        // No signal frame keeps the vector registers while handlers run.
        vectors::start();
        BARRIERS.store(if given { 1 } else { 2 }, Release);
    }
    BARRIERS.load(Acquire) == 1
}

/// What was written so far is what every processor executes from now on.
fn barrier() -> bool {
    sys::membarrier(sys::MEMBARRIER_SYNC_CORE).is_ok()
}

/// A detour that is made and not yet jumped to.
struct Made {
    point: &'static ProbePoint,
    detour: &'static Detour,
    /// One that serves again is known already.
    is_new: bool,
}

impl Registry {
    /// What detours take, those of places that are not probed any more included: they are never freed.
    #[must_use]
    pub fn detour_usage(&self) -> Usage {
        self.detours.usage()
    }

    /// Optimizes those of `points` that can be; the others get their reason.
    pub(super) fn optimize(&mut self, points: &[&'static ProbePoint]) {
        let mut made = Vec::new();
        let mut planner = Planner::default();
        // The program maps and unmaps between our batches.
        self.detours.forget_maps();
        for point in points {
            if point.optimized.load(Relaxed) || !point.armed.load(Relaxed) || point.gone.load(Relaxed) {
                continue;
            }
            match self.make_detour(point, &mut planner) {
                Ok((detour, is_new)) => made.push(Made { point, detour, is_new }),
                Err(reason) => {
                    self.not_optimized.insert(point.at, reason);
                }
            }
        }
        if made.is_empty() {
            return;
        }
        if self.detours.flush(&mut self.poker).is_err() {
            return;
        }
        for Made { point, detour, .. } in made.iter().filter(|made| made.is_new) {
            self.shared.add_detour(point, detour);
            detour::publish(detour);
        }
        self.write_jumps(&made);
    }

    /// The three steps. What can't be written stays as the step before left it, which is right, if slower.
    fn write_jumps(&mut self, made: &[Made]) {
        for Made { point, detour, .. } in made {
            point.detour.store(std::ptr::from_ref(*detour).cast_mut(), Release);
            point.optimized.store(true, SeqCst);
        }
        let mut made: Vec<&Made> = made.iter().collect();
        made.sort_unstable_by_key(|made| made.point.at);
        self.write_step(&mut made, |made| jump_patch(made, made.detour.traps));
        if !barrier() {
            // Nobody was promised anything yet: int3 and trap bytes, and the copies behind them.
            return;
        }
        self.write_step(&mut made, |made| jump_patch(made, TAIL & !made.detour.traps));
        barrier();
        self.write_step(&mut made, |made| jump_patch(made, FIRST));
        for Made { point, .. } in made {
            self.not_optimized.remove(&point.at);
            tell(point, true);
        }
        barrier();
    }

    /// Writes one step of each, and drops those that can't be written.
    fn write_step<T>(&mut self, all: &mut Vec<T>, patch: impl Fn(&T) -> Patch) {
        let patches: Vec<_> = all.iter().map(patch).collect();
        let failed = self.poker.write_all(&patches);
        let mut index = 0;
        all.retain(|_| {
            index += 1;
            failed.binary_search(&(index - 1)).is_err()
        });
    }

    /// Puts int3 back where nobody listens any more, where a consumer needs it, and where another place
    /// of `points` lies inside what a jump displaces.
    pub(super) fn deoptimize_for(&mut self, points: &[&'static ProbePoint]) {
        let mut wrong: Vec<&'static ProbePoint> = Vec::new();
        for point in points {
            let fits = |detour: &Detour| is_made_for(detour, point);
            let stays = || has_listener(point) && may_jump(point).is_ok() && point.detour().is_some_and(fits);
            if point.optimized.load(Relaxed) && !stays() {
                wrong.push(point);
            }
            if !has_listener(point) {
                continue;
            }
            for other in jumps_before(point.at) {
                let before = point.at - other.at;
                let reaches = |detour: &Detour| detour.layout.displaced_len() as u64 > before;
                if other.optimized.load(Relaxed) && other.detour().is_some_and(reaches) {
                    self.not_optimized.insert(other.at, NotOptimized::AnotherProbe { at: point.at });
                    wrong.push(other);
                }
            }
        }
        wrong.sort_unstable_by_key(|point| point.at);
        wrong.dedup_by_key(|point| point.at);
        self.deoptimize(&wrong);
    }

    /// Those of `points`, and the places before them that had no jump because one of these was probed, and is
    /// no more.
    pub(super) fn with_those_freed(&self, points: &[&'static ProbePoint]) -> Vec<&'static ProbePoint> {
        let mut all = points.to_vec();
        if self.not_optimized.is_empty() {
            return all;
        }
        for point in points.iter().filter(|point| !point.armed.load(Relaxed)) {
            let before = (1..MAX_DISPLACED).filter_map(|before| point::lookup(point.at - before));
            all.extend(before.filter(|other| {
                matches!(self.not_optimized.get(&other.at), Some(NotOptimized::AnotherProbe { .. }))
            }));
        }
        all.sort_unstable_by_key(|point| point.at);
        all.dedup_by_key(|point| point.at);
        all
    }

    /// Back to int3, in three steps.
    pub(super) fn deoptimize(&mut self, points: &[&'static ProbePoint]) {
        let mut jumps = Vec::new();
        for point in points {
            let Some(detour) = point.detour().filter(|_| point.optimized.load(Relaxed)) else { continue };
            let mut memory = [0; JUMP_LEN];
            let is_read = self.poker.read(point.at, &mut memory);
            // A step of the writing failed: int3, and some of the rest.
            let jump = detour.jump();
            let may_be = |at: usize| [jump[at], detour.original[at]].contains(&memory[at]);
            let is_ours = memory == jump || memory[0] == INT3 && (1..JUMP_LEN).all(may_be);
            // The object went away, or somebody wrote there after us, or has mapped something else.
            if point.gone.load(Relaxed) || !is_read || !is_ours {
                point.optimized.store(false, SeqCst);
                continue;
            }
            jumps.push((*point, detour));
        }
        jumps.sort_unstable_by_key(|(point, _)| point.at);
        type Jump = (&'static ProbePoint, &'static Detour);
        self.write_step(&mut jumps, |(point, _): &Jump| Patch::byte(point.at, INT3));
        if jumps.is_empty() {
            return;
        }
        let original = |(point, detour): &Jump, mask| Patch { at: point.at, bytes: detour.original, mask };
        barrier();
        let patches: Vec<_> = jumps.iter().map(|jump| original(jump, TAIL & !jump.1.traps)).collect();
        self.poker.write_all(&patches);
        barrier();
        let patches: Vec<_> = jumps.iter().map(|jump| original(jump, jump.1.traps)).collect();
        self.poker.write_all(&patches);
        barrier();
        for (point, _) in jumps {
            point.optimized.store(false, SeqCst);
            tell(point, false);
        }
    }

    /// Everything about a jump at `point` but the jump.
    fn make_detour(
        &mut self,
        point: &'static ProbePoint,
        planner: &mut Planner,
    ) -> Result<(&'static Detour, bool), NotOptimized> {
        let follows = may_jump(point)?;
        if !register_barriers() {
            return Err(NotOptimized::NoBarriers);
        }
        let text = read_text(point.at, WINDOW_TEXT);
        let (window, is_entry) = self.plan(point.at, &text, planner)?;
        for inside in 1..window.displaced_len() as u64 {
            let other = point::lookup(point.at + inside).filter(|other| other.armed.load(Relaxed));
            if let Some(other) = other {
                return Err(NotOptimized::AnotherProbe { at: other.at });
            }
        }
        // How long it becomes does not depend on where it lies, as long as that is in reach.
        let keeps_flags = !flags_are_dead(&text, point.at, is_entry);
        let compiled =
            compiled_action(point).map(|action| Compiled { action, red_zone: !is_entry, flags: keeps_flags });
        let is_free = is_entry && !keeps_flags;
        let quick = timed(point).filter(|_| is_free);
        let log = quick_log(point).filter(|_| is_free).unwrap_or(QuickLog::NONE);
        let sole = point.consumers.load().map_or(std::ptr::null(), |listeners| listeners.sole());
        let calls = match (quick, log.is_some(), sole.is_null()) {
            (Some(_), ..) => Calls::Quick,
            (None, true, _) => Calls::Log,
            (None, false, _) if is_restorer(point) => Calls::Restorer,
            (None, false, true) => Calls::Common,
            (None, false, false) => Calls::Direct,
        };
        let plan =
            Plan { window: &window, text: &text, at: point.at, follows, calls, compiled: compiled.as_ref() };
        // One that was made for the same code and the same use. The code may have been unloaded and be there
        // again, the probes registered anew; other code may have come in its place.
        let detours = &self.detours;
        let serves = |made: &Detour| {
            made.follows >= follows
                && is_made_for(made, point)
                && plan.is_of(made, detours.table_of(made.start()))
        };
        if let Some(detour) = self.shared.detours_of(point).find(|made| serves(made)) {
            return Ok((detour, false));
        }
        let trial = plan.build(point.at, point.at)?;
        let len = HEAD + trial.0.len();
        let before = |compiled: &Compiled| compiled_entry(follows, compiled.action.only_counts());
        let head = HEAD + compiled.as_ref().map_or(0, before);
        let placed = self.detours.take(&window, head, len).ok_or(NotOptimized::NoRoom)?;
        let start = placed.at + HEAD as u64;
        let table = self.detours.table(&window, start, &Calls::table()).ok_or(NotOptimized::NoRoom)?;
        let (code, relocated) = plan.build(start, table)?;
        let quick = quick
            .map_or(Quick::NONE, |(consumer, first)| Quick::new(consumer, point, relocated.new_at(), first));
        // As many as the jump has bytes, at most.
        let layout = relocated.narrow().ok_or(NotOptimized::NoRoom)?;
        let distance = start.wrapping_sub(point.at).cast_signed();
        let (count, compiled) = match compiled {
            Some(Compiled { action: Action { filter: None, then: Then::Count(cell) }, .. }) => (cell, None),
            compiled => (0, compiled),
        };
        let detour = Detour {
            point,
            sole: AtomicPtr::new(sole.cast_mut()),
            next: AtomicPtr::default(),
            layout: self.shared.layout(&layout, &mut self.shelf),
            distance: i32::try_from(distance).map_err(|_| NotOptimized::NoRoom)?,
            count,
            new_at: (relocated.new_at() - start) as u16,
            len: code.len() as u16,
            traps: placed.traps,
            calls,
            follows,
            is_quick: quick.is_some() || log.is_some() || compiled.is_some(),
            red_zone: !is_entry,
            flags: keeps_flags,
            original: window.original(),
        };
        let detour: &'static Detour = if detour.is_quick {
            &self.shelf.keep(QuickDetour { detour, quick, log, compiled }).detour
        } else {
            self.shelf.keep(detour)
        };
        let mut bytes = detour::head(detour).to_vec();
        bytes.extend_from_slice(code.bytes());
        self.detours.queue(placed.at, &bytes);
        Ok((detour, true))
    }

    /// The window at `at`, from the program's own bytes and what its file says of the surroundings; and whether
    /// a function begins there.
    fn plan(&mut self, at: u64, text: &[u8], planner: &mut Planner) -> Result<(Window, bool), NotOptimized> {
        let found = self.modules.iter().find(|module| module.contains(RuntimeAddr(at)));
        let found = found.map(|module| (module.bias, parsed(&mut self.files, module)));
        let Some((bias, Ok(file))) = found else {
            return Ok((planner.plan(text, at, None).map_err(NotOptimized::Window)?, false));
        };
        if file.is_go() {
            return Err(NotOptimized::SmallStack);
        }
        let extent = Extent::at(&file, RuntimeAddr(at).link(bias));
        let surroundings = extent.map(|extent| Surroundings {
            function: extent.start.at(bias).0,
            text: extent.text,
            code_len: extent.code_len,
            room: extent.room,
        });
        let window = planner.plan(text, at, surroundings.as_ref()).map_err(NotOptimized::Window)?;
        Ok((window, extent.is_some_and(|extent| extent.is_entry)))
    }
}

/// In [`Patch::mask`]: the first byte, and the others.
const FIRST: u8 = 1;
const TAIL: u8 = 0b1_1110;

/// A step of a jump.
fn jump_patch(made: &Made, mask: u8) -> Patch {
    Patch { at: made.point.at, bytes: made.detour.jump(), mask }
}

/// What a detour is made from.
#[derive(Clone, Copy)]
struct Plan<'a> {
    window: &'a Window,
    text: &'a [u8],
    at: u64,
    follows: bool,
    calls: Calls,
    compiled: Option<&'a Compiled>,
}

impl Plan<'_> {
    /// Whether `made` is just what would be made, and no trap of its jump is where a thread is known to come.
    fn is_of(&self, made: &Detour, table: Option<u64>) -> bool {
        let plan = Self { follows: made.follows, calls: made.calls, ..*self };
        let Some(Ok((code, relocated))) = table.map(|table| plan.build(made.start(), table)) else {
            return false;
        };
        let mut memory = [0; CODE_CAPACITY];
        let memory = &mut memory[..usize::from(made.len).min(CODE_CAPACITY)];
        let is_kept = |offset: u8| made.traps >> offset & 1 == 0;
        made.original == self.window.original()
            && Some(made.relocated()) == relocated.narrow()
            && SafeMemory.read(made.start(), memory) == memory.len()
            && code.bytes() == memory
            && self.window.inner().filter(|inner| inner.must_keep).all(|inner| is_kept(inner.offset))
    }

    /// The code of the detour at `start` with its table, and where the displaced instructions are in it.
    fn build(&self, start: u64, table: u64) -> Result<(Code, Relocated), NotOptimized> {
        let full = |_| NotOptimized::NoRoom;
        let mut code = Code::new(start);
        let (call, len) = detour::call_sequence(self.follows, start, self.calls, table);
        code.append(&call[..len]).map_err(full)?;
        if let Some(compiled) = self.compiled {
            let is_short = compiled.action.only_counts();
            // Where the call comes back nothing of this is left to be done.
            let place = Place { entry: start + compiled_entry(self.follows, is_short) as u64, call: start };
            let built = compiled.build(place).ok_or(NotOptimized::NoRoom)?;
            let len = built.bytes().len();
            if is_short {
                let len = i8::try_from(len).map_err(|_| NotOptimized::NoRoom)?;
                code.append(&[0xeb, len as u8]).map_err(full)?;
            } else {
                code.append(&[0xe9]).map_err(full)?;
                code.append(&(len as u32).to_le_bytes()).map_err(full)?;
            }
            code.append(built.bytes()).map_err(full)?;
        }
        let relocated = relocate(self.text, self.at, self.window.insn_count(), &mut code)
            .map_err(NotOptimized::Relocate)?;
        code.append_jump(relocated.next()).map_err(full)?;
        Ok((code, relocated))
    }
}

/// Whether what is compiled into it is what the place wants.
fn is_made_for(detour: &Detour, point: &ProbePoint) -> bool {
    let wanted = timed(point).map_or(0, |(_, first)| first);
    let quick = detour.quick();
    // One that could not be quick for the sake of the flags is not tried again.
    let fits = quick.map_or(0, |quick| quick.first) == wanted || (quick.is_none() && detour.follows);
    let logs =
        || logged(point).is_some_and(|(consumer, _)| detour.log().is_some_and(|log| log.is_of(consumer)));
    // Here too.
    fits && (detour.log().is_none() || logs())
        && (detour.calls == Calls::Restorer) == is_restorer(point)
        && detour.compiled().map(|compiled| compiled.into_owned().action) == compiled_action(point)
}

/// Whether it is libc's restorer, and probed by nobody else.
fn is_restorer(point: &ProbePoint) -> bool {
    only_consumer(point).is_some_and(|consumer| consumer.has(Mark::AtRestorer))
}

/// The one consumer that only counts and times calls, and where its cells begin.
fn timed(point: &ProbePoint) -> Option<(&'static Consumer, u32)> {
    let consumer = only_consumer(point)?;
    Some((consumer, quick::first_cell(consumer).filter(|_| filters_compiled(consumer))?))
}

/// The one consumer that does nothing but log registers, and the cell of its hits.
fn logged(point: &ProbePoint) -> Option<(&'static Consumer, u32)> {
    let consumer = only_consumer(point)?;
    let Role::Event(event) = consumer.role() else { return None };
    let only_logs = event.side == Side::Entry
        && event.log
        && !event.needs.values
        && event.plugins.is_empty()
        && event.program.registers().is_some()
        && filters_compiled(consumer)
        && consumer.sample == 1
        && consumer.limit == 0;
    only_logs.then_some((consumer, consumer.counters.hits.cell()?))
}

/// What a detour of such a place needs.
fn quick_log(point: &ProbePoint) -> Option<QuickLog> {
    let (consumer, cell) = logged(point)?;
    let Role::Event(event) = consumer.role() else { return None };
    QuickLog::new(consumer, point, cell, event.program.registers()?)
}

/// The places that may have a jump which displaces the instruction at `at`.
fn jumps_before(at: u64) -> impl Iterator<Item = &'static ProbePoint> {
    const MOST: usize = MAX_DISPLACED as usize - 1;
    let mut memory = [0; MOST];
    let is_read = SafeMemory.read(at - MOST as u64, &mut memory) == MOST;
    // Where a place is armed, one of the two is there: most addresses need no look into the table.
    let is_armed =
        move |before: &u64| !is_read || matches!(memory.get(MOST - *before as usize), Some(&(JUMP | INT3)));
    (1..MAX_DISPLACED).filter(is_armed).filter_map(move |before| point::lookup(at - before))
}

/// The C API's out-flag.
fn tell(point: &ProbePoint, optimized: bool) {
    let Some(listeners) = point.consumers.load() else { return };
    for consumer in listeners.all() {
        // SAFETY: listed consumers are alive.
        let Some(up) = (unsafe { (**consumer).role().up() }) else { continue };
        // SAFETY: registered: the struct is there.
        let flags = unsafe { &(*up).flags };
        if optimized {
            flags.fetch_or(FLAG_OPTIMIZED, Relaxed);
        } else {
            flags.fetch_and(!FLAG_OPTIMIZED, Relaxed);
        }
    }
}

/// Whether everybody at the place is content with a jump, and whether one of them follows returns.
pub(super) fn may_jump(point: &ProbePoint) -> Result<bool, NotOptimized> {
    let Some(listeners) = point.consumers.load() else { return Ok(false) };
    let mut follows = false;
    for consumer in listeners.all() {
        // SAFETY: listed consumers are alive.
        let consumer: &Consumer = unsafe { &**consumer };
        if consumer.has(Mark::OnlyInt3) {
            return Err(NotOptimized::AskedFor);
        }
        match consumer.role() {
            Role::Internal(_) if consumer.has(Mark::AtRestorer) => {}
            Role::Internal(_) => return Err(NotOptimized::Internal),
            Role::Replace(_) => return Err(NotOptimized::Replaced),
            Role::Return(_) => follows = true,
            Role::Event(event) => follows |= event.side != Side::Entry,
            Role::Handlers(_) | Role::Jump(_) => {}
        }
    }
    if listeners.wants_post() {
        return Err(NotOptimized::PostHandler);
    }
    Ok(follows)
}
