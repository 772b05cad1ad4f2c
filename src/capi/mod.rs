//! One to one with `include/uprobe.h`, and the initialiser of the shared library.
//!
//! Every call may come from any thread and from handlers. Errors are negative errno values; nothing
//! here aborts or prints: a panic of ours is an error like any other.

mod init;
mod jprobes;
mod reads;
mod register;
mod replace;
mod returns;
mod stack;
mod wanted;

pub use init::uprobe_init;
pub use jprobes::{
    register_ujprobe, register_ujprobes, ujprobe_return, unregister_ujprobe, unregister_ujprobes,
};
pub use reads::{uprobe_read, uprobe_read_string};
pub use register::{
    disable_uprobe, enable_uprobe, register_uprobe, register_uprobes, unregister_uprobe, unregister_uprobes,
    uprobe_sync,
};
pub use replace::uprobe_replace;
pub use returns::{register_uretprobe, register_uretprobes, unregister_uretprobe, unregister_uretprobes};
pub use stack::uprobe_stack;
