//! Any text as a mangled name and as a pattern: `fuzz/run names`.

#![no_main]

#[allow(dead_code)]
#[path = "../../tests/oracles/seeds.rs"]
mod seeds;

use libfuzzer_sys::fuzz_target;
use uprobe::elf::demangle;
use uprobe::elf::pattern::SymbolMatcher;

fn names() -> Vec<Vec<u8>> {
    let names = [
        "*::b?r\n_ZN3foo3barEv",
        "^foo\n_RNvNtC3foo3bar3baz",
        "[a-z]*\nplain",
        "x\n_ZNSt6vectorIiSaIiEE9push_backERKi",
    ];
    names.iter().map(|name| name.as_bytes().to_vec()).collect()
}

fuzz_target!(init: seeds::write_if_asked(names), |text: &str| {
    let (pattern, name) = text.split_once('\n').unwrap_or(("*::?", text));
    let _ = demangle(name);
    let _ = SymbolMatcher::glob(pattern).match_symbol(name);
    if let Ok(matcher) = SymbolMatcher::regex(pattern) {
        let _ = matcher.match_symbol(name);
    }
});
