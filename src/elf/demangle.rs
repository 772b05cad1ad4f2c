//! C++ and Rust names as people write them, and a cheap test whether a mangled name can at all
//! become a given text, so that few names have to be demangled.

use std::fmt;

use cpp_demangle::{DemangleOptions, ParseOptions, Symbol};

/// A longer result is no result: substitutions can make a short hostile name exponentially long.
const DEMANGLED_MAX: usize = 64 << 10;
/// Levels of grammar. libLLVM's deepest name needs more than 80; each takes up to 1.5 KiB of stack.
const CPP_DEPTH: u32 = 96;

/// Words that appear in demangled names without being in the mangled ones.
const EXPANSIONS: &str = "std allocator basic_string string basic_istream basic_ostream basic_iostream \
    istream ostream iostream char_traits signed unsigned char bool short int long __int128 float double \
    __float80 __float128 _Float16 _Float32 _Float64 wchar_t char8_t char16_t char32_t void auto decltype nullptr_t \
    half complex _Complex imaginary _Imaginary const volatile restrict noexcept throw operator new delete sizeof \
    alignof typeid dynamic_cast static_cast const_cast reinterpret_cast co_await vtable for typeinfo \
    name VTT construction guard variable reference temporary virtual non thunk to covariant return \
    override transaction clone anonymous namespace lambda unnamed type block literal invocation function default \
    argument parameter pack enable_if abi true false this template decimal32 decimal64 decimal128 \
    initializer entry wrapper init TLS global constructors destructors keyed in \
    impl as dyn mut extern unsafe fn closure shim usize isize i128 u128 str where crate";

/// Whether the name is mangled at all.
pub(super) fn is_mangled(name: &str) -> bool {
    name.starts_with("_Z") || name.starts_with("_R")
}

/// A writer that refuses to grow without bound.
#[derive(Default)]
struct Capped(String);

impl fmt::Write for Capped {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.0.len() + text.len() > DEMANGLED_MAX {
            return Err(fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}

/// A parsed mangled name.
pub(super) enum Demangler<'a> {
    Cpp { symbol: Symbol<&'a [u8]>, clone: &'a str },
    Rust(rustc_demangle::Demangle<'a>),
}

impl<'a> Demangler<'a> {
    pub(super) fn parse(name: &'a str) -> Option<Self> {
        let may_be_rust = name.starts_with("_R") || (name.starts_with("_ZN") && name.contains("17h"));
        if may_be_rust && let Ok(rust) = rustc_demangle::try_demangle(name) {
            return Some(Self::Rust(rust));
        }
        if !name.starts_with("_Z") {
            return None;
        }
        // GCC appends .constprop.0 and the like to copies.
        let (mangled, clone) = name.split_at(name.find('.').unwrap_or(name.len()));
        let options = ParseOptions::default().recursion_limit(CPP_DEPTH);
        let symbol = Symbol::new_with_options(mangled.as_bytes(), &options).ok()?;
        Some(Self::Cpp { symbol, clone })
    }

    fn cpp(symbol: &Symbol<&[u8]>, clone: &str, options: DemangleOptions) -> Option<String> {
        let mut out = Capped::default();
        symbol.structured_demangle(&mut out, &options.recursion_limit(CPP_DEPTH)).ok()?;
        if !clone.is_empty() {
            fmt::Write::write_fmt(&mut out, format_args!(" [clone {clone}]")).ok()?;
        }
        Some(out.0)
    }

    fn rust(demangled: &rustc_demangle::Demangle<'_>) -> Option<String> {
        let mut out = Capped::default();
        fmt::Write::write_fmt(&mut out, format_args!("{demangled:#}")).ok()?;
        Some(out.0)
    }

    /// With parameters, without return type and hash: what people call the function.
    pub(super) fn full(&self) -> Option<String> {
        match self {
            Self::Cpp { symbol, clone } => Self::cpp(symbol, clone, DemangleOptions::new().no_return_type()),
            Self::Rust(rust) => Self::rust(rust),
        }
    }

    /// Without parameters: all overloads have the same.
    pub(super) fn base(&self) -> Option<String> {
        match self {
            Self::Cpp { symbol, clone } => {
                Self::cpp(symbol, clone, DemangleOptions::new().no_return_type().no_params())
            }
            Self::Rust(rust) => Self::rust(rust),
        }
    }

    /// As `c++filt` prints it: template instances begin with their return type.
    fn with_return(&self) -> Option<String> {
        match self {
            Self::Cpp { symbol, clone } => Self::cpp(symbol, clone, DemangleOptions::new()),
            Self::Rust(_) => None,
        }
    }

