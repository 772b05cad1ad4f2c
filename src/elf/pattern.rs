//! Matching names: globs, regular expressions, and which objects an [`ObjectPattern`] means.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use regex_automata::Input;
use regex_automata::meta::{BuildError, Cache, Config, Regex};

use super::demangle::{Demangler, Prefilter};
use crate::place::ObjectPattern;

/// A shell pattern over the whole name: `*`, `?`, `[a-z]`, `[!a-z]`, and `\` before a character
/// that is meant as it is. A `[` without its `]` is meant as it is, too.
#[derive(Clone, Debug)]
pub struct Glob {
    tokens: Vec<Token>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Token {
    Byte(u8),
    Any,
    Star,
    Class { negated: bool, ranges: Vec<(u8, u8)> },
}

impl Token {
    fn accepts(&self, byte: u8) -> bool {
        match self {
            Self::Byte(wanted) => *wanted == byte,
            Self::Any | Self::Star => true,
            Self::Class { negated, ranges } => {
                ranges.iter().any(|&(low, high)| low <= byte && byte <= high) != *negated
            }
        }
    }
}

impl Glob {
    /// Compiles a pattern. Every text is one.
    #[must_use]
    pub fn new(pattern: &str) -> Self {
        let mut tokens = Vec::with_capacity(pattern.len());
        let mut rest = pattern.as_bytes();
        while let Some((&first, after)) = rest.split_first() {
            rest = after;
            let token = match first {
                b'*' => Token::Star,
                b'?' => Token::Any,
                b'\\' => match after.split_first() {
                    Some((&escaped, after)) => {
                        rest = after;
                        Token::Byte(escaped)
                    }
                    None => Token::Byte(b'\\'),
                },
                b'[' => match class(after) {
                    Some((token, after)) => {
                        rest = after;
                        token
                    }
                    None => Token::Byte(b'['),
                },
                byte => Token::Byte(byte),
            };
            // Two stars are one: so the time is at most pattern times name.
            if token != Token::Star || tokens.last() != Some(&Token::Star) {
                tokens.push(token);
            }
        }
        Self { tokens }
    }

    /// Whether the whole of `name` matches.
    #[must_use]
    pub fn is_match(&self, name: &str) -> bool {
        let name = name.as_bytes();
        let (mut at, mut token) = (0, 0);
        // The last star, and how much of the name it has swallowed: a mismatch makes it swallow one more.
        let mut star: Option<(usize, usize)> = None;
        while at < name.len() {
            match self.tokens.get(token) {
                Some(Token::Star) => {
                    star = Some((token, at));
                    token += 1;
                }
                Some(wanted) if wanted.accepts(name[at]) => {
                    at += 1;
                    token += 1;
                }
                _ => {
                    let Some((star_token, swallowed)) = star else { return false };
                    star = Some((star_token, swallowed + 1));
                    (at, token) = (swallowed + 1, star_token + 1);
                }
            }
        }
        self.tokens[token..].iter().all(|token| *token == Token::Star)
    }

