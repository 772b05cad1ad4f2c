//! Any bytes as instructions, run at their place and elsewhere: `fuzz/run relocation`.

#![no_main]

#[path = "../../tests/oracles/mod.rs"]
mod checks;
#[path = "../../tests/insn_native/mod.rs"]
mod insn_native;

use libfuzzer_sys::fuzz_target;

fuzz_target!(
    init: checks::seeds::write_if_asked(checks::seeds::relocation),
    |bytes: &[u8]| checks::relocated::check(bytes)
);
