//! What comes out: the summary at every end, the event log, and that neither ever mixes with
//! what is the program's own. With it the accounting: nothing is lost silently.

mod common;

use std::collections::BTreeMap;
use std::fs;

use common::*;
use serde_json::Value;

mod the_summary {
    use super::*;

    fn ends() -> Launch {
        Launch::new(Program::new("ends.c").build()).count("exe:work")
    }

    /// Same status, same output, one summary, exact counts.
    fn assert_end(way: &str, hits: u64) {
        let outcome = assert_same_as_native(&ends().arg(way));
        assert_eq!(outcome.hits("exe:work"), hits, "{way}\n{outcome}");
        assert_eq!(outcome.summaries().len(), 1, "{way}: one process, one summary\n{outcome}");
    }

    #[test]
    fn is_written_once_when_the_program_exits() {
        for way in ["return", "exit", "_exit", "_Exit", "quick_exit", "thread exits", "main leaves"] {
            assert_end(way, 1000);
        }
    }

    /// By libc's syscall(): the last way that passes through anything of the process's.
    #[test]
    fn is_written_when_the_system_call_is_made_directly() {
        assert_end("exit_group", 1000);
    }

    #[test]
    fn counts_what_exit_handlers_do() {
        for way in ["atexit", "at_quick_exit"] {
            assert_end(way, 1001);
        }
    }

    #[test]
    fn is_written_when_the_program_aborts() {
        for way in ["abort", "abort blocked", "thread aborts"] {
            assert_end(way, 1000);
        }
        assert_end("abort caught", 1001);
    }

    #[test]
    fn is_written_when_a_fault_kills_the_program() {
        for way in ["segv", "fpe", "ill", "bus", "trap", "thread crashes"] {
            assert_end(way, 1000);
        }
    }

    #[test]
    fn is_written_when_a_signal_kills_the_program() {
        for way in ["term", "int", "hup", "pipe", "alarm", "usr1", "rt", "quit", "cpu"] {
            assert_end(way, 1000);
        }
        assert_end("term caught", 1001);
    }

    /// The new program inherits preload and config: a second summary of the same process follows
    /// the first, which is not lost.
    #[test]
    fn is_written_before_another_program_is_executed() {
        for (way, next) in [("exec", 0), ("exec itself", 1000)] {
            let outcome = assert_same_as_native(&ends().arg(way));
            let summaries = outcome.summaries();
            let mine = &summaries[&outcome.pid];
            assert_eq!(mine.len(), 2, "{way}\n{outcome}");
            assert_eq!(mine[0]["probes"][0]["hits"], 1000, "{way}\n{outcome}");
            assert_eq!(mine[1]["probes"][0]["hits"], next, "{way}\n{outcome}");
        }
        for way in ["exec without environment", "fexecve"] {
            assert_end(way, 1000);
        }
    }

    #[test]
    fn waits_where_executing_fails() {
        let outcome = assert_same_as_native(&ends().arg("exec fails"));
        let summaries = outcome.summaries();
        let last = summaries[&outcome.pid].last().expect("at least one");
        assert_eq!(last["probes"][0]["hits"], 1000, "{outcome}");
    }