    /// The parts of the pattern that stand for themselves.
    fn literals(&self) -> Vec<String> {
        let mut literals = vec![String::new()];
        for token in &self.tokens {
            match token {
                Token::Byte(byte) if byte.is_ascii() => {
                    literals.last_mut().unwrap_or(&mut String::new()).push(char::from(*byte))
                }
                _ => literals.push(String::new()),
            }
        }
        literals
    }
}

/// What stands between `[` and `]`, and what comes after.
fn class(text: &[u8]) -> Option<(Token, &[u8])> {
    let negated = matches!(text.first(), Some(b'!' | b'^'));
    let text = &text[usize::from(negated)..];
    // A ] that comes first is meant as it is.
    let end = 1 + text.get(1..)?.iter().position(|&b| b == b']')?;
    let mut inside = &text[..end];
    let mut ranges = Vec::new();
    loop {
        match *inside {
            [low, b'-', high, ref rest @ ..] => {
                ranges.push((low, high));
                inside = rest;
            }
            [byte, ref rest @ ..] => {
                ranges.push((byte, byte));
                inside = rest;
            }
            [] => return Some((Token::Class { negated, ranges }, &text[end + 1..])),
        }
    }
}

/// A pattern over symbol names, which matches the mangled or the demangled name.
pub struct SymbolMatcher {
    kind: Kind,
    prefilter: Prefilter,
    /// Also matches the parts split off.
    cold: bool,
    /// A name without parameters may match where the one with them doesn't.
    base: bool,
}

enum Kind {
    Glob(Glob),
    /// With a cache of our own: the one inside is found through a thread-local variable, whose first use
    /// in a library calls the program's malloc.
    Regex(Box<(Regex, RefCell<Cache>)>),
}

impl SymbolMatcher {
    /// A glob.
    #[must_use]
    pub fn glob(pattern: &str) -> Self {
        let glob = Glob::new(pattern);
        let literals = glob.literals();
        Self {
            prefilter: Prefilter::new(literals.iter().map(String::as_str)),
            cold: pattern.contains(".cold"),
            base: true,
            kind: Kind::Glob(glob),
        }
    }

    /// A regular expression, found anywhere in the name.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn regex(pattern: &str) -> Result<Self, String> {
        let config = Config::new().nfa_size_limit(Some(1 << 20));
        let regex = Regex::builder().configure(config).build(pattern).map_err(|error| reason(&error))?;
        // With none of these left, whatever stands in the pattern stands in each match.
        let parts = pattern.replace(".*", " ");
        let literal = (!parts.contains(['|', '?', '*', '{', '[', '(', '\\'])).then_some(parts.as_str());
        let cache = RefCell::new(regex.create_cache());
        Ok(Self {
            prefilter: Prefilter::new(literal.into_iter()),
            cold: pattern.contains("cold"),
            base: pattern.contains('$') || pattern.contains("\\z"),
            kind: Kind::Regex(Box::new((regex, cache))),
        })
    }

    /// Whether this text matches as it is.
    #[must_use]
    pub fn is_match(&self, text: &str) -> bool {
        match &self.kind {
            Kind::Glob(glob) => glob.is_match(text),
            Kind::Regex(regex) => {
                let input = Input::new(text).earliest(true);
                regex.0.search_half_with(&mut regex.1.borrow_mut(), &input).is_some()
            }
        }
    }

    /// Matches a symbol by its mangled or demangled name; returns the name that matched.
    /// The parts that compilers split off functions (`f.cold`) are no functions: they match only
    /// a pattern that says so.
    #[must_use]
    pub fn match_symbol(&self, name: &str) -> Option<String> {
        if !self.cold && is_cold(name) {
            return None;
        }
        if self.is_match(name) {
            return Some(name.to_owned());
        }
        if !self.prefilter.accepts(name) {
            return None;
        }
        let demangler = Demangler::parse(name)?;
        let full = demangler.full()?;
        let matches =
            self.is_match(&full) || (self.base && demangler.base().is_some_and(|base| self.is_match(&base)));
        matches.then_some(full)
    }
}

fn reason(error: &BuildError) -> String {
    match error.syntax_error() {
        Some(error) => error.to_string(),
        None if error.size_limit().is_some() => "it is too large".to_owned(),
        None => error.to_string(),
    }
}

fn is_cold(name: &str) -> bool {
    name.split_once('.').is_some_and(|(_, suffix)| {
        suffix == "cold" || suffix.ends_with(".cold") || suffix.starts_with("cold.")
    })
}

/// Whether an object of the process is meant. `path` is its path, `is_exe` whether it is the
/// program, and `same_file` says whether a path leads to the same file (by inode).
pub fn object_matches(
    pattern: &ObjectPattern,
    path: &Path,
    is_exe: bool,
    same_file: &dyn Fn(&str) -> bool,
) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    match pattern {
        ObjectPattern::Exe => is_exe,
        ObjectPattern::Name(wanted) => name == Some(wanted),
        ObjectPattern::Path(wanted) => path.to_str() == Some(wanted) || same_file(wanted),
        ObjectPattern::Glob(glob) if glob.contains('/') => {
            path.to_str().is_some_and(|path| Glob::new(glob).is_match(path))
        }
        ObjectPattern::Glob(glob) => name.is_some_and(|name| Glob::new(glob).is_match(name)),
    }
}

