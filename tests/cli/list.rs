//! `uprobe list`.

use super::{Dir, command, uprobe};

const SOURCE: &str = "
int visible(int x) { return x + 1; }
int other_name(int x) __attribute__((alias(\"visible\")));
static int hidden(int x) { return x * 3; }
__asm__(\".globl one_nop\\n.type one_nop,@function\\none_nop: nop\\n ret\\n.size one_nop,2\\n\"
        \".globl one_load\\n.type one_load,@function\\none_load: mov (%rdi),%rax\\n ret\\n.size one_load,4\\n\"
        \".globl broken\\n.type broken,@function\\nbroken: .byte 6\\n ret\\n.size broken,2\\n\"
        \".globl trap\\n.type trap,@function\\ntrap: int3\\n ret\\n.size trap,2\\n\");
int data = 3;
int main(int argc, char **argv) { (void)argv; return visible(argc) + hidden(argc); }
";

/// The columns of a row: size, how, place.
fn row<'a>(table: &'a str, place: &str) -> Vec<&'a str> {
    let line = table
        .lines()
        .find(|line| line.split_whitespace().any(|word| word == place))
        .unwrap_or_else(|| panic!("no {place} in\\n{table}"));
    line.split("  ").map(str::trim).filter(|word| !word.is_empty()).skip(1).collect()
}

#[test]
fn says_how_each_function_would_be_probed() {
    let dir = Dir::new("list-how");
    let program = dir.compile("program", SOURCE, &["-O0", "-fcf-protection=none"]).expect("gcc works");
    let table = uprobe(&["list", &program]).expect(0).stdout;
    let short = |room| format!("too-short: a jump takes 5 bytes, and there are {room}");
    assert_eq!(row(&table, "one_nop"), ["2", "int3 (emulate)", "one_nop", &short(2)]);
    assert_eq!(row(&table, "one_load"), ["4", "int3 (boost)", "one_load", &short(4)]);
    let broken = row(&table, "broken");
    assert_eq!(broken[..3], ["2", "no", "broken"]);
    assert!(broken[3].starts_with("undecodable: the bytes 06 c3 "), "{broken:?}");
    let trap = row(&table, "trap");
    assert_eq!(trap[..3], ["2", "no", "trap"]);
    assert!(trap[3].starts_with("foreign-breakpoint: "), "{trap:?}");
    // Static functions and aliases are places too; variables aren't.
    assert_eq!(row(&table, "hidden")[1], "jump");
    assert_eq!(row(&table, "visible")[1..], ["jump", "visible", "= other_name"]);
    assert!(!table.lines().any(|line| line.ends_with(" data")), "{table}");
}

#[test]
fn patterns_choose() {
    let dir = Dir::new("list-pattern");
    let program = dir.compile("program", SOURCE, &[]).expect("gcc works");
    for (pattern, places) in [
        ("one_*", &["one_load", "one_nop"][..]),
        ("one_nop", &["one_nop"]),
        ("/^one_l/", &["one_load"]),
        ("other_n?me", &["visible"]),
        ("[hv]i[ds]*", &["hidden", "visible"]),
    ] {
        let json = uprobe(&["list", "--json", &program, pattern]).expect(0).stdout;
        let mut found: Vec<&str> =
            json.split("{\"symbol\":\"").skip(1).filter_map(|place| place.split('"').next()).collect();
        found.sort_unstable();
        assert_eq!(found, places, "{pattern}");
    }
    let none = uprobe(&["list", &program, "no_such_*"]).expect(1);
    assert_eq!(none.stdout, format!("{program}: 0 places\n"));
    let wrong = uprobe(&["list", &program, "/(/"]).expect(2);
    assert!(wrong.stderr.starts_with("uprobe: error: the regular expression: "), "{}", wrong.stderr);
}

#[test]
fn json_says_the_same() {
    let dir = Dir::new("list-json");
    let program = dir.compile("program", SOURCE, &[]).expect("gcc works");
    let json = uprobe(&["list", "--json", &program, "visible"]).expect(0).stdout;
    let start = format!(
        "{{\"version\":1,\"object\":\"{program}\",\"places\":[\n  \
         {{\"symbol\":\"visible\",\"demangled\":null,\"aliases\":[\"other_name\"],\"file_offset\":"
    );
    assert!(json.starts_with(&start), "{json}");
    assert!(json.ends_with(",\"method\":\"jump\",\"reason\":null,\"return_refused\":null}]}\n"), "{json}");
    let json = uprobe(&["list", "--json", &program, "one_nop"]).expect(0).stdout;
    assert!(json.contains("\"method\":\"emulate\",\"reason\":\"too-short: a jump takes "), "{json}");
    let json = uprobe(&["list", "--json", &program, "broken"]).expect(0).stdout;
    assert!(json.contains("\"method\":null,\"reason\":\"undecodable: the bytes 06 c3 "), "{json}");
}

#[test]
fn libraries_are_found_by_name_and_programs_in_path() {
    let by_name = uprobe(&["list", "libc.so.6", "openat"]).expect(0).stdout;
    assert!(by_name.lines().next().is_some_and(|l| l.ends_with("libc.so.6: 1 place")), "{by_name}");
    let by_path = uprobe(&["list", "sh"]).expect(1).stdout;
    assert!(by_path.starts_with("/usr/bin/") || by_path.starts_with("/bin/"), "{by_path}");
}

#[test]
fn says_whose_return_can_t_be_followed() {
    let why = "it searches the RUNPATH and the namespace of its caller, whom it finds by the return address";
    let table = uprobe(&["list", "libc.so.6", "dlopen"]).expect(0).stdout;
    assert!(table.contains("  jump  ") && table.ends_with(&format!("  return refused: {why}\n")), "{table}");
    let json = uprobe(&["list", "--json", "libc.so.6", "dlopen"]).expect(0).stdout;
    assert!(json.ends_with(&format!(",\"reason\":null,\"return_refused\":\"{why}\"}}]}}\n")), "{json}");
    let table = uprobe(&["list", "libc.so.6", "openat"]).expect(0).stdout;
    assert!(!table.contains("refused"), "{table}");
}

#[test]
fn what_can_t_be_listed() {
    let dir = Dir::new("list-bad");
    let text = dir.file("text", "hello");
    let truncated = dir.file("truncated", "\u{7f}ELF\u{2}\u{1}");
    for (object, why) in [
        ("libno-such.so.1", "libno-such.so.1: no such file, library or program".to_owned()),
        ("/no/such", "/no/such: no such file, library or program".to_owned()),
        (&text, format!("{text}: this is no ELF file")),
    ] {
        let ran = uprobe(&["list", object]).expect(1);
        assert_eq!(ran.stderr, format!("uprobe: error: {why}\n"));
    }
    uprobe(&["list", &truncated]).expect(1);
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    // `true` reads nothing: by the time it has ended, the pipe is closed.
    let mut head =
        std::process::Command::new("true").stdin(std::process::Stdio::piped()).spawn().expect("true");
    let pipe = head.stdin.take().expect("piped");
    head.wait().expect("true ends");
    let output = command(&["list", "libc.so.6"]).stdout(pipe).output().expect("uprobe runs");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stderr.is_empty());
}
