//! What was asked for, and where it was found.

use std::borrow::Cow;
use std::sync::Arc;

use crate::addr::FileOffset;
use crate::config::ProbeSpec;
use crate::error::Refusal;
use crate::fetch::At;
use crate::few::Few;
use crate::hit::c_structs::PreHandler;
use crate::hit::consumer::{Consumer, EventRole};
use crate::hit::point::ProbePoint;
use crate::place::{Label, Place};
use crate::probe::api::ApiProbe;

/// What a probe is made from.
pub enum Maker {
    /// A config's probe.
    Spec(Box<Spec>),
    /// The C API, and where the caller wants it.
    Api(ApiProbe, Arc<Label>),
}

/// A config's probe, and what its places have in common.
pub struct Spec {
    /// As it was read.
    pub probe: ProbeSpec,
    /// Those of its `call(...)` actions.
    pub plugins: Vec<PreHandler>,
    /// `at`, for the consumers, which live for ever.
    pub(super) at: &'static str,
    /// What is done at a hit, by object and by where in a function: for all places there.
    pub(super) roles: Vec<(ModuleKey, At, &'static EventRole)>,
}

impl Maker {
    /// A config's.
    #[must_use]
    pub fn spec(probe: ProbeSpec, plugins: Vec<PreHandler>) -> Self {
        let at = String::leak(probe.at.clone());
        Self::Spec(Box::new(Spec { probe, plugins, at, roles: Vec::new() }))
    }

    /// Where.
    #[must_use]
    pub fn place(&self) -> Cow<'_, Place> {
        match self {
            Self::Spec(spec) => Cow::Borrowed(&spec.probe.place),
            Self::Api(_, label) => Cow::Owned(label.place()),
        }
    }
}

/// One probe as asked for; a pattern may stand for many places. There may be very many of one place each.
pub struct Request {
    /// What it is made from.
    pub maker: Maker,
    /// The objects it was resolved in already.
    pub(super) resolved: Few<ModuleKey>,
    /// Its places, by number in the registry.
    pub instances: Few<u32>,
    /// Why it has none.
    pub refusal: Option<Box<Refusal>>,
    /// IFUNCs have chosen some of its places.
    pub(super) has_chosen: bool,
}

/// An object, where it was loaded: a number that the registry gives.
pub(super) type ModuleKey = u32;

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
    pub request: u32,
    /// The file, by number in the registry.
    pub(super) file: u32,
    /// The offset in the file.
    pub offset: FileOffset,
    /// The consumer; made with the instance, freed with it (API) or never (config).
    pub consumer: *const Consumer,
    /// Where it is in memory now.
    pub points: Few<&'static ProbePoint>,
    /// Why it is nowhere.
    pub refusal: Option<Box<Refusal>>,
    /// Of a config's probe: the function, where known.
    pub symbol: Option<Box<Symbol>>,
    /// It could not be made, for a reason that holds wherever the file is mapped: it stays refused.
    pub is_idle: bool,
    /// What it means now is the place of another instance of the request: an IFUNC chose that function.
    pub is_elsewhere: bool,
    /// The user wants it on.
    pub enabled: bool,
    /// An IFUNC has chosen where it is.
    pub(super) is_chosen: bool,
}

/// What a place is called in its file.
pub struct Symbol {
    /// The function's name.
    pub name: Box<str>,
    /// Distance from it.
    pub offset: u64,
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
            if self.refusal.as_ref().is_none_or(|refusal| refusal.is_pending()) {
                State::Pending
            } else {
                State::Refused
            }
        } else {
            State::Armed
        }
    }
}
