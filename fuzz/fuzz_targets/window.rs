//! Any bytes as the text at a place: what a jump there displaces, and where it may lead: `fuzz/run window`.

#![no_main]

#[path = "../../tests/oracles/mod.rs"]
mod checks;
#[path = "../../tests/insn_native/mod.rs"]
mod insn_native;

use libfuzzer_sys::fuzz_target;

fuzz_target!(
    init: checks::seeds::write_if_asked(checks::seeds::window),
    |bytes: &[u8]| checks::window::check(bytes)
);