    /// Whether `text` names it: with or without parameters, the qualifiers behind them, template arguments, return
    /// type, ABI tags; spaces don't count.
    pub(super) fn is_called(&self, text: &str) -> bool {
        let same = |form: &str| equal_without_spaces(form, text);
        let base = self.base();
        if let Some(base) = &base {
            let untagged = without_abi_tag(base);
            if same(base) || same(untagged) || same(without_arguments(untagged)) {
                return true;
            }
        }
        let in_some_form = |full: String| {
            let forms = |full: &str| {
                let unqualified = without_qualifiers(full);
                same(full) || same(unqualified) || same(without_parameters(unqualified))
            };
            forms(&full) || forms(&without_abi_tags(&full))
        };
        matches!(self, Self::Cpp { .. })
            && (self.full().is_some_and(in_some_form) || self.with_return().is_some_and(in_some_form))
    }
}

/// A C++ name with its parameters, a Rust name without its hash; `None` for a name that is not mangled.
#[must_use]
pub fn demangle(name: &str) -> Option<String> {
    if is_mangled(name) { Demangler::parse(name)?.full() } else { None }
}

fn equal_without_spaces(a: &str, b: &str) -> bool {
    a.bytes().filter(|b| *b != b' ').eq(b.bytes().filter(|b| *b != b' '))
}

fn without_abi_tag(name: &str) -> &str {
    match name.strip_suffix(']').and_then(|rest| rest.rfind("[abi:")) {
        Some(at) => without_abi_tag(&name[..at]),
        None => name,
    }
}

/// `A::f(int)` for `A::f(int) const &`.
fn without_qualifiers(name: &str) -> &str {
    match name.rfind(')') {
        Some(at)
            if name[at + 1..]
                .split(' ')
                .all(|word| matches!(word, "" | "const" | "volatile" | "&" | "&&")) =>
        {
            &name[..=at]
        }
        _ => name,
    }
}

/// `f` for `f(int)`. The demangler's own way leaves out those of a lambda in the name as well:
/// `f(int)::{lambda(char)#1}::operator()`.
fn without_parameters(name: &str) -> &str {
    let mut depth = 0usize;
    for (at, byte) in name.bytes().enumerate().rev() {
        match byte {
            b')' => depth += 1,
            b'(' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return &name[..at];
                }
            }
            _ if depth == 0 => return name,
            _ => {}
        }
    }
    name
}

/// `f(int)` for `f[abi:cxx11](int)`, whose author wrote the former.
fn without_abi_tags(name: &str) -> String {
    let mut pieces = name.split("[abi:");
    let mut text = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        text.push_str(piece.split_once(']').map_or("", |(_, rest)| rest));
    }
    text
}

/// `f` for `f<int>`, `m::f` for `m::f::<u32>`.
fn without_arguments(name: &str) -> &str {
    if !name.ends_with('>') || name.contains("operator") {
        return name;
    }
    let mut depth = 0usize;
    for (at, byte) in name.bytes().enumerate().rev() {
        match byte {
            // The arrow of a function type.
            b'>' if at > 0 && name.as_bytes()[at - 1] == b'-' => {}
            b'>' => depth += 1,
            b'<' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return name[..at].trim_end_matches("::");
                }
            }
            _ => {}
        }
    }
    name
}

/// A piece of text that every mangled name must contain if its demangled form is to match a
/// pattern: an identifier, or part of one, that demangling can only have copied.
pub(super) struct Prefilter(Option<memchr::memmem::Finder<'static>>);

impl Prefilter {
    /// From the literal parts of a pattern.
    pub(super) fn new<'a>(literals: impl Iterator<Item = &'a str>) -> Self {
        let is_identifier = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let runs = literals.flat_map(|literal| literal.split(move |c| !is_identifier(c)));
        let usable = runs.filter(|run| {
            run.len() >= 3 && !run.starts_with(|c: char| c.is_ascii_digit()) && !EXPANSIONS.contains(run)
        });
        let longest = usable.max_by_key(|run| run.len());
        Self(longest.map(|run| memchr::memmem::Finder::new(run).into_owned()))
    }

    /// Whether it can sort out anything.
    pub(super) fn is_selective(&self) -> bool {
        self.0.is_some()
    }

    /// Whether it is worth demangling `name`.
    pub(super) fn accepts(&self, name: &str) -> bool {
        is_mangled(name) && self.0.as_ref().is_none_or(|finder| finder.find(name.as_bytes()).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::Demangler;

    #[test]
    fn what_a_function_may_be_called() {
        let lambda = "_ZZ4mainENKUliE_clEi";
        let tagged = "_Z2mkB5cxx11i";
        let member = "_ZNK2ns1A1mEi";
        let cast = "_ZNK2ns1AcvbEv";
        let callback = "_Z3setPFviE";
        for (name, text, expected) in [
            (lambda, "main::{lambda(int)#1}::operator()(int) const", true),
            (lambda, "main::{lambda(int)#1}::operator()(int)", true),
            (lambda, "main::{lambda(int)#1}::operator()", true),
            (lambda, "main::{lambda(char)#1}::operator()", false),
            (lambda, "main::{lambda(int)#1}", false),
            (tagged, "mk[abi:cxx11](int)", true),
            (tagged, "mk[abi:cxx11]", true),
            (tagged, "mk(int)", true),
            (tagged, "mk", true),
            (tagged, "mk(long)", false),
            (member, "ns::A::m(int) const", true),
            (member, "ns::A::m(int)const", true),
            (member, "ns::A::m(int)", true),
            (member, "ns::A::m", true),
            (member, "ns::A::m(int) volatile", false),
            (member, "ns::A", false),
            (cast, "ns::A::operator bool() const", true),
            (cast, "ns::A::operator bool", true),
            (callback, "set(void (*)(int))", true),
            (callback, "set", true),
            (callback, "set(void (*)", false),
        ] {
            let demangler = Demangler::parse(name).expect("a mangled name");
            assert_eq!(demangler.is_called(text), expected, "{name} by {text}");
        }
    }
}
