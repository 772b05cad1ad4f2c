//! Real, unmodified programs of the distribution, with 1, 100 and 1,000 probes in libc and in
//! the program: same output and status as without.

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use common::*;

const LIBC: &str = "/lib/x86_64-linux-gnu/libc.so.6";
const COUNTS: [usize; 3] = [1, 100, 1000];

/// As many places in libc and as many in the program: by name where it has names, by offsets in
/// the file where it is stripped.
fn places(program: &Path, count: usize) -> Vec<String> {
    let libc = every_nth(&dynamic_functions(Path::new(LIBC)), count);
    let mut places: Vec<String> = libc.iter().map(|name| format!("libc.so.6:{name}")).collect();
    let named = dynamic_functions(program);
    if named.len() >= 500 {
        places.extend(every_nth(&named, count).iter().map(|name| format!("exe:{name}")));
    } else {
        let offsets: Vec<String> =
            functions_by_unwind(program).iter().map(|offset| format!("exe:{offset:#x}")).collect();
        places.extend(every_nth(&offsets, count));
    }
    places
}

/// Most are armed, and some were hit: a run that probed nothing would show nothing.
fn assert_probed(outcome: &Outcome, count: usize) {
    let probes = outcome.probes();
    let armed = probes.iter().filter(|p| p.state == "armed").count();
    let refused: Vec<String> =
        probes.iter().filter(|p| p.state != "armed").map(|p| format!("{} {:?}", p.at, p.reason)).collect();
    assert!(
        armed * 100 >= probes.len() * 95,
        "{armed} of {} armed; not: {refused:#?}\n{outcome}",
        probes.len()
    );
    if count >= 100 {
        let hit = probes.iter().filter(|p| p.hits > 0).count();
        assert!(hit >= 5, "{hit} of {} were ever hit\n{outcome}", probes.len());
    }
    let missed: Vec<&Probe> = probes.iter().filter(|p| p.nmissed > 0).collect();
    assert!(missed.is_empty(), "counting handlers hit no probes: {missed:#?}");
}

fn assert_same_with_probes(launch: &Launch, program: &Path) {
    let native = launch.clone().native().run();
    assert!(!native.stdout.is_empty(), "a program that says nothing shows nothing\n{native}");
    for count in COUNTS {
        let probed = launch.clone().count_all(places(program, count)).run();
        assert_same_output(&probed, &native);
        assert_eq!(probed.stderr, native.stderr, "standard error, {count} probes\n{probed}");
        assert_probed(&probed, count);
    }
}

/// The path of a program of the distribution; loud where it is missing.
fn installed(path: &str) -> Option<PathBuf> {
    let path = Path::new(path);
    require_command(&path.display().to_string()).then(|| fs::canonicalize(path).expect("it exists"))
}

fn launch(program: &Path) -> Launch {
    Launch::new(program).timeout(Duration::from_secs(400))
}

mod commands {
    use super::*;

    #[test]
    fn ls() {
        let Some(ls) = installed("/usr/bin/ls") else { return };
        assert_same_with_probes(&launch(&ls).args(["-laR", "/etc/alternatives", "/usr/include/linux"]), &ls);
        assert_same_with_probes(&launch(&ls).args(["/etc/passwd", "/no/such/file"]), &ls);
    }

    #[test]
    fn git() {
        let Some(git) = installed("/usr/bin/git") else { return };
        let repository = scratch("repository");
        let run = |args: &[&str]| {
            let output = Command::new(&git)
                .args(args)
                .current_dir(&repository)
                .env("GIT_CONFIG_GLOBAL", "/dev/null")
                .env("GIT_AUTHOR_DATE", "2001-02-03T04:05:06Z")
                .env("GIT_COMMITTER_DATE", "2001-02-03T04:05:06Z")
                .output()
                .expect("git runs");
            assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        };
        run(&["init", "-q", "-b", "main", "."]);
        run(&["config", "user.name", "Somebody"]);
        run(&["config", "user.email", "somebody@example.org"]);
        for round in 0..10 {
            for file in 0..10 {
                let text: String = (0..50).map(|line| format!("{}\n", line * (round + file))).collect();
                fs::write(repository.join(format!("file-{file}")), text).expect("ours");
            }
            run(&["add", "."]);
            run(&["commit", "-q", "-m", "a round"]);
        }
        let git_run = |args: &[&str]| {
            launch(&git)
                .args(args)
                .cwd(&repository)
                .env("GIT_CONFIG_GLOBAL", "/dev/null")
                .env("GIT_PAGER", "cat")
        };
        assert_same_with_probes(&git_run(&["log", "-p", "--stat"]), &git);
        assert_same_with_probes(&git_run(&["grep", "-n", "81"]), &git);
        // One that makes children and threads.
        let native = git_run(&["fsck", "--full", "--strict"]).native().run();
        let probed = git_run(&["fsck", "--full", "--strict"]).count_all(places(&git, 1000)).run();
        assert_same_output(&probed, &native);
        let native = git_run(&["clone", "-q", ".", "copy-native"]).native().run();
        let probed = git_run(&["clone", "-q", ".", "copy-probed"]).count_all(places(&git, 1000)).run();
        assert_same_output(&probed, &native);
        fs::remove_dir_all(repository).expect("ours");
    }

