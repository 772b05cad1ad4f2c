//! Lists that nearly always have one element, without memory of their own as long as that is so.

use std::marker::PhantomData;
use std::ops::Deref;

/// None, one, or more of what lives for ever, in order, in one word.
///
/// ```text
/// 0                  none
/// &T                 one
/// Box<Vec<&T>> | 1   two or more, or what is left of them
/// ```
pub struct Few<T: 'static> {
    word: *mut Vec<&'static T>,
    elements: PhantomData<Vec<&'static T>>,
}

/// In the word.
const MANY: usize = 1;

// SAFETY: as the references it stands for.
unsafe impl<T: Sync> Send for Few<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Few<T> {}

impl<T> Few<T> {
    /// References are even.
    const IS_TAGGABLE: () = assert!(align_of::<T>() > MANY);

    /// None.
    #[must_use]
    pub const fn new() -> Self {
        const { Self::IS_TAGGABLE };
        Self { word: std::ptr::null_mut(), elements: PhantomData }
    }

    fn many(&self) -> Option<*mut Vec<&'static T>> {
        (self.word.addr() & MANY != 0).then(|| self.word.map_addr(|address| address & !MANY))
    }

    /// Appends one.
    pub fn push(&mut self, new: &'static T) {
        if let Some(many) = self.many() {
            // SAFETY: ours alone.
            unsafe { (*many).push(new) };
        } else if let Some(first) = self.first().copied() {
            self.word = Box::into_raw(Box::new(vec![first, new])).map_addr(|address| address | MANY);
        } else {
            self.word = std::ptr::from_ref(new).cast_mut().cast();
        }
    }

    /// Keeps those for which `is_kept` holds.
    pub fn retain(&mut self, mut is_kept: impl FnMut(&&'static T) -> bool) {
        if let Some(many) = self.many() {
            // SAFETY: ours alone.
            unsafe { (*many).retain(is_kept) };
        } else if self.first().is_some_and(|one| !is_kept(one)) {
            self.word = std::ptr::null_mut();
        }
    }

    /// Keeps none.
    pub fn clear(&mut self) {
        *self = Self::new();
    }
}

impl<T> Deref for Few<T> {
    type Target = [&'static T];

    fn deref(&self) -> &[&'static T] {
        match self.many() {
            // SAFETY: ours, as long as we are.
            Some(many) => unsafe { &*many },
            None if self.word.is_null() => &[],
            // SAFETY: the word is just such a reference.
            None => std::slice::from_ref(unsafe { &*(&raw const self.word).cast::<&'static T>() }),
        }
    }
}

impl<T> Default for Few<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Drop for Few<T> {
    fn drop(&mut self) {
        if let Some(many) = self.many() {
            // SAFETY: from a box, and nobody else's.
            drop(unsafe { Box::from_raw(many) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Few;

    #[test]
    fn any_number_of_references_is_kept_in_order() {
        static ALL: [u64; 5] = [0, 1, 2, 3, 4];
        let mut few = Few::default();
        for (n, one) in ALL.iter().enumerate() {
            assert!(few.iter().copied().eq(&ALL[..n]));
            few.push(one);
        }
        few.retain(|n| **n % 2 == 1);
        assert_eq!(*few, [&1, &3]);
        few.push(&ALL[0]);
        assert_eq!(*few, [&1, &3, &0]);
        few.clear();
        assert!(few.is_empty());
        few.push(&ALL[4]);
        few.retain(|_| true);
        assert_eq!(*few, [&4]);
        few.retain(|_| false);
        assert!(few.is_empty());
        assert_eq!(size_of::<Few<u64>>(), size_of::<usize>());
    }
}
