//! From instances to breakpoints: points made ready, consumers attached, bytes written; and back.

use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering::*};

use crate::addr::RuntimeAddr;
use crate::code::{Neighbourhood, Patch};
use crate::elf::{self, ElfFile, Resolved};
use crate::error::Refusal;
use crate::hit::actions;
use crate::hit::c_structs::{
    FLAG_DISABLED, FLAG_GONE, FLAG_INT3, FLAG_NOVEC, FLAG_OPTIMIZED, FLAG_PENDING, FLAG_PERTHREAD,
};
use crate::hit::consumer::{Consumer, Role};
use crate::hit::detour::JUMP_LEN;
use crate::hit::listeners::{ConsumerList, ListenerCell};
use crate::hit::memory::SafeMemory;
use crate::hit::point::{self, ProbePoint};
use crate::hit::slots;
use crate::insn::{self, Way};
use crate::probe::instance::{Instance, Maker};
use crate::probe::modules::Module;
use crate::probe::registry::Registry;
use crate::regs::Memory;

const INT3: u8 = 0xCC;
const JUMP: u8 = 0xE9;
/// Bytes of the longest instruction.
const MAX_INSN: usize = 15;

impl Registry {
    /// Whether an object's relocations are done, so that its IFUNC resolvers may be called.
    pub(super) fn is_relocated(&self, module: &Module) -> bool {
        !self.unrelocated.iter().any(|other| **other == *module)
    }

