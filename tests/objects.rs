//! What becomes of objects: loaded and unloaded by many threads, in namespaces, from files that are replaced
//! or gone, mapped over, moved, beside other preloaded libraries.

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::*;

fn source(name: &str) -> Program {
    Program::at(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs_object").join(name))
}

/// One of several libraries with the same functions.
fn busy(number: u32) -> PathBuf {
    source("busy.c").flag(&format!("-DNUMBER={number}")).shared(&format!("libbusy{number}.so")).build()
}

/// Hits by symbol, of all objects called `libbusy*` or what `objects` names besides.
fn hits_of(outcome: &Outcome, is_meant: impl Fn(&str) -> bool) -> BTreeMap<String, u64> {
    let summary = outcome.summary();
    let probes = summary["probes"].as_array().expect("probes").clone();
    let mut hits = BTreeMap::new();
    for probe in probes.iter().filter(|probe| probe["object"].as_str().is_some_and(&is_meant)) {
        let symbol = probe["symbol"].as_str().unwrap_or_default().to_owned();
        *hits.entry(symbol).or_default() += probe["hits"].as_u64().expect("a number");
        assert_eq!(probe["nmissed"].as_u64(), Some(0), "{probe}");
        if probe["kind"] != "entry" {
            let sum: u64 =
                ["returns", "unwound", "in_flight"].iter().filter_map(|key| probe[key].as_u64()).sum();
            assert_eq!(probe["hits"].as_u64(), Some(sum), "{probe}");
        }
    }
    hits
}

/// All functions of the libraries, of libc and the linker.
fn all_probed(launch: &Launch, kind: &str, objects: &[&str]) -> Launch {
    let keys = format!("kind = '{kind}'\naction = ['count']");
    let system = ["libc.so.6", "ld-linux-x86-64.so.2"];
    objects
        .iter()
        .chain(&system)
        .fold(launch.clone(), |launch, object| launch.probe(&format!("{object}:*"), &keys))
}

mod loading {
    use super::*;

    /// Where an IFUNC chose the function of another library, which the program had made global, that one's counts
    /// were lost with its own the next time.
    #[test]
    fn by_many_threads_in_every_mode() {
        let libraries: Vec<PathBuf> = (1..=4).map(busy).collect();
        let launch = Launch::new(source("threads.c").build())
            .arg(150)
            .args(libraries.iter().map(|path| path.display()))
            .timeout(Duration::from_secs(240));
        let native = launch.clone().native().run();
        for (kind, bound) in [("entry", None), ("call", None), ("entry", Some(1))] {
            let launch = match bound {
                Some(now) => launch.clone().env("LD_BIND_NOW", now),
                None => launch.clone(),
            };
            let outcome = all_probed(&launch, kind, &["exe", "libbusy*.so"]).run();
            assert_same_output(&outcome, &native);
            let hits = hits_of(&outcome, |object| object.contains("/libbusy"));
            let told = |name: &str| -> u64 {
                let line =
                    outcome.stderr.lines().find_map(|line| line.strip_prefix(&format!("told {name} ")));
                line.and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("{name} {outcome}"))
            };
            for name in ["busy_at_load", "busy_at_unload", "busy_work"] {
                assert_eq!(hits[name], told(name), "{name}, {kind}: {hits:?}\n{outcome}");
            }
            // By whichever of the two names it had at that time.
            let chosen = hits["busy_chosen_one"] + hits.get("busy_chosen").copied().unwrap_or(0);
            assert_eq!(chosen, told("busy_chosen_one"), "{kind}: {hits:?}\n{outcome}");
        }
    }

    #[test]
    fn into_namespaces() {
        let rounds = 60;
        let launch = Launch::new(source("namespaces.c").build()).arg(rounds).arg(busy(1).display());
        let native = launch.clone().native().run();
        for kind in ["entry", "call"] {
            let outcome = all_probed(&launch, kind, &["exe", "libbusy*.so"]).run();
            assert_same_output(&outcome, &native);
            let hits = hits_of(&outcome, |object| object.contains("/libbusy"));
            let expected =
                [("busy_at_load", 1), ("busy_at_unload", 1), ("busy_work", 5), ("busy_chosen_one", 5)];
            for (name, times) in expected {
                assert_eq!(hits[name], rounds * times, "{name}, {kind}: {hits:?}\n{outcome}");
            }
        }
    }

    /// From constructors, for ever, and while threads have objects of theirs whose destructors are in them.
    #[test]
    fn inside_each_other() {
        let outer = source("nested.c").flag("-DOUTER").shared("libouter.so").build();
        let launch = Launch::new(source("nested.c").build())
            .arg(20)
            .args([outer, busy(1)].map(|path| path.display().to_string()));
        let native = launch.clone().native().run();
        for kind in ["entry", "call"] {
            let outcome = all_probed(&launch, kind, &["exe", "libouter.so", "libbusy*.so"]).run();
            assert_same_output(&outcome, &native);
            let hits =
                hits_of(&outcome, |object| object.contains("/libouter") || object.contains("/libbusy"));
            let expected = [
                ("outer_loads", 21),
                ("outer_unloads", 21),
                ("outer_thread_ends", 22),
                ("outer_work", 66),
                ("busy_work", 66),
                ("busy_at_load", 21),
            ];
            for (name, times) in expected {
                assert_eq!(hits[name], times, "{name}, {kind}: {hits:?}\n{outcome}");
            }
        }
    }

    #[test]
    fn beside_an_auditor_of_the_linker() {
        let audit = source("audit.c").shared("libaudit.so").build();
        let launch = Launch::new(source("namespaces.c").build())
            .arg(10)
            .arg(busy(1).display())
            .env("LD_AUDIT", audit.display());
        let native = launch.clone().native().run();
        let outcome = all_probed(&launch, "call", &["exe", "libbusy*.so"]).run();
        assert_same_output(&outcome, &native);
        let hits = hits_of(&outcome, |object| object.contains("/libbusy"));
        assert_eq!(hits["busy_work"], 50, "{hits:?}\n{outcome}");
    }

    /// A callback of dl_iterate_phdr has the lock that unmapping takes; so have we, while we change something.
    #[test]
    fn while_callbacks_of_the_linkers_list_register() {
        let launch = Launch::new(source("callbacks.c").build()).arg(400).arg(busy(1).display());
        let outcome = launch.run();
        assert_eq!((outcome.stdout.as_str(), outcome.end), ("failures 0\n", End::Exit(0)), "{outcome}");
    }
}

