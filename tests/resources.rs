//! Little of everything: stacks, memory, descriptors, files, rights. With every function of libc and of the program
//! probed, twice each, a program does what it does without us, the counts are exact, and the report is there
//! wherever it can be.

mod common;

use common::*;

/// Every function of libc and of the program: an entry and a whole call.
fn everything(name: &str) -> Launch {
    let probes = [("libc.so.6:*", "libc"), ("exe:*", "own")].into_iter().flat_map(|(at, name)| {
        ["entry", "call"]
            .map(|kind| (at, format!("name = '{kind}-{name}'\nkind = '{kind}'\naction = ['count']")))
    });
    probes.fold(Launch::new(Program::new(name).build()), |launch, (at, keys)| launch.probe(at, &keys))
}

/// The hits of work(), by the summary: of the entry, and of the calls.
fn counted(outcome: &Outcome) -> [u64; 2] {
    let summaries = outcome.summaries();
    let mine = summaries.get(&outcome.pid).and_then(|all| all.last());
    let mine = mine.unwrap_or_else(|| panic!("no summary\n{outcome}"));
    ["entry-own", "call-own"].map(|name| {
        let probes = mine["probes"].as_array().expect("probes");
        let found = probes.iter().find(|probe| {
            probe["symbol"] == "work" && probe["name"].as_str().is_some_and(|full| full.starts_with(name))
        });
        let found = found.unwrap_or_else(|| panic!("no work() in the summary\n{outcome}"));
        assert_eq!(found["nmissed"], 0, "{found}\n{outcome}");
        found["hits"].as_u64().expect("a number")
    })
}

/// Same end and output as without the library, and the counts that the program tells. `Err`: it says that it can't
/// do this here.
fn try_same(launch: &Launch) -> Result<Outcome, String> {
    let native = launch.clone().native().run();
    if native.end == End::Exit(77) {
        eprintln!("\n******** SKIPPED: {} ********\n", native.stdout.trim());
        return Err(native.stdout.clone());
    }
    let probed = launch.run();
    assert_same_output(&probed, &native);
    Ok(probed)
}

/// The same, and a report with what the program tells.
fn assert_counted(launch: &Launch) -> Option<Outcome> {
    let outcome = try_same(launch).ok()?;
    let expected = told(&outcome)[0].1;
    assert_eq!(counted(&outcome), [expected; 2], "{outcome}");
    Some(outcome)
}

mod stacks {
    use super::*;

    #[test]
    fn the_smallest_threads_and_alternate_stacks_have_room() {
        for mode in ["threads", "alternate"] {
            assert_counted(&everything("res_stacks.c").arg(mode));
        }
    }

    #[test]
    fn an_overflow_is_the_programs_own() {
        assert_counted(&everything("res_stacks.c").arg("overflow on alternate"));
        // No handler of anybody's can run: there is no stack for it, and no report.
        for mode in ["overflow", "overflow in a thread"] {
            let outcome = try_same(&everything("res_stacks.c").arg(mode)).expect("anybody may");
            assert_eq!(outcome.end, End::Signal(11), "{outcome}");
        }
    }
}

mod limits {
    use super::*;

    #[test]
    fn of_memory() {
        for mode in ["address space", "data", "stack", "cpu", "nothing"] {
            assert_counted(&everything("res_limits.c").arg(mode));
        }
    }

    /// The report took its memory from the kernel, which had none left: the allocation failed, and that killed the
    /// program at its end.
    #[test]
    fn where_there_is_no_memory_any_more_the_report_has_its_own() {
        assert_counted(&everything("res_limits.c").arg("no address space"));
        assert_counted(&everything("res_limits.c").arg("memory lock"));
    }

    /// What was set aside is no data in the kernel's eyes, as our heap isn't where it must not be: an allocation of ours
    /// failed at the next `dlopen`, and that killed the program.
    #[test]
    fn where_there_is_no_data_any_more_ours_is_none() {
        assert_counted(&everything("res_limits.c").arg("no data"));
    }

    /// What limits leave little of from the start is the program's, and what we need is had beside it: an allocation of
    /// ours failed while the probes were armed.
    #[test]
    fn of_memory_from_the_start() {
        for limit in ["-d 4000", "-Sv 60000"] {
            let program = Program::new("res_limits.c").build();
            let command = format!("ulimit {limit}; exec {} 'nothing more'", program.display());
            let launch = Launch::new("/bin/sh").args(["-c".into(), command]);
            let launch = ["entry", "call"].into_iter().fold(launch, |launch, kind| {
                let keys = format!("name = '{kind}-own'\nkind = '{kind}'\naction = ['count']");
                launch.probe("*res_limits*:*", &keys).probe(
                    "libc.so.6:*",
                    &format!("name = '{kind}-libc'\nkind = '{kind}'\naction = ['count']"),
                )
            });
            assert_counted(&launch);
        }
    }

