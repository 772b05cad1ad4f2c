use super::*;

fn symbol(object: ObjectPattern, pattern: SymbolPattern, offset: u64) -> Place {
    Place { object, target: Target::Symbol { pattern, offset } }
}

fn exact(text: &str) -> SymbolPattern {
    SymbolPattern::Exact(text.to_owned())
}

fn glob(text: &str) -> SymbolPattern {
    SymbolPattern::Glob(text.to_owned())
}

fn regex(text: &str) -> SymbolPattern {
    SymbolPattern::Regex(text.to_owned())
}

#[test]
fn symbols() {
    let lib = || ObjectPattern::Name("l.so".to_owned());
    let rows: [(&str, Place); 56] = [
        ("l.so:openat", symbol(lib(), exact("openat"), 0)),
        (" l.so:openat\t", symbol(lib(), exact("openat"), 0)),
        (":main", symbol(ObjectPattern::Exe, exact("main"), 0)),
        ("exe:main", symbol(ObjectPattern::Exe, exact("main"), 0)),
        ("./exe:main", symbol(ObjectPattern::Path("./exe".to_owned()), exact("main"), 0)),
        ("/lib/l.so:f", symbol(ObjectPattern::Path("/lib/l.so".to_owned()), exact("f"), 0)),
        ("lib*.so*:f", symbol(ObjectPattern::Glob("lib*.so*".to_owned()), exact("f"), 0)),
        ("/o/[ab].so:f", symbol(ObjectPattern::Glob("/o/[ab].so".to_owned()), exact("f"), 0)),
        ("/o/[b.so:f", symbol(ObjectPattern::Path("/o/[b.so".to_owned()), exact("f"), 0)),
        ("/o/x@1.2/l.so:f", symbol(ObjectPattern::Path("/o/x@1.2/l.so".to_owned()), exact("f"), 0)),
        ("/My Apps/a:f", symbol(ObjectPattern::Path("/My Apps/a".to_owned()), exact("f"), 0)),
        // Offsets.
        ("l.so:f+0x12", symbol(lib(), exact("f"), 0x12)),
        ("l.so:f+12", symbol(lib(), exact("f"), 12)),
        ("l.so:f+0", symbol(lib(), exact("f"), 0)),
        ("l.so:f@V+0x4", symbol(lib(), exact("f@V"), 4)),
        ("l.so:f*+4", symbol(lib(), glob("f*"), 4)),
        ("l.so:/^f/+4", symbol(lib(), regex("^f"), 4)),
        ("l.so:N::f(int)+8", symbol(lib(), exact("N::f(int)"), 8)),
        // Versions.
        ("l.so:memcpy@GLIBC_2.2.5", symbol(lib(), exact("memcpy@GLIBC_2.2.5"), 0)),
        ("l.so:memcpy@@GLIBC_2.14", symbol(lib(), exact("memcpy@@GLIBC_2.14"), 0)),
        ("l.so:mem*@GLIBC_2.14", symbol(lib(), glob("mem*@GLIBC_2.14"), 0)),
        // Globs and regexes.
        ("l.so:*", symbol(lib(), glob("*"), 0)),
        ("l.so:f?o", symbol(lib(), glob("f?o"), 0)),
        ("l.so:f[a-z]", symbol(lib(), glob("f[a-z]"), 0)),
        ("l.so:f[]x]", symbol(lib(), glob("f[]x]"), 0)),
        ("l.so:f[!a]*", symbol(lib(), glob("f[!a]*"), 0)),
        (":/a|b/", symbol(ObjectPattern::Exe, regex("a|b"), 0)),
        (":/a/b/", symbol(ObjectPattern::Exe, regex("a/b"), 0)),
        (":/^(x|y)\\d+$/", symbol(ObjectPattern::Exe, regex("^(x|y)\\d+$"), 0)),
        (":/ns::f/", symbol(ObjectPattern::Exe, regex("ns::f"), 0)),
        // C++.
        ("l.so:ns::Cls::method(int)", symbol(lib(), exact("ns::Cls::method(int)"), 0)),
        (":::f", symbol(ObjectPattern::Exe, exact("f"), 0)),
        ("exe:::ns::f", symbol(ObjectPattern::Exe, exact("ns::f"), 0)),
        ("exe:ns::*", symbol(ObjectPattern::Exe, glob("ns::*"), 0)),
        ("exe:operator+", symbol(ObjectPattern::Exe, exact("operator+"), 0)),
        ("exe:operator++", symbol(ObjectPattern::Exe, exact("operator++"), 0)),
        ("exe:operator++(int)", symbol(ObjectPattern::Exe, exact("operator++(int)"), 0)),
        ("exe:X::operator+=(X const&)", symbol(ObjectPattern::Exe, exact("X::operator+=(X const&)"), 0)),
        ("exe:X::operator+(X const&)+0x10", symbol(ObjectPattern::Exe, exact("X::operator+(X const&)"), 16)),
        ("exe:operator*", symbol(ObjectPattern::Exe, exact("operator*"), 0)),
        ("exe:X::operator[](int)", symbol(ObjectPattern::Exe, exact("X::operator[](int)"), 0)),
        ("exe:X::operator->*", symbol(ObjectPattern::Exe, exact("X::operator->*"), 0)),
        (
            "exe:operator new[](unsigned long)",
            symbol(ObjectPattern::Exe, exact("operator new[](unsigned long)"), 0),
        ),
        ("exe:X::operator()(int)", symbol(ObjectPattern::Exe, exact("X::operator()(int)"), 0)),
        ("exe:operator<<", symbol(ObjectPattern::Exe, exact("operator<<"), 0)),
        ("exe:f(char*, int)", symbol(ObjectPattern::Exe, exact("f(char*, int)"), 0)),
        ("exe:f(char const**)", symbol(ObjectPattern::Exe, exact("f(char const**)"), 0)),
        ("exe:f(void (*)(int))", symbol(ObjectPattern::Exe, exact("f(void (*)(int))"), 0)),
        ("exe:f(*)", symbol(ObjectPattern::Exe, glob("f(*)"), 0)),
        ("exe:f(int, *)", symbol(ObjectPattern::Exe, glob("f(int, *)"), 0)),
        ("exe:f[abi:cxx11](int)", symbol(ObjectPattern::Exe, exact("f[abi:cxx11](int)"), 0)),
        ("exe:f() const", symbol(ObjectPattern::Exe, exact("f() const"), 0)),
        // Rust.
        ("app:<T as core::fmt::Debug>::fmt", {
            symbol(ObjectPattern::Name("app".to_owned()), exact("<T as core::fmt::Debug>::fmt"), 0)
        }),
        (":<[T]>::len", symbol(ObjectPattern::Exe, exact("<[T]>::len"), 0)),
        (":<*const T>::add", symbol(ObjectPattern::Exe, exact("<*const T>::add"), 0)),
        (":main::{{closure}}", symbol(ObjectPattern::Exe, exact("main::{{closure}}"), 0)),
    ];
    for (text, place) in rows {
        assert_eq!(parse(text), Ok(place), "{text}");
    }
}

