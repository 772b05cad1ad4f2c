//! Functions whose return can't be followed.

/// Why the return of a function called `names` in `object` (soname or path) can't be followed.
#[must_use]
pub const fn why_no_return(_object: &str, _names: &[&str]) -> Option<&'static str> {
    None
}
