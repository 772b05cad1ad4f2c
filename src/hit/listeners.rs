//! Who listens at a place, as one word: nearly always it is one consumer, and then that is all there is.
//!
//! ```text
//! 0                  nobody
//! &Consumer | 1      only this one
//! &ConsumerList      two or more
//! ```
//!
//! Readers are hits, which nothing is freed under that they may have read; the word changes under the registry's lock.

use std::sync::atomic::{AtomicPtr, Ordering::*};

use crate::hit::consumer::{Consumer, Mark};

/// In the word: a consumer, not a list.
const ONE: usize = 1;
const _: () = assert!(align_of::<Consumer>() > ONE && align_of::<ConsumerList>() > ONE);

/// The users of one place, in the order of registration. Immutable once published.
pub struct ConsumerList {
    /// All of them; the engine's own come last.
    all: Vec<*const Consumer>,
    /// Whether any wants to run after the instruction.
    wants_post: bool,
}

/// The word as it was read. Valid as long as the hit that has read it, or under the registry's lock.
#[derive(Clone, Copy)]
pub struct Listeners {
    word: *mut ConsumerList,
    /// Null where there is a list.
    only: *const Consumer,
}

/// The word of a place.
#[derive(Default)]
pub struct ListenerCell(AtomicPtr<ConsumerList>);

impl ListenerCell {
    /// Who listens now; `None`: nobody. Signal-safe.
    #[inline]
    #[must_use]
    pub fn load(&self) -> Option<Listeners> {
        Listeners::of(self.0.load(Acquire))
    }

    /// Nobody, or only this one, from now on. Returns the list that was there before, if it was one (else null):
    /// it is to be retired. The registry's lock must be held.
    pub fn publish(&self, only: Option<*const Consumer>) -> *mut ConsumerList {
        self.swap(
            only.map_or(std::ptr::null_mut(), |only| {
                only.map_addr(|address| address | ONE).cast_mut().cast()
            }),
        )
    }

    /// The same for several.
    pub fn publish_list(&self, list: Box<ConsumerList>) -> *mut ConsumerList {
        self.swap(Box::into_raw(list))
    }

    fn swap(&self, new: *mut ConsumerList) -> *mut ConsumerList {
        let old = self.0.swap(new, SeqCst);
        if old.addr() & ONE == 0 { old } else { std::ptr::null_mut() }
    }
}

impl ConsumerList {
    /// Two or more, alive.
    #[must_use]
    pub fn new(all: Vec<*const Consumer>) -> Self {
        // SAFETY: listed consumers are alive.
        let wants_post = all.iter().any(|consumer| unsafe { (**consumer).has(Mark::WantsPost) });
        Self { all, wants_post }
    }
}

impl Listeners {
    /// From [`Listeners::word`]. Whoever has kept it has kept from being freed what it means.
    #[inline]
    #[must_use]
    pub fn of(word: *mut ConsumerList) -> Option<Self> {
        let only = match word.addr() & ONE {
            0 if word.is_null() => return None,
            0 => std::ptr::null(),
            _ => word.map_addr(|address| address & !ONE).cast::<Consumer>().cast_const(),
        };
        Some(Self { word, only })
    }

    /// As it was read.
    #[must_use]
    pub const fn word(&self) -> *mut ConsumerList {
        self.word
    }

    /// All of them, at least one; the engine's own come last. Signal-safe.
    #[inline]
    #[must_use]
    pub fn all(&self) -> &[*const Consumer] {
        if !self.only.is_null() {
            return std::slice::from_ref(&self.only);
        }
        // SAFETY: a list, not freed meanwhile.
        unsafe { (*self.word).all.as_slice() }
    }

    /// Whether any wants to run after the instruction. Signal-safe.
    #[inline]
    #[must_use]
    pub fn wants_post(&self) -> bool {
        match self.only() {
            Some(only) => only.has(Mark::WantsPost),
            // SAFETY: a list, not freed meanwhile.
            None => unsafe { (*self.word).wants_post },
        }
    }

    /// The only one, where there is no other. Signal-safe.
    #[must_use]
    pub const fn only(&self) -> Option<&Consumer> {
        // SAFETY: null, or not freed meanwhile.
        unsafe { self.only.as_ref() }
    }

    /// The only consumer, where it is one that [`super::direct`] may call; else null.
    #[must_use]
    pub fn sole(&self) -> *const Consumer {
        match self.only() {
            Some(only) if only.call != 0 && !only.has(Mark::WantsPost) => self.only,
            _ => std::ptr::null(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hit::consumer::Role;

    #[test]
    fn one_needs_no_list_and_several_keep_their_order() {
        let consumers = [1, 2, 3].map(|to| Box::new(Consumer::new(Role::Replace(to))));
        let [a, b, c] = consumers.each_ref().map(|consumer| std::ptr::from_ref::<Consumer>(consumer));
        let cell = ListenerCell::default();
        assert!(cell.load().is_none());
        assert!(cell.publish(Some(a)).is_null());
        let one = cell.load().expect("one");
        assert_eq!(one.all(), [a]);
        assert!(one.only().is_some() && one.sole().is_null() && !one.wants_post());
        assert!(
            cell.publish_list(Box::new(ConsumerList::new(vec![b, a, c]))).is_null(),
            "what was there is no list"
        );
        let several = cell.load().expect("three");
        assert_eq!(several.all(), [b, a, c]);
        assert!(several.only().is_none() && several.sole().is_null());
        let list = cell.publish(None);
        assert_eq!(list, several.word());
        // SAFETY: nobody reads it any more.
        drop(unsafe { Box::from_raw(list) });
        assert!(cell.load().is_none());
    }
}