    #[test]
    fn has_all_keys_of_the_contract() {
        let program = Program::new("calls.c").build();
        let outcome =
            Launch::new(&program).args(["2", "50"]).count("exe:leaf").count("libz.so.1:crc32").run();
        let summary = outcome.summary();
        assert_eq!(summary["version"], 1);
        assert_eq!(summary["pid"], outcome.pid);
        assert_eq!(summary["exe"], program.display().to_string());
        assert!(summary["wall_ns"].as_u64().is_some_and(|ns| ns > 0), "{summary}");
        let keys = [
            "name",
            "at",
            "object",
            "symbol",
            "offset",
            "file_offset",
            "address",
            "kind",
            "state",
            "method",
            "reason",
            "hits",
            "returns",
            "nmissed",
            "filtered",
            "sampled_out",
            "lost",
            "unwound",
            "in_flight",
            "latency",
            "hist",
        ];
        for probe in summary["probes"].as_array().expect("probes") {
            let found: Vec<&str> = probe.as_object().expect("an object").keys().map(String::as_str).collect();
            for key in keys {
                assert!(found.contains(&key), "{key} in {probe}");
            }
        }
        let leaf = &summary["probes"][0];
        assert_eq!(leaf["at"], "exe:leaf");
        assert_eq!(leaf["symbol"], "leaf");
        assert_eq!(leaf["offset"], 0);
        assert_eq!(leaf["kind"], "entry");
        assert_eq!(leaf["state"], "armed");
        assert_eq!(leaf["object"], program.display().to_string());
        assert!(leaf["address"].as_str().is_some_and(|a| a.starts_with("0x")), "{leaf}");
        assert!(
            ["emulate", "boost", "step", "jump"].contains(&leaf["method"].as_str().unwrap_or("")),
            "{leaf}"
        );
        assert_eq!(leaf["hits"], 300);
        let pending = &summary["probes"][1];
        assert_eq!(pending["state"], "pending");
        assert_eq!(pending["hits"], 0);
        assert!(
            pending["reason"].as_str().is_some_and(|r| r.starts_with("object-not-loaded: ")),
            "{pending}"
        );
    }

    #[test]
    fn is_a_table_on_standard_error_where_nothing_is_said() {
        let program = Program::new("calls.c").build();
        let outcome = Launch::new(&program).toml("[summary]").count("exe:leaf").run();
        assert_eq!(outcome.end, End::Exit(0), "{outcome}");
        let line = outcome.stderr.lines().find(|l| l.contains("leaf")).unwrap_or_else(|| panic!("{outcome}"));
        assert!(line.split_whitespace().any(|word| word == "300"), "{outcome}");
        assert!(!outcome.stdout.contains("leaf:"), "{outcome}");
    }

    #[test]
    fn can_be_none() {
        let program = Program::new("calls.c").build();
        let outcome = Launch::new(&program).summary_format("none").count("exe:leaf").run();
        assert_eq!((outcome.stderr.as_str(), outcome.summaries().len()), ("", 0), "{outcome}");
    }

    #[test]
    fn goes_to_a_path_with_percents() {
        let program = Program::new("calls.c").build();
        let dir = scratch("percents");
        let table = format!("[summary]\nformat = 'json'\npath = '{}/%e.%p.100%%'", dir.display());
        let outcome = Launch::new(&program).toml(&table).count("exe:leaf").run();
        let path = dir.join(format!("calls.{}.100%", outcome.pid));
        let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}\n{outcome}", path.display()));
        let summary: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(summary["probes"][0]["hits"], 300);
        fs::remove_dir_all(dir).expect("ours");
    }
}

mod accounting {
    use super::*;

    fn values(keys: &str) -> Outcome {
        let outcome = Launch::new(Program::new("values.c").build()).probe("exe:number", keys).run();
        assert_eq!(outcome.end, End::Exit(0), "{outcome}");
        outcome
    }

    /// (hits, nmissed, filtered, sampled out), and the events logged.
    fn account(outcome: &Outcome) -> ((u64, u64, u64, u64), u64) {
        let p = outcome.at("exe:number");
        ((p.hits, p.nmissed, p.filtered, p.sampled_out), outcome.event_lines().len() as u64)
    }

    #[test]
    fn of_filters() {
        let keys = |filter: &str| format!("args = ['n=$arg1:s64', 'c=$comm']\nfilter = '{filter}'");
        for (filter, hits) in [
            ("n < 3", 3),
            ("n >= 3", 7),
            ("n == 5", 1),
            ("n != 5", 9),
            ("n & 1", 5),
            ("!(n & 1)", 5),
            ("n > 2 && n <= 4 || n == 9", 3),
            ("n > 100", 0),
            ("c == \"valued\"", 10),
            ("c ~ \"val*\"", 10),
            ("c != \"valued\"", 0),
            ("c ~ \"*x*\"", 0),
        ] {
            let outcome = values(&keys(filter));
            assert_eq!(account(&outcome), ((hits, 0, 10 - hits, 0), hits), "{filter}\n{outcome}");
        }
    }

