//! SIGTRAP is ours, invisibly: what a program does with signals behaves as POSIX says, probed or not.
//! Each check of `signals.c` prints what it observed, and that must be equal; nothing here is
//! compared with what somebody thought it should be.

mod common;

use common::*;

/// Where the checks run: each is on the way of something that is looked at.
const OWN: [&str; 6] = [
    "exe:work",
    "exe:fault_store_insn",
    "exe:fault_div_insn",
    "exe:fault_ill_insn",
    "exe:fault_store",
    "exe:own_int3",
];

/// What the checks call in libc.
const LIBC: [&str; 22] = [
    "sigaction",
    "signal",
    "sigprocmask",
    "pthread_sigmask",
    "raise",
    "kill",
    "sigqueue",
    "pthread_kill",
    "sigpending",
    "sigwait",
    "sigwaitinfo",
    "sigtimedwait",
    "sigsuspend",
    "sigaltstack",
    "sigfillset",
    "sigemptyset",
    "sigaddset",
    "siglongjmp",
    "__sigsetjmp",
    "read",
    "strlen",
    "getpid",
];

fn program() -> std::path::PathBuf {
    Program::new("signals.c").build()
}

fn own() -> Launch {
    Launch::new(program()).count_all(OWN)
}

/// The symbols of faulting instructions lie inside functions: by name they are places of their own.
fn assert_check(check: &str) {
    let outcome = assert_same_as_native(&own().arg(check));
    let printed: Vec<_> = outcome.stdout.lines().filter(|l| l.starts_with("hits ")).collect();
    if !printed.is_empty() {
        assert_hits_as_told(&outcome);
    }
    // Where somebody looks at a program in earnest, its libc is probed too.
    let libc = LIBC.map(|function| format!("libc.so.6:{function}"));
    assert_same_as_native(&own().count_all(&libc).arg(check));
    // Every function of every object, at that.
    assert_same_as_native(&own().count("*:*").arg(check));
    // And where events are logged, they are not the program's business either.
    let logged =
        OWN.iter().fold(Launch::new(program()), |l, at| l.probe(at, "args = ['a=%di', 's=%si:string']"));
    assert_same_as_native(&logged.arg(check));
}

macro_rules! checks {
    ($($name:ident),* $(,)?) => {
        /// Every check the program has is one of the tests below.
        #[test]
        fn none_is_forgotten() {
            let mut tested = vec![$(stringify!($name)),*];
            // The one below that is not what it is natively.
            tested.push("signalfd");
            let listed = Launch::new(program()).native().run();
            let mut listed: Vec<String> = listed.stdout.lines().map(String::from).collect();
            tested.sort_unstable();
            listed.sort_unstable();
            assert_eq!(listed, tested);
        }
        mod check {
            $(#[test] fn $name() { super::assert_check(stringify!($name)); })*
        }
    };
}

checks!(
    oldact,
    raise,
    blocked,
    sigwait,
    sigsuspend,
    repair,
    skip,
    longjmp,
    altstack,
    overflow,
    int3,
    int3_ignored,
    int3_blocked,
    raise_default,
    raise_ignored,
    fault_default,
    fault_ignored,
    fault_blocked,
    div_default,
    ill_ignored,
    double_fault,
    nested,
    unprobed_fault,
    thread_mask,
    old_interfaces,
    realtime,
    eintr,
);

/// The limit the README names: the engine's five signals are never blocked in the kernel, so a signalfd
/// that asks for them gets the others only. The program itself comes to no harm.
#[test]
fn signalfd_gets_all_signals_but_the_five() {
    let outcome = Launch::new(program()).count("exe:work").arg("signalfd").run();
    let nothing = "signalfd -1 Resource temporarily unavailable\n";
    assert_eq!(outcome.stdout, format!("signalfd 128 SIGUSR1\n{nothing}{nothing}end\n"), "{outcome}");
    assert_eq!(outcome.at("exe:work").hits, 3, "{outcome}");
}

mod children {
    use super::*;

    fn launch() -> Launch {
        Launch::new(Program::new("children.c").build())
    }

    #[test]
    fn of_every_kind_are_what_they_were() {
        let outcome = assert_same_as_native(&launch().count("exe:work"));
        // exec'd children are traced too: each wrote its own summary, with its own ten hits.
        let exec: Vec<u64> = outcome
            .summaries()
            .values()
            .flatten()
            .filter_map(|summary| summary["probes"][0]["hits"].as_u64())
            .filter(|hits| *hits == 10)
            .collect();
        assert!(exec.len() >= 18, "3 times 6 children: {exec:?}\n{outcome}");
    }

    /// The places that killed children in every prototype: between fork and exec all signals are
    /// blocked and handlers reset.
    #[test]
    fn survive_probes_on_what_they_run_before_exec() {
        let functions = [
            "execve",
            "dup2",
            "sigaction",
            "sigprocmask",
            "pthread_sigmask",
            "strlen",
            "strchrnul",
            "memcpy",
            "_exit",
            "close",
            "open",
            "waitpid",
            "wait4",
            "posix_spawn",
            "system",
            "popen",
            "fork",
            "vfork",
            "execvpe",
            "getenv",
        ];
        let places = functions.map(|f| format!("libc.so.6:{f}"));
        assert_same_as_native(&launch().count("exe:work").count_all(&places));
    }

    #[test]
    fn fork_without_exec_counts_for_itself() {
        let outcome = launch().count("exe:work").run();
        let hundreds = outcome
            .summaries()
            .values()
            .flatten()
            .filter(|summary| summary["probes"][0]["hits"] == 100)
            .count();
        assert_eq!(hundreds, 3, "one such child in each of three passes\n{outcome}");
    }
}

/// libc starts threads of its own with all signals blocked, in aio's and getaddrinfo_a's case by a
/// system call of which the number is kept in another register than eax: it was not found, and the
/// process died at the next trap. Whatever libc runs then is at an int3 here.
mod helper_threads {
    use super::*;

    fn assert_way(way: &str) {
        let launch = Launch::new(Program::new("helper_threads.c").lib("-lrt").lib("-lanl").build()).arg(way);
        assert_same_as_native(&launch.clone().probe("libc.so.6:*", "method = 'int3'\naction = ['count']"));
        assert_same_as_native(&launch.probe("libc.so.6:*", "kind = 'call'\naction = ['count']"));
    }

    #[test]
    fn of_asynchronous_io() {
        assert_way("aio");
    }

    #[test]
    fn of_a_lookup() {
        assert_way("lookup");
    }

    #[test]
    fn of_a_timer() {
        assert_way("timer");
    }

    #[test]
    fn of_a_message_queue() {
        assert_way("queue");
    }
}

/// A program may forbid itself the time stamp counter: then each stamp of ours
/// was a SIGSEGV in it.
#[test]
fn a_forbidden_time_stamp_counter_is_the_program_s_own_affair() {
    let launch = Launch::new(Program::new("no_tsc.c").build());
    for (kind, action) in [("call", "count"), ("call", "log"), ("entry", "log"), ("return", "log")] {
        let keys = format!("kind = '{kind}'\naction = ['{action}']");
        for format in ["text", "trace"] {
            let launch = launch.clone().probe("exe:work", &keys);
            let outcome = assert_same_as_native(&launch.format(format));
            let summaries = outcome.summaries();
            let all = summaries.values().flatten();
            let hits: u64 = all.filter_map(|summary| summary["probes"][0]["hits"].as_u64()).sum();
            assert_eq!(hits, 2000, "{kind} {action} {format}\n{outcome}");
        }
    }
}
