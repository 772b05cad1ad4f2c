//! Any text as a mangled name and as a pattern: `cargo +nightly fuzz run names`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use uprobe::elf::demangle;
use uprobe::elf::pattern::SymbolMatcher;

fuzz_target!(|text: &str| {
    let (pattern, name) = text.split_once('\n').unwrap_or(("*::?", text));
    let _ = demangle(name);
    let _ = SymbolMatcher::glob(pattern).match_symbol(name);
    if let Ok(matcher) = SymbolMatcher::regex(pattern) {
        let _ = matcher.match_symbol(name);
    }
});
