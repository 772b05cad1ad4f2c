//! The command `uprobe`; everything it does is in `uprobe::cli`.

fn main() -> std::process::ExitCode {
    uprobe::cli::main()
}
