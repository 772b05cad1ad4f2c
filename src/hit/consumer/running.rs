//! What is done for a consumer at a hit.

use std::sync::atomic::Ordering::*;

use super::{Consumer, EventRole, Flow, Role, Side};
use crate::hit::c_structs::{CUprobe, FLAG_DISABLED, FLAG_GONE, PreHandler};
use crate::hit::histogram::Measured;
use crate::hit::output::Stamp;
use crate::hit::thread::ThreadState;
use crate::hit::trap::Hit;
use crate::hit::{asm, clock, jprobe, output, returning, vectors};

impl Consumer {
    /// Runs the consumer for one hit. Signal-safe.
    pub fn run(&self, hit: &mut Hit<'_>, thread: &'static ThreadState) -> Flow {
        match self.role() {
            Role::Event(event) if event.side == Side::Entry => self.run_event(event, hit, thread),
            Role::Event(event) => {
                returning::follow_for_event(self, event, hit, thread);
                Flow::Continue
            }
            Role::Handlers(up) => {
                // SAFETY: alive: the struct is registered and unchanged.
                let (handler, nhit) = unsafe { ((*up).pre_handler, &(*up).nhit) };
                self.count_hit(thread, nhit, 1);
                match handler {
                    Some(handler) => self.call_pre(handler, up, hit, thread),
                    None => Flow::Continue,
                }
            }
            Role::Jump(jp) => jprobe::run(self, jp, hit, thread),
            Role::Return(rp) => {
                returning::follow_for_handlers(self, rp, hit, thread);
                Flow::Continue
            }
            Role::Replace(_) | Role::Internal(_) => Flow::Continue,
        }
    }

    fn run_event(&self, event: &EventRole, hit: &mut Hit<'_>, thread: &'static ThreadState) -> Flow {
        // SAFETY: this thread's own cell; consumers never nest.
        let record = unsafe { &mut *thread.record.get() };
        record.clear();
        let stamp = Stamp::at_entry(event);
        let input = hit.input(thread, stamp.ns, 0);
        if event.needs.entry_record {
            event.program.fetch(&input, record);
        }
        if event.program.has_filter() && !event.program.accepts(record, &input) {
            self.counters.filtered.add(thread, 1);
            return Flow::Continue;
        }
        if !self.is_taken() {
            self.counters.sampled_out.fetch_add(1, Relaxed);
            return Flow::Continue;
        }
        self.counters.hits.add(thread, 1);
        self.act(event, hit, thread, stamp, None)
    }

    /// The actions of an event whose record is made.
    pub(in crate::hit) fn act(
        &self,
        event: &EventRole,
        hit: &mut Hit<'_>,
        thread: &'static ThreadState,
        stamp: Stamp,
        latency_ns: Option<u64>,
    ) -> Flow {
        // SAFETY: this thread's own cell; consumers never nest.
        let record = unsafe { &*thread.record.get() };
        if event.log && !output::event(self, &event.program, record, hit, thread, stamp, latency_ns) {
            self.counters.lost.fetch_add(1, Relaxed);
        }
        self.count_values(event, hit, thread, stamp.ns, latency_ns);
        let mut flow = Flow::Continue;
        for plugin in &event.plugins {
            let probe = std::ptr::from_ref::<CUprobe>(&event.plugin_probe).cast_mut();
            if self.call_pre(*plugin, probe, hit, thread) == Flow::RipChanged {
                flow = Flow::RipChanged;
            }
        }
        flow
    }

    /// Adds to the histograms what can be read.
    fn count_values(
        &self,
        event: &EventRole,
        hit: &Hit<'_>,
        thread: &ThreadState,
        ts_ns: u64,
        latency_ns: Option<u64>,
    ) {
        // SAFETY: this thread's own cell; consumers never nest.
        let record = unsafe { &*thread.record.get() };
        for hist in &self.hists {
            let value = match hist.measured {
                Measured::Latency => latency_ns,
                Measured::Arg(index) => {
                    let input = hit.input(thread, ts_ns, latency_ns.unwrap_or(0));
                    event.program.integer(index, record, &input, hit.is_return)
                }
            };
            if let Some(value) = value {
                hist.add(thread, value);
            }
        }
    }

    /// `sample` and `limit`: whether this execution is one that counts.
    pub(in crate::hit) fn is_taken(&self) -> bool {
        if self.sample > 1 && !(self.seen.fetch_add(1, Relaxed) + 1).is_multiple_of(self.sample) {
            return false;
        }
        self.limit == 0 || self.taken.fetch_add(1, Relaxed) < self.limit
    }

