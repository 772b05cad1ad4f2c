//! A place as a program names it by the fields of a struct, kept small: there may be very many.

use std::fmt;

use super::{ObjectPattern, Place, SymbolPattern, Target};
use crate::thin::ThinBytes;

/// An object, and in it a symbol and the distance from it, or an offset in the file.
///
/// ```text
/// what is there, 1 | offset, 8 | length of the object, 2 | object | symbol
/// ```
///
/// The program itself and an offset of 0 take nothing.
#[repr(transparent)]
pub struct Label(ThinBytes);

/// In the first byte.
const HAS_OFFSET: u8 = 1;
const HAS_OBJECT: u8 = 2;
const IS_SYMBOL: u8 = 4;

/// The program itself.
const EXE: &str = "exe";

/// What a label says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Parts<'a> {
    object: &'a str,
    symbol: Option<&'a str>,
    offset: u64,
}

impl Label {
    /// Object (none: the program) and symbol (none: `offset` is in the file).
    #[must_use]
    pub fn new(object: Option<&str>, symbol: Option<&str>, offset: u64) -> Self {
        let object = object.filter(|object| *object != EXE).unwrap_or_default();
        // No file has a name as long.
        let most =
            (0..=object.len().min(usize::from(u16::MAX))).rev().find(|at| object.is_char_boundary(*at));
        let object = &object[..most.unwrap_or_default()];
        let flag = |is: bool, flag: u8| if is { flag } else { 0 };
        let flags = flag(offset != 0, HAS_OFFSET)
            | flag(!object.is_empty(), HAS_OBJECT)
            | flag(symbol.is_some(), IS_SYMBOL);
        let offset_bytes = offset.to_le_bytes();
        let object_len = (object.len() as u16).to_le_bytes();
        Self(ThinBytes::new(&[
            &[flags],
            if offset == 0 { &[] } else { &offset_bytes },
            if object.is_empty() { &[] } else { &object_len },
            object.as_bytes(),
            symbol.unwrap_or_default().as_bytes(),
        ]))
    }

    fn parts(&self) -> Parts<'_> {
        self.read().unwrap_or(Parts { object: EXE, symbol: None, offset: 0 })
    }

    /// Never `None`: it is as it was made.
    fn read(&self) -> Option<Parts<'_>> {
        let (flags, mut rest) = self.0.split_first()?;
        let mut offset = 0;
        if flags & HAS_OFFSET != 0 {
            let (bytes, behind) = rest.split_first_chunk()?;
            (offset, rest) = (u64::from_le_bytes(*bytes), behind);
        }
        let mut object = EXE;
        if flags & HAS_OBJECT != 0 {
            let (len, behind) = rest.split_first_chunk()?;
            let (name, behind) = behind.split_at_checked(usize::from(u16::from_le_bytes(*len)))?;
            (object, rest) = (std::str::from_utf8(name).ok()?, behind);
        }
        let symbol = if flags & IS_SYMBOL != 0 { Some(std::str::from_utf8(rest).ok()?) } else { None };
        Some(Parts { object, symbol, offset })
    }

    /// As what is to be resolved.
    #[must_use]
    pub fn place(&self) -> Place {
        let Parts { object, symbol, offset } = self.parts();
        let object = match object {
            EXE => ObjectPattern::Exe,
            path if path.contains('/') => ObjectPattern::Path(path.to_owned()),
            name => ObjectPattern::Name(name.to_owned()),
        };
        let target = match symbol {
            Some(symbol) => Target::Symbol { pattern: SymbolPattern::Exact(symbol.to_owned()), offset },
            None => Target::FileOffset(offset),
        };
        Place { object, target }
    }

    /// As messages name it: the object, a colon, the symbol or nothing, and a number behind it with what stands
    /// between. Signal-safe.
    #[must_use]
    pub fn written(&self) -> (&str, &str, Option<(&'static str, u64)>) {
        let Parts { object, symbol, offset } = self.parts();
        let number = match (symbol, offset) {
            (Some(_), 0) => None,
            (Some(_), offset) => Some(("+0x", offset)),
            (None, offset) => Some(("0x", offset)),
        };
        (object, symbol.unwrap_or_default(), number)
    }
}

impl Clone for Label {
    fn clone(&self) -> Self {
        Self(ThinBytes::new(&[&self.0]))
    }
}

impl fmt::Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts().fmt(f)
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (object, symbol, number) = self.written();
        write!(f, "{object}:{symbol}")?;
        number.map_or(Ok(()), |(between, number)| write!(f, "{between}{number:x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::Label;

    #[test]
    fn labels_mean_what_they_are_written_as() {
        for (object, symbol, offset, written) in [
            (None, Some("main"), 0, "exe:main"),
            (Some("exe"), Some("main"), 4, "exe:main+0x4"),
            (Some("libc.so.6"), Some("puts"), 0, "libc.so.6:puts"),
            (Some("/lib/a:b.so"), None, 0x4710, "/lib/a:b.so:0x4710"),
            (None, None, 0, "exe:0x0"),
        ] {
            let label = Label::new(object, symbol, offset);
            assert_eq!(label.to_string(), written);
            if !written.contains("a:b") {
                assert_eq!(Ok(label.place()), parse(written), "{written}");
            }
        }
    }
}