    #[test]
    fn of_samples() {
        for (sample, hits) in [(1, 10), (2, 5), (3, 3), (10, 1), (5, 2)] {
            let outcome = values(&format!("sample = {sample}"));
            assert_eq!(account(&outcome), ((hits, 0, 0, 10 - hits), hits), "{sample}\n{outcome}");
        }
        let outcome = values("sample = 11");
        assert_eq!(account(&outcome), ((0, 0, 0, 10), 0), "{outcome}");
    }

    #[test]
    fn of_filters_with_samples_is_complete() {
        let outcome = values("args = ['n=$arg1']\nfilter = 'n & 1'\nsample = 2");
        assert_identity(&outcome, "exe:number", 10);
        let ((hits, _, filtered, _), events) = account(&outcome);
        assert_eq!((hits, filtered), (2, 5), "every second of those that pass\n{outcome}");
        assert_eq!(events, 2, "{outcome}");
    }

    #[test]
    fn of_limits() {
        let outcome = values("limit = 4");
        // What is beyond the limit is left out like what a sample leaves out.
        assert_eq!(account(&outcome), ((4, 0, 0, 6), 4), "{outcome}");
        // Whoever of eight threads is fourth.
        let program = Program::new("flood.c").build();
        for limit in [1, 100, 7999] {
            let outcome = Launch::new(&program)
                .args(["8", "1000"])
                .probe("exe:work", &format!("limit = {limit}"))
                .run();
            assert_eq!(outcome.hits("exe:work"), limit, "{outcome}");
            assert_identity(&outcome, "exe:work", 8000);
            assert_eq!(outcome.event_lines().len() as u64, limit - outcome.at("exe:work").lost, "{outcome}");
        }
    }

    #[test]
    fn of_what_is_not_enabled() {
        let outcome = values("enabled = false");
        assert_eq!(account(&outcome), ((0, 0, 0, 0), 0), "{outcome}");
        assert_eq!(outcome.at("exe:number").state, "disabled", "{outcome}");
    }

    #[test]
    fn of_what_is_only_counted() {
        let outcome = values("action = ['count']");
        assert_eq!(account(&outcome), ((10, 0, 0, 0), 0), "{outcome}");
    }

    /// events logged = hits - lost, however fast they come.
    #[test]
    fn of_floods() {
        let program = Program::new("flood.c").build();
        for format in ["text", "json"] {
            let launch = Launch::new(&program)
                .args(["8", "5000"])
                .format(format)
                .probe("exe:work", "args = ['t=$arg1:s64', 'n=$arg2:s64', 's=$arg3:string']");
            let outcome = assert_same_as_native(&launch);
            let probe = outcome.at("exe:work");
            assert_eq!((probe.hits, probe.nmissed), (40000, 0), "{outcome}");
            assert_eq!(outcome.event_lines().len() as u64, probe.hits - probe.lost, "{outcome}");
        }
    }

    #[test]
    fn of_two_probes_at_one_place_is_kept_apart() {
        let program = Program::new("values.c").build();
        let outcome = Launch::new(&program)
            .probe("exe:number", "name = 'all'")
            .probe("exe:number", "name = 'some'\nargs = ['n=$arg1']\nfilter = 'n < 2'")
            .probe("exe:number", "name = 'third'\nsample = 3\naction = ['count']")
            .run();
        assert_eq!(
            (outcome.hits("all"), outcome.hits("some"), outcome.hits("third")),
            (10, 2, 3),
            "{outcome}"
        );
        assert_eq!(outcome.at("some").filtered, 8);
        assert_eq!(outcome.at("third").sampled_out, 7);
        assert_eq!(outcome.event_lines().len(), 12, "{outcome}");
    }
}

