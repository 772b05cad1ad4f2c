//! Code memory: slots and detours near the program's text, and writing to the text itself.
//!
//! Ordinary Rust, called with the registry's lock held.

mod arena;
mod detours;
mod maps;
mod poke;

pub use arena::{Arenas, Neighbourhood};
pub use detours::{DetourSpace, Placed, Usage};
pub use maps::{MapEntry, free_gaps, mapping_at, read_maps, read_obstacles};
pub use poke::{Patch, Poker};
