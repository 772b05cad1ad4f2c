//! What many places have in common, and so is kept once: places and detours are never freed, and there may be very many.

use crate::few::Few;
use crate::hit::detour::{Detour, JUMP_LEN};
use crate::hit::point::ProbePoint;
use crate::insn::{DisplacedInsn, Relocated};
use crate::sys::{FixedHashMap, Shelf};

/// Instructions of the same bytes that differ, by where they lead to, are looked through up to so many.
const MOST_ALIKE: usize = 8;

/// Found again by what they are.
#[derive(Default)]
pub(super) struct Shared {
    insns: FixedHashMap<[u8; 15], Few<DisplacedInsn>>,
    layouts: FixedHashMap<&'static Relocated<JUMP_LEN>, ()>,
    /// The detours of places that have several, by the place's address in our memory.
    several: FixedHashMap<usize, Few<Detour>>,
}

impl Shared {
    /// `displaced` at no place.
    pub(super) fn insn(&mut self, displaced: &DisplacedInsn, shelf: &mut Shelf) -> &'static DisplacedInsn {
        let insn = displaced.at_other(0);
        let alike = self.insns.entry(insn.bytes).or_default();
        if let Some(known) = alike.iter().find(|known| ***known == insn) {
            return known;
        }
        let kept = shelf.keep(insn);
        if alike.len() < MOST_ALIKE {
            alike.push(kept);
        }
        kept
    }

    /// `relocated` from no place to no other.
    pub(super) fn layout(
        &mut self,
        relocated: &Relocated<JUMP_LEN>,
        shelf: &mut Shelf,
    ) -> &'static Relocated<JUMP_LEN> {
        let layout = relocated.at_other(0, 0);
        if let Some((known, ())) = self.layouts.get_key_value(&layout) {
            return known;
        }
        let kept = shelf.keep(layout);
        self.layouts.insert(kept, ());
        kept
    }

    /// All detours that were ever made for a place. The registry's lock must be held.
    pub(super) fn detours_of(&self, point: &ProbePoint) -> impl Iterator<Item = &'static Detour> + use<'_> {
        let several = self.several.get(&std::ptr::from_ref(point).addr());
        let only = if several.is_none() { point.detour() } else { None };
        several.into_iter().flat_map(|several| several.iter().copied()).chain(only)
    }

    /// A new one of a place, before it becomes the present one.
    pub(super) fn add_detour(&mut self, point: &ProbePoint, new: &'static Detour) {
        if let Some(first) = point.detour() {
            let several = self.several.entry(std::ptr::from_ref(point).addr()).or_default();
            if several.is_empty() {
                several.push(first);
            }
            several.push(new);
        }
    }
}
