//! Real software, bare and with every function of libc probed at its entry and its return: the same
//! verdicts, the same output, and calls that add up. This is the short form of `tests/transparency/run`,
//! which does the work and has the long one; what a workload needs is installed by `run --install`.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::*;
use serde_json::Value;

/// As many probes of libc as may be refused where there is something to probe.
const MOST_REFUSED: usize = 40;

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transparency/run")
}

/// Where the cases run. Not in the target directory: servers that give up root must get there too.
fn place(workload: &str) -> PathBuf {
    std::env::temp_dir().join(format!("uprobe-transparency-{}-{workload}", std::process::id()))
}

fn assert_transparent(workload: &str) {
    if !require_command("python3") {
        return;
    }
    let place = place(workload);
    let output = Command::new("python3")
        .arg(script())
        .args(["--short", "--only", workload, "--scratch"])
        .arg(&place)
        .env("UPROBE_LIBRARY", library())
        .output()
        .expect("python3 runs");
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{text}");
    if text.contains("NOT RUN") {
        eprintln!("\n******** SKIPPED: {workload}: see tests/transparency/run --install ********\n");
        return;
    }
    assert!(output.status.success(), "{}: {text}", output.status);
    // Kept where something differs: the outputs are there.
    let _ = fs::remove_dir_all(&place);
}

macro_rules! workloads {
    ($($name:ident),* $(,)?) => {
        mod workload {
            $(#[test] fn $name() { super::assert_transparent(stringify!($name)); })*
        }
        #[test]
        fn no_workload_is_forgotten() {
            let folder = script().parent().expect("a folder").join("workloads");
            let mut files: Vec<String> = fs::read_dir(folder)
                .expect("the folder is there")
                .map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned())
                .filter_map(|name| name.strip_suffix(".py").map(str::to_owned))
                .filter(|name| name != "__init__")
                .collect();
            let mut tested = vec![$(stringify!($name).to_owned()),*];
            files.sort_unstable();
            tested.sort_unstable();
            assert_eq!(files, tested);
        }
    };
}

workloads!(gcc, git, nginx, postgres, python, redis, sqlite, stress);

/// Both sides of every function of libc: what is not probed has a reason, and is rare.
#[test]
fn few_functions_of_libc_are_refused() {
    let launch = Launch::new("/bin/true");
    let refused = |kind: &str| -> (usize, Vec<(String, String)>) {
        let keys = format!("kind = '{kind}'\naction = ['count']");
        let summary = launch.clone().probe("libc.so.6:*", &keys).run().summary();
        let probes = summary["probes"].as_array().expect("a list").clone();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let not_armed = probes.iter().filter(|probe| probe["state"] != "armed");
        let reasons = not_armed.map(|probe| (text(&probe["symbol"]), text(&probe["reason"]))).collect();
        (probes.len(), reasons)
    };
    let (functions, entries) = refused("entry");
    let (_, returns) = refused("return");
    assert!(functions > 2000, "{functions} functions of libc");
    let all: Vec<_> = entries.iter().chain(&returns).collect();
    println!("{functions} functions; {} are refused: {all:#?}", all.len());
    assert!(all.iter().all(|(_, why)| why.contains(": ")), "without a reason: {all:#?}");
    assert!(all.len() <= MOST_REFUSED, "{} are refused: {all:#?}", all.len());
}
