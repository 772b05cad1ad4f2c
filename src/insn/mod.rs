//! Pure x86-64: decode an instruction, say how it runs away from its place, make it run there.
//!
//! Bytes and addresses come in, values go out; nothing here touches the process, so all of it is
//! tested without one. An instruction displaced by a breakpoint runs in one of two ways:
//!
//! ```text
//! emulate   its effect is computed on the saved registers        everything that changes rip, and
//!                                                                 the common ones without memory
//! slot      the same bytes at another address, and then          everything else
//!             boost:  insn | (mov rcx, next) | jmp next
//!             step:   insn | int3
//! ```
//!
//! A run of instructions goes elsewhere by [`relocate()`], for jumps over them and ways past them:
//! calls and branches too, which become what has their effect there.
//!
//! [`Window`] plans such a jump: what it displaces, and where it may lead so that no thread can come
//! to harm in the middle of it.
//!
//! What can do neither is refused by name. A slot is permanent, immutable once it is executable,
//! and shared by all threads: nothing in it belongs to one hit.
//!
//! [`classify`], `build` and everything that decodes run when a probe is registered.
//! [`Emulation::run`], [`slot::boost_map`] and [`slot::step_map`] run at a hit: they read fixed data,
//! and neither allocate, lock nor panic.

mod alu;
mod branches;
mod classify;
mod code;
mod decode;
mod emulation;
mod lift;
mod liveness;
mod operand;
mod planner;
mod pun;
mod refusal;
mod relocate;
mod relocated;
pub mod slot;
mod window;

pub use alu::{BinaryOp, UnaryOp};
pub use branches::branch_targets_into;
pub use classify::{DisplacedInsn, SlotKind, Way, classify};
pub use code::{CODE_CAPACITY, Code, CodeFull};
pub use decode::{Boundaries, MAX_INSN_LEN, boundaries, decode_len, disassemble};
pub use emulation::{Emulation, EmulationFault, JumpTarget};
pub use liveness::flags_are_dead;
pub use operand::{Condition, EffectiveAddress, Source, SubReg, Width};
pub use planner::{Planner, Surroundings};
pub use pun::{Inner, InnerBoundary, JUMP_LEN, TargetRange};
pub use refusal::{InsnRefusal, Obstacle};
pub use relocate::{MAX_RELOCATED, relocate};
pub use relocated::{InsnCopy, Relocated, RelocatedPc};
pub use slot::{SlotBytes, SlotPc};
pub use window::{WINDOW_TEXT, Window, WindowRefusal, WindowText};
