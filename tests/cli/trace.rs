//! `uprobe run` with the engine in it: events and counts of a program whose logic is known.

use super::{Dir, Ran, command, uprobe};

/// Calls `work` ten times, `other` never.
const SOURCE: &str = "
#include <stdio.h>
__attribute__((noinline)) int work(int x, const char *s) { __asm__ volatile(\"\"); return x + s[0]; }
__attribute__((noinline)) int other(int x) { __asm__ volatile(\"\"); return x; }
int main(int argc, char **argv)
{
	int sum = 0;

	(void)argv;
	for (int i = 0; i < 10; i++)
		sum += work(i, \"text\");
	if (argc > 5)
		sum += other(sum);
	printf(\"%d\\n\", sum);
	return 3;
}
";

fn program(dir: &Dir) -> String {
    dir.compile("counted", SOURCE, &["-O1"]).expect("gcc works")
}

/// The integer after `"key":` in JSON.
#[track_caller]
fn number(json: &str, key: &str) -> u64 {
    let (_, rest) = json.split_once(&format!("\"{key}\":")).unwrap_or_else(|| panic!("{key} in {json}"));
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or_else(|_| panic!("{key} in {json}"))
}

#[test]
fn events_and_a_table_on_standard_error() {
    let dir = Dir::new("trace-table");
    let program = program(&dir);
    let line = ["run", "-e", "p:w exe:work x=$arg1:s32 s=$arg2:string", "--", &program];
    let ran = uprobe(&line).expect(3);
    assert_eq!(ran.stdout, "1205\n");
    let (events, summary) = ran.stderr.split_once("uprobe: summary of ").expect("a summary");
    let events: Vec<&str> = events.lines().collect();
    assert_eq!(events.len(), 10);
    for (i, event) in events.iter().enumerate() {
        assert!(event.trim_start().starts_with("counted-"), "{event}");
        assert!(event.contains(": w: (0x"), "{event}");
        assert!(event.ends_with(&format!(") x={i} s=\"text\"")), "{event}");
    }
    let summary: Vec<&str> = summary.lines().collect();
    assert!(summary[0].starts_with("counted (pid ") && summary[0].ends_with(" s, 1 probe"), "{}", summary[0]);
    assert!(summary[1].starts_with("uprobe: NAME  HITS  STATE  METHOD "), "{}", summary[1]);
    assert!(summary[2].starts_with("uprobe: w       10  armed  "), "{}", summary[2]);
    assert!(summary[2].ends_with("  counted:work"), "{}", summary[2]);
}

#[test]
fn options_send_events_and_summary_to_files() {
    let dir = Dir::new("trace-files");
    let program = program(&dir);
    let events = dir.0.join("events.%p.%e.json");
    let summary = dir.0.join("summary.json");
    let paths = [events.to_str().expect("UTF-8"), summary.to_str().expect("UTF-8")];
    let ran = uprobe(&[
        "run",
        "-e",
        "p:w exe:work x=$arg1:s32",
        "--output",
        paths[0],
        "--format",
        "json",
        "--summary",
        paths[1],
        "--summary-format",
        "json",
        "--",
        &program,
    ])
    .expect(3);
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("1205\n", ""));
    let json = std::fs::read_to_string(&summary).expect("the summary was written");
    assert!(json.starts_with("{\"version\":1,\"pid\":"), "{json}");
    assert_eq!(number(&json, "hits"), 10);
    let pid = number(&json, "pid");
    let log = dir.0.join(format!("events.{pid}.counted.json"));
    let log = std::fs::read_to_string(&log).expect("the events were written, their name expanded");
    assert_eq!(log.lines().count(), 10, "{log}");
    assert!(log.lines().all(|line| line.starts_with('{') && line.ends_with('}')), "{log}");
}

#[test]
fn a_config_and_an_option_together() {
    let dir = Dir::new("trace-both");
    let program = program(&dir);
    let config = dir.file(
        "probes.toml",
        "[summary]\nformat = 'json'\n\n[[probe]]\nat = 'exe:work'\nname = 'even'\nargs = ['x=$arg1:s32']\n\
         filter = 'x < 4'\nsample = 2\nlimit = 1\naction = ['count']\n",
    );
    let ran = uprobe(&["run", "-c", &config, "-e", "p:none exe:other", "--", &program]).expect(3);
    let probes: Vec<&str> = ran.stderr.split("{\"name\":").skip(1).collect();
    assert_eq!(probes.len(), 2, "{}", ran.stderr);
    // Ten calls: six filtered; of four each second; the second of those is beyond the limit.
    assert!(probes[0].starts_with("\"even\","), "{}", probes[0]);
    let counts = ["hits", "filtered", "sampled_out", "nmissed", "lost"].map(|key| number(probes[0], key));
    assert_eq!(counts, [1, 6, 3, 0, 0], "{}", probes[0]);
    assert!(probes[1].starts_with("\"none\",\"at\":\"exe:other\""), "{}", probes[1]);
    assert_eq!(number(probes[1], "hits"), 0);
}

#[test]
fn check_and_the_library_agree() {
    let dir = Dir::new("trace-agree");
    let program = program(&dir);
    for probe in ["exe:main", "exe:work", "libc.so.6:printf", "libc.so.6:puts"] {
        let config =
            dir.file("agree.toml", &format!("[summary]\nformat = 'json'\n[[probe]]\nat = '{probe}'\n"));
        let checked = uprobe(&["check", &config, "--", &program]).expect(0).stdout;
        let ran = uprobe(&["run", "-c", &config, "--output", "/dev/null", "--", &program]).expect(3).stderr;
        let (_, rest) = ran.split_once("\"method\":\"").unwrap_or_else(|| panic!("{ran}"));
        let method = rest.split('"').next().unwrap_or_default();
        let word = if method == "jump" { method.to_owned() } else { format!("int3 ({method})") };
        assert!(checked.contains(&format!("  {word}")), "{checked}{ran}");
        let offset = number(&ran, "file_offset");
        assert!(checked.contains(&format!(":{offset:#x}  ")), "{checked}{ran}");
    }
}

#[test]
fn the_example_of_the_readme_runs() {
    let ran = uprobe(&["run", "-c", "docs/openat.toml", "--", "du", "-s", "src"]).expect(0);
    assert!(ran.stdout.ends_with("\tsrc\n"), "{}", ran.stdout);
    let first = ran.stderr.lines().next().unwrap_or_default();
    assert!(first.contains(": openat: (0x") && first.contains(" dir=-100 path=\"src\" flags=0x"), "{first}");
    let events = ran.stderr.lines().filter(|line| line.contains(": openat: (0x")).count();
    let last = ran.stderr.lines().last().unwrap_or_default();
    let count = last.split_whitespace().nth(2).and_then(|n| n.parse().ok());
    assert_eq!(count, Some(events), "{}", ran.stderr);
}

#[test]
fn the_example_of_the_readme_with_times_runs() {
    let ran = uprobe(&["run", "-c", "docs/latency.toml", "--", "du", "-s", "src"]).expect(0);
    assert!(ran.stdout.ends_with("\tsrc\n"), "{}", ran.stdout);
    let first = ran.stderr.lines().next().unwrap_or_default();
    assert!(first.contains(": openat: (0x") && first.contains(" <- 0x"), "{first}");
    assert!(first.contains(" path=\"src\" fd=") && first.contains(" ns="), "{first}");
    for start in ["uprobe: NAME       TIMED ", "uprobe: openat ns:", "uprobe: readdir64 ns:"] {
        assert!(ran.stderr.lines().any(|line| line.starts_with(start)), "{start}: {}", ran.stderr);
    }
}

#[test]
fn a_table_never_has_colours_and_diagnostics_only_on_a_terminal() {
    let ran = command(&["run", "--no-strict", "-e", "exe:nothing", "--", "true"])
        .env("TERM", "xterm")
        .output()
        .expect("uprobe runs");
    let ran = Ran::of(ran).expect(0);
    assert!(ran.stderr.contains("no-symbol: "), "{}", ran.stderr);
    assert!(!ran.stderr.contains('\u{1b}'), "{}", ran.stderr);
}

/// The program in the README compiles as C99 without a warning, links without the library, and
/// runs with it and without.
#[test]
fn the_c_program_of_the_readme_runs() {
    let dir = Dir::new("trace-readme");
    let readme = include_str!("../../README.md");
    let (_, rest) = readme.split_once("```c\n").expect("a C program");
    let (source, _) = rest.split_once("```").expect("its end");
    let include = concat!("-I", env!("CARGO_MANIFEST_DIR"), "/include");
    let flags = [include, "-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic"];
    let program = dir.compile("readme", source, &flags).expect("it compiles");
    let library = std::env::current_exe().expect("a path").with_file_name("libuprobe.so");
    let output = |preload: bool| {
        let mut command = std::process::Command::new(&program);
        if preload {
            command.env("LD_PRELOAD", &library);
        }
        let output = command.output().expect("it runs");
        assert!(output.status.success(), "{:?}", output.status);
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    assert_eq!(output(true), "hello\n1\n");
    assert_eq!(output(false), "");
}

/// Every TOML text of the README is a good config, less what it says is for later.
#[test]
fn the_config_of_the_readme_is_good() {
    let dir = Dir::new("trace-toml");
    let readme = include_str!("../../README.md");
    let texts: Vec<&str> =
        readme.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(!texts.is_empty());
    for text in texts {
        let config = dir.file("readme.toml", text);
        uprobe(&["check", &config]).expect(0);
    }
}