    fn call_pre(
        &self,
        handler: PreHandler,
        up: *mut CUprobe,
        hit: &mut Hit<'_>,
        thread: &'static ThreadState,
    ) -> Flow {
        let before = *hit.regs;
        let on_trap = hit.is_trap();
        let regs = std::ptr::from_mut(hit.regs);
        match guarded(thread, on_trap, handler as usize, up as usize, regs as usize, 0) {
            Some(0) => {
                // Only a handler that says so moves rip.
                hit.regs.rip = before.rip;
                Flow::Continue
            }
            // One that says so and did not: running the instruction is all that can be meant, since the
            // breakpoint would be met again for ever.
            Some(_) if hit.regs.rip == before.rip => Flow::Continue,
            Some(_) => Flow::RipChanged,
            None => {
                *hit.regs = before;
                self.crashed(up, hit, thread);
                Flow::Continue
            }
        }
    }

    /// Runs the post_handler, where there is one.
    pub fn run_post(&self, hit: &mut Hit<'_>, thread: &'static ThreadState) {
        let Role::Handlers(up) = self.role() else { return };
        // SAFETY: alive: the struct is registered and unchanged.
        let Some(handler) = (unsafe { (*up).post_handler }) else { return };
        let before = *hit.regs;
        let on_trap = hit.is_trap();
        let regs = std::ptr::from_mut(hit.regs);
        if guarded(thread, on_trap, handler as usize, up as usize, regs as usize, 0).is_none() {
            *hit.regs = before;
            self.crashed(up, hit, thread);
        }
    }

    /// The fault_handler for a fault of the displaced instruction: whether it dealt with it.
    pub fn run_fault(&self, hit: &mut Hit<'_>, thread: &'static ThreadState, signal: i32) -> bool {
        let Some(up) = self.role().up() else { return false };
        // SAFETY: alive: the struct is registered and unchanged.
        let Some(handler) = (unsafe { (*up).fault_handler }) else { return false };
        let on_trap = hit.is_trap();
        let regs = std::ptr::from_mut(hit.regs);
        guarded(thread, on_trap, handler as usize, up as usize, regs as usize, signal as usize)
            .is_some_and(|r| r != 0)
    }

    /// A handler crashed: its fault_handler may deal with it; else the probe is disabled and the
    /// program goes on.
    pub(in crate::hit) fn crashed(&self, up: *mut CUprobe, hit: &mut Hit<'_>, thread: &'static ThreadState) {
        let signal = thread.fault_signal.load(Relaxed);
        let address = thread.fault_address.load(Relaxed);
        // SAFETY: alive: the struct is registered and unchanged.
        if let Some(handler) = unsafe { (*up).fault_handler } {
            let before = *hit.regs;
            let on_trap = hit.is_trap();
            let regs = std::ptr::from_mut(hit.regs);
            let result =
                guarded(thread, on_trap, handler as usize, up as usize, regs as usize, signal as usize);
            if result.is_some_and(|r| r != 0) {
                return;
            }
            *hit.regs = before;
        }
        if self.alive.swap(false, SeqCst) {
            self.crash_address.store(address, Relaxed);
            self.crash_signal.store(signal as u8, Release);
            // SAFETY: as above; an out-field.
            unsafe { (*up).flags.fetch_or(FLAG_DISABLED | FLAG_GONE, Relaxed) };
            output::handler_crashed(self, signal, address);
        }
    }
}

/// Calls `function(a, b, c)` so that a fault in it comes back as `None`, with errno as it was.
pub(in crate::hit) fn guarded(
    thread: &ThreadState,
    on_trap: bool,
    function: usize,
    a: usize,
    b: usize,
    c: usize,
) -> Option<i32> {
    let errno = clock::errno_cell();
    // SAFETY: the thread's own errno.
    let saved = unsafe { *errno };
    // SAFETY: the handler has the signature the header gives; faults are recovered.
    let result = unsafe {
        let recovery = thread.run().recovery_cell();
        // On a trap the kernel keeps the vector registers; a return has nobody else to do it.
        if !on_trap {
            vectors::uprobe_guarded_call_vectors(function, a, b, c, recovery)
        } else {
            asm::uprobe_guarded_call(function, a, b, c, recovery)
        }
    };
    // SAFETY: as above.
    unsafe { *errno = saved };
    (result != i64::MIN).then_some(result as i32)
}
