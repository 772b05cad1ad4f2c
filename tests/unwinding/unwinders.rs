//! Unwinders that are not libgcc's: LLVM's gets through, and nongnu's does no harm.

use std::io::Write;
use std::process::{Command, Stdio};

use super::account::{assert_followed, assert_followed_with, follow};
use super::common::*;

const LIBCXX: &str = "-stdlib=libc++";
const LIBUNWIND: &str = "-lunwind";

/// Whether clang++ links with LLVM's C++ library and unwinder; loud where it doesn't.
fn has_llvm() -> bool {
    if !require_command("clang++") {
        return false;
    }
    let mut child = Command::new("clang++")
        .args([LIBCXX, "-x", "c++", "-", LIBUNWIND, "-o", "/dev/null"])
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("clang++ runs");
    let source = b"#include <string>\nint main() { return std::string().size(); }\n";
    child.stdin.take().expect("it is piped").write_all(source).expect("clang++ reads");
    let has = child.wait().expect("clang++ ends").success();
    if !has {
        eprintln!(
            "\n******** SKIPPED: libc++ and LLVM's libunwind are not installed, they were not tested ********\n"
        );
    }
    has
}

fn llvm_program() -> Launch {
    let program = Program::new("throws.cpp").compiler(Compiler::Clang).flag(LIBCXX).lib(LIBUNWIND);
    Launch::new(program.build())
}

mod llvm {
    use super::*;

    #[test]
    fn exceptions() {
        if !has_llvm() {
            return;
        }
        let listed = llvm_program().native().run();
        for scenario in listed.stdout.lines().filter(|s| *s != "terminate") {
            assert_followed(&llvm_program().arg(scenario));
        }
    }

    #[test]
    fn exceptions_that_end_the_program() {
        if !has_llvm() {
            return;
        }
        let launch = llvm_program().arg("terminate");
        let native = launch.clone().native().run();
        let probed = follow(launch, "return", "exe:*").run();
        assert_eq!(probed.end, End::Signal(6), "{probed}");
        assert_same_output(&probed, &native);
        assert_eq!(probed.stderr, native.stderr, "{probed}");
    }

    /// Every function of the C++ library, of its runtime and of the unwinder is followed too.
    #[test]
    fn exceptions_through_every_function() {
        if !has_llvm() {
            return;
        }
        for pattern in ["libc++.so.1:*", "libc++abi.so.1:*", "libunwind.so.1:*"] {
            for scenario in ["one", "rethrow", "nested", "carried", "sorted"] {
                assert_followed_with(&llvm_program().arg(scenario), pattern, 1);
            }
        }
    }

    #[test]
    fn backtraces() {
        if !has_llvm() {
            return;
        }
        let program =
            Program::new("walks.c").compiler(Compiler::Clang).lib("-Wl,--no-as-needed").lib(LIBUNWIND);
        assert_followed(&Launch::new(program.build()).arg("_Unwind_Backtrace"));
    }
}

/// It may walk less far than natively, since it takes a frame's address for its stack pointer.
#[test]
fn nongnu_libunwind_does_no_harm() {
    let launch = Launch::new(Program::new("walks.c").build()).arg("nongnu");
    let native = launch.clone().native().run();
    if native.end == End::Exit(97) {
        eprintln!("\n******** SKIPPED: libunwind.so.8 is not installed, it was not tested ********\n");
        return;
    }
    assert_followed(&launch);
}