    #[test]
    fn python3() {
        let Some(python) = installed("/usr/bin/python3") else { return };
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs/real.py");
        let run = launch(&python).args(["-S", "-E"]).arg(script.display()).env("PYTHONHASHSEED", 0);
        assert_same_with_probes(&run, &python);
    }

    #[test]
    fn sqlite3() {
        let Some(sqlite) = installed("/usr/bin/sqlite3") else { return };
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs/real.sql");
        assert_same_with_probes(&launch(&sqlite).arg(":memory:").stdin(script), &sqlite);
    }

    #[test]
    fn clang() {
        let Some(clang) = installed("/usr/bin/clang") else { return };
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs/calls.c");
        // As it is called, in one process: clang looks at its own name.
        let run = launch(Path::new("/usr/bin/clang"))
            .args(["-O2", "-S", "-o", "-", "-fintegrated-cc1", "-Wno-everything"])
            .arg(source.display());
        let llvm = Command::new("ldd").arg(&clang).output().expect("ldd");
        let text = String::from_utf8_lossy(&llvm.stdout).into_owned();
        let libraries: Vec<&str> = text
            .lines()
            .filter(|line| line.contains("libLLVM") || line.contains("libclang-cpp"))
            .filter_map(|line| line.split_whitespace().nth(2))
            .collect();
        let native = run.clone().native().run();
        assert!(native.stdout.contains("leaf"), "{native}");
        for count in COUNTS {
            let mut probed = run.clone().count_all(places(&clang, count.min(60)));
            for library in &libraries {
                let name = Path::new(library).file_name().expect("a name").to_string_lossy().into_owned();
                let functions = every_nth(&dynamic_functions(Path::new(library)), count);
                probed = probed.count_all(functions.iter().map(|f| format!("{name}:{f}")));
            }
            let probed = probed.run();
            assert_same_output(&probed, &native);
            assert_probed(&probed, count);
        }
    }
}

mod servers {
    use super::*;

