//! Any bytes as an ELF file: `cargo +nightly fuzz run elf -- -max_len=65536`, after copying a few small
//! programs and libraries into fuzz/corpus/elf.

#![no_main]

#[path = "../../tests/elf_support/exercise.rs"]
mod exercise;

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // The same bytes are the debug file, which is believed when they carry a build-id.
    exercise::exercise(bytes.to_vec(), Arc::new(bytes.to_vec()));
});