mod files {
    use super::*;

    /// When a package is upgraded its libraries are replaced under running programs. Such an object was taken
    /// for unloaded at the next dlopen, its breakpoints for the program's own: it died of SIGTRAP.
    #[test]
    fn that_are_replaced_or_gone_or_were_never_there() {
        let launch = |dir: &Path| {
            Launch::new(source("replaced.c").build())
                .arg(dir.display())
                .args([busy(1), busy(2)].map(|path| path.display().to_string()))
        };
        let dir = scratch("replaced");
        let native = launch(&dir).native().run();
        for kind in ["entry", "call"] {
            let objects =
                ["exe", "libbusy*.so", "removed", "renamed", "replaced", "emptied", "/proc/self/fd/*"];
            let outcome = all_probed(&launch(&dir), kind, &objects).run();
            assert_same_output(&outcome, &native);
            let hits = hits_of(&outcome, |object| {
                object.contains("replaced") || object.contains("/libbusy") || object.contains("/fd/")
            });
            // Four files, twelve calls each and three of the others; and one in memory.
            assert_eq!(hits["busy_work"], 4 * 15 + 11, "{kind} {hits:?}\n{outcome}");
        }
        std::fs::remove_dir_all(dir).expect("ours");
    }
}

mod text {
    use super::*;

    /// What is there when a probe goes, or comes back, and is not what was probed, stays as it is.
    #[test]
    fn that_the_program_maps_anew() {
        let outcome = Launch::new(source("remapped.c").build()).arg(busy(1).display()).run();
        let expected = include_str!("programs_object/remapped.txt");
        assert_eq!((outcome.stdout.as_str(), outcome.end), (expected, End::Exit(0)), "{outcome}");
    }
}

/// Other libraries that are preloaded, before us and behind us.
mod beside {
    use super::*;

    fn installed(name: &str) -> Option<PathBuf> {
        let path = Path::new("/usr/lib/x86_64-linux-gnu").join(name);
        require_command(&path.display().to_string()).then_some(path)
    }

    /// The same as with the other library alone, in both orders.
    fn assert_beside(other: &str, launch: &Launch, objects: &[&str]) {
        let Some(other) = installed(other) else { return };
        let other = other.display().to_string();
        let own = library().display().to_string();
        let alone = launch.clone().native().env("LD_PRELOAD", &other).run();
        for order in [format!("{own} {other}"), format!("{other}:{own}")] {
            let outcome = all_probed(launch, "call", objects).env("LD_PRELOAD", &order).run();
            assert_same_output(&outcome, &alone);
            assert_eq!(outcome.stderr, alone.stderr, "{order}\n{outcome}");
            let hits: u64 = outcome.all_calls().iter().map(|probe| probe.hits).sum();
            assert!(hits > 0, "{order}\n{outcome}");
        }
    }

