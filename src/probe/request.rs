//! One probe as asked for, and where it was found.

use crate::error::Refusal;
use crate::place::Label;
use crate::probe::instance::{Maker, ModuleKey};

/// One probe as asked for; a pattern may stand for many places. There may be very many of one place each.
pub struct Request {
    /// What it is made from.
    pub maker: Maker,
    found: Found,
}

/// What was found of a request.
enum Found {
    /// Nothing, and nothing was looked for yet. Of the C API: where it shall be.
    Nothing(Option<Label>),
    /// In one object one place.
    One { object: ModuleKey, instance: u32 },
    /// All else.
    Else(Box<Search>),
}

/// How a search went that is not as simple.
#[derive(Default)]
struct Search {
    /// The objects it was resolved in already.
    resolved: Vec<ModuleKey>,
    /// Its places, by number in the registry.
    instances: Vec<u32>,
    /// Why it has none.
    refusal: Option<Refusal>,
    /// IFUNCs have chosen some of its places.
    has_chosen: bool,
    /// As [`Found::Nothing`]'s.
    label: Option<Label>,
}

impl Request {
    /// Not looked for yet. `label`: of one of the C API.
    pub(super) const fn new(maker: Maker, label: Option<Label>) -> Self {
        Self { maker, found: Found::Nothing(label) }
    }

    /// Its places, by number in the registry.
    #[must_use]
    pub fn instances(&self) -> &[u32] {
        match &self.found {
            Found::Nothing(_) => &[],
            Found::One { instance, .. } => std::slice::from_ref(instance),
            Found::Else(search) => &search.instances,
        }
    }

    /// Why it has none.
    #[must_use]
    pub fn refusal(&self) -> Option<&Refusal> {
        match &self.found {
            Found::Else(search) => search.refusal.as_ref(),
            _ => None,
        }
    }

    /// The objects it was resolved in already.
    pub(super) fn resolved(&self) -> &[ModuleKey] {
        match &self.found {
            Found::Nothing(_) => &[],
            Found::One { object, .. } => std::slice::from_ref(object),
            Found::Else(search) => &search.resolved,
        }
    }

    /// Whether IFUNCs have chosen some of its places.
    pub(super) const fn has_chosen(&self) -> bool {
        match &self.found {
            Found::Else(search) => search.has_chosen,
            _ => false,
        }
    }

    /// Of the C API: where it shall be, as long as it has no instance, whose consumer has it then.
    pub(super) const fn label(&self) -> Option<&Label> {
        match &self.found {
            Found::Nothing(label) => label.as_ref(),
            Found::One { .. } => None,
            Found::Else(search) => search.label.as_ref(),
        }
    }

    /// See [`Request::label`].
    pub(super) fn take_label(&mut self) -> Option<Label> {
        match &mut self.found {
            Found::Nothing(label) => label.take(),
            Found::One { .. } => None,
            Found::Else(search) => search.label.take(),
        }
    }

    pub(super) fn set_refusal(&mut self, refusal: Option<Refusal>) {
        if refusal.is_some() || self.refusal().is_some() {
            self.change(|search| search.refusal = refusal);
        }
    }

    /// It has a place more.
    pub(super) fn add_instance(&mut self, instance: u32) {
        self.change(|search| search.instances.push(instance));
    }

    /// It was resolved in an object.
    pub(super) fn add_resolved(&mut self, object: ModuleKey) {
        self.change(|search| search.resolved.push(object));
    }

    /// It is to be resolved anew in all other objects.
    pub(super) fn retain_resolved(&mut self, is_kept: impl Fn(ModuleKey) -> bool) {
        if !self.resolved().iter().all(|object| is_kept(*object)) {
            self.change(|search| search.resolved.retain(|object| is_kept(*object)));
        }
    }

    /// IFUNCs have chosen some of its places.
    pub(super) fn choose(&mut self) {
        if !self.has_chosen() {
            self.change(|search| search.has_chosen = true);
        }
    }

    /// Its instances have other numbers now, those that are left.
    pub(super) fn renumber(&mut self, new: impl Fn(u32) -> Option<u32>) {
        self.change(|search| {
            search.instances = search.instances.iter().filter_map(|old| new(*old)).collect();
        });
    }

    /// Changes it as if it were not simple, and keeps it as simple as it is then.
    fn change(&mut self, change: impl FnOnce(&mut Search)) {
        let mut search = match std::mem::replace(&mut self.found, Found::Nothing(None)) {
            Found::Nothing(label) => Box::new(Search { label, ..Search::default() }),
            Found::One { object, instance } => {
                Box::new(Search { resolved: vec![object], instances: vec![instance], ..Search::default() })
            }
            Found::Else(search) => search,
        };
        change(&mut search);
        self.found = match (search.resolved.as_slice(), search.instances.as_slice()) {
            ([object], [instance])
                if search.refusal.is_none() && !search.has_chosen && search.label.is_none() =>
            {
                Found::One { object: *object, instance: *instance }
            }
            _ => Found::Else(search),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::api::ApiProbe;

    #[test]
    fn what_is_simple_takes_little_and_nothing_is_lost_on_the_way() {
        let label = Label::new(None, Some("main"), 0);
        let mut request = Request::new(Maker::Api(ApiProbe::Replace(1)), Some(label));
        assert!(request.label().is_some() && request.instances().is_empty());
        request.set_refusal(Some(Refusal::IfuncNotReady));
        assert_eq!(request.refusal(), Some(&Refusal::IfuncNotReady));
        assert_eq!(request.label().map(Label::to_string).as_deref(), Some("exe:main"));
        request.set_refusal(None);
        assert!(request.take_label().is_some() && request.label().is_none());
        request.add_resolved(3);
        request.add_instance(7);
        assert!(matches!(request.found, Found::One { object: 3, instance: 7 }));
        request.renumber(|old| Some(old + 1));
        assert!(matches!(request.found, Found::One { object: 3, instance: 8 }));
        request.choose();
        request.add_resolved(4);
        request.add_instance(9);
        assert_eq!((request.resolved(), request.instances()), (&[3, 4][..], &[8, 9][..]));
        request.retain_resolved(|object| object != 3);
        assert_eq!(request.resolved(), [4]);
        assert!(request.has_chosen());
        assert!(size_of::<Option<Request>>() <= 32);
    }
}