/// As [`object_matches`] for another path that leads to the object's file: the one without links, or the one by
/// which the program was executed. A glob of a relative path begins in `directory`, which is asked for only then.
pub fn other_path_matches(
    pattern: &ObjectPattern,
    path: &Path,
    directory: impl FnOnce() -> Option<PathBuf>,
) -> bool {
    if object_matches(pattern, path, false, &|_| false) {
        return true;
    }
    match pattern {
        ObjectPattern::Glob(glob) if glob.contains('/') && !glob.starts_with('/') => {
            directory().is_some_and(|directory| is_below(glob, path, &directory))
        }
        _ => false,
    }
}

fn is_below(glob: &str, path: &Path, directory: &Path) -> bool {
    let (mut glob, mut directory) = (glob, directory);
    loop {
        let up = glob.strip_prefix("../");
        let Some(rest) = up.or_else(|| glob.strip_prefix("./")) else { break };
        if up.is_some() {
            let Some(parent) = directory.parent() else { return false };
            directory = parent;
        }
        glob = rest;
    }
    let rest = path.strip_prefix(directory).ok().and_then(Path::to_str);
    rest.is_some_and(|rest| Glob::new(glob).is_match(rest))
}

/// As [`object_matches`] for a name by which the object is also known: its soname, or the link it
/// was opened by.
#[must_use]
pub fn name_matches(pattern: &ObjectPattern, name: &str) -> bool {
    match pattern {
        ObjectPattern::Name(wanted) => wanted == name,
        ObjectPattern::Glob(glob) => !glob.contains('/') && Glob::new(glob).is_match(name),
        ObjectPattern::Exe | ObjectPattern::Path(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Glob, SymbolMatcher, is_cold, name_matches, object_matches, other_path_matches};
    use crate::place::ObjectPattern;

    #[test]
    fn glob_table() {
        for (pattern, name, expected) in [
            ("open", "open", true),
            ("open", "openat", false),
            ("open*", "open", true),
            ("open*", "openat64", true),
            ("*at", "openat", true),
            ("*at", "openat64", false),
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("?", "", false),
            ("o?en", "open", true),
            ("o?en", "oen", false),
            ("[a-z]pen", "open", true),
            ("[!a-z]pen", "open", false),
            ("[^a-z]pen", "Open", true),
            ("[]x]", "]", true),
            ("[]x]", "x", true),
            ("[a-]", "-", true),
            ("[", "[", true),
            ("a[b", "a[b", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "axb", false),
            ("a\\", "a\\", true),
            ("**a**b**", "xxaxxbxx", true),
            ("*a*b*c", "abcabx", false),
            ("*a*b*c", "abcabc", true),
            ("ns::*", "ns::f(int)", true),
        ] {
            assert_eq!(Glob::new(pattern).is_match(name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn glob_of_many_stars_ends() {
        let glob = Glob::new(&"*a".repeat(100));
        assert!(!glob.is_match(&"a".repeat(99)));
        assert!(glob.is_match(&"ba".repeat(5000)));
    }

    #[test]
    fn symbols_match_mangled_and_demangled() {
        for (pattern, name, expected) in [
            ("_ZN2ns*", "_ZN2ns1fEi", Some("_ZN2ns1fEi")),
            ("ns::f", "_ZN2ns1fEi", Some("ns::f(int)")),
            ("ns::f(*", "_ZN2ns1fEi", Some("ns::f(int)")),
            ("ns::g*", "_ZN2ns1fEi", None),
            (
                "*alloc::string::String*",
                "_ZN5alloc6string6String4push17h0123456789abcdefE",
                Some("alloc::string::String::push"),
            ),
            ("f*", "f.cold", None),
            ("f*", "f.part.0.cold", None),
            ("f.cold", "f.cold", Some("f.cold")),
            ("f*", "f.part.0", Some("f.part.0")),
        ] {
            assert_eq!(
                SymbolMatcher::glob(pattern).match_symbol(name).as_deref(),
                expected,
                "{pattern} {name}"
            );
        }
        for (pattern, name, expected) in [
            ("^open(at)?$", "openat", true),
            ("^open(at)?$", "openat64", false),
            ("en", "openat", true),
            (r"ns::\w+\(", "_ZN2ns1fEi", true),
            ("^space::.*tion", "_ZN5space8functionEi", true),
            ("^space.+action", "_ZN5space8functionEi", false),
            ("sp?ace::", "_ZN5space8functionEi", true),
            ("spa{1,2}ce::", "_ZN5space8functionEi", true),
            ("(?i)SPACE::", "_ZN5space8functionEi", true),
            ("other|space::", "_ZN5space8functionEi", true),
            ("^ns::f$", "_ZN2ns1fEi", true),
        ] {
            let matcher = SymbolMatcher::regex(pattern).unwrap();
            assert_eq!(matcher.match_symbol(name).is_some(), expected, "{pattern} {name}");
        }
        let error = |pattern| SymbolMatcher::regex(pattern).err().unwrap();
        assert!(error("(").ends_with("error: unclosed group"), "{}", error("("));
        assert_eq!(error("(a{1000}){1000}"), "it is too large");
    }

    #[test]
    fn cold_parts() {
        for (name, expected) in [
            ("f.cold", true),
            ("f.cold.3", true),
            ("f.part.0.cold", true),
            ("cold", false),
            ("f.colder", false),
        ] {
            assert_eq!(is_cold(name), expected, "{name}");
        }
    }

    #[test]
    fn objects() {
        let libc = Path::new("/usr/lib/x86_64-linux-gnu/libc.so.6");
        let linked = |path: &str| path == "/lib/x86_64-linux-gnu/libc.so.6";
        let name = |s: &str| ObjectPattern::Name(s.into());
        let path = |s: &str| ObjectPattern::Path(s.into());
        let glob = |s: &str| ObjectPattern::Glob(s.into());
        for (pattern, expected) in [
            (ObjectPattern::Exe, false),
            (name("libc.so.6"), true),
            (name("libc.so"), false),
            (path("/usr/lib/x86_64-linux-gnu/libc.so.6"), true),
            (path("/lib/x86_64-linux-gnu/libc.so.6"), true),
            (path("./libc.so.6"), false),
            (glob("libc.so*"), true),
            (glob("libc-*"), false),
            (glob("/usr/lib/*"), true),
            (glob("/opt/*"), false),
        ] {
            assert_eq!(object_matches(&pattern, libc, false, &linked), expected, "{pattern:?}");
        }
        let directory = Path::new("/usr/lib");
        for (pattern, expected) in [
            (glob("./x86*/libc.*"), true),
            (glob("././x86*/libc.*"), true),
            (glob("../lib/x86*/libc.*"), true),
            (glob("../../../../usr/*"), false),
            (glob("x86_64-linux-gnu/l*"), true),
            (glob("./libc*"), false),
            (glob("/x86*/libc.*"), false),
            (glob("libc*"), true),
            (name("libc.so.6"), true),
            (ObjectPattern::Exe, false),
        ] {
            assert_eq!(
                other_path_matches(&pattern, libc, || Some(directory.into())),
                expected,
                "{pattern:?}"
            );
        }
        assert!(!other_path_matches(&glob("./x86*/libc.*"), libc, || None));
        assert!(object_matches(&ObjectPattern::Exe, libc, true, &linked));
        assert!(name_matches(&name("libc.so.6"), "libc.so.6"));
        assert!(name_matches(&glob("libc*"), "libc.so.6"));
        assert!(!name_matches(&ObjectPattern::Exe, "libc.so.6"));
    }
}
