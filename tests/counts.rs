//! Counts are exact: each probe's hits equal the number the program's own logic dictates.

mod common;

use common::*;

/// What `calls` and its like are probed at.
fn places(program: &std::path::Path, args: &[&str]) -> Vec<String> {
    let native = Launch::new(program).args(args).native().run();
    told(&native).into_iter().map(|(place, _)| format!("exe:{place}")).collect()
}

fn assert_counts(program: &Program, args: &[&str]) {
    let path = program.build();
    let places = places(&path, args);
    let launch = Launch::new(&path).args(args).count_all(&places);
    let outcome = assert_same_as_native(&launch);
    assert_hits_as_told(&outcome);
}

mod functions {
    use super::*;

    #[test]
    fn of_every_kind_with_every_compiler_on_one_and_eight_threads() {
        for compiler in Compiler::installed() {
            for level in ["-O0", "-O2"] {
                for shape in [["-fPIE", "-pie"], ["-fno-pie", "-no-pie"]] {
                    let program = Program::new("calls.c").compiler(compiler).flag(level);
                    let program = shape.iter().fold(program, |p, f| p.flag(f));
                    // A PIE flag that reaches only the linker is no mistake.
                    let program = program.flag("-Wno-unused-command-line-argument");
                    assert_counts(&program, &["1", "1000"]);
                    assert_counts(&program, &["8", "2000"]);
                }
            }
        }
    }

    #[test]
    fn with_the_options_distributions_build_with() {
        for flags in [
            "-O2 -fcf-protection=full -fstack-protector-strong -D_FORTIFY_SOURCE=2 -Wl,-z,now",
            "-O3 -march=x86-64-v3 -fomit-frame-pointer",
            "-Os -fcf-protection=none -fno-plt",
            "-O2 -fcf-protection=branch -fno-omit-frame-pointer -falign-functions=1",
        ] {
            let program = flags.split(' ').fold(Program::new("calls.c"), |p, f| p.flag(f));
            assert_counts(&program, &["2", "500"]);
        }
    }

    #[test]
    fn stripped_of_everything_but_the_dynamic_symbols() {
        let program = Program::new("calls.c").flag("-O2").flag("-s").build();
        let exported = ["leaf", "many", "recursive", "first_name", "second_name", "empty"];
        let launch = Launch::new(&program).args(["2", "300"]).count_all(exported.map(|f| format!("exe:{f}")));
        let outcome = launch.run();
        let told = told(&outcome);
        for function in exported {
            let expected = told.iter().find(|(f, _)| f == function).expect("it tells all").1;
            assert_eq!(outcome.hits(&format!("exe:{function}")), expected, "{function}\n{outcome}");
        }
    }

    #[test]
    fn two_names_of_one_place_are_one_place_with_two_probes() {
        let program = Program::new("calls.c").build();
        let launch =
            Launch::new(&program).args(["4", "1000"]).count("exe:first_name").count("exe:second_name");
        let summary = launch.run().summary();
        let probes = summary["probes"].as_array().expect("probes");
        assert_eq!(probes[0]["address"], probes[1]["address"]);
        assert_eq!(probes[0]["file_offset"], probes[1]["file_offset"]);
        assert_eq!(probes[0]["hits"], 8000);
        assert_eq!(probes[1]["hits"], 8000);
    }

    #[test]
    fn a_glob_and_a_regex_count_each_place_once() {
        let program = Program::new("calls.c").build();
        let outcome = Launch::new(&program)
            .args(["1", "100"])
            .count("exe:[s-u]ai[0-9l]*")
            .count("exe:/^(leaf|empty)$/")
            .run();
        let counted: Vec<(String, u64)> = outcome.summary()["probes"]
            .as_array()
            .expect("probes")
            .iter()
            .map(|p| (p["symbol"].as_str().unwrap_or("?").to_string(), p["hits"].as_u64().unwrap_or(0)))
            .collect();
        // Expanded in address order within each.
        for (symbol, hits) in [("tail", 100), ("tail_end", 100), ("leaf", 300), ("empty", 100)] {
            assert!(counted.contains(&(symbol.into(), hits)), "{symbol} in {counted:?}\n{outcome}");
        }
        assert_eq!(counted.len(), 4, "{counted:?}");
    }