    /// Threads, forks, execs and much memory.
    fn programs() -> Vec<Launch> {
        let script = "import threading, subprocess, json\n\
                      def f(n): return [str(i) * 50 for i in range(n)]\n\
                      t = [threading.Thread(target=f, args=(2000,)) for _ in range(4)]\n\
                      [x.start() for x in t]; [x.join() for x in t]\n\
                      print(subprocess.run(['/bin/echo', 'child'], capture_output=True).stdout)\n\
                      print(len(json.dumps(f(500))))\n";
        let mut all = vec![Launch::new("/usr/bin/ls").args(["-la", "/etc/alternatives"])];
        if require_command("/usr/bin/python3") {
            all.push(Launch::new("/usr/bin/python3").args(["-S", "-E", "-c", script]));
        }
        all
    }

    #[test]
    fn allocators() {
        for allocator in ["libjemalloc.so.2", "libmimalloc.so.2.0", "libtcmalloc_minimal.so.4"] {
            for program in programs() {
                assert_beside(allocator, &program, &[&format!("{allocator}*")]);
            }
        }
    }

    #[test]
    fn clocks_and_files() {
        let date = Launch::new("/usr/bin/date").arg("+%Y").env("FAKETIME", "2001-02-03 04:05:06");
        assert_beside("faketime/libfaketime.so.1", &date, &["libfaketime.so.1"]);
        let list = Launch::new("/usr/bin/ls").args(["-la", "/etc/alternatives"]);
        assert_beside("libeatmydata.so", &list, &["libeatmydata.so"]);
    }

    /// stdbuf preloads a library of its own, in front of what is preloaded already.
    #[test]
    fn stdbuf() {
        let launch = Launch::new("/usr/bin/stdbuf").args(["-oL", "/bin/echo", "text"]);
        let outcome = assert_same_as_native(&launch.count("libc.so.6:*").count("exe:*"));
        assert_eq!(outcome.stdout, "text\n", "{outcome}");
    }
}

/// Programs that are compiled with a sanitizer.
mod sanitized {
    use super::*;

    /// `runtime` is the sanitizer's library, where it must come first.
    fn assert_sanitized(compiler: Compiler, flag: &str, runtime: Option<&str>, args: &[&str]) {
        if !Compiler::installed().contains(&compiler) {
            return;
        }
        let program = source("sanitized.c").compiler(compiler).flag(flag).build();
        let mut preload = library().display().to_string();
        if let Some(runtime) = runtime {
            let found = std::process::Command::new("gcc")
                .arg(format!("-print-file-name={runtime}"))
                .output()
                .expect("gcc");
            preload = format!("{} {preload}", String::from_utf8_lossy(&found.stdout).trim());
        }
        let mut launch = Launch::new(program).args(args);
        if only_int3() {
            // It looks for leaks in a task of its own making, which has SIGTRAP blocked.
            launch = launch.env("ASAN_OPTIONS", "detect_leaks=0");
        }
        let native = launch.clone().native().run();
        for kind in ["entry", "call"] {
            let keys = format!("kind = '{kind}'\naction = ['count']");
            let probed = launch.clone().probe("exe:work", &keys).probe("libc.so.6:*", &keys);
            let outcome = probed.env("LD_PRELOAD", &preload).run();
            assert_same_output(&outcome, &native);
            // It ends the process by a system call of its own, when it has found something.
            if native.end == End::Exit(0) {
                assert_eq!(outcome.calls("work").hits, 1000, "{outcome}");
            }
        }
    }

    #[test]
    fn for_addresses() {
        for args in [&[][..], &["overflow"]] {
            assert_sanitized(Compiler::Gcc, "-fsanitize=address", Some("libasan.so"), args);
            assert_sanitized(Compiler::Clang, "-fsanitize=address", None, args);
        }
    }

    #[test]
    fn for_undefined_behaviour() {
        assert_sanitized(Compiler::Gcc, "-fsanitize=undefined", None, &[]);
    }

    /// Those that block signals by system calls of their own are told from the others, and left alone.
    #[test]
    fn for_what_can_not_be() {
        for (compiler, flag, name) in [
            (Compiler::Gcc, "-fsanitize=thread", "ThreadSanitizer"),
            (Compiler::Clang, "-fsanitize=thread", "ThreadSanitizer"),
            (Compiler::Clang, "-fsanitize=memory", "MemorySanitizer"),
        ] {
            if !Compiler::installed().contains(&compiler) {
                continue;
            }
            let launch = Launch::new(source("sanitized.c").compiler(compiler).flag(flag).build());
            let outcome = assert_same_as_native(&launch.clone().count("exe:work"));
            let expected = format!("uprobe: nothing is probed: the program is compiled with {name}");
            assert!(outcome.stderr.contains(&expected), "{outcome}");
            let strict = launch.count("exe:work").env("UPROBE_STRICT", 1).run();
            assert_eq!(strict.end, End::Exit(78), "{strict}");
        }
    }
}
