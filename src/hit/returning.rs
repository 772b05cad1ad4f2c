//! What consumers do about a followed call: at its entry, and at its return.

use std::sync::atomic::Ordering::*;

use crate::hit::c_structs::{CUretprobe, CUretprobeInstance};
use crate::hit::consumer::{Consumer, EventRole, Role, Side, guarded};
use crate::hit::output::Stamp;
use crate::hit::shadow::ReturnInstance;
use crate::hit::thread::ThreadState;
use crate::hit::ticks::ticks_to_ns;
use crate::hit::trap::Hit;
use crate::hit::{clock, pool, returns};

/// Bytes before the user's own in an instance.
const HEAD: usize = size_of::<CUretprobeInstance>();

impl Consumer {
    /// One of its calls came back.
    pub fn returned(&self, thread: &ThreadState) {
        self.deactivate();
        self.counters.returns.add(thread, 1);
    }

    /// One of its calls will not.
    pub fn unwound(&self) {
        self.deactivate();
        // Last: outside a hit nothing else keeps the consumer.
        self.counters.unwound.fetch_add(1, SeqCst);
    }

    /// It will, after all.
    pub fn wound_again(&self) {
        self.counters.unwound.fetch_sub(1, SeqCst);
        if self.maxactive > 0 {
            self.active.fetch_add(1, AcqRel);
        }
    }

    /// What was begun to be followed isn't: the function did not run.
    pub fn not_followed(&self, thread: &ThreadState) {
        thread.begin_run(self);
        self.uncount(thread);
        self.miss(thread);
        thread.end_run();
    }

    /// A call counted as a hit is something else.
    fn uncount(&self, thread: &ThreadState) {
        self.deactivate();
        if let Some(up) = self.role().up()
            && self.alive.load(Acquire)
        {
            // SAFETY: alive: the struct is registered.
            self.count_hit(thread, unsafe { &(*up).nhit }, 1_u64.wrapping_neg());
        }
        self.counters.hits.take_back(thread);
    }

    /// Takes one of `maxactive`; false where none is left.
    fn activate(&self) -> bool {
        self.maxactive == 0
            || self
                .active
                .fetch_update(AcqRel, Relaxed, |active| (active < self.maxactive).then_some(active + 1))
                .is_ok()
    }

    fn deactivate(&self) {
        if self.maxactive > 0 {
            let _ = self.active.fetch_update(AcqRel, Relaxed, |active| active.checked_sub(1));
        }
    }

    /// Runs it for a call that returned after `taken` ticks, of which `own` were not spent in followed
    /// calls. `hit.regs` are those of the return, rip is where it goes.
    pub fn run_return(
        &self,
        hit: &mut Hit<'_>,
        thread: &'static ThreadState,
        instance: &mut ReturnInstance,
        taken: u64,
        own: u64,
    ) {
        match self.role() {
            Role::Event(event) => self.return_event(event, hit, thread, instance, taken, own),
            Role::Return(rp) => self.return_handler(rp, hit, thread, instance),
            _ => {}
        }
    }

    fn return_event(
        &self,
        event: &EventRole,
        hit: &mut Hit<'_>,
        thread: &'static ThreadState,
        instance: &mut ReturnInstance,
        taken: u64,
        own: u64,
    ) {
        let latency_ns = (event.side == Side::Call).then(|| ticks_to_ns(taken));
        let decides = event.program.has_filter() && !event.program.filters_at_entry();
        let stamp = Stamp::at_return(event, instance.started.wrapping_add(taken));
        // SAFETY: this thread's own cell; consumers never nest.
        let record = unsafe { &mut *thread.record.get() };
        record.clear();
        let input = hit.input(thread, stamp.ns, latency_ns.unwrap_or(0));
        if event.needs.return_record {
            record.restore(entry_part(instance));
            event.program.fetch_return(&input, record);
        }
        if decides {
            let is_accepted = event.program.accepts(record, &input);
            if !is_accepted || !self.is_taken() {
                // It was a hit as long as nobody could know.
                self.counters.returns.take_back(thread);
                self.counters.hits.take_back(thread);
                if is_accepted {
                    self.counters.sampled_out.fetch_add(1, Relaxed);
                } else {
                    self.counters.filtered.add(thread, 1);
                }
                return;
            }
        }
        if let (Some(latency), Some(ns)) = (&self.latency, latency_ns) {
            latency.add(thread, ns, ticks_to_ns(own));
        }
        self.act(event, hit, thread, stamp, latency_ns);
    }

    fn return_handler(
        &self,
        rp: *mut CUretprobe,
        hit: &mut Hit<'_>,
        thread: &'static ThreadState,
        instance: &ReturnInstance,
    ) {
        // SAFETY: alive: the struct is registered and unchanged.
        let Some(handler) = (unsafe { (*rp).handler }) else { return };
        let before = *hit.regs;
        let on_trap = hit.is_trap();
        let regs = std::ptr::from_mut(hit.regs);
        let user = pool::address(instance.block);
        if guarded(thread, on_trap, handler as usize, user, regs as usize, 0).is_none() {
            *hit.regs = before;
            self.crashed(rp.cast(), hit, thread);
        }
    }
}

