//! One to one with `include/uprobe.h`, and the initialiser of the shared library.
//!
//! Every call may come from any thread and from handlers. Errors are negative errno values; nothing
//! here aborts or prints: a panic of ours is an error like any other.

mod init;
mod reads;
mod register;
mod stack;

pub use init::uprobe_init;
pub use reads::{uprobe_read, uprobe_read_string};
pub use register::{
    disable_uprobe, enable_uprobe, register_uprobe, register_uprobes, unregister_uprobe, unregister_uprobes,
};
pub use stack::uprobe_stack;
