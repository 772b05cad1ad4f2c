//! `uprobe check`.

use super::{Dir, uprobe};

#[test]
fn prints_each_place_and_method() {
    let dir = Dir::new("check-good");
    let config = dir.file(
        "good.toml",
        "[[probe]]\nat = 'libc.so.6:openat'\nname = 'open'\n\n\
         [[probe]]\nat = 'libc.so.6:tzset'\nenabled = false\n\n\
         [[probe]]\nat = 'libno-such.so.1:f'\n",
    );
    let ran = uprobe(&["check", &config, "--", "cat", "/etc/passwd"]).expect(0);
    assert_eq!(ran.stderr, "");
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!(lines[0], "open  libc.so.6:openat");
    assert!(lines[1].starts_with("    /"), "{}", lines[1]);
    assert!(lines[1].contains("libc.so.6:0x") && lines[1].ends_with("  openat  jump"), "{}", lines[1]);
    assert!(lines[2].ends_with("  libc.so.6:tzset  (disabled)"), "{}", lines[2]);
    assert!(lines[4].ends_with("  libno-such.so.1:f"), "{}", lines[4]);
    assert_eq!(
        lines[5],
        "    pending object-not-loaded: no object matching 'libno-such.so.1' is loaded \
         (the program is not linked against it; armed if it is loaded later)"
    );
    assert!(lines[6].ends_with("bin/cat and its libraries, 0 wrong"), "{}", lines[6]);
    assert!(lines[6].starts_with(&format!("{config}: 3 probes checked against /")), "{}", lines[6]);
}

#[test]
fn the_examples_of_the_readme_are_good() {
    let ran = uprobe(&["check", "docs/latency.toml", "--", "du"]).expect(0);
    assert!(ran.stdout.contains("  openat  jump\n") && ran.stdout.ends_with(", 0 wrong\n"), "{}", ran.stdout);
    for args in [&["check", "docs/openat.toml"][..], &["check", "docs/openat.toml", "--", "du"]] {
        let ran = uprobe(args).expect(0);
        assert!(ran.stdout.starts_with("openat  libc.so.6:openat\n    /"), "{}", ran.stdout);
    }
}

#[test]
fn places_that_can_t_be_probed() {
    let dir = Dir::new("check-bad");
    let program = dir
        .compile(
            "program",
            "int variable = 1; int function(void) { return 5; }\nint main(void) { return 0; }",
            &[],
        )
        .expect("gcc works");
    for (at, refusal) in [
        (
            "exe:functoin",
            format!("no-symbol: '{program}' has no function 'functoin'; did you mean 'function'?"),
        ),
        ("exe:variable", "not-a-function: 'variable' is data, not code".to_owned()),
        ("exe:0x0", "not-executable: file offset 0x0 is not in an executable segment".to_owned()),
        (":no_such_*", format!("no-symbol: '{program}' has no function 'no_such_*'")),
    ] {
        let config = dir.file("bad.toml", &format!("[[probe]]\nat = '{at}'\nname = 'x'\n"));
        let ran = uprobe(&["check", &config, "--", &program]).expect(78);
        let expected = format!("x  {at}\n    refused {refusal}\n");
        assert!(ran.stdout.starts_with(&expected), "{}", ran.stdout);
        assert!(ran.stdout.ends_with("and its libraries, 1 wrong\n"), "{}", ran.stdout);
    }
}

#[test]
fn inside_an_instruction() {
    let dir = Dir::new("check-boundary");
    let config = dir.file("bad.toml", "[[probe]]\nat = 'libc.so.6:openat+1'\n");
    let ran = uprobe(&["check", &config]).expect(78);
    assert!(ran.stdout.contains("  openat+0x1  refused not-a-boundary: file offset 0x"), "{}", ran.stdout);
}

#[test]
fn no_config_there() {
    let ran = uprobe(&["check", "/no/such.toml"]).expect(78);
    assert_eq!(ran.stderr, "uprobe: error: /no/such.toml: No such file or directory (os error 2)\n");
}

