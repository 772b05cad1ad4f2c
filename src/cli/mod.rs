//! The command `uprobe`: a file per subcommand.

/// Runs the command line; returns the exit status.
pub fn main() -> std::process::ExitCode {
    std::process::ExitCode::from(2)
}
