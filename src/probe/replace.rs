//! `uprobe_replace`: a function's calls go elsewhere, and the function itself stays callable.

use std::sync::atomic::{AtomicBool, AtomicPtr};

use crate::addr::RuntimeAddr;
use crate::code::Neighbourhood;
use crate::hit::consumer::Role;
use crate::hit::listeners::ListenerCell;
use crate::hit::point::ProbePoint;
use crate::hit::slots;
use crate::insn::{Emulation, JumpTarget, Way};
use crate::place::Label;
use crate::probe::api::ApiProbe;
use crate::probe::instance::{Asked, Maker};
use crate::probe::registry::Registry;
use crate::probe::request::Request;

/// A negative errno.
type Errno = i32;

impl Request {
    /// Whether it is a replacement that is on.
    pub(super) fn is_settled_replacement(&self) -> bool {
        matches!(self.maker, Maker::Api(ApiProbe::Replace(to)) if to != 0) && !self.instances().is_empty()
    }
}

impl Registry {
    /// Sends the calls of the function at `place` to `to`. `ready` gets an address that runs the
    /// function itself, before the first call goes elsewhere.
    ///
    /// # Errors
    /// As for any probe; -ENOENT where the object is not loaded, -EBUSY where the function is replaced
    /// already or the engine relies on it, -EOPNOTSUPP where its first instruction can't run elsewhere;
    /// what `ready` returns.
    pub fn replace(
        &mut self,
        label: Label,
        to: u64,
        ready: impl FnOnce(u64) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        self.forget_lost_replacements();
        let number = self.register_replacement(label, to);
        let done = self.try_replace(number, ready);
        if done.is_err() {
            self.take_out(number);
        }
        done
    }

    /// Ends the replacement of the function at `place`.
    ///
    /// # Errors
    /// As for any probe; -EINVAL where it isn't replaced.
    pub fn end_replacement(&mut self, label: Label) -> Result<(), Errno> {
        self.forget_lost_replacements();
        // Finds the point as the replacement did, and is never on.
        let number = self.register_replacement(label, 0);
        let found = self.only_point(number).map(|point| self.replacement_at(point, number));
        self.take_out(number);
        self.take_out(found?.ok_or(-libc::EINVAL)?);
        Ok(())
    }

    fn register_replacement(&mut self, label: Label, to: u64) -> usize {
        self.register(vec![Asked::api(ApiProbe::Replace(to), label)]).start
    }

    fn try_replace(
        &mut self,
        number: usize,
        ready: impl FnOnce(u64) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        let point = self.only_point(number)?;
        if self.replacement_at(point, number).is_some() || is_ours(point) {
            return Err(-libc::EBUSY);
        }
        ready(self.original_code(point)?)?;
        self.enable(number, true);
        self.only_point(number).map(|_| ())
    }

    /// The one place of a request.
    fn only_point(&self, number: usize) -> Result<&'static ProbePoint, Errno> {
        let request = self.requests[number].as_ref().ok_or(-libc::ENOENT)?;
        let instances: Vec<_> =
            request.instances().iter().filter_map(|id| self.instances[*id as usize].as_ref()).collect();
        let refusal = instances.iter().find_map(|instance| instance.refusal.as_deref());
        if let Some(refusal) = refusal.or(request.refusal()) {
            return Err(refusal.errno());
        }
        match instances[..] {
            [] => Err(-libc::ENOENT),
            [instance] => match instance.points[..] {
                [point] => Ok(point),
                [] => Err(-libc::ENOENT),
                _ => Err(-libc::EADDRNOTAVAIL),
            },
            _ => Err(-libc::EADDRNOTAVAIL),
        }
    }

    /// The request, other than `but`, that replaces what is at `point`.
    fn replacement_at(&self, point: &'static ProbePoint, but: usize) -> Option<usize> {
        let is_here = |id: &u32| {
            let instance = self.instances[*id as usize].as_ref();
            instance.is_some_and(|instance| instance.points.iter().any(|other| std::ptr::eq(*other, point)))
        };
        self.requests.iter().enumerate().position(|(number, request)| {
            let request = request.as_ref().filter(|request| request.is_settled_replacement());
            number != but && request.is_some_and(|request| request.instances().iter().any(is_here))
        })
    }

    /// Those whose object was unloaded are over: their `original` leads into what is there now.
    fn forget_lost_replacements(&mut self) {
        let is_lost = |request: &Request| {
            let points =
                |id: &u32| self.instances[*id as usize].as_ref().map_or(0, |instance| instance.points.len());
            request.is_settled_replacement() && request.instances().iter().map(points).sum::<usize>() == 0
        };
        let requests = self.requests.iter().enumerate();
        let lost: Vec<usize> =
            requests.filter(|(_, r)| r.as_ref().is_some_and(is_lost)).map(|(number, _)| number).collect();
        lost.into_iter().for_each(|number| self.take_out(number));
    }

    /// No handler to wait for: a hit that sees it still is over before its memory is freed.
    fn take_out(&mut self, number: usize) {
        let consumers = self.unregister(number);
        self.free(&consumers);
    }

    /// An address that runs the function whose first instruction is at `point`, without a hit there.
    fn original_code(&mut self, point: &'static ProbePoint) -> Result<u64, Errno> {
        if point.slot_number != 0 {
            return Ok(point.slot());
        }
        if let Way::Emulate(Emulation::Jump { target: JumpTarget::Address(target) }) = point.insn.way {
            return Ok(target);
        }
        let module = self.modules.iter().find(|module| module.contains(RuntimeAddr(point.at)));
        let (low, high) = module.map_or((point.at, point.next()), |module| (module.low, module.high));
        let near = Neighbourhood { low, high };
        if !point.insn.can_run_in_slot() {
            let slot = self.arenas.take_relocated(&point.displaced(), near).ok_or(-libc::EOPNOTSUPP)?;
            self.arenas.flush(&mut self.poker)?;
            return Ok(slot);
        }
        let slot = self.arenas.take(&point.displaced(), near).ok_or(-libc::ENOMEM)?;
        self.arenas.flush(&mut self.poker)?;
        if slots::owner(slot).is_none() {
            // A signal or a fault there is seen at the function, which is not probed by this: armed for ever,
            // so that an instruction that faulted is run again without a hit.
            self.arenas.own(
                slot,
                Box::leak(Box::new(ProbePoint {
                    at: point.at,
                    insn: point.insn,
                    slot_number: slots::number(slot),
                    armed: AtomicBool::new(true),
                    consumers: ListenerCell::default(),
                    detour: AtomicPtr::default(),
                    optimized: AtomicBool::new(false),
                    gone: AtomicBool::new(false),
                })),
            );
        }
        Ok(slot)
    }
}

/// Whether the engine itself waits there.
fn is_ours(point: &ProbePoint) -> bool {
    let listeners = point.consumers.load();
    // SAFETY: listed consumers are alive.
    listeners
        .is_some_and(|all| all.all().iter().any(|c| matches!(unsafe { (**c).role() }, Role::Internal(_))))
}