#[test]
fn mistakes_in_the_text_have_a_caret() {
    let dir = Dir::new("check-text");
    let config = dir.file("bad.toml", "[[probe]]\nat = 'libc.so.6:openat'\narg = ['a=$arg1']\n");
    let ran = uprobe(&["check", &config]).expect(78);
    assert!(ran.stderr.starts_with(&format!("{config}:3:1: error: ")), "{}", ran.stderr);
    assert!(ran.stderr.contains("\n  3 | arg = ['a=$arg1']\n    | ^^^ "), "{}", ran.stderr);
    assert!(ran.stderr.contains("'args'"), "names the nearest key: {}", ran.stderr);
}

#[test]
fn arguments_are_checked_for_their_place() {
    let dir = Dir::new("check-args");
    let program = dir
        .compile("program", "__asm__(\".globl f\\n.type f,@function\\nf: nop\\n nop\\n ret\\n.size f,3\\n\");int main(void) { return 0; }", &[])
        .expect("gcc works");
    // Only the file shows that this offset is behind the function's first instruction.
    let list = uprobe(&["list", "--json", &program, "f"]).expect(0).stdout;
    let (_, offset) = list.split_once("\"file_offset\":").expect("a place");
    let offset: u64 = offset.split(',').next().and_then(|n| n.parse().ok()).expect("a number");
    let config =
        dir.file("bad.toml", &format!("[[probe]]\nat = 'exe:{:#x}'\nargs = ['$arg1']\n", offset + 1));
    let ran = uprobe(&["check", &config, "--", &program]).expect(78);
    let refusal = "  f+0x1  refused bad-fetch: $arg1 is available only at a function's first instruction";
    assert!(ran.stdout.contains(refusal), "{}{}", ran.stdout, ran.stderr);
}

#[test]
fn nothing_is_run() {
    let dir = Dir::new("check-run");
    let witness = dir.0.join("witness");
    let program = dir
        .compile(
            "program",
            &format!(
                "#include <stdio.h>\n__attribute__((constructor)) static void begin(void) \
                 {{ fclose(fopen(\"{}\", \"w\")); }}\nint main(void) {{ return 0; }}",
                witness.display()
            ),
            &[],
        )
        .expect("gcc works");
    let config = dir.file("good.toml", "[[probe]]\nat = 'exe:main'\n");
    uprobe(&["check", &config, "--", &program]).expect(0);
    assert!(!witness.exists());
}

#[test]
fn a_return_probe_goes_to_a_function_s_entry() {
    let dir = Dir::new("check-return");
    let program = dir
        .compile("program", "__asm__(\".globl f\\n.type f,@function\\nf: nop\\n nop\\n ret\\n.size f,3\\n\");int main(void) { return 0; }", &[])
        .expect("gcc works");
    let listed = uprobe(&["list", "--json", &program, "f"]).expect(0).stdout;
    let offset = listed.split_once("\"file_offset\":").expect("a place").1;
    let offset: u64 = offset.split(',').next().and_then(|n| n.parse().ok()).expect("a number");
    let probe = |at: &str, kind: &str| format!("[[probe]]\nat = '{at}'\nname = '{kind}'\nkind = '{kind}'\n");
    let good =
        dir.file("good.toml", &(probe("exe:f", "return") + &probe(&format!("exe:{offset:#x}"), "call")));
    let ran = uprobe(&["check", &good, "--", &program]).expect(0);
    assert!(ran.stdout.starts_with("return  exe:f  (return)\n"), "{}", ran.stdout);
    assert!(ran.stdout.contains(&format!("\ncall  exe:{offset:#x}  (call)\n")), "{}", ran.stdout);
    let bad = dir.file("bad.toml", &probe(&format!("exe:{:#x}", offset + 1), "return"));
    let ran = uprobe(&["check", &bad, "--", &program]).expect(78);
    let refusal = "refused not-function-entry: a return probe goes to a function's first instruction, \
                   which is 0x1 bytes before this place";
    assert!(ran.stdout.contains(refusal), "{}", ran.stdout);
}

