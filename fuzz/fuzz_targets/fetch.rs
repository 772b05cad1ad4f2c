//! Any text as fetch arguments and a filter, in worlds of random registers and memory: `fuzz/run fetch`.

#![no_main]

#[path = "../../tests/oracles/mod.rs"]
mod checks;
#[path = "../../tests/insn_native/mod.rs"]
mod insn_native;

use libfuzzer_sys::fuzz_target;

fuzz_target!(
    init: checks::seeds::write_if_asked(checks::seeds::fetch),
    |bytes: &[u8]| checks::fetched::check(bytes)
);