    /// Checks a place and makes its point; nothing is visible yet but to [`point::lookup`].
    pub(super) fn prepare(
        &mut self,
        module: &Module,
        file: &ElfFile,
        resolved: &Resolved,
    ) -> Result<&'static ProbePoint, Refusal> {
        let at = resolved.link.at(module.bias);
        if let Some(known) = live_point(at.0) {
            return still_the_same(known);
        }
        if !file.is_executable(resolved.link) {
            return Err(Refusal::NotExecutable { offset: resolved.offset.0 });
        }
        if is_in_rseq(module, file, at) {
            let why = "it is inside a restartable sequence (rseq), which any trap aborts";
            return Err(Refusal::Denied { why });
        }
        if let Some(bounds) = &resolved.bounds {
            elf::boundary::check(file, resolved.link, bounds)?;
        }
        let memory = read_text(at.0, MAX_INSN);
        let original = file.bytes_at(resolved.link, memory.len());
        if memory.first() == Some(&INT3) {
            return Err(Refusal::ForeignBreakpoint);
        }
        let displaced = insn::classify(&memory, at.0)?;
        let len = usize::from(displaced.len);
        if original.len() >= len && original[..len] != memory[..len] {
            return Err(Refusal::TextChanged {
                file: original[..len].to_vec(),
                memory: memory[..len].to_vec(),
            });
        }
        if file.is_go() {
            actions::use_alternate_stacks();
        }
        self.make_point(displaced, module)
    }

    /// The same for an address without a symbol: what an IFUNC chose, a gate, an address of the C API.
    pub(super) fn prepare_address(&mut self, at: u64) -> Result<&'static ProbePoint, Refusal> {
        if let Some(known) = live_point(at) {
            return still_the_same(known);
        }
        let found = self.modules.iter().find(|module| module.contains(RuntimeAddr(at))).cloned();
        let Some(module) = found else {
            // The vDSO: code without a file.
            let maps = crate::code::read_maps().unwrap_or_default();
            let Some(map) = crate::code::mapping_at(&maps, at).filter(|map| map.executable) else {
                return Err(Refusal::NotExecutable { offset: at });
            };
            let vdso = Module { low: map.start, high: map.end, ..Module::clone(&self.modules[0]) };
            let displaced = insn::classify(&read_text(at, MAX_INSN), at)?;
            return self.make_point(displaced, &vdso);
        };
        if module.is_own {
            return Err(Refusal::OwnCode);
        }
        let file: Rc<ElfFile> = self.file(&module)?;
        let link = RuntimeAddr(at).link(module.bias);
        let offset = file.offset_of(link).ok_or(Refusal::NotExecutable { offset: link.0 })?;
        let (symbol, symbol_offset) =
            file.symbolize(link).map_or((None, 0), |(name, offset)| (Some(name.to_owned()), offset));
        let bounds = file.bounds_at(link);
        let resolved = Resolved { link, offset, symbol, symbol_offset, ifunc: false, bounds };
        self.prepare(&module, &file, &resolved)
    }

    fn make_point(
        &mut self,
        displaced: insn::DisplacedInsn,
        module: &Module,
    ) -> Result<&'static ProbePoint, Refusal> {
        // Unloaded, and loaded again at the same address: what was made for it is as it was. Programs that
        // load and unload for ever don't make us grow.
        if let Some(known) = point::lookup(displaced.at).filter(|known| known.displaced() == displaced) {
            known.optimized.store(false, Release);
            known.gone.store(false, Release);
            return Ok(known);
        }
        let near = Neighbourhood { low: module.low, high: module.high };
        let slot = match displaced.way {
            Way::Emulate(_) => 0,
            Way::Slot(_) => self.arenas.take(&displaced, near).ok_or(Refusal::NoSlotInReach)?,
        };
        let insn = self.shared.insn(&displaced, &mut self.shelf);
        let point = self.shelf.keep(ProbePoint {
            at: displaced.at,
            insn,
            slot_number: slots::number(slot),
            armed: AtomicBool::new(false),
            consumers: ListenerCell::default(),
            detour: AtomicPtr::default(),
            optimized: AtomicBool::new(false),
            gone: AtomicBool::new(false),
        });
        if slot != 0 {
            self.arenas.own(slot, point);
        }
        point::insert(point);
        Ok(point)
    }

    /// Attaches the instances' consumers where they are missing, and writes what has to be written;
    /// looks at the requests and instances from these numbers on.
    pub(super) fn commit_from(&mut self, first_request: usize, first_instance: usize) {
        if let Err(errno) = self.arenas.flush(&mut self.poker) {
            for instance in self.instances.iter_mut().flatten() {
                if instance.points.iter().any(|point| point.slot_number != 0 && !point.armed.load(Relaxed)) {
                    instance.refusal = Some(Box::new(Refusal::TextNotWritable { errno }));
                    instance.points.clear();
                }
            }
        }
        let mut touched = Vec::new();
        for number in first_instance..self.instances.len() {
            let Some(instance) = &self.instances[number] else { continue };
            let (consumer, enabled) = (instance.consumer, instance.enabled);
            for index in 0..instance.points.len() {
                let point = self.instances[number].as_ref().and_then(|instance| instance.points.get(index));
                if let Some(point) = point.copied().filter(|point| self.attach(point, consumer)) {
                    touched.push(point);
                }
            }
            // SAFETY: the instance holds it.
            let consumer = unsafe { &*consumer };
            if enabled && consumer.crash_signal() == 0 && !consumer.alive.load(Relaxed) {
                consumer.alive.store(true, SeqCst);
            }
        }
        self.settle(&touched);
        self.publish_addresses(first_request, first_instance);
    }

    /// The C API's out-fields.
    pub(super) fn publish_addresses(&self, first_request: usize, first_instance: usize) {
        for instance in self.instances.iter().skip(first_instance).flatten() {
            publish_address(instance);
        }
        let requests = self.requests.iter().skip(first_request).flatten();
        for request in requests.filter(|request| request.instances().is_empty()) {
            let Maker::Api(api) = &request.maker else { continue };
            let Some(up) = api.up() else { continue };
            // SAFETY: as above.
            unsafe { (*up).flags.fetch_or(FLAG_PENDING, Relaxed) };
        }
    }

    /// Adds a consumer to a point's list; false where it is there already.
    pub(super) fn attach(&mut self, point: &'static ProbePoint, consumer: *const Consumer) -> bool {
        let mut all = point.consumers.load().map_or_else(Vec::new, |listeners| listeners.all().to_vec());
        if all.contains(&consumer) {
            return false;
        }
        all.push(consumer);
        // A replacement after all handlers, which see the function's own place. The engine's own last:
        // what the user asked for happens before the process ends.
        // SAFETY: listed consumers are alive.
        all.sort_by_key(|consumer| match unsafe { (**consumer).role() } {
            Role::Internal(_) => 2,
            Role::Replace(_) => 1,
            _ => 0,
        });
        self.publish(point, all);
        true
    }

    /// Takes a consumer off a point's list.
    pub(super) fn detach(&mut self, point: &'static ProbePoint, consumer: *const Consumer) {
        let Some(listeners) = point.consumers.load() else { return };
        let all = listeners.all().iter().copied().filter(|other| *other != consumer).collect();
        self.publish(point, all);
    }

    fn publish(&mut self, point: &'static ProbePoint, all: Vec<*const Consumer>) {
        let old = match all.as_slice() {
            [] => point.consumers.publish(None),
            [only] => point.consumers.publish(Some(*only)),
            _ => point.consumers.publish_list(Box::new(ConsumerList::new(all))),
        };
        let sole = point.consumers.load().map_or(std::ptr::null(), |listeners| listeners.sole());
        for detour in self.shared.detours_of(point) {
            detour.sole.store(sole.cast_mut(), SeqCst);
        }
        self.retirement.retire(old, std::ptr::null_mut());
    }

    /// Writes int3 where somebody listens, the original byte where nobody does; then jumps where they can
    /// be.
    pub(super) fn settle(&mut self, points: &[&'static ProbePoint]) {
        let mut points = points.to_vec();
        points.sort_unstable_by_key(|point| point.at);
        points.dedup_by_key(|point| point.at);
        self.deoptimize_for(&points);
        let wanted = |point: &ProbePoint| !point.gone.load(Relaxed) && has_listener(point);
        let changing =
            |point: &&ProbePoint| !point.gone.load(Relaxed) && wanted(point) != point.armed.load(Relaxed);
        let (arm, disarm): (Vec<_>, Vec<_>) =
            points.iter().copied().filter(|point| changing(point)).partition(|point| wanted(point));
        let mut ready = Vec::with_capacity(arm.len());
        for point in arm {
            match self.has_original(point) {
                Ok(()) => ready.push(point),
                Err(refusal) => self.refuse_at(point, &refusal),
            }
        }
        // First: a thread may trap as soon as the byte is there.
        ready.iter().for_each(|point| point.armed.store(true, SeqCst));
        let patches: Vec<_> = ready.iter().map(|point| Patch::byte(point.at, INT3)).collect();
        for index in self.poker.write_all(&patches) {
            ready[index].armed.store(false, SeqCst);
            self.refuse_at(ready[index], &Refusal::TextNotWritable { errno: libc::EACCES });
        }
        let (disarm, lost): (Vec<_>, Vec<_>) = disarm.into_iter().partition(|point| self.has_int3(point));
        lost.iter().for_each(|point| point.armed.store(false, SeqCst));
        let original = |point: &&ProbePoint| Patch::byte(point.at, point.insn.bytes[0]);
        let patches: Vec<_> = disarm.iter().map(original).collect();
        let failed = self.poker.write_all(&patches);
        for (index, point) in disarm.iter().enumerate() {
            if failed.binary_search(&index).is_err() {
                point.armed.store(false, SeqCst);
            }
        }
        self.optimize(&self.with_those_freed(&points));
    }

    /// Whether the place is as it was when it was made ready: something else may be mapped there.
    fn has_original(&mut self, point: &ProbePoint) -> Result<(), Refusal> {
        let original = point.insn.original();
        let mut memory = [0; MAX_INSN];
        let memory = &mut memory[..original.len()];
        if !self.poker.read(point.at, memory) {
            return Err(Refusal::TextNotWritable { errno: libc::EFAULT });
        }
        // A jump that begins before may reach into it.
        let memory = less_ours(point.at, memory.to_vec());
        if memory == original {
            Ok(())
        } else {
            Err(Refusal::TextChanged { file: original.to_vec(), memory })
        }
    }

    /// Whether our int3 is there, before what it stands before. The object may have gone away, the program may
    /// have written there after us, or mapped something else: then it is not ours to mend.
    fn has_int3(&mut self, point: &ProbePoint) -> bool {
        let original = point.insn.original();
        let mut memory = [0; MAX_INSN];
        let memory = &mut memory[..original.len()];
        self.poker.read(point.at, memory) && memory[0] == INT3 && {
            let rest = less_ours(point.at, memory.to_vec());
            rest[1..] == original[1..]
        }
    }

    fn refuse_at(&mut self, point: &'static ProbePoint, refusal: &Refusal) {
        for instance in self.instances.iter_mut().flatten() {
            if instance.points.iter().any(|other| std::ptr::eq(*other, point)) {
                instance.points.retain(|other| !std::ptr::eq(*other, point));
                instance.refusal = Some(Box::new(refusal.clone()));
            }
        }
        // They don't know of it any more, and could not take themselves off later.
        self.publish(point, Vec::new());
    }
}

