//! libuprobe: probes for unmodified x86-64 Linux programs, from inside the process.

pub mod addr;
pub mod capi;
pub mod cli;
pub mod code;
pub mod config;
pub mod elf;
pub mod error;
pub mod fetch;
pub mod hit;
pub mod insn;
pub mod place;
pub mod probe;
pub mod regs;
pub mod runtime;
pub mod syntax;
#[expect(unsafe_code, reason = "system calls, the heap, memcpy")]
pub mod sys;
pub mod trace;

#[global_allocator]
static HEAP: sys::Allocator = sys::Allocator;
