//! What signals do in a program that a test starts.
#![allow(unsafe_code, reason = "what a child does before exec is unsafe to say")]

use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// The default, as at a terminal: under nohup SIGHUP is ignored, and in the background of a script SIGINT and SIGQUIT;
/// a program that is to die of them would go on, with us and without.
pub fn by_default(command: &mut Command) {
    let reset = || {
        for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT] {
            // SAFETY: no handler is involved.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
        Ok(())
    };
    // SAFETY: between fork and exec it makes three system calls.
    unsafe { command.pre_exec(reset) };
}