mod events {
    use super::*;

    /// What follows `NAME: (ADDRESS) ` in each line.
    fn values_of(outcome: &Outcome) -> Vec<String> {
        outcome
            .event_lines()
            .iter()
            .map(|line| {
                let (_, rest) = line.split_once(": (").unwrap_or_else(|| panic!("'{line}'"));
                let (_, values) = rest.split_once(") ").unwrap_or_else(|| panic!("'{line}'"));
                values.to_string()
            })
            .collect()
    }

    fn assert_values(at: &str, args: &[&str], expected: &[&str]) {
        let list: Vec<String> = args.iter().map(|a| format!("'{a}'")).collect();
        let program = Program::new("values.c").build();
        let outcome = Launch::new(&program).probe(at, &format!("args = [{}]", list.join(", "))).run();
        assert_eq!(outcome.end, End::Exit(0), "{outcome}");
        assert_eq!(values_of(&outcome), expected, "{outcome}");
    }

    #[test]
    fn print_integers_of_every_width_as_ftrace_does() {
        assert_values(
            "exe:integers",
            &[
                "a=$arg1:s8",
                "b=$arg2:u16",
                "c=$arg3:s32",
                "d=$arg4:s64",
                "e=$arg5:u64",
                "f=$arg6:x8",
                "%di:x32",
                "g=%cx",
            ],
            &[
                "a=-1 b=65535 c=-2147483648 d=-5 e=18446744073709551615 f=0xc8 arg7=0xffffffff g=0xfffffffffffffffb",
            ],
        );
    }

    #[test]
    fn print_strings_and_what_cannot_be_read() {
        assert_values(
            "exe:text",
            &["a=$arg1:string", "b=$arg2:string", "c=$arg3:char"],
            &[
                r#"a="plain" b="with \"quotes\", \\ and \n newline" c='x'"#,
                r#"a="" b="café \001\377" c='\n'"#,
                r#"a=(fault) b=(fault) c='\000'"#,
                r#"a="at edge" b=(fault) c='\''"#,
            ],
        );
    }

    #[test]
    fn follow_pointers_and_print_arrays() {
        assert_values(
            "exe:structure",
            &[
                "flags=+0($arg1):x64",
                "id=+0(+8($arg1)):s32",
                "name=+0(+8(+8($arg1))):string",
                "list=+16($arg1):s16[4]",
                "neg=-0($arg1):x8",
            ],
            &[
                r#"flags=0x8000000000000001 id=-77 name="inner name" list={1,-2,3,-4} neg=0x1"#,
                "flags=(fault) id=(fault) name=(fault) list={(fault),(fault),(fault),(fault)} neg=(fault)",
                "flags=0x65676465207461 id=(fault) name=(fault) list={(fault),(fault),(fault),(fault)} neg=0x61",
            ],
        );
    }