    /// What we reserve is locked too, but not filled: what threads count in was, 3 MiB each.
    #[test]
    fn locked_memory_stays_little() {
        let Some(outcome) = assert_counted(&everything("res_limits.c").arg("all locked")) else { return };
        let lines: Vec<&str> = outcome.stderr.lines().filter(|line| line.starts_with("locked ")).collect();
        let resident =
            |line: &str| -> u64 { line.rsplit(' ').next().expect("a word").parse().expect("a number") };
        assert_eq!(lines.len(), 2, "{outcome}");
        assert!(resident(lines[1]) < resident(lines[0]) + 100, "20 threads took much memory\n{outcome}");
    }

    /// The report's file was opened at the end, when no number was left.
    #[test]
    fn of_open_files() {
        assert_counted(&everything("res_limits.c").arg("files"));
    }

    /// Where the program may have four files open it has them: one besides the standard ones. Our own took it.
    #[test]
    fn of_open_files_from_the_start() {
        let shell = |launch: Launch, number: u32| {
            let program = Program::new("res_limits.c").build();
            launch.args(["-c".into(), format!("ulimit -n {number}; exec {} 'one file'", program.display())])
        };
        for number in [4, 5, 8] {
            let launch = shell(Launch::new("/bin/sh"), number).probe("exe:work", "name = 'log'\nlimit = 3");
            let outcome = assert_same_as_native(&launch.count("libc.so.6:malloc_usable_size"));
            let summary = &outcome.summaries()[&outcome.pid];
            let probes = &summary.last().expect("a summary")["probes"];
            assert_eq!(
                (&probes[0]["hits"], &probes[0]["sampled_out"]),
                (&3.into(), &98.into()),
                "{number}\n{outcome}"
            );
            assert_eq!(probes[1]["hits"], 2, "{number}\n{outcome}");
            assert_eq!(outcome.events().lines().count(), 3, "{number}\n{outcome}");
        }
    }

    /// Nobody who looks at one number after the other sees ours: where the limit is below the numbers that programs
    /// use (CPython's test_close_fds_when_max_fd_is_lowered found them just above it), nor where there are none beyond.
    #[test]
    fn of_open_files_that_somebody_counts() {
        for (limit, end) in [("-Sn 29", 200), ("-n 1024", 1024), ("-n 3000", 3000)] {
            let program = Program::new("res_look.c").build();
            let command = format!("ulimit {limit}; exec {} {end}", program.display());
            let launch = Launch::new("/bin/sh").args(["-c".into(), command]);
            let launch = launch.probe("exe:work", "name = 'log'\nlimit = 3").count("libc.so.6:fcntl");
            try_same(&launch).expect("anybody may");
        }
    }

    /// Our own writes beyond the limit raised SIGXFSZ in the program. Now the report is whole, or not there.
    #[test]
    fn of_file_size() {
        let outcome = try_same(&everything("res_limits.c").arg("file size")).expect("anybody may");
        assert!(outcome.files("summary.").values().all(String::is_empty), "half a report\n{outcome}");
        assert!(outcome.stderr.contains("the report can't be written"), "{outcome}");
        let log = everything("res_limits.c").arg("file size").probe("exe:work", "action = ['log']");
        let outcome = try_same(&log).expect("anybody may");
        assert!(outcome.events().len() <= 100, "{outcome}");
    }

    /// Events into a pipe that nobody reads: at a jump the signal of our own write reached the program.
    #[test]
    fn of_nobody_who_reads() {
        let launch = Launch::new(Program::new("res_limits.c").build()).arg("nobody reads");
        let launch = launch.toml("[output]\nformat = 'json'").probe("exe:work", "name = 'log'");
        let dir = scratch("pipe");
        let mut command = launch.command(&dir);
        let mut child = command
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .expect("the program starts");
        drop(child.stderr.take());
        let pid = child.id();
        let status = child.wait().expect("our child");
        assert_eq!(status.code(), Some(0), "{status}");
        let text = std::fs::read_to_string(dir.join(format!("summary.{pid}"))).expect("a report");
        let summary: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let probe = &summary["probes"][0];
        assert_eq!((&probe["hits"], &probe["lost"]), (&201.into(), &201.into()), "{summary}");
    }

    /// Other ways of libc's heap change nothing.
    #[test]
    fn of_the_heap_s_own() {
        let launch = everything("res_limits.c").arg("nothing");
        assert_counted(&launch.clone().env("MALLOC_ARENA_MAX", 1).env("MALLOC_PERTURB_", 85));
        assert_counted(&launch.env("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1:glibc.malloc.tcache_count=0"));
    }

    #[test]
    fn of_processes() {
        assert_counted(&everything("res_limits.c").arg("processes"));
    }
}