#[test]
fn without_a_program_the_program_s_places_are_unknown() {
    let dir = Dir::new("check-exe");
    let config = dir.file("good.toml", "[[probe]]\nat = 'exe:main'\n");
    let ran = uprobe(&["check", &config]).expect(0);
    assert!(
        ran.stdout.contains("(name the program to look in: uprobe check CONFIG -- PROGRAM)"),
        "{}",
        ran.stdout
    );
}

#[test]
fn programs_that_can_t_be_probed() {
    for (program, status) in [("no-such-program", 127), ("/etc/passwd", 126)] {
        uprobe(&["check", "docs/openat.toml", "--", program]).expect(status);
    }
}

#[test]
fn plugins_are_looked_for() {
    let dir = Dir::new("check-plugin");
    let plugin = dir
        .compile("plugin.so", "int handler(void) { return 0; } static int hidden(void) { return 1; }\nint use(void) { return hidden(); }", &["-shared", "-fPIC"])
        .expect("gcc works");
    for (action, refusal) in [
        (format!("call({plugin}:handler)"), None),
        (format!("call({plugin}:hidden)"), Some(format!("the plugin '{plugin}' has no function 'hidden'"))),
        (format!("call({plugin}:nothing)"), Some(format!("the plugin '{plugin}' has no function 'nothing'"))),
        ("call(/no/such.so:f)".to_owned(), Some("the plugin '/no/such.so' is not found".to_owned())),
        ("call(no-such.so:f)".to_owned(), Some("the plugin 'no-such.so' is not found".to_owned())),
    ] {
        let config =
            dir.file("plugin.toml", &format!("[[probe]]\nat = 'libc.so.6:openat'\naction = ['{action}']\n"));
        let ran = uprobe(&["check", &config]).expect(if refusal.is_some() { 78 } else { 0 });
        if let Some(refusal) = refusal {
            assert!(ran.stdout.contains(&format!("    refused bad-plugin: {refusal}\n")), "{}", ran.stdout);
        }
    }
}

#[test]
fn probes_that_keep_each_other_from_a_jump() {
    let dir = Dir::new("check-together");
    // Two instructions of one byte, then longer ones.
    let source = "__asm__(\".globl f\\n.type f,@function\\nf: push %rbx\\n push %rbp\\n mov $1,%eax\\n pop %rbp\\n \
                  pop %rbx\\n ret\\n.size f,.-f\\n\");int main(void) { return 0; }";
    let program = dir.compile("program", source, &[]).expect("gcc works");
    let listed = uprobe(&["list", "--json", &program, "f"]).expect(0).stdout;
    assert!(listed.contains("\"method\":\"jump\""), "alone: {listed}");
    let probe =
        |at: &str, name: &str, more: &str| format!("[[probe]]\nat = '{at}'\nname = '{name}'\n{more}\n");
    for (more, first, second) in [
        ("", "int3 (emulate)  another-probe: ", "jump"),
        // Not armed, not in the way.
        ("enabled = false", "jump", "jump"),
        ("method = 'int3'", "int3 (emulate)  another-probe: ", "int3 (emulate)  method-int3: "),
    ] {
        let text = probe("exe:f", "a", "") + &probe("exe:f+1", "b", more);
        let config = dir.file("probes.toml", &text);
        let ran = uprobe(&["check", &config, "--", &program]).expect(0).stdout;
        assert!(ran.contains(&format!("  f  {first}")), "{ran}");
        assert!(ran.contains(&format!("  f+0x1  {second}")), "{ran}");
    }
    // One of two at the same place wants the breakpoint: both have it.
    let config =
        dir.file("probes.toml", &(probe("exe:f", "a", "") + &probe("exe:f", "b", "method = 'int3'")));
    let ran = uprobe(&["check", &config, "--", &program]).expect(0).stdout;
    assert_eq!(ran.matches("  f  int3 (emulate)  method-int3: ").count(), 2, "{ran}");
}
