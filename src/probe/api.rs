//! What the C API's structs become: their consumers, and where they may be.

use std::sync::atomic::Ordering::*;

use crate::elf::{ElfFile, Resolved};
use crate::error::Refusal;
use crate::hit::c_structs::{CUprobe, FLAG_DISABLED, FLAG_INT3, FLAG_NOVEC, FLAG_PERTHREAD};
use crate::hit::consumer::Role;
use crate::probe::denied;

/// What a request of the C API is made from. The struct is the caller's, and stays while registered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ApiProbe {
    /// A `struct uprobe`.
    Handlers(*mut CUprobe),
    /// The `struct uprobe` that begins a `struct uretprobe`.
    Return(*mut CUprobe),
    /// The same of a `struct ujprobe`.
    Jump(*mut CUprobe),
    /// `uprobe_replace`: the replacement's address. Off until `Registry::enable`.
    Replace(u64),
}

impl ApiProbe {
    /// The caller's struct; a replacement has none.
    #[must_use]
    pub const fn up(&self) -> Option<*mut CUprobe> {
        match self {
            Self::Handlers(up) | Self::Return(up) | Self::Jump(up) => Some(*up),
            Self::Replace(_) => None,
        }
    }

    /// What its consumer is.
    #[must_use]
    pub const fn role(&self) -> Role {
        match self {
            Self::Handlers(up) => Role::Handlers(*up),
            Self::Return(up) => Role::Return(up.cast()),
            Self::Jump(up) => Role::Jump(up.cast()),
            Self::Replace(to) => Role::Replace(*to),
        }
    }

    /// Whether its handlers touch no vector register.
    #[must_use]
    pub fn spares_vectors(&self) -> bool {
        // SAFETY: registered: the struct is there.
        self.up().is_some_and(|up| unsafe { (*up).flags.load(Relaxed) } & FLAG_NOVEC != 0)
    }

    /// Whether each thread counts its hits for itself.
    #[must_use]
    pub fn counts_apart(&self) -> bool {
        // SAFETY: registered: the struct is there.
        self.up().is_some_and(|up| unsafe { (*up).flags.load(Relaxed) } & FLAG_PERTHREAD != 0)
    }

    /// Whether it is on as soon as it is registered.
    #[must_use]
    pub fn starts_enabled(&self) -> bool {
        // SAFETY: registered: the struct is there.
        self.up().is_some_and(|up| unsafe { (*up).flags.load(Relaxed) } & FLAG_DISABLED == 0)
    }

    /// Whether it must not be a jump.
    #[must_use]
    pub fn wants_int3(&self) -> bool {
        // SAFETY: registered: the struct is there.
        self.up().is_some_and(|up| unsafe { (*up).flags.load(Relaxed) } & FLAG_INT3 != 0)
    }

    /// Why it can't be at a place that others can be at.
    #[must_use]
    pub fn refusal(&self, file: &ElfFile, resolved: &Resolved) -> Option<Refusal> {
        match self {
            Self::Handlers(_) => None,
            Self::Return(_) => not_entry(resolved).or_else(|| return_denied(file, resolved)),
            Self::Jump(_) | Self::Replace(_) => not_entry(resolved),
        }
    }
}

/// Whether the place is its function's first instruction. Without a symbol and bounds: as the user says.
#[must_use]
pub fn is_entry(resolved: &Resolved) -> bool {
    match (&resolved.bounds, resolved.ifunc) {
        (Some(bounds), false) => bounds.start == resolved.link || resolved.symbol_offset == 0,
        _ => resolved.symbol_offset == 0,
    }
}

/// [`Refusal::NotFunctionEntry`] where it is not.
#[must_use]
pub fn not_entry(resolved: &Resolved) -> Option<Refusal> {
    (!is_entry(resolved)).then_some(Refusal::NotFunctionEntry { offset: resolved.symbol_offset })
}

/// [`Refusal::ReturnDenied`] where its return can't be followed.
#[must_use]
pub fn return_denied(file: &ElfFile, resolved: &Resolved) -> Option<Refusal> {
    let names: Vec<&str> =
        resolved.symbol.as_deref().into_iter().chain(file.names_at(resolved.link)).collect();
    denied::why_no_return_in(file, &names).map(|why| Refusal::ReturnDenied { why })
}