mod places {
    use super::*;

    /// The report's file was looked for at the end: in the new root, or as the new user.
    #[test]
    fn another_root_or_user_does_not_lose_the_report() {
        for mode in ["chroot", "chdir", "another user", "another user for a while"] {
            let launch = everything("res_places.c").arg(mode).probe("exe:work", "name = 'events'\nlimit = 5");
            let Some(outcome) = assert_counted(&launch) else { continue };
            assert_eq!(outcome.event_lines().len(), 5, "{mode}\n{outcome}");
        }
    }

    /// A library that is loaded later is looked at, and what was probed before stays so: the objects' names led
    /// nowhere any more, and so all of them seemed to be gone.
    #[test]
    fn without_proc_what_is_probed_stays_probed() {
        let launch = everything("res_places.c").arg("no proc").arg("dlopen").count("libz.so.1:crc32");
        let Some(outcome) = assert_counted(&launch) else { return };
        assert_eq!(outcome.hits("libz.so.1:crc32"), 1, "{outcome}");
        let places = outcome.summary();
        let gone: Vec<_> = places["probes"]
            .as_array()
            .expect("probes")
            .iter()
            .filter(|probe| probe["state"] == "pending")
            .collect();
        assert!(gone.is_empty(), "{gone:?}");
    }

    /// Nothing was probed, and nobody said so: no memory near the code was found, and the program's file was not known.
    #[test]
    fn without_proc_from_the_start() {
        let program = Program::new("res_limits.c").build();
        let script = format!("mount -t tmpfs none /proc || exit 77; exec {} nothing", program.display());
        let shell = |launch: Launch| launch.args(["-rm", "sh", "-c", &script]);
        let launch = shell(Launch::new("/usr/bin/unshare"))
            .toml("[output]\npath = '/dev/null'\n[summary]\npath = 'SUMMARY'\nformat = 'json'")
            .count("exe:work")
            .count("libc.so.6:malloc_usable_size");
        let dir = scratch("no-proc");
        let Ok(outcome) = try_same(&launch.cwd(&dir)) else { return };
        let text =
            std::fs::read_to_string(dir.join("SUMMARY")).unwrap_or_else(|why| panic!("{why}\n{outcome}"));
        let summary: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(summary["probes"][0]["hits"], 201, "{summary}");
        assert_eq!(summary["probes"][0]["state"], "armed", "{summary}");
        assert_eq!(summary["exe"], program.display().to_string());
    }

    #[test]
    fn another_root_does_not_hide_what_is_loaded() {
        let launch = everything("res_places.c").arg("chroot").arg("dlopen");
        assert_counted(&launch);
    }

    /// What can't be written can't be written; the program is not told.
    #[test]
    fn a_file_system_that_has_become_read_only() {
        let Ok(outcome) = try_same(&everything("res_places.c").arg("read only")) else { return };
        assert!(outcome.stderr.contains("Read-only file system"), "{outcome}");
        let _ = try_same(&everything("res_places.c").arg("hidden"));
    }

    #[test]
    fn rights_given_up() {
        for mode in ["not dumpable", "no new privileges", "no new code"] {
            let launch = everything("res_places.c").arg(mode).arg("dlopen").count("libz.so.1:crc32");
            let Some(outcome) = assert_counted(&launch) else { continue };
            assert_eq!(outcome.hits("libz.so.1:crc32"), 1, "{mode}\n{outcome}");
        }
    }

    #[test]
    fn text_on_other_pages() {
        for mode in ["huge pages", "text remapped", "not random"] {
            assert_counted(&everything("res_places.c").arg(mode));
        }
    }

    #[test]
    fn every_descriptor_closed() {
        for mode in ["nothing open", "nothing at all open"] {
            let launch = everything("res_places.c").arg(mode);
            assert_counted(&launch);
        }
    }
}

mod filters {
    use super::*;

    fn shut_in(mode: &str) -> Launch {
        everything("res_filters.c").arg(mode)
    }

    /// Whatever is forbidden later was done before, or is left undone. (The first call of the kernel's that a hit, a
    /// new thread or the report made killed the program.)
    #[test]
    fn that_forbid_what_we_would_like_to_call() {
        for mode in ["strict", "small", "small, errors", "forbidden", "twice"] {
            assert_counted(&shut_in(mode)).expect("anybody may");
        }
        for mode in ["small", "forbidden", "twice"] {
            assert_counted(&shut_in(mode).arg("number")).expect("anybody may");
        }
    }

    /// SIGSYS comes from the program's own calls alone.
    #[test]
    fn that_raise_signals() {
        assert_counted(&shut_in("small, traps")).expect("anybody may");
    }

    /// No return from a signal handler either: where the process ends, the handler ends it.
    #[test]
    fn that_leave_read_write_and_exit() {
        assert_counted(&shut_in("smallest")).expect("anybody may");
        assert_counted(&shut_in("smallest").arg("number")).expect("anybody may");
    }

