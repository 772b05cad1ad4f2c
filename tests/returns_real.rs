//! Functions of libc that every program lives on, followed in real, unmodified programs: same output and
//! status, and each call accounted for.

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use common::*;

/// Called all the time, from everywhere, with and without tail calls; two are IFUNCs.
const FUNCTIONS: [&str; 14] = [
    "malloc",
    "calloc",
    "realloc",
    "free",
    "read",
    "write",
    "close",
    "strlen",
    "memcpy",
    "qsort",
    "sigaction",
    "getenv",
    "openat",
    "mmap",
];

fn launch(program: &Path) -> Launch {
    Launch::new(program).timeout(Duration::from_secs(400))
}

/// The program; loud where it is missing.
fn installed(path: &str) -> Option<&Path> {
    require_command(path).then(|| Path::new(path))
}

/// Those of [`FUNCTIONS`], each counted; then with everything fetched, timed and logged.
fn assert_same(launch: &Launch) -> Outcome {
    let native = launch.clone().native().run();
    assert!(!native.stdout.is_empty(), "a program that says nothing shows nothing\n{native}");
    let places = FUNCTIONS.map(|function| format!("libc.so.6:{function}"));
    let logged = places.iter().fold(launch.clone(), |launch, place| {
        let keys = "kind = 'call'\nargs = ['a=$arg1', 'b=$arg2', 's=+0($arg1):string']";
        launch.probe(place, &format!("{keys}\nret = ['r=$retval', 'ns=$latency']"))
    });
    let logged = logged.run();
    assert_same_output(&logged, &native);
    assert_eq!(logged.stderr, native.stderr, "{logged}");
    let all = logged.all_calls();
    let hits: u64 = all.iter().map(|probe| probe.hits - probe.lost).sum();
    let on_the_way: u64 = all.iter().map(|probe| probe.in_flight + probe.unwound).sum();
    assert_eq!(logged.event_lines().len() as u64, hits - on_the_way, "{logged}");
    drop(logged);
    let counted = launch.clone().follow_all(&places).run();
    assert_same_output(&counted, &native);
    for place in &places {
        let [entry, returned, call] = KINDS.map(|kind| counted.calls(&format!("{kind}/{place}")));
        assert_eq!(entry.state, "armed", "{entry:#?}");
        assert_eq!((entry.nmissed, returned.nmissed, call.nmissed), (0, 0, 0), "{place}\n{counted}");
        assert_eq!((entry.hits, entry.hits), (returned.hits, call.hits), "{place}\n{counted}");
        assert_eq!(returned.fates(), call.fates(), "{place}\n{counted}");
    }
    assert!(counted.calls("return/libc.so.6:malloc").hits > 10, "{counted}");
    counted
}

/// Every call came back.
fn assert_all_returned(outcome: &Outcome) {
    for probe in outcome.all_calls().iter().filter(|probe| probe.kind != "entry") {
        assert_eq!((probe.returns, probe.lost), (probe.hits, 0), "{probe:#?}\n{outcome}");
    }
}

#[test]
fn ls() {
    let Some(ls) = installed("/usr/bin/ls") else { return };
    assert_all_returned(&assert_same(&launch(ls).args(["-la", "/etc/alternatives", "/usr/include"])));
    assert_all_returned(&assert_same(&launch(ls).args(["/etc/passwd", "/no/such/file"])));
}

#[test]
fn git() {
    let Some(git) = installed("/usr/bin/git") else { return };
    let repository = scratch("repository");
    let setup = "git init -q -b main . && for n in 1 2 3 4 5; do seq $n 50 > file; git add file; \
                 git -c user.name=S -c user.email=s@example.org commit -q -m $n; done";
    let status = Command::new("sh")
        .args(["-c", setup])
        .current_dir(&repository)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_AUTHOR_DATE", "2001-02-03T04:05:06Z")
        .env("GIT_COMMITTER_DATE", "2001-02-03T04:05:06Z")
        .status()
        .expect("sh");
    assert!(status.success());
    let run = |args: &[&str]| {
        launch(git).args(args).cwd(&repository).env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_PAGER", "cat")
    };
    assert_all_returned(&assert_same(&run(&["log", "-p", "--stat"])));
    assert_same(&run(&["grep", "-n", "4"]));
    fs::remove_dir_all(repository).expect("ours");
}

#[test]
fn python3() {
    let Some(python) = installed("/usr/bin/python3") else { return };
    let script = "import json, threading\n\
                  def f(n): return 1 if n == 0 else n * f(n - 1)\n\
                  t = [threading.Thread(target=f, args=(50,)) for _ in range(4)]\n\
                  [x.start() for x in t]; [x.join() for x in t]\n\
                  print(f(30), json.dumps(sorted({i: str(i) for i in range(500)})[:5]))\n\
                  try: open('/no/such')\n\
                  except OSError as e: print(e)\n";
    assert_same(&launch(python).args(["-S", "-E", "-c", script]).env("PYTHONHASHSEED", 0));
}

/// With setjmp and longjmp, signals, forks and pipes.
#[test]
fn bash() {
    let Some(bash) = installed("/usr/bin/bash") else { return };
    let script = "trap 'echo caught' USR1; for i in 1 2 3; do kill -USR1 $$; done; f() { return 3; }; f; echo $?; \
                  x=$(echo one; (echo two)); echo \"$x\"; seq 5 | while read n; do echo $n; done; \
                  for i in {1..20}; do y=${y}$i; done; echo ${#y}; (exit 5); echo $?; \
                  [[ abc =~ ^a.c$ ]] && echo matched; cat <<< here; exit 9";
    assert_same(&launch(bash).args(["-c", script]));
}

/// Every function of libc that can be, with its return.
#[test]
fn every_function_of_libc() {
    for (program, args) in
        [("/usr/bin/ls", &["-la", "/etc/alternatives"][..]), ("/usr/bin/sort", &["-n", "/etc/passwd"])]
    {
        let Some(program) = installed(program) else { continue };
        let plain = launch(program).args(args);
        for kind in ["return", "call"] {
            let keys = format!("kind = '{kind}'\naction = ['count']");
            let outcome = assert_same_as_native(&plain.clone().probe("libc.so.6:*", &keys));
            let all = outcome.all_calls();
            let armed = all.iter().filter(|probe| probe.state == "armed").count();
            let refused: Vec<_> =
                all.iter().filter(|p| p.state != "armed").map(|p| (&p.name, &p.reason)).collect();
            assert!(armed * 100 >= all.len() * 95, "{armed} of {}: {refused:#?}", all.len());
            let hit: Vec<&Calls> = all.iter().filter(|probe| probe.hits > 0).collect();
            assert!(hit.len() >= 20, "{}", hit.len());
            let missed: Vec<&Calls> = all.iter().filter(|probe| probe.nmissed > 0).collect();
            assert!(missed.is_empty(), "{missed:#?}");
            // The way out is not come back from.
            let out: Vec<&str> =
                hit.iter().filter(|p| p.returns != p.hits).map(|p| p.name.as_str()).collect();
            assert!(out.len() <= 6, "{out:?}");
        }
    }
}