    fn free_port() -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.local_addr().expect("bound").port()
    }

    /// Waits for the server to accept; a server that ended instead is waited for by the caller.
    fn wait_for(port: u16, server: &mut Running) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if server.has_ended() || Instant::now() > deadline {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn redis_command(port: u16, command: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("redis listens");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
        stream.write_all(format!("{command}\r\nQUIT\r\n").as_bytes()).expect("it reads");
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer
    }

    fn redis(probes: Option<usize>) -> (Outcome, String) {
        let server = Path::new("/usr/bin/redis-server");
        let port = free_port();
        let data = scratch("redis");
        let run = launch(server)
            .args(["--save", "", "--appendonly", "no", "--enable-debug-command", "yes", "--io-threads", "2"])
            .args(["--port".to_string(), port.to_string(), "--dir".into(), data.display().to_string()]);
        let run = match probes {
            Some(count) => run.count_all(places(server, count)),
            None => run.native(),
        };
        let mut running = run.start();
        wait_for(port, &mut running);
        let benchmark = Command::new("redis-benchmark")
            .args(["-p", &port.to_string(), "-n", "2000", "-c", "20", "-r", "100", "-q"])
            .args(["-t", "set,get,incr,lpush,rpush,lpop,sadd,hset,zadd,lrange_100,mset"])
            .output()
            .expect("redis-benchmark runs");
        let errors = String::from_utf8_lossy(&benchmark.stderr).into_owned();
        let mut said = format!("benchmark {:?} {errors}\n", benchmark.status.code());
        for command in [
            "SET a 1",
            "INCRBY a 41",
            "STRLEN a",
            "EVAL \"return redis.call('get','a')\" 0",
            "BGSAVE",
            "PING",
            "NONSENSE",
        ] {
            said += &redis_command(port, command);
        }
        // The snapshot's child: fork without exec.
        let deadline = Instant::now() + Duration::from_secs(60);
        while !redis_command(port, "INFO persistence").contains("rdb_bgsave_in_progress:0")
            && Instant::now() < deadline
        {
            thread::sleep(Duration::from_millis(50));
        }
        let info = redis_command(port, "INFO persistence");
        said += info.lines().find(|l| l.starts_with("rdb_last_bgsave_status")).unwrap_or("no answer");
        said += &redis_command(port, "SHUTDOWN NOSAVE");
        let outcome = running.wait();
        fs::remove_dir_all(data).expect("ours");
        (outcome, said)
    }

    #[test]
    fn redis_under_its_benchmark() {
        if !require_command("redis-server") || !require_command("redis-benchmark") {
            return;
        }
        let (native, expected) = redis(None);
        assert!(expected.contains("benchmark Some(0)") && expected.contains(":42"), "{expected}\n{native}");
        for count in COUNTS {
            let (probed, said) = redis(Some(count));
            assert_eq!(probed.end, native.end, "{count} probes\n{probed}");
            assert_eq!(said, expected, "{count} probes\n{probed}");
            assert_probed(&probed, count);
        }
    }

    fn nginx(probes: Option<usize>) -> (Outcome, String) {
        let server = Path::new("/usr/sbin/nginx");
        let port = free_port();
        let dir = scratch("nginx");
        fs::create_dir_all(dir.join("html")).expect("ours");
        fs::write(dir.join("html/index.html"), "a page\n".repeat(1000)).expect("ours");
        let at = dir.display();
        let config = format!(
            "daemon off; master_process on; worker_processes 2; pid {at}/pid; error_log {at}/error.log warn;\n\
             events {{ worker_connections 256; }}\n\
             http {{ access_log {at}/access.log; client_body_temp_path {at}/t1; proxy_temp_path {at}/t2;\n\
             fastcgi_temp_path {at}/t3; uwsgi_temp_path {at}/t4; scgi_temp_path {at}/t5;\n\
             gzip on; gzip_types *;\n\
             server {{ listen 127.0.0.1:{port}; root {at}/html; location /moved {{ return 301 /index.html; }} }} }}\n"
        );
        fs::write(dir.join("nginx.conf"), config).expect("ours");
        // Workers drop to another user, who must be able to read the page and to write summaries.
        let _ = Command::new("chmod").args(["-R", "a+rwX"]).arg(&dir).status();
        let run =
            launch(server).args(["-c".to_string(), format!("{at}/nginx.conf"), "-e".into(), "stderr".into()]);
        let run = match probes {
            Some(count) => run.count_all(places(server, count)),
            None => run.native(),
        };
        let mut running = run.start();
        wait_for(port, &mut running);
        let get = |path: &str| {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("nginx listens");
            let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).expect("it reads");
            let mut answer = String::new();
            let _ = stream.read_to_string(&mut answer);
            answer
                .lines()
                .filter(|l| {
                    !["Date:", "Last-Modified:", "ETag:", "Location:"].iter().any(|h| l.starts_with(h))
                })
                .collect::<Vec<_>>()
                .join("\n")
        };
        let mut said: String = ["/", "/index.html", "/none", "/moved", "/../etc"].map(get).join("\n");
        let ab = Command::new("ab")
            .args(["-q", "-n", "1000", "-c", "20", &format!("http://127.0.0.1:{port}/index.html")])
            .output()
            .expect("ab runs");
        let report = String::from_utf8_lossy(&ab.stdout).into_owned();
        for line in
            report.lines().filter(|l| l.starts_with("Complete requests") || l.starts_with("Failed requests"))
        {
            said += &format!("\n{line}");
        }
        running.signal("HUP");
        thread::sleep(Duration::from_millis(300));
        wait_for(port, &mut running);
        said += &get("/");
        running.signal("QUIT");
        let outcome = running.wait();
        let log = fs::read_to_string(dir.join("error.log")).unwrap_or_default();
        let bad: Vec<&str> = log.lines().filter(|l| l.contains("[alert]") || l.contains("[crit]")).collect();
        said += &format!("\n{bad:?}");
        fs::remove_dir_all(&dir).expect("ours");
        (outcome, said)
    }

    #[test]
    fn nginx_under_ab() {
        if !require_command("/usr/sbin/nginx") || !require_command("ab") {
            return;
        }
        let (native, expected) = nginx(None);
        assert!(
            expected.contains("Failed requests:        0") && expected.contains("a page"),
            "{expected}\n{native}"
        );
        for count in COUNTS {
            let (probed, said) = nginx(Some(count));
            assert_eq!(probed.end, native.end, "{count} probes\n{probed}");
            assert_eq!(said, expected, "{count} probes\n{probed}");
            // The workers serve; the master waits.
            let hits: u64 = probed
                .summaries()
                .values()
                .flatten()
                .filter_map(|s| s["probes"].as_array().cloned())
                .flatten()
                .filter_map(|p| p["hits"].as_u64())
                .sum();
            assert!(count == 1 || hits > 1000, "{hits}\n{probed}");
        }
    }
}

