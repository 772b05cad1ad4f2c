//! File names with `%`: one config serves a whole tree of processes.

use crate::syntax::SyntaxError;

/// What the `%` forms stand for.
#[derive(Clone, Copy, Debug)]
pub struct TemplateVars<'a> {
    /// `%p`
    pub pid: u32,
    /// `%e`: the program's file name.
    pub program: &'a str,
    /// `%t`: when the process was started, seconds since 1970.
    pub start_unix_secs: u64,
}

/// The path with `%p`, `%e`, `%t` and `%%` replaced. Anything else after a `%` stays as it is
/// (`check` has said so before). A `/` in the program's name becomes `!`, as in core files.
#[must_use]
pub fn expand(path: &str, vars: &TemplateVars<'_>) -> String {
    let mut out = String::with_capacity(path.len() + 16);
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        rest = from.get(2..).unwrap_or_default();
        match from.as_bytes().get(1) {
            Some(b'p') => out.push_str(&vars.pid.to_string()),
            Some(b'e') => out.extend(vars.program.chars().map(|c| if c == '/' { '!' } else { c })),
            Some(b't') => out.push_str(&vars.start_unix_secs.to_string()),
            Some(b'%') => out.push('%'),
            _ => {
                out.push('%');
                rest = from.get(1..).unwrap_or_default();
            }
        }
    }
    out.push_str(rest);
    out
}

/// Whether every `%` of the path is one of ours.
///
/// # Errors
/// Names the first that isn't.
pub fn check(path: &str) -> Result<(), SyntaxError> {
    let mut chars = path.char_indices();
    while let Some((at, c)) = chars.next() {
        if c != '%' {
            continue;
        }
        match chars.next() {
            Some((_, 'p' | 'e' | 't' | '%')) => {}
            Some((_, c)) => {
                let message = format!("unknown '%{c}' in a path: %p, %e, %t and %% are known");
                return Err(SyntaxError::new(at, 1 + c.len_utf8(), message));
            }
            None => {
                return Err(SyntaxError::new(at, 1, "'%' at the end of a path: write %% for a percent sign"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const VARS: TemplateVars<'_> = TemplateVars { pid: 4242, program: "ls", start_unix_secs: 1_700_000_000 };

    #[test]
    fn expands() {
        for (path, expected) in [
            ("", ""),
            ("plain.log", "plain.log"),
            ("app.%p.log", "app.4242.log"),
            ("%e-%t-%p", "ls-1700000000-4242"),
            ("100%%", "100%"),
            ("%%p", "%p"),
            ("a%x%", "a%x%"),
            ("%é%p", "%é4242"),
            ("é%pé", "é4242é"),
        ] {
            assert_eq!(expand(path, &VARS), expected, "{path}");
        }
        assert_eq!(expand("%e", &TemplateVars { program: "a/b", ..VARS }), "a!b");
    }

    #[test]
    fn checks() {
        for good in ["", "x", "%p%e%t%%", "é%pé"] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for (bad, at, len, message) in [
            ("a%x", 1, 2, "unknown '%x' in a path: %p, %e, %t and %% are known"),
            ("%%%é", 2, 3, "unknown '%é' in a path: %p, %e, %t and %% are known"),
            ("log.%", 4, 1, "'%' at the end of a path: write %% for a percent sign"),
        ] {
            assert_eq!(check(bad), Err(SyntaxError::new(at, len, message)), "{bad}");
        }
    }
}