    #[test]
    fn reach_the_stack_and_the_rest() {
        assert_values(
            "exe:on_stack",
            &[
                "six=$arg6:s32",
                "seven=$arg7:s64",
                "eight=+0($arg8):string",
                "same=$stack1:s64",
                "who=$comm",
                r"k=\42:u8",
            ],
            &[r#"six=6 seven=-7 eight="eighth" same=-7 who="valued" k=42"#],
        );
        assert_values("exe:strings", &["s=+0($arg1):string[3]"], &[r#"s={"one","two","three"}"#]);
    }

    #[test]
    fn are_json_objects_a_line_each() {
        let program = Program::new("values.c").build();
        let outcome = Launch::new(&program)
            .format("json")
            .probe("exe:text", "name = 'text'\nargs = ['a=$arg1:string', 'b=$arg2:string', 'c=$arg3:char']")
            .probe("exe:number", "args = ['n=$arg1:s64']")
            .run();
        let events: Vec<Value> = outcome
            .event_lines()
            .iter()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e} in '{line}'")))
            .collect();
        assert_eq!(events.len(), 14, "{outcome}");
        assert_eq!(events[0]["name"], "text");
        assert_eq!(events[0]["args"]["b"], "with \"quotes\", \\ and \n newline");
        assert_eq!(events[0]["pid"], outcome.pid);
        assert_eq!(events[0]["comm"], "valued");
        assert_eq!(events[2]["args"]["a"], Value::Null);
        assert_eq!(events[13]["args"]["n"], 9);
        let mut last = 0;
        for event in &events {
            let ts = event["ts"].as_u64().expect("a number");
            assert!(ts >= last, "in order of time\n{outcome}");
            last = ts;
        }
    }

    /// Each line is whole, whoever else writes at the same moment; each event is there once.
    #[test]
    fn are_whole_lines_in_a_flood_on_standard_error() {
        let program = Program::new("flood.c").build();
        let outcome = Launch::new(&program)
            .args(["8", "2000"])
            .toml("[output]\nformat = 'text'")
            .probe("exe:work", "name = 'w'\nargs = ['t=$arg1:s64', 'n=$arg2:s64', 's=$arg3:string']")
            .run();
        let lost = outcome.at("w").lost;
        let mut seen: BTreeMap<(u64, u64), u32> = BTreeMap::new();
        for line in outcome.stderr.lines() {
            let value = |key: &str| {
                line.split_whitespace()
                    .find_map(|w| w.strip_prefix(key)?.parse().ok())
                    .unwrap_or_else(|| panic!("'{line}'"))
            };
            assert!(line.ends_with(r#" s="some text to make the line longer than a few bytes""#), "'{line}'");
            assert_eq!(line.matches(": w: (").count(), 1, "'{line}'");
            *seen.entry((value("t="), value("n="))).or_default() += 1;
        }
        assert_eq!(seen.len() as u64 + lost, 16000, "{lost} lost");
        assert!(seen.values().all(|count| *count == 1));
        assert_eq!(outcome.stdout.lines().count(), 9, "the program's own output is its own\n{outcome}");
    }
}

mod descriptors {
    use super::*;

    fn assert_own_bytes_only(way: &str, output: Option<&str>) {
        let program = Program::new("closes.c").build();
        let dir = scratch("closes");
        let file = dir.join("own");
        let mut launch = Launch::new(&program).arg(way).arg(file.display());
        if let Some(output) = output {
            launch = launch.toml(output);
        }
        let outcome = launch.probe("exe:work", "args = ['n=$arg1', 't=$comm']").run();
        assert_eq!(outcome.end, End::Exit(0), "{way} {outcome}");
        let text = fs::read_to_string(&file).expect("its file");
        let foreign: Vec<&str> = text.lines().filter(|line| *line != "own").take(3).collect();
        assert!(foreign.is_empty(), "{way}: bytes that are not the program's: {foreign:?}");
        if way != "race" {
            assert_hits_as_told(&outcome);
        }
        fs::remove_dir_all(dir).expect("ours");
    }

    #[test]
    fn closed_and_taken_never_receive_an_event() {
        for way in ["close_range", "closefrom", "loop", "proc"] {
            assert_own_bytes_only(way, None);
            assert_own_bytes_only(way, Some("[output]\nformat = 'json'"));
        }
    }

    #[test]
    fn closed_and_taken_by_one_thread_while_others_log() {
        for _ in 0..3 {
            assert_own_bytes_only("race", None);
        }
    }

    /// The log goes on where it can: a file of ours is opened again.
    #[test]
    fn closed_do_not_end_the_log() {
        let program = Program::new("closes.c").build();
        let dir = scratch("closes");
        let outcome = Launch::new(&program)
            .args(["close_range".to_string(), dir.join("own").display().to_string()])
            .probe("exe:work", "args = ['n=$arg1']")
            .run();
        let probe = outcome.at("exe:work");
        assert_eq!(probe.lost, 0, "there was room for a descriptor\n{outcome}");
        assert_eq!(outcome.event_lines().len() as u64, probe.hits, "{outcome}");
        fs::remove_dir_all(dir).expect("ours");
    }

    /// Not one number is left for us: what can't be written is counted, and the summary comes.
    #[test]
    fn all_taken_lose_events_and_not_the_account() {
        let program = Program::new("closes.c").build();
        let dir = scratch("closes");
        let own = dir.join("own");
        let outcome = Launch::new(&program)
            .args(["loop".to_string(), own.display().to_string(), "1100".into()])
            .probe("exe:work", "args = ['n=$arg1']")
            .run();
        assert_hits_as_told(&outcome);
        let probe = outcome.at("exe:work");
        assert_eq!(outcome.event_lines().len() as u64, probe.hits - probe.lost, "{outcome}");
        assert!(fs::read_to_string(own).expect("its file").lines().all(|line| line == "own"));
        fs::remove_dir_all(dir).expect("ours");
    }
}

mod quiet {
    use super::*;

    /// Without a config the library is not there: no handler, thread, mapping, descriptor, output.
    #[test]
    fn does_nothing_without_a_config() {
        let program = Program::new("quiet.c").build();
        for uprobes in [None, Some("")] {
            let mut launch = Launch::new(&program);
            if let Some(value) = uprobes {
                launch = launch.env("UPROBES", value);
            }
            let outcome = assert_same_as_native(&launch);
            assert_eq!(outcome.stderr, "", "{outcome}");
            assert!(outcome.summaries().is_empty());
        }
    }

    #[test]
    fn says_what_is_wrong_and_runs_the_program() {
        let program = Program::new("calls.c").build();
        let outcome = Launch::new(&program)
            .count("exe:leaf")
            .probe("exe:empty", "filtre = 'a'")
            .count("exe:no_such_function")
            .run();
        assert_eq!(outcome.end, End::Exit(0), "{outcome}");
        assert!(outcome.stdout.contains("hits leaf 300"), "{outcome}");
        assert!(outcome.stderr.contains("filtre") && outcome.stderr.contains("did you mean"), "{outcome}");
        assert!(outcome.stderr.contains("filter"), "the nearest key\n{outcome}");
        assert!(outcome.stderr.contains("probes.toml:"), "file, line and column\n{outcome}");
        assert!(outcome.stderr.contains('^'), "a caret\n{outcome}");
        assert_eq!(outcome.hits("exe:leaf"), 300, "the good probe is armed\n{outcome}");
    }

    #[test]
    fn names_a_config_that_is_not_there() {
        let program = Program::new("calls.c").build();
        let outcome = Launch::new(&program).env("UPROBES", "/no/such/file.toml").run();
        assert_eq!(outcome.end, End::Exit(0), "{outcome}");
        assert!(outcome.stderr.starts_with("uprobe: "), "{outcome}");
        assert!(outcome.stderr.contains("/no/such/file.toml"), "{outcome}");
        let outcome =
            Launch::new(&program).env("UPROBES", "/no/such/file.toml").env("UPROBE_STRICT", "1").run();
        assert_eq!((outcome.end, outcome.stdout.as_str()), (End::Exit(78), ""), "{outcome}");
    }

    #[test]
    fn ends_before_main_where_it_is_strict() {
        let program = Program::new("calls.c").build();
        for (at, keys) in
            [("exe:leaf", "nonsense = 1"), ("exe:no_such_function", ""), ("exe:leaf+0x1000000", "")]
        {
            let outcome = Launch::new(&program).env("UPROBE_STRICT", "1").probe(at, keys).run();
            assert_eq!(outcome.end, End::Exit(78), "{at} {keys}\n{outcome}");
            assert_eq!(outcome.stdout, "", "before main: {at} {keys}\n{outcome}");
            assert!(!outcome.stderr.is_empty(), "{outcome}");
        }
        let outcome = Launch::new(&program).env("UPROBE_STRICT", "1").count("exe:leaf").run();
        assert_eq!(outcome.end, End::Exit(0), "{outcome}");
        assert_eq!(outcome.stderr, "", "{outcome}");
    }
}
