//! Any bytes as an ELF file: `fuzz/run elf`. Begins with the small programs and libraries that the tests make.

#![no_main]

#[path = "../../tests/elf_support/mod.rs"]
mod elf_support;
#[path = "../../tests/elf_support/exercise.rs"]
mod exercise;
#[path = "../../tests/elf_support/mutate.rs"]
mod mutate;
#[allow(dead_code)]
#[path = "../../tests/oracles/seeds.rs"]
mod seeds;

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;

fn files() -> Vec<Vec<u8>> {
    mutate::seeds("fuzz-corpus").into_iter().map(|(_, bytes, _)| bytes).collect()
}

fuzz_target!(init: seeds::write_if_asked(files), |bytes: &[u8]| {
    // The same bytes are the debug file, which is believed when they carry a build-id.
    exercise::exercise(bytes.to_vec(), Arc::new(bytes.to_vec()));
});
