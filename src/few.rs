//! Lists that nearly always have one element, without memory of their own as long as that is so.

use std::ops::Deref;

/// None, one, or more, in order.
#[derive(Clone, Debug, Default)]
pub enum Few<T> {
    /// None.
    #[default]
    None,
    /// One.
    One(T),
    /// Two or more, or what is left of them.
    Many(Box<Vec<T>>),
}

impl<T> Few<T> {
    /// Appends one.
    pub fn push(&mut self, new: T) {
        *self = match std::mem::take(self) {
            Self::None => Self::One(new),
            Self::One(first) => Self::Many(Box::new(vec![first, new])),
            Self::Many(mut all) => {
                all.push(new);
                Self::Many(all)
            }
        };
    }

    /// Keeps those for which `is_kept` holds.
    pub fn retain(&mut self, mut is_kept: impl FnMut(&T) -> bool) {
        match self {
            Self::None => {}
            Self::One(one) => {
                if !is_kept(one) {
                    *self = Self::None;
                }
            }
            Self::Many(all) => all.retain(is_kept),
        }
    }

    /// Keeps none.
    pub fn clear(&mut self) {
        *self = Self::None;
    }

    /// All of them. Signal-safe.
    #[inline]
    #[must_use]
    pub fn as_slice(&self) -> &[T] {
        match self {
            Self::None => &[],
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(all) => all,
        }
    }
}

impl<T> Deref for Few<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        self.as_slice()
    }
}

impl<'a, T> IntoIterator for &'a Few<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<T> From<Vec<T>> for Few<T> {
    fn from(mut all: Vec<T>) -> Self {
        match all.len() {
            0 => Self::None,
            1 => all.pop().map_or(Self::None, Self::One),
            _ => Self::Many(Box::new(all)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Few;

    #[test]
    fn any_number_is_kept_in_order() {
        let mut few = Few::default();
        for n in 0..5 {
            assert_eq!(few.as_slice(), (0..n).collect::<Vec<_>>());
            assert_eq!(Few::from((0..n).collect::<Vec<_>>()).as_slice(), few.as_slice());
            few.push(n);
        }
        few.retain(|n| n % 2 == 1);
        assert_eq!(few.as_slice(), [1, 3]);
        few.retain(|n| *n == 3);
        few.push(7);
        assert_eq!(few.as_slice(), [3, 7]);
        few.clear();
        few.push(9);
        few.retain(|_| false);
        assert!(few.is_empty());
        assert_eq!(size_of::<Few<u64>>(), 16);
    }
}