    /// The same death as without us, by the same signal.
    #[test]
    fn that_kill_the_program_itself() {
        for mode in ["strict, _exit", "smallest, violated", "smallest, crash"] {
            try_same(&shut_in(mode)).expect("anybody may");
        }
    }

    /// A filter is its thread's, unless it is for all.
    #[test]
    fn of_some_threads() {
        for mode in ["one thread", "all threads"] {
            assert_counted(&shut_in(mode)).expect("anybody may");
        }
    }

    /// Syscall User Dispatch. (The return from a breakpoint was caught too, with SIGSYS blocked: the program died.)
    #[test]
    fn that_are_a_byte_of_the_program_s() {
        for mode in ["all", "libc"] {
            let trap = "name = 'trap'\nmethod = 'int3'\naction = ['count']";
            let _ = assert_counted(&everything("res_dispatch.c").arg(mode).probe("exe:calls_of_libc", trap));
        }
    }

    #[test]
    fn that_are_only_asked_for() {
        assert_counted(&shut_in("only asks")).expect("anybody may");
    }

    /// Events go on as long as `write` is allowed, and into the trace as long as the program lives.
    #[test]
    fn that_let_events_through() {
        for mode in ["small", "forbidden"] {
            let launch = shut_in(mode).probe("exe:work", "name = 'events'\nargs = ['text=$arg1:string']");
            let outcome = assert_counted(&launch).expect("anybody may");
            assert_eq!(outcome.event_lines().len(), 60, "{outcome}");
        }
    }

    /// A breakpoint ends with rt_sigreturn: where that is forbidden it is taken out first, and says so.
    #[test]
    fn take_breakpoints_out_that_could_not_return() {
        let launch = Launch::new(Program::new("res_filters.c").build())
            .arg("smallest")
            .probe("exe:work", "method = 'int3'\naction = ['count']");
        let outcome = try_same(&launch).expect("anybody may");
        let probe = outcome.at("exe:work");
        assert_eq!((probe.hits, probe.state.as_str()), (10, "refused"), "{outcome}");
        assert!(probe.reason.is_some_and(|reason| reason.starts_with("no-sigreturn: ")), "{outcome}");
    }

    #[test]
    fn leave_breakpoints_that_can_return() {
        for mode in ["small", "strict", "forbidden"] {
            let launch = Launch::new(Program::new("res_filters.c").build())
                .arg(mode)
                .probe("exe:work", "method = 'int3'\naction = ['count']");
            let outcome = try_same(&launch).expect("anybody may");
            assert_eq!(outcome.hits("exe:work"), 60, "{mode}\n{outcome}");
        }
    }
}

mod threads {
    use super::*;

    /// Memory of dead threads is used again: rounds of threads don't add up.
    #[test]
    fn by_the_hundred_cost_what_they_cost_once() {
        let launch = everything("res_threads.c").arg(500);
        let outcome = assert_counted(&launch).expect("anybody may");
        let resident: Vec<u64> =
            outcome.stderr.lines().filter_map(|line| line.strip_prefix("resident ")?.parse().ok()).collect();
        assert_eq!(resident.len(), 4, "{outcome}");
        // On a busy machine some of a round's threads are joined and not yet gone when the next round begins.
        assert!(resident[2] < resident[1] + resident[1] / 2, "{resident:?}");
        // Five times as many, one after another.
        assert!(resident[3] < resident[2] + resident[2] / 10, "{resident:?}");
    }
}

/// A program that takes SIGSEGV by a system call of its own (Free Pascal's do) had the library's own faults, when it looked
/// at memory that is not there: the first such look ended it. Its end was never reported.
#[test]
fn system_calls_of_the_program_itself_are_seen_in_a_stripped_one() {
    for flag in ["-g", "-s"] {
        let launch = Launch::new(Program::new("own_calls.c").flag(flag).build());
        let native = launch.clone().native().run();
        for method in ["auto", "int3"] {
            let launch =
                launch.clone().probe("libc.so.6:p*", &format!("action = ['count']\nmethod = '{method}'"));
            let launch = launch.probe("libc.so.6:qsort", "kind = 'call'\naction = ['count']");
            let outcome = launch.probe("libc.so.6:puts", "name = 'puts'\nargs = ['text=$arg1:string']").run();
            assert_same_output(&outcome, &native);
            assert_eq!(outcome.end, End::Exit(7), "{outcome}");
            let puts = outcome.probes().into_iter().find(|probe| probe.name == "puts");
            assert_eq!(puts.map(|probe| probe.hits), Some(1), "{outcome}");
            assert!(outcome.events().contains("text=\"signals are blocked\""), "{outcome}");
        }
    }
}