#[test]
fn other_targets() {
    let line = |file: &str, line| Target::Line { file: file.to_owned(), line };
    let usdt =
        |provider: &str, name: &str| Target::Usdt { provider: provider.to_owned(), name: name.to_owned() };
    let exe = || ObjectPattern::Exe;
    let name = |text: &str| ObjectPattern::Name(text.to_owned());
    let path = |text: &str| ObjectPattern::Path(text.to_owned());
    let rows = [
        ("exe:0x4710", exe(), Target::FileOffset(0x4710)),
        ("exe:0X4710", exe(), Target::FileOffset(0x4710)),
        ("/bin/ls:18192", path("/bin/ls"), Target::FileOffset(18192)),
        ("a:0x000000000000abCD", name("a"), Target::FileOffset(0xabcd)),
        ("/o/x@2/l.so.1:42", path("/o/x@2/l.so.1"), Target::FileOffset(42)),
        ("exe@main.c:42", exe(), line("main.c", 42)),
        ("@main.c:42", exe(), line("main.c", 42)),
        ("app@src/net/io.rs:7", name("app"), line("src/net/io.rs", 7)),
        ("/bin/app@a.cpp:1", path("/bin/app"), line("a.cpp", 1)),
        ("app@Makefile:3", name("app"), line("Makefile", 3)),
        ("usdt:libc.so.6:libc:setjmp", name("libc.so.6"), usdt("libc", "setjmp")),
        ("usdt:libc.so.6:setjmp", name("libc.so.6"), usdt("*", "setjmp")),
        ("usdt:exe:py*:function__entry", exe(), usdt("py*", "function__entry")),
        ("usdt::x", exe(), usdt("*", "x")),
    ];
    for (text, object, target) in rows {
        assert_eq!(parse(text), Ok(Place { object, target }), "{text}");
    }
}