    #[test]
    fn of_cplusplus_by_demangled_names_with_exceptions_through_them() {
        for compiler in Compiler::installed() {
            for level in ["-O0", "-O2"] {
                let program = Program::new("shapes.cpp").compiler(compiler).flag(level).build();
                let expected = [
                    ("geometry::Square::Square(int)", 2000),
                    ("geometry::Square::area(int) const", 2000),
                    ("geometry::measure(int)", 2000),
                    ("geometry::thrower(int)", 2000),
                    ("_ZN8geometry6middleEi", 2000),
                    ("int geometry::twice<int>(int)", 2000),
                ];
                let places = expected.map(|(function, _)| format!("exe:{function}"));
                let outcome = assert_same_as_native(&Launch::new(&program).count_all(&places));
                for (place, (_, hits)) in places.iter().zip(expected) {
                    assert_eq!(outcome.hits(place), hits, "{place} {compiler:?} {level}\n{outcome}");
                }
            }
        }
    }

    #[test]
    fn in_the_unwinder_while_exceptions_fly() {
        let program = Program::new("shapes.cpp").flag("-O2").build();
        let places = [
            "libgcc_s.so.1:_Unwind_RaiseException",
            "libgcc_s.so.1:_Unwind_Resume",
            "libgcc_s.so.1:_Unwind_Find_FDE",
            "libstdc++.so.6:__cxa_throw",
            "libstdc++.so.6:__cxa_begin_catch",
            "libstdc++.so.6:__gxx_personality_v0",
        ];
        let outcome = assert_same_as_native(&Launch::new(&program).count_all(places));
        assert_eq!(outcome.hits("libstdc++.so.6:__cxa_throw"), 1000);
        assert_eq!(outcome.hits("libstdc++.so.6:__cxa_begin_catch"), 1000);
        assert_eq!(outcome.hits("libgcc_s.so.1:_Unwind_RaiseException"), 1000);
    }
}

mod storm {
    use super::*;

    fn assert_counts_in_a_storm(compiler: Compiler, level: &str, probe_keys: &str) {
        let program = Program::new("storm.c").compiler(compiler).flag(level).build();
        let mut launch = Launch::new(&program).args(["8", "5000"]);
        for place in ["exe:work", "exe:inner", "exe:from_handler"] {
            launch = launch.probe(place, probe_keys);
        }
        let outcome = launch.run();
        assert!(!outcome.stdout.contains("wrong"), "{outcome}");
        assert_hits_as_told(&outcome);
    }

    #[test]
    fn with_every_compiler() {
        for compiler in Compiler::installed() {
            for level in ["-O0", "-O2"] {
                assert_counts_in_a_storm(compiler, level, "action = ['count']");
            }
        }
    }

    #[test]
    fn with_filters_fetching_from_the_stack() {
        assert_counts_in_a_storm(
            Compiler::Gcc,
            "-O1",
            "args = ['a=%di', 'top=$stack0', 'text=+0(%sp):string']\nfilter = 'a != 0x123456789'\naction = ['count']",
        );
    }

    /// Every instruction of the functions, so that signals land in slots and between traps.
    #[test]
    fn at_every_instruction() {
        let program = Program::new("storm.c").flag("-O2").build();
        let mut launch = Launch::new(&program).args(["4", "200"]);
        for function in ["work", "inner", "from_handler"] {
            for offset in common::instruction_offsets(&program, function) {
                launch = launch.count(&format!("exe:{function}+{offset:#x}"));
            }
        }
        let outcome = launch.run();
        assert_eq!(outcome.end, End::Exit(0), "{outcome}");
        assert!(!outcome.stdout.contains("wrong"), "{outcome}");
        let told = told(&outcome);
        for (function, executed) in told {
            // The entry has run as often as told; so has each instruction outside loops.
            let entry = outcome.at(&format!("exe:{function}+0x0"));
            assert_eq!((entry.hits, entry.nmissed), (executed, 0), "{entry:?}\n{outcome}");
        }
    }
}

mod inside_a_function {
    use super::*;