mod every_function {
    use super::*;

    /// All of a library's functions at once; refusals are few, named, and the program still right.
    fn assert_all(launch: &Launch, pattern: &str, least: usize) {
        let native = launch.clone().native().run();
        let probed = launch.clone().count(pattern).run();
        assert_same_output(&probed, &native);
        let probes = probed.probes();
        let armed = probes.iter().filter(|p| p.state == "armed").count();
        assert!(armed >= least, "{armed} of {} armed\n{probed}", probes.len());
        for probe in probes.iter().filter(|p| p.state == "refused") {
            assert!(probe.reason.as_ref().is_some_and(|r| r.contains(": ")), "{probe:?}");
        }
        assert!(probes.iter().filter(|p| p.hits > 0).count() > 50, "{probed}");
    }

    #[test]
    fn of_libsqlite3() {
        let Some(sqlite) = installed("/usr/bin/sqlite3") else { return };
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs/real.sql");
        assert_all(&launch(&sqlite).arg(":memory:").stdin(script), "libsqlite3.so.0:*", 1250);
    }

    #[test]
    fn of_libstdcplusplus() {
        let program = Program::new("stl.cpp").flag("-O2").build();
        assert_all(&launch(&program), "libstdc++.so.6:*", 3500);
    }

    #[test]
    fn of_libcrypto() {
        let Some(openssl) = installed("/usr/bin/openssl") else { return };
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        let run = launch(&openssl).args(["dgst", "-sha512"]).arg(file.display());
        assert_all(&run, "libcrypto.so.3:*", 4500);
    }

    #[test]
    fn of_python3_itself() {
        let Some(python) = installed("/usr/bin/python3") else { return };
        let run =
            launch(&python).args(["-S", "-E", "-c", "import sys; print(sum(range(1000))); sys.exit(4)"]);
        assert_all(&run, "exe:*", 1300);
    }

    /// Of the program, its libraries and the dynamic linker; and so in all its children.
    #[test]
    fn of_every_object() {
        let script =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs/real.py").display().to_string();
        let loop_of_pipes =
            "for i in 1 2 3; do echo $(echo $i | cat) | tr 123 abc; done; (exit 9); echo $?; exit 3";
        let perl = "print join(',', map { $_ ** 2 } 1..50), \"\\n\"; system('echo a child'); exit 4";
        for (program, args) in [
            ("/usr/bin/python3", vec!["-S", "-E", &script]),
            ("/usr/bin/bash", vec!["-c", loop_of_pipes]),
            ("/usr/bin/perl", vec!["-e", perl]),
        ] {
            let Some(path) = installed(program) else { continue };
            assert_all(&launch(&path).args(args), "*:*", 2500);
        }
    }

    #[test]
    fn of_libc() {
        let Some(ls) = installed("/usr/bin/ls") else { return };
        assert_all(&launch(&ls).args(["-la", "/etc/alternatives"]), "libc.so.6:*", 1900);
    }
}
