//! What was asked for, and where it was found.

use crate::addr::{FileOffset, LinkAddr};
use crate::config::ProbeSpec;
use crate::elf::FileId;
use crate::error::Refusal;
use crate::hit::c_structs::PreHandler;
use crate::hit::consumer::Consumer;
use crate::hit::point::ProbePoint;
use crate::place::Place;
use crate::probe::api::ApiProbe;

/// What a probe is made from.
pub enum Maker {
    /// A config's probe, with the plugins of its `call(...)` actions.
    Spec(Box<ProbeSpec>, Vec<PreHandler>),
    /// The C API.
    Api(ApiProbe),
}

/// One probe as asked for; a pattern may stand for many places.
pub struct Request {
    /// Where.
    pub place: Place,
    /// The same as the user wrote it.
    pub at: String,
    /// Its name.
    pub name: String,
    /// What it is made from.
    pub maker: Maker,
    /// The objects it was resolved in already.
    pub resolved: Vec<(FileId, u64)>,
    /// Its places, by number in the registry.
    pub instances: Vec<usize>,
    /// Why it has none.
    pub refusal: Option<Refusal>,
}

/// `state` of the summary.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// The breakpoint is in the text.
    Armed,
    /// The object is not loaded.
    Pending,
    /// Can't be probed; the reason says why.
    Refused,
    /// Switched off, by the user or after a crash.
    Disabled,
}

/// One place in one file.
pub struct Instance {
    /// Its request's number.
    pub request: usize,
    /// Name for events and the summary.
    pub name: String,
    /// The file.
    pub file: FileId,
    /// Its path.
    pub object: String,
    /// The function's name, where known.
    pub symbol: Option<String>,
    /// Offset from it.
    pub symbol_offset: u64,
    /// The link address.
    pub link: LinkAddr,
    /// The offset in the file.
    pub offset: FileOffset,
    /// The consumer; made with the instance, freed with it (API) or never (config).
    pub consumer: *const Consumer,
    /// It could not be made, for a reason that holds wherever the file is mapped: it stays refused.
    pub is_idle: bool,
    /// What it means now is the place of another instance of the request: an IFUNC chose that function.
    pub is_elsewhere: bool,
    /// The user wants it on.
    pub enabled: bool,
    /// Where it is in memory now.
    pub points: Vec<&'static ProbePoint>,
    /// Why it is nowhere.
    pub refusal: Option<Refusal>,
}

impl Instance {
    /// The consumer.
    #[must_use]
    pub fn consumer(&self) -> &Consumer {
        // SAFETY: freed only after the instance is gone.
        unsafe { &*self.consumer }
    }

    /// Whether it is one of the request's places, or was one when it was hit.
    #[must_use]
    pub fn is_place(&self) -> bool {
        !self.is_elsewhere || self.consumer().counters.has_executions()
    }

    /// Its state now.
    #[must_use]
    pub fn state(&self) -> State {
        use std::sync::atomic::Ordering::*;
        if self.consumer().crash_signal.load(Acquire) != 0 || (!self.enabled && self.refusal.is_none()) {
            State::Disabled
        } else if self.points.is_empty() {
            if self.refusal.as_ref().is_none_or(Refusal::is_pending) {
                State::Pending
            } else {
                State::Refused
            }
        } else {
            State::Armed
        }
    }
}
