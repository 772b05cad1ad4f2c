//! Any bytes as a config and as one-liners: `fuzz/run config`.

#![no_main]

#[path = "../../tests/oracles/mod.rs"]
mod checks;
#[path = "../../tests/insn_native/mod.rs"]
mod insn_native;

use libfuzzer_sys::fuzz_target;

fuzz_target!(
    init: checks::seeds::write_if_asked(checks::seeds::config),
    |bytes: &[u8]| checks::config::check(bytes)
);
