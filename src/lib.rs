//! libuprobe: probes for unmodified x86-64 Linux programs, from inside the process.

pub mod addr;
#[allow(unsafe_code, reason = "the C ABI")]
pub mod capi;
pub mod cli;
#[allow(unsafe_code, reason = "text is written")]
pub mod code;
pub mod config;
pub mod elf;
pub mod error;
pub mod fetch;
#[expect(unsafe_code, reason = "a tagged pointer")]
pub mod few;
#[allow(unsafe_code, reason = "signal handlers")]
pub mod hit;
pub mod insn;
pub mod place;
#[allow(unsafe_code, reason = "structs shared with signal handlers")]
pub mod probe;
pub mod regs;
#[allow(unsafe_code, reason = "the dynamic linker's structs")]
pub mod runtime;
pub mod syntax;
#[expect(unsafe_code, reason = "system calls, the heap, memcpy")]
pub mod sys;
#[expect(unsafe_code, reason = "a block without a fat pointer")]
pub mod thin;
pub mod trace;
pub mod unwind;

#[global_allocator]
static HEAP: sys::Allocator = sys::Allocator;