    fn walk(compiler: Compiler) -> std::path::PathBuf {
        Program::new("walk.c").compiler(compiler).build()
    }

    #[test]
    fn every_instruction_at_once() {
        for compiler in Compiler::installed() {
            let program = walk(compiler);
            let places = places(&program, &["7"]);
            assert!(places.len() > 60, "the program tells its places");
            let outcome = assert_same_as_native(&Launch::new(&program).arg(7).count_all(&places));
            assert_hits_as_told(&outcome);
        }
    }

    #[test]
    fn every_instruction_one_by_one() {
        let program = walk(Compiler::Gcc);
        let native = Launch::new(&program).arg(3).native().run();
        for (place, expected) in told(&native) {
            let at = format!("exe:{place}");
            let outcome = Launch::new(&program).arg(3).count(&at).run();
            assert_same_output(&outcome, &native);
            assert_eq!(outcome.hits(&at), expected, "{at}\n{outcome}");
        }
    }

    #[test]
    fn what_is_no_boundary_is_refused_and_harms_nothing() {
        let program = walk(Compiler::Gcc);
        let native = Launch::new(&program).arg(3).native().run();
        let told = told(&native);
        let offset = |place: &str| {
            u64::from_str_radix(place.trim_start_matches("walk+").trim_start_matches("0x"), 16).expect("hex")
        };
        let boundaries: Vec<u64> = told.iter().map(|(place, _)| offset(place)).collect();
        let end = *boundaries.iter().max().expect("many");
        let inner: Vec<String> =
            (0..end).filter(|o| !boundaries.contains(o)).map(|o| format!("exe:walk+{o:#x}")).collect();
        let outcome = Launch::new(&program).arg(3).count_all(&inner).run();
        assert_same_output(&outcome, &native);
        for probe in outcome.probes() {
            assert_eq!(probe.state, "refused", "{probe:?}");
            let reason = probe.reason.clone().unwrap_or_default();
            assert!(reason.starts_with("not-a-boundary: "), "{probe:?}");
        }
    }

    #[test]
    fn by_file_offset_is_the_same_place() {
        let program = walk(Compiler::Gcc);
        let first = Launch::new(&program).arg(5).count("exe:walk").run();
        let offset = first.summary()["probes"][0]["file_offset"].as_u64().expect("a number");
        let at = format!("exe:{offset:#x}");
        let by_path = format!("{}:{offset:#x}", program.display());
        let outcome = Launch::new(&program).arg(5).count(&at).count(&by_path).run();
        assert_eq!(outcome.hits(&at), 5, "{outcome}");
        assert_eq!(outcome.hits(&by_path), 5, "{outcome}");
    }
}

mod chosen_at_load_time {
    use super::*;

    #[test]
    fn an_ifunc_is_the_implementation_that_was_chosen() {
        for compiler in Compiler::installed() {
            let program = Program::new("ifunc.c").compiler(compiler).flag("-O2").build();
            let launch = Launch::new(&program)
                .arg(1000)
                .count("exe:chosen")
                .probe(
                    "libc.so.6:strlen",
                    "args = ['s=$arg1:string']\nfilter = 's == \"a needle of libuprobe\"'\naction = ['count']",
                )
                .probe("libc.so.6:memcpy", "args = ['n=$arg3']\nfilter = 'n == 12345'\naction = ['count']")
                .probe("libc.so.6:memchr", "args = ['n=$arg3']\nfilter = 'n == 12321'\naction = ['count']");
            let outcome = assert_same_as_native(&launch);
            for place in ["exe:chosen", "libc.so.6:strlen", "libc.so.6:memcpy", "libc.so.6:memchr"] {
                assert_eq!(outcome.hits(place), 1000, "{place}\n{outcome}");
            }
        }
    }

    /// As glibc's __x86_cpu_features, which the loader asks for the sake of what the resolver does.
    #[test]
    fn an_ifunc_without_an_implementation_is_refused() {
        let outcome = Launch::new(Program::new("ifunc.c").build()).count("exe:never").run();
        let reason = outcome.at("never").reason.clone();
        let expected = "denied: an IFUNC whose resolver chooses no function";
        assert_eq!((outcome.end, reason.as_deref()), (End::Exit(0), Some(expected)), "{outcome}");
    }
}