/// The C API's out-fields of one instance.
pub(super) fn publish_address(instance: &Instance) {
    let Some(up) = instance.consumer().role().up() else { return };
    // SAFETY: registered: the struct is there.
    let mut flags = unsafe { (*up).flags.load(Relaxed) } & (FLAG_INT3 | FLAG_NOVEC | FLAG_PERTHREAD);
    if instance.consumer().crash_signal() != 0 {
        flags |= FLAG_DISABLED | FLAG_GONE;
    }
    if !instance.enabled {
        flags |= FLAG_DISABLED;
    }
    if instance.points.is_empty() {
        flags |= FLAG_PENDING;
    }
    if instance.points.first().is_some_and(|point| point.optimized.load(Relaxed)) {
        flags |= FLAG_OPTIMIZED;
    }
    let at = instance.points.first().map_or(0, |point| point.at);
    // SAFETY: as above; these fields are ours to write.
    unsafe {
        (*up).addr = at as *mut libc::c_void;
        (*up).flags.store(flags, Relaxed);
    }
}

/// Whether `at` is in a critical section of rseq(2), as the object's `__rseq_cs` describes them: there
/// the kernel moves a trapping thread to the abort handler before we see it.
fn is_in_rseq(module: &Module, file: &ElfFile, at: RuntimeAddr) -> bool {
    /// `struct rseq_cs`: version and flags, start, length, abort handler (linux/rseq.h).
    const ENTRY: u64 = 32;
    const MOST: u64 = 4096;
    let Some((link, size)) = file.section_in_memory("__rseq_cs") else { return false };
    let table = link.at(module.bias);
    (0..(size / ENTRY).min(MOST)).any(|index| {
        let entry = table.add(index * ENTRY).0;
        match (SafeMemory.read_u64(entry + 8), SafeMemory.read_u64(entry + 16)) {
            (Some(start), Some(length)) => at.0.wrapping_sub(start) < length,
            _ => false,
        }
    })
}

