//! Help, version, and the mistakes on a command line.

use super::uprobe;

#[test]
fn every_command_has_help_with_examples() {
    for args in [
        &["--help"][..],
        &["-h"],
        &["run", "--help"],
        &["list", "-h"],
        &["check", "--help"],
        &["report", "-h"],
        &["doctor", "--help"],
    ] {
        let ran = uprobe(args).expect(0);
        assert!(ran.stdout.starts_with("uprobe"), "{args:?}: {}", ran.stdout);
        let (_, examples) = ran.stdout.split_once("\nExamples:\n").expect("examples");
        assert!(examples.contains("  uprobe "), "{args:?}: {examples}");
        assert!(ran.stdout.contains("Exit status:"), "{args:?}");
        assert!(ran.stdout.lines().all(|line| line.len() <= 100), "{args:?}: fits a terminal");
        assert_eq!(ran.stderr, "");
    }
}

#[test]
fn version_everywhere() {
    let version = format!("uprobe {}\n", env!("CARGO_PKG_VERSION"));
    for args in [&["--version"][..], &["-V"], &["run", "-V"], &["list", "--version"], &["check", "-V"]] {
        assert_eq!(uprobe(args).expect(0).stdout, version, "{args:?}");
    }
}

#[test]
fn no_command_shows_the_help_as_an_error() {
    let ran = uprobe(&[""; 0]).expect(2);
    assert_eq!(ran.stdout, "");
    assert_eq!(ran.stderr, uprobe(&["--help"]).stdout);
}

#[test]
fn wrong_command_lines() {
    for (args, message, advice) in [
        (&["lst"][..], "unknown command 'lst'; did you mean 'list'?", "uprobe --help"),
        (&["frobnicate"], "unknown command 'frobnicate'", "uprobe --help"),
        (&["--frob"], "invalid option '--frob'", "uprobe --help"),
        (&["report"], "no trace to report", "uprobe report --help"),
        (
            &["report", "--json", "--text", "x"],
            "more than one form: give one of --text, --json, --summary, --chrome, --folded and --flamegraph",
            "uprobe report --help",
        ),
        (&["report", "--flamegraph"], "missing argument for option '--flamegraph'", "uprobe report --help"),
        (&["top", "1"], "'top' is not in this version yet", "uprobe --help"),
        (&["doctor", "--yaml"], "invalid option '--yaml'", "uprobe doctor --help"),
        (&["run"], "no program to run", "uprobe run --help"),
        (
            &["run", "--", "true"],
            "nothing to probe: give a config with -c or a probe with -e",
            "uprobe run --help",
        ),
        (&["run", "-e"], "missing argument for option '-e'", "uprobe run --help"),
        (
            &["run", "-c", "a", "-c", "b", "true"],
            "more than one config; put the probes into one file",
            "uprobe run --help",
        ),
        (&["run", "--frob", "true"], "invalid option '--frob'", "uprobe run --help"),
        (
            &["run", "-e", "exe:main", "--format", "xml", "true"],
            "--format is one of text, json, trace, not 'xml'",
            "uprobe run --help",
        ),
        (
            &["run", "-e", "exe:main", "--summary-format", "xml", "true"],
            "--summary-format is one of table, json, openmetrics, none, not 'xml'",
            "uprobe run --help",
        ),
        (
            &["run", "-e", "exe:main", "--output", "a.%x", "true"],
            "'a.%x': unknown '%x' in a path: %p, %e, %t and %% are known",
            "uprobe run --help",
        ),
        (&["run", "-e", "exe:main", "--summary", "", "true"], "the path is empty", "uprobe run --help"),
        (&["list"], "no object to list: give a path or the name of a library", "uprobe list --help"),
        (&["list", "a", "b", "c"], "unexpected argument \"c\"", "uprobe list --help"),
        (&["list", "--usdt", "libc.so.6"], "'--usdt' is not in this version yet", "uprobe list --help"),
        (&["list", "--lines", "libc.so.6"], "'--lines' is not in this version yet", "uprobe list --help"),
        (&["check"], "no config to check", "uprobe check --help"),
        (&["check", "--json", "x"], "invalid option '--json'", "uprobe check --help"),
    ] {
        let ran = uprobe(args).expect(2);
        assert_eq!(ran.stderr, format!("uprobe: error: {message}\nTry '{advice}'.\n"), "{args:?}");
        assert_eq!(ran.stdout, "", "{args:?}");
    }
}