/// Text, where the caret stands, what it underlines, the message.
#[test]
fn mistakes() {
    let rows = [
        ("", 0, 1, "the place is empty"),
        ("open", 0, 4, "no object before 'open'; write ':open' or 'exe:open'"),
        ("ns::f", 0, 5, "no object before 'ns::f'"),
        ("/lib/libc.so.6", 0, 14, "no symbol or offset after the object"),
        ("libc.so.6", 0, 9, "no symbol or offset after the object"),
        ("libc.so.6!open", 9, 1, "expected ':' after the object"),
        ("a:", 2, 1, "no symbol or offset after 'a:'"),
        ("a:0x", 2, 2, "expected digits"),
        ("a:0x12g4", 6, 1, "'g' is no hexadecimal digit"),
        ("a:12ab", 4, 1, "'a' is no decimal digit (a hexadecimal number begins with 0x)"),
        ("a:0123", 2, 4, "octal is not taken"),
        ("a:0x11112222333344445", 2, 19, "the number does not fit 64 bits"),
        ("a:0x10+4", 6, 2, "nothing can be added to a file offset"),
        ("a:f+", 3, 1, "no offset after '+'"),
        ("a:f+x", 4, 1, "'x' is no offset"),
        ("a:f+0x1g", 7, 1, "'g' is no hexadecimal digit"),
        ("a:f-4", 3, 2, "an offset can't be negative"),
        ("a:+4", 2, 1, "no symbol before '+'"),
        ("a:f[ab", 3, 3, "'[' has no closing ']'"),
        ("a:f[z-a]", 4, 3, "the range is reversed"),
        ("a:/x", 2, 2, "the regular expression has no closing '/'"),
        ("a://", 2, 2, "the regular expression is empty"),
        ("a:/x/y", 5, 1, "only '+OFFSET' can follow"),
        ("a:/x(y/", 4, 1, "in the regular expression: unclosed group"),
        ("a:f@", 3, 1, "bad symbol version"),
        ("a:@V", 2, 1, "no symbol before '@'"),
        ("a:f g", 3, 1, "a symbol has no blanks"),
        ("a:f%return", 3, 7, "'%return' is for one-liners"),
        ("uprobe:/bin/a:f", 0, 7, "'uprobe:' is bpftrace's"),
        ("a:f:g", 3, 1, "unexpected ':' in the symbol"),
        ("main.c:42", 7, 2, "a source line needs its object; write 'exe@main.c:42'"),
        ("a@main.c:", 9, 1, "expected a line number"),
        ("a@main.c", 2, 6, "no line number"),
        ("a@main.c:f", 9, 1, "expected a line number"),
        ("a@main.c:4x", 10, 1, "a line number has digits only"),
        ("a@main.c:0", 9, 1, "lines are counted from 1"),
        ("a@main.c:99999999999", 9, 11, "the line number is too large"),
        ("a@:4", 1, 1, "no source file"),
        ("usdt:a", 5, 1, "a static marker needs a name"),
        ("usdt:a:b:c:d", 10, 2, "nothing can follow the marker's name"),
        ("usdt:a:b:", 9, 1, "no marker name"),
        ("usdt:a::c", 7, 1, "the provider is empty"),
        ("a:f\u{7}", 3, 1, "control character"),
    ];
    for (text, at, len, message) in rows {
        let error = parse(text).expect_err(text);
        assert!(error.message.starts_with(message), "{text}: {}", error.message);
        assert_eq!((error.at, error.len), (at, len), "{text}: {}", error.message);
    }
}

/// The place in a one-liner, and what follows it.
#[test]
fn where_a_place_ends() {
    let rows = [
        ("l.so:f", ""),
        ("l.so:f", " a=%di"),
        ("l.so:f%return", " $retval"),
        ("exe:f(int, char*)", " %di"),
        ("exe:f() const", " %di"),
        ("exe:X::g(int) const &", " %di"),
        ("exe:operator new(unsigned long)", " %di"),
        ("exe:operator new", " %di"),
        ("exe:X::operator unsigned long() const", " %di"),
        ("exe:X::operator<(X)", " %di"),
        ("exe:operator<<", " %di"),
        ("exe:X::operator->()", " %di"),
        ("exe:X::operator()(int, int)", " %di"),
        ("app:<T as core::fmt::Debug>::fmt", " +0(%di):string"),
        ("exe:a<b", " %di"),
        ("exe:/a b/", " %di"),
        ("exe:/a b/+4", " %di"),
        ("exe:f.part [clone .cold]", " %di"),
    ];
    for (place, rest) in rows {
        assert_eq!(extent(&format!("{place}{rest}")), place.len(), "{place}{rest}");
    }
}
