//! What runs at a hit, in the probed thread, inside a signal handler.
//!
//! The rules here: no allocation (but for a thread's first hit, by mmap), no lock, no std I/O, no
//! panic, no unwinding, no lazily allocated TLS, no call into libc. Every other module is ordinary Rust.
//!
//! ```text
//!   program text          kernel              here
//!   int3  ──────────────► SIGTRAP ──────────► trap::on_trap
//!                                               point::lookup(rip - 1)
//!                                               each consumer: fetch, filter, count, log, handlers
//!                                               displaced instruction:
//!   next instruction ◄── sigreturn ◄──────────    emulate: effect computed on the saved registers
//!   slot: insn, jmp next ◄ sigreturn ◄────────    boost:   runs in the slot, jumps back
//!   slot: insn, int3 ◄──── sigreturn ◄────────    step:    runs in the slot, traps again,
//!                          SIGTRAP ───────────►            post_handlers, back to the next instruction
//! ```

pub mod actions;
pub mod alone;
pub mod asm;
pub mod barrier;
mod behind;
mod blocks;
pub mod c_structs;
pub mod cells;
pub mod clock;
pub mod clones;
pub mod compiled;
pub mod consumer;
pub mod counters;
pub mod defer;
pub mod detour;
pub mod direct;
pub mod dispatch;
pub mod emit;
pub mod fault;
pub mod frame;
pub mod gates;
pub mod hidden;
pub mod histogram;
pub mod jprobe;
pub mod latency;
pub mod listeners;
pub mod masks;
pub mod memory;
pub mod objects;
pub mod output;
pub mod pending;
pub mod point;
pub mod pool;
pub mod process;
pub mod protocol;
pub mod quick;
pub mod quick_log;
pub mod ranges;
pub mod restrict;
pub mod returning;
pub mod returns;
pub mod ring;
pub mod run;
pub mod seccomp;
pub mod shadow;
pub mod slots;
pub mod stack;
pub mod stubs;
pub mod thread;
pub mod ticks;
pub mod trap;
pub mod vectors;
pub mod walked;