/// What was fetched at the entry.
fn entry_part(instance: &ReturnInstance) -> &[u8] {
    if instance.block == 0 {
        return &[];
    }
    // SAFETY: the instance's own block, of which so many bytes were written.
    unsafe {
        std::slice::from_raw_parts(pool::address(instance.block) as *const u8, usize::from(instance.bytes))
    }
}

/// At the entry, for a probe of a config.
pub fn follow_for_event(
    consumer: &Consumer,
    event: &EventRole,
    hit: &mut Hit<'_>,
    thread: &'static ThreadState,
) {
    let (program, needs) = (&event.program, &event.needs);
    let decides = !program.has_filter() || program.filters_at_entry();
    // SAFETY: this thread's own cell; consumers never nest.
    let record = unsafe { &mut *thread.record.get() };
    record.clear();
    if needs.entry_record || (decides && program.has_filter()) {
        let ts_ns = if needs.entry_time { clock::now_ns() } else { 0 };
        let input = hit.input(thread, ts_ns, 0);
        if needs.entry_record {
            program.fetch(&input, record);
        }
        if decides && program.has_filter() && !program.accepts(record, &input) {
            consumer.counters.filtered.add(thread, 1);
            return;
        }
    }
    let Some(mut instance) = returns::instance(consumer, hit, thread) else { return consumer.miss(thread) };
    if !consumer.activate() {
        return consumer.miss(thread);
    }
    if decides && !consumer.is_taken() {
        consumer.deactivate();
        consumer.counters.sampled_out.fetch_add(1, Relaxed);
        return;
    }
    let kept = if needs.kept { record.as_bytes() } else { &[] };
    if !(keep_entry_part(&mut instance, kept) && returns::push(hit, thread, &mut instance)) {
        instance.release();
        consumer.deactivate();
        return consumer.miss(thread);
    }
    consumer.counters.hits.add(thread, 1);
}

/// Copies what was fetched into a block; false where there is none.
fn keep_entry_part(instance: &mut ReturnInstance, fetched: &[u8]) -> bool {
    if fetched.is_empty() {
        return true;
    }
    if !take_block(instance, fetched.len()) {
        return false;
    }
    instance.bytes = fetched.len() as u16;
    // SAFETY: a block of at least so many bytes.
    let block =
        unsafe { std::slice::from_raw_parts_mut(pool::address(instance.block) as *mut u8, fetched.len()) };
    block.copy_from_slice(fetched);
    true
}

fn take_block(instance: &mut ReturnInstance, bytes: usize) -> bool {
    let Some(class) = pool::class_of(bytes) else { return false };
    let Some(block) = pool::take(class) else { return false };
    instance.block = block;
    instance.class = class;
    true
}

/// At the entry, for a return probe of the C API.
pub(super) fn follow_for_handlers(
    consumer: &Consumer,
    rp: *mut CUretprobe,
    hit: &mut Hit<'_>,
    thread: &'static ThreadState,
) {
    // SAFETY: alive: the struct is registered and unchanged.
    let (entry_handler, data_size) = unsafe { ((*rp).entry_handler, (*rp).data_size) };
    let Some(mut instance) = returns::instance(consumer, hit, thread) else { return consumer.miss(thread) };
    if !consumer.activate() {
        return consumer.miss(thread);
    }
    if !take_block(&mut instance, HEAD + data_size) {
        consumer.deactivate();
        return consumer.miss(thread);
    }
    let user = pool::address(instance.block) as *mut CUretprobeInstance;
    let ret_addr = crate::hit::stubs::real(instance.stub);
    // SAFETY: a block of at least so many bytes, aligned to 64.
    unsafe {
        *user = CUretprobeInstance { rp, ret_addr, slot: instance.slot, reserved: 0 };
        // What another call has left there is nobody's business.
        user.add(1).cast::<u8>().write_bytes(0, data_size);
    }
    let mut follows = true;
    if let Some(handler) = entry_handler {
        let before = *hit.regs;
        let on_trap = hit.is_trap();
        let regs = std::ptr::from_mut(hit.regs);
        match guarded(thread, on_trap, handler as usize, user as usize, regs as usize, 0) {
            // One that has unregistered its own probe may have given up the struct as well.
            Some(result) => follows = result == 0 && consumer.alive.load(SeqCst),
            None => {
                *hit.regs = before;
                consumer.crashed(rp.cast(), hit, thread);
                follows = false;
            }
        }
        // Where it goes on is not this handler's to say.
        hit.regs.rip = before.rip;
        hit.regs.rsp = before.rsp;
    }
    if !follows {
        instance.release();
        consumer.deactivate();
        return;
    }
    if !returns::push(hit, thread, &mut instance) {
        instance.release();
        consumer.deactivate();
        return consumer.miss(thread);
    }
    consumer.counters.hits.add(thread, 1);
    // SAFETY: as above.
    consumer.count_hit(thread, unsafe { &(*rp).up.nhit }, 1);
}
