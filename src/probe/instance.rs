//! What was asked for, and where it was found.

use crate::addr::FileOffset;
use crate::config::Kind;
use crate::config::ProbeSpec;
use crate::error::Refusal;
use crate::fetch::At;
use crate::few::Few;
use crate::hit::c_structs::{CUprobe, PreHandler};
use crate::hit::consumer::{Consumer, EventRole};
use crate::hit::point::ProbePoint;
use crate::place::Label;
use crate::probe::api::ApiProbe;

/// What a probe is made from.
pub enum Maker {
    /// A config's probe.
    Spec(Box<Spec>),
    /// The C API.
    Api(ApiProbe),
}

impl Maker {
    /// The caller's struct; a config's, and a replacement, have none.
    #[must_use]
    pub const fn up(&self) -> Option<*mut CUprobe> {
        match self {
            Self::Spec(_) => None,
            Self::Api(api) => api.up(),
        }
    }

    /// Whether calls are followed.
    #[must_use]
    pub fn follows(&self) -> bool {
        match self {
            Self::Spec(spec) => spec.probe.kind != Kind::Entry,
            Self::Api(api) => matches!(api, ApiProbe::Return(_)),
        }
    }
}

/// A probe to be registered.
pub struct Asked {
    pub(super) maker: Maker,
    pub(super) label: Option<Label>,
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

impl Asked {
    /// A config's.
    #[must_use]
    pub fn spec(probe: ProbeSpec, plugins: Vec<PreHandler>) -> Self {
        let at = String::leak(probe.at.clone());
        Self { maker: Maker::Spec(Box::new(Spec { probe, plugins, at, roles: Vec::new() })), label: None }
    }

    /// The C API's, and where the caller wants it.
    #[must_use]
    pub const fn api(probe: ApiProbe, label: Label) -> Self {
        Self { maker: Maker::Api(probe), label: Some(label) }
    }
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

/// One place in one file. There may be very many.
pub struct Instance {
    /// The file, by number in the registry.
    pub(super) file: u32,
    /// The offset in the file.
    pub offset: FileOffset,
    /// The consumer; made with the instance, freed with it (API) or never (config).
    pub consumer: *const Consumer,
    /// Where it is in memory now.
    pub points: Few<ProbePoint>,
    /// Why it is nowhere.
    pub refusal: Option<Box<Refusal>>,
    /// It could not be made, for a reason that holds wherever the file is mapped: it stays refused.
    pub is_idle: bool,
    /// What it means now is the place of another instance of the request: an IFUNC chose that function.
    pub is_elsewhere: bool,
    /// The user wants it on.
    pub enabled: bool,
    /// An IFUNC has chosen where it is.
    pub(super) is_chosen: bool,
}

const _: () = assert!(size_of::<Option<Instance>>() == 40);

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
        if self.consumer().crash_signal() != 0 || (!self.enabled && self.refusal.is_none()) {
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
