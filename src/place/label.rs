//! A place as a program names it by the fields of a struct, kept small: there may be very many.

use std::fmt;

use super::{ObjectPattern, Place, SymbolPattern, Target};

/// An object, and in it a symbol and the distance from it, or an offset in the file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Label {
    /// The object, a colon, the symbol.
    text: Box<str>,
    offset: u64,
    object_len: u32,
    is_symbol: bool,
}

/// The program itself.
const EXE: &str = "exe";

impl Label {
    /// Object (none: the program) and symbol (none: `offset` is in the file).
    #[must_use]
    pub fn new(object: Option<&str>, symbol: Option<&str>, offset: u64) -> Self {
        let object = object.unwrap_or(EXE);
        let text = format!("{object}:{}", symbol.unwrap_or_default());
        let object_len = u32::try_from(object.len()).unwrap_or_default();
        Self { text: text.into_boxed_str(), offset, object_len, is_symbol: symbol.is_some() }
    }

    /// The object's part, and the symbol's.
    fn parts(&self) -> (&str, &str) {
        let (object, symbol) = self.text.split_at_checked(self.object_len as usize).unwrap_or_default();
        (object, symbol.get(1..).unwrap_or_default())
    }

    /// As what is to be resolved.
    #[must_use]
    pub fn place(&self) -> Place {
        let (object, symbol) = self.parts();
        let object = match object {
            EXE => ObjectPattern::Exe,
            path if path.contains('/') => ObjectPattern::Path(path.to_owned()),
            name => ObjectPattern::Name(name.to_owned()),
        };
        let target = if self.is_symbol {
            Target::Symbol { pattern: SymbolPattern::Exact(symbol.to_owned()), offset: self.offset }
        } else {
            Target::FileOffset(self.offset)
        };
        Place { object, target }
    }

    /// As messages name it: a text, and a number behind it with what stands between. Signal-safe.
    #[must_use]
    pub fn written(&self) -> (&str, Option<(&'static str, u64)>) {
        let number = match (self.is_symbol, self.offset) {
            (true, 0) => None,
            (true, offset) => Some(("+0x", offset)),
            (false, offset) => Some(("0x", offset)),
        };
        (&self.text, number)
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (text, number) = self.written();
        f.write_str(text)?;
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
