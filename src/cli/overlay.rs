//! The config a program gets when `-e` or an option adds to the file's: one TOML text,
//! passed inline, so that no temporary file is needed.

use std::fmt::Write as _;

use toml::de::{DeTable, DeValue};

/// Before a config that is given in `UPROBES` itself, not in a file.
pub const INLINE: &str = "toml:";
/// The kernel's limit on one string of the environment (MAX_ARG_STRLEN), less our part.
pub const MOST_INLINE: usize = 128 * 1024 - 64;

/// What options put in place of the file's keys.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Overrides {
    /// `[output] path`
    pub output: Option<String>,
    /// `[output] format`
    pub format: Option<String>,
    /// `[summary] path`
    pub summary: Option<String>,
    /// `[summary] format`
    pub summary_format: Option<String>,
}

impl Overrides {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The text `base` with the probes of `more` (each a TOML text of its own) at its end, and
/// the overrides in place.
///
/// Where that does, the text is only appended to, so that line numbers stay right;
/// otherwise it is written anew.
///
/// # Errors
/// `base` is no TOML.
pub fn combine(base: &str, more: &[String], overrides: &Overrides) -> Result<String, toml::de::Error> {
    if overrides.is_empty() {
        let mut text = base.to_owned();
        for one in more {
            let _ = write!(text, "\n{one}");
        }
        if DeTable::parse(&text).is_ok() {
            return Ok(text);
        }
    }
    let base = DeTable::parse(base)?;
    let more = more.iter().map(|text| DeTable::parse(text)).collect::<Result<Vec<_>, _>>()?;
    let more: Vec<&DeTable<'_>> = more.iter().map(|table| table.get_ref()).collect();
    Ok(rewrite(base.get_ref(), &more, overrides))
}

fn rewrite(base: &DeTable<'_>, more: &[&DeTable<'_>], overrides: &Overrides) -> String {
    let mut text = String::new();
    // Top-level keys before the first table header: where every plain one belongs.
    for (key, one) in base {
        if !matches!(key.get_ref().as_ref(), "output" | "summary" | "probe") {
            entry(&mut text, key.get_ref(), one.get_ref());
        }
    }
    for (name, path, format) in [
        ("output", &overrides.output, &overrides.format),
        ("summary", &overrides.summary, &overrides.summary_format),
    ] {
        let _ = writeln!(text, "[{name}]");
        if let Some(DeValue::Table(table)) = base.get(name).map(toml::Spanned::get_ref) {
            for (key, one) in table {
                let key = key.get_ref().as_ref();
                if !(key == "path" && path.is_some() || key == "format" && format.is_some()) {
                    entry(&mut text, key, one.get_ref());
                }
            }
        }
        for (key, given) in [("path", path), ("format", format)] {
            if let Some(given) = given {
                let _ = write!(text, "{key} = ");
                string(&mut text, given);
                text.push('\n');
            }
        }
    }
    for table in std::iter::once(&base).chain(more) {
        if let Some(DeValue::Array(probes)) = table.get("probe").map(toml::Spanned::get_ref) {
            for probe in probes {
                text.push_str("[[probe]]\n");
                if let DeValue::Table(keys) = probe.get_ref() {
                    for (key, one) in keys {
                        entry(&mut text, key.get_ref(), one.get_ref());
                    }
                }
            }
        }
    }
    text
}

fn entry(text: &mut String, key: &str, one: &DeValue<'_>) {
    string(text, key);
    text.push_str(" = ");
    value(text, one);
    text.push('\n');
}

fn value(text: &mut String, one: &DeValue<'_>) {
    let _ = match one {
        DeValue::String(s) => {
            string(text, s);
            Ok(())
        }
        DeValue::Integer(n) => write!(text, "{n}"),
        DeValue::Float(n) => write!(text, "{n}"),
        DeValue::Boolean(b) => write!(text, "{b}"),
        DeValue::Datetime(d) => write!(text, "{d}"),
        DeValue::Array(array) => {
            text.push('[');
            for (i, item) in array.iter().enumerate() {
                text.push_str(if i == 0 { "" } else { ", " });
                value(text, item.get_ref());
            }
            text.push(']');
            Ok(())
        }
        DeValue::Table(table) => {
            text.push('{');
            for (i, (key, item)) in table.iter().enumerate() {
                text.push_str(if i == 0 { " " } else { ", " });
                string(text, key.get_ref());
                text.push_str(" = ");
                value(text, item.get_ref());
            }
            text.push_str(" }");
            Ok(())
        }
    };
}

/// A basic string of TOML.
pub fn string(text: &mut String, s: &str) {
    text.push('"');
    for c in s.chars() {
        let _ = match c {
            '"' | '\\' => write!(text, "\\{c}"),
            '\n' => write!(text, "\\n"),
            '\t' => write!(text, "\\t"),
            c if c.is_control() => write!(text, "\\u{:04X}", u32::from(c)),
            c => write!(text, "{c}"),
        };
    }
    text.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "# a comment\nfollow = false\n\n[output]\npath = \"a\" # here\nformat = \"json\"\n\n\
        [[probe]]\nat = \"libc.so.6:openat\"\nargs = [\"p=$arg2:string\", \"f=$arg3:x32\"]\nlimit = 0x10\n";
    const MORE: &str = "[[probe]]\ndef = 'p exe:main'\n";

    fn more() -> Vec<String> {
        vec![MORE.to_owned()]
    }

    #[test]
    fn appends_where_it_can() {
        let text = combine(BASE, &more(), &Overrides::default()).expect("good TOML");
        assert_eq!(text, format!("{BASE}\n{MORE}"));
        assert_eq!(combine("", &[], &Overrides::default()).expect("good TOML"), "");
    }

    #[test]
    fn writes_anew_where_it_must() {
        let overrides = Overrides {
            output: Some("x \"y\"\\\n.log".into()),
            summary: Some("s.json".into()),
            summary_format: Some("json".into()),
            ..Overrides::default()
        };
        let text = combine(BASE, &more(), &overrides).expect("good TOML");
        let expected = "\"follow\" = false\n\
            [output]\n\"format\" = \"json\"\npath = \"x \\\"y\\\"\\\\\\n.log\"\n\
            [summary]\npath = \"s.json\"\nformat = \"json\"\n\
            [[probe]]\n\"args\" = [\"p=$arg2:string\", \"f=$arg3:x32\"]\n\"at\" = \"libc.so.6:openat\"\n\"limit\" = 0x10\n\
            [[probe]]\n\"def\" = \"p exe:main\"\n";
        assert_eq!(text, expected);
        assert!(DeTable::parse(&text).is_ok());
    }

    #[test]
    fn probes_as_an_inline_array_can_be_added_to() {
        let base = "probe = [{ at = \"exe:a\", sample = 2 }]\n";
        let text = combine(base, &more(), &Overrides::default()).expect("good TOML");
        assert_eq!(
            text,
            "[output]\n[summary]\n[[probe]]\n\"at\" = \"exe:a\"\n\"sample\" = 2\n[[probe]]\n\"def\" = \"p exe:main\"\n"
        );
    }

    #[test]
    fn bad_toml_is_an_error() {
        assert!(combine("[output", &[], &Overrides::default()).is_err());
    }
}