/// The usable point at `at`, if there is one.
fn live_point(at: u64) -> Option<&'static ProbePoint> {
    point::lookup(at).filter(|point| !point.gone.load(Acquire))
}

/// A place that was probed before: nobody has written there since.
fn still_the_same(point: &'static ProbePoint) -> Result<&'static ProbePoint, Refusal> {
    if point.armed.load(Relaxed) {
        return Ok(point);
    }
    let memory = read_text(point.at, MAX_INSN);
    let original = point.insn.original();
    if memory.starts_with(original) {
        Ok(point)
    } else if memory.first() == Some(&INT3) {
        Err(Refusal::ForeignBreakpoint)
    } else {
        let len = original.len().min(memory.len());
        Err(Refusal::TextChanged { file: original.to_vec(), memory: memory[..len].to_vec() })
    }
}

pub(super) fn has_listener(point: &ProbePoint) -> bool {
    let listeners = point.consumers.load();
    // SAFETY: listed consumers are alive.
    listeners.is_some_and(|all| all.all().iter().any(|consumer| unsafe { (**consumer).alive.load(Relaxed) }))
}

/// The program's own bytes at `at`: memory, less our breakpoints and jumps. Less than `len` where it ends.
pub(super) fn read_text(at: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let n = SafeMemory.read(at, &mut bytes);
    bytes.truncate(n);
    less_ours(at, bytes)
}

/// `bytes`, read at `at`, with the program's own in the place of our breakpoints and jumps.
fn less_ours(at: u64, mut bytes: Vec<u8>) -> Vec<u8> {
    // A jump that begins before `at` may reach into it.
    const BEFORE: usize = JUMP_LEN - 1;
    let from = at.saturating_sub(BEFORE as u64);
    let mut before = [0; BEFORE];
    let is_read = SafeMemory.read(from, &mut before) == BEFORE;
    // Where a place is armed, one of the two is there: most addresses need no look into the table.
    let is_armed = |start: &u64| {
        let byte = match start.checked_sub(at) {
            Some(offset) => bytes.get(offset as usize),
            None => before.get((start - from) as usize).filter(|_| is_read),
        };
        byte.is_none_or(|byte| matches!(*byte, INT3 | JUMP))
    };
    let starts: Vec<u64> = (from..at + bytes.len() as u64).filter(is_armed).collect();
    for start in starts {
        let Some(point) = live_point(start).filter(|point| point.armed.load(Acquire)) else { continue };
        let original = match point.detour() {
            Some(detour) if point.optimized.load(Acquire) => &detour.original[..],
            _ => &point.insn.bytes[..1],
        };
        for (offset, byte) in original.iter().enumerate() {
            let to = (start + offset as u64).checked_sub(at).and_then(|to| bytes.get_mut(to as usize));
            if let Some(to) = to {
                *to = *byte;
            }
        }
    }
    bytes
}