mod threads {
    use super::*;

    #[test]
    fn twenty_thousand_come_and_go_without_a_leak() {
        let program = Program::new("short_threads.c").flag("-O2").build();
        let launch = Launch::new(&program).args(["20000", "3"]).count("exe:work").count("exe:store");
        let outcome = assert_same_as_native(&launch);
        assert_hits_as_told(&outcome);
        assert!(outcome.stdout.contains("bounded"), "{outcome}");
    }

    /// 16 KiB of stack hold the kernel's frames, and those of the first hit, which is the deepest.
    #[test]
    fn small_stacks_hold_a_hit_that_fetches_and_logs() {
        let program = Program::new("short_threads.c").build();
        let keys =
            "args = ['a=%di', 's=%sp:string', 't=+0(%sp):x8[16]', '$comm', '$stack0']\nfilter = 'a >= 0'";
        let launch =
            Launch::new(&program).args(["2000", "2"]).probe("exe:work", keys).probe("exe:store", keys);
        let outcome = launch.run();
        assert_eq!(outcome.end, End::Exit(0), "{outcome}");
        assert_identity(&outcome, "exe:work", 4000);
        assert_identity(&outcome, "exe:store", 4000);
    }

    #[test]
    fn that_end_by_exit_and_cancellation() {
        let program = Program::new("detached_threads.c").build();
        let launch = Launch::new(&program).arg(3000).count("exe:work").count("exe:cleanup");
        let outcome = assert_same_as_native(&launch);
        assert_hits_as_told(&outcome);
    }

    #[test]
    fn with_probes_on_their_own_start_and_end() {
        let program = Program::new("detached_threads.c").build();
        let launch = Launch::new(&program)
            .arg(500)
            .count("exe:run")
            .count("libc.so.6:pthread_create")
            .count("libc.so.6:pthread_exit")
            .count("libc.so.6:pthread_cancel")
            .count("libc.so.6:madvise")
            .count("libc.so.6:munmap");
        let outcome = assert_same_as_native(&launch);
        assert_eq!(outcome.hits("exe:run"), 500, "{outcome}");
        assert_eq!(outcome.hits("libc.so.6:pthread_create"), 500, "{outcome}");
    }
}

/// memcpy and memmove are IFUNCs that choose one implementation, which has a name of its own: a pattern
/// that matches all three means one place, and its hits are counted once.
#[test]
fn a_pattern_counts_each_place_once_whatever_its_names() {
    let program = Program::new("ifunc.c").build();
    let outcome = Launch::new(&program).count("libc.so.6:*mem*").count("libc.so.6:str*").run();
    let summary = outcome.summary();
    let probes = summary["probes"].as_array().expect("probes");
    for at in ["libc.so.6:*mem*", "libc.so.6:str*"] {
        let mut addresses: Vec<&str> =
            probes.iter().filter(|p| p["at"] == at).filter_map(|p| p["address"].as_str()).collect();
        assert!(addresses.len() > 20, "{at}: {}", addresses.len());
        let all = addresses.len();
        addresses.sort_unstable();
        addresses.dedup();
        assert_eq!(addresses.len(), all, "{at}\n{outcome}");
    }
}

/// Its return comes to the stub with another stack pointer than its call had.
#[test]
fn a_function_that_pops_its_arguments_is_followed() {
    let program = Program::new("ret_pops.c").build();
    for method in ["auto", "int3"] {
        let keys = format!("kind = 'call'\nmethod = '{method}'\naction = ['count']");
        let launch = Launch::new(&program).probe("exe:pops", &keys).probe("exe:through", &keys);
        let outcome = assert_same_as_native(&launch);
        let summary = outcome.summary();
        let probes = summary["probes"].as_array().expect("probes");
        let count = |probe: usize, key: &str| probes[probe][key].as_u64().expect("a number");
        for probe in [0, 1] {
            assert_eq!((count(probe, "hits"), count(probe, "returns")), (100, 100), "{outcome}");
            assert_eq!((count(probe, "unwound"), count(probe, "in_flight")), (0, 0), "{outcome}");
        }
    }
}
