//! Runs a program, with the library or without, and collects what came of it.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::build::scratch;
use super::signals;

/// How a process ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    Exit(i32),
    Signal(i32),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exit(status) => write!(f, "exit {status}"),
            Self::Signal(signal) => write!(f, "killed by signal {signal}"),
        }
    }
}

/// The library under test: the one `cargo test` has just built.
///
/// `deps/` beside the test binary is what `cargo test` refreshes; the copy one level up is made
/// by `cargo build` only and goes stale.
pub fn library() -> PathBuf {
    let exe = std::env::current_exe().expect("a test binary has a path");
    let library = exe.parent().expect("in a directory").join("libuprobe.so");
    assert!(library.exists(), "{} is not there", library.display());
    library
}

/// Whether this binary's tests want int3 at each place, and never a jump: `tests/int3.rs`.
pub fn only_int3() -> bool {
    module_path!().starts_with("int3::")
}

/// A run to be made.
#[derive(Clone, Debug)]
pub struct Launch {
    program: PathBuf,
    args: Vec<String>,
    env: Vec<(String, Option<String>)>,
    probes: String,
    output: &'static str,
    summary: String,
    uprobes: bool,
    preload: bool,
    stdin: Option<PathBuf>,
    timeout: Duration,
    cwd: Option<PathBuf>,
}

impl Launch {
    /// `program` with the library; without a probe `UPROBES` stays unset.
    pub fn new(program: impl AsRef<Path>) -> Self {
        Self {
            program: program.as_ref().to_path_buf(),
            args: Vec::new(),
            env: Vec::new(),
            probes: String::new(),
            output: "text",
            summary: "json".into(),
            uprobes: false,
            preload: true,
            stdin: None,
            // On a busy machine some of them take ten times as long as alone; one that hangs does so for ever.
            timeout: Duration::from_secs(400),
            cwd: None,
        }
    }

    pub fn arg(mut self, arg: impl fmt::Display) -> Self {
        self.args.push(arg.to_string());
        self
    }

    pub fn args<S: fmt::Display>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(|a| a.to_string()));
        self
    }

    pub fn env(mut self, name: &str, value: impl fmt::Display) -> Self {
        self.env.push((name.into(), Some(value.to_string())));
        self
    }

    pub fn cwd(mut self, dir: impl Into<PathBuf>) -> Self {
        self.cwd = Some(dir.into());
        self
    }

    pub fn stdin(mut self, file: impl Into<PathBuf>) -> Self {
        self.stdin = Some(file.into());
        self
    }

    /// A probe that only counts.
    pub fn count(self, at: &str) -> Self {
        self.probe(at, "action = [\"count\"]")
    }

    /// Counting probes.
    pub fn count_all<S: AsRef<str>>(self, places: impl IntoIterator<Item = S>) -> Self {
        places.into_iter().fold(self, |launch, at| launch.count(at.as_ref()))
    }

    /// A probe; `keys` are further lines of its table.
    pub fn probe(self, at: &str, keys: &str) -> Self {
        self.toml(&format!("[[probe]]\nat = '''{at}'''\n{keys}\n"))
    }

    /// Config text, appended.
    pub fn toml(mut self, text: &str) -> Self {
        self.uprobes = true;
        self.probes.push_str(text);
        self.probes.push('\n');
        self
    }

    /// The event log's format.
    pub fn format(mut self, format: &'static str) -> Self {
        self.output = format;
        self
    }

    /// The summary's format.
    pub fn summary_format(mut self, format: &str) -> Self {
        self.summary = format.into();
        self
    }

    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The same without the library.
    pub fn native(mut self) -> Self {
        self.preload = false;
        self
    }

    /// Runs it to its end.
    pub fn run(&self) -> Outcome {
        self.start().wait()
    }

    /// Starts it.
    pub fn start(&self) -> Running {
        let name = self.program.file_name().expect("a program has a name").to_string_lossy().into_owned();
        let dir = scratch(&name);
        let mut command = self.command(&dir);
        let file = |name: &str| {
            let path = dir.join(name);
            OpenOptions::new().create(true).append(true).open(path).expect("our directory")
        };
        command.stdout(file("stdout")).stderr(file("stderr"));
        match &self.stdin {
            Some(path) => command.stdin(File::open(path).expect("the input is there")),
            None => command.stdin(Stdio::null()),
        };
        // Its own process group, so that whatever it leaves behind can be ended with it.
        command.process_group(0);
        let child = command.spawn().unwrap_or_else(|e| panic!("{}: {e}", self.program.display()));
        let what = format!("{name} {}", self.args.join(" "));
        Running {
            what,
            child,
            dir,
            deadline: Instant::now() + self.timeout,
            timeout: self.timeout,
            waited: false,
        }
    }

    /// Writes the config to `dir` and sets up the process.
    pub fn command(&self, dir: &Path) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.args);
        signals::by_default(&mut command);
        for name in ["LD_PRELOAD", "UPROBES", "UPROBE_LOG", "UPROBE_STRICT", "LD_LIBRARY_PATH"] {
            command.env_remove(name);
        }
        command.env("LC_ALL", "C.UTF-8").env("SCRATCH", dir);
        if self.preload {
            command.env("LD_PRELOAD", library());
            if self.uprobes {
                command.env("UPROBES", self.write_config(dir));
            }
        }
        for (name, value) in &self.env {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        if let Some(cwd) = &self.cwd {
            command.current_dir(cwd);
        }
        command
    }

    fn write_config(&self, dir: &Path) -> PathBuf {
        let at = dir.display();
        // A test that brings its own tables gets them.
        let own = |table: &str| self.probes.lines().any(|line| line.trim() == table);
        // What belongs to no table comes first.
        let (top, probes): (Vec<&str>, Vec<&str>) =
            self.probes.lines().partition(|line| line.starts_with("follow ="));
        let mut text = top.join("\n") + "\n";
        if !own("[output]") {
            text += &format!("[output]\npath = '{at}/events.%p'\nformat = '{}'\n\n", self.output);
        }
        if !own("[summary]") {
            text += &format!("[summary]\npath = '{at}/summary.%p'\nformat = '{}'\n\n", self.summary);
        }
        for line in probes {
            text += line;
            text.push('\n');
            if line.trim() == "[[probe]]" && only_int3() && !self.probes.contains("method =") {
                text += "method = 'int3'\n";
            }
        }
        let path = dir.join("probes.toml");
        fs::write(&path, text).expect("our directory");
        path
    }
}

/// A process that has been started.
#[derive(Debug)]
pub struct Running {
    what: String,
    child: Child,
    dir: PathBuf,
    deadline: Instant,
    timeout: Duration,
    waited: bool,
}

impl Running {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where its files are.
    pub fn dir(&self) -> PathBuf {
        self.dir.clone()
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("our child").is_some()
    }

    /// Sends it a signal, by kill(1)'s name.
    pub fn signal(&self, name: &str) {
        let _ = Command::new("kill").args([format!("-{name}"), self.pid().to_string()]).status();
    }

    /// Waits for its end; where that doesn't come in time the whole group is killed, and the test fails.
    pub fn wait(mut self) -> Outcome {
        self.waited = true;
        let pid = self.pid();
        let mut pause = Duration::from_micros(200);
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("our child") {
                break Some(status);
            }
            if Instant::now() >= self.deadline {
                break None;
            }
            thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        };
        if status.is_none() {
            kill_group(pid);
            let _ = self.child.wait();
        }
        let read = |name: &str| fs::read(self.dir.join(name)).unwrap_or_default();
        let outcome = |end| Outcome {
            end,
            pid,
            stdout: String::from_utf8_lossy(&read("stdout")).into_owned(),
            stderr: String::from_utf8_lossy(&read("stderr")).into_owned(),
            dir: self.dir.clone(),
        };
        let Some(status) = status else {
            panic!(
                "{} hung: killed after {} s\n{}",
                self.what,
                self.timeout.as_secs(),
                outcome(End::Signal(9))
            );
        };
        match (status.code(), status.signal()) {
            (Some(code), _) => outcome(End::Exit(code)),
            (None, Some(signal)) => outcome(End::Signal(signal)),
            (None, None) => unreachable!("wait returns ended processes"),
        }
    }
}

impl Drop for Running {
    /// A test that fails meanwhile leaves nothing behind.
    fn drop(&mut self) {
        if !self.waited {
            kill_group(self.pid());
            let _ = self.child.wait();
        }
    }
}

/// SIGKILL to the whole group of `pid`, by kill(1): the tests need no unsafe code for it.
fn kill_group(pid: u32) {
    let _ = Command::new("kill").args(["-KILL", "--", &format!("-{pid}")]).status();
}

/// What came of a run. Its files are removed with it, unless the test is failing.
#[derive(Debug)]
pub struct Outcome {
    pub end: End,
    pub pid: u32,
    pub stdout: String,
    pub stderr: String,
    pub dir: PathBuf,
}

impl Drop for Outcome {
    fn drop(&mut self) {
        if !thread::panicking() {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cut = |s: &str| s.chars().take(4000).collect::<String>();
        writeln!(f, "{}, files in {}", self.end, self.dir.display())?;
        writeln!(f, "--- stdout\n{}--- stderr\n{}---", cut(&self.stdout), cut(&self.stderr))
    }
}

/// One probe of a summary.
#[derive(Clone, PartialEq, Debug)]
pub struct Probe {
    pub name: String,
    pub at: String,
    pub state: String,
    pub method: Option<String>,
    pub reason: Option<String>,
    pub hits: u64,
    pub nmissed: u64,
    pub filtered: u64,
    pub sampled_out: u64,
    pub lost: u64,
}

impl Probe {
    fn from_json(value: &Value) -> Self {
        let text = |key: &str| value[key].as_str().map(String::from);
        let number =
            |key: &str| value[key].as_u64().unwrap_or_else(|| panic!("'{key}' is no number in {value}"));
        Self {
            name: text("name").expect("each probe has a name"),
            at: text("at").expect("each probe has a place"),
            state: text("state").expect("each probe has a state"),
            method: text("method"),
            reason: text("reason"),
            hits: number("hits"),
            nmissed: number("nmissed"),
            filtered: number("filtered"),
            sampled_out: number("sampled_out"),
            lost: number("lost"),
        }
    }

    /// How often the place was executed, by the probe's account.
    pub fn executions(&self) -> u64 {
        self.hits + self.nmissed + self.filtered + self.sampled_out
    }
}

impl Outcome {
    /// Every summary of every process, by pid, in the order written.
    /// A process that executed another program has more than one, numbered from the second on.
    pub fn summaries(&self) -> BTreeMap<u32, Vec<Value>> {
        let mut summaries: BTreeMap<u32, Vec<Value>> = BTreeMap::new();
        self.each_summary(|pid, summary| summaries.entry(pid).or_default().push(summary));
        summaries
    }

    /// The same one after the other: those of hundreds of processes with thousands of probes are gigabytes.
    pub fn each_summary(&self, mut visit: impl FnMut(u32, Value)) {
        for (pid, path) in self.paths("summary.") {
            let numbered = (1..).map(|n| self.dir.join(format!("summary.{pid}.{n}")));
            for path in std::iter::once(path).chain(numbered.take_while(|path| path.exists())) {
                let text = fs::read(&path).expect("our file");
                let summary = serde_json::from_slice(&text).unwrap_or_else(|e| {
                    panic!("summary of {pid}: {e}\n{}\n{self}", String::from_utf8_lossy(&text))
                });
                visit(pid, summary);
            }
        }
    }

    /// The one summary of the process that was started.
    pub fn summary(&self) -> Value {
        let mut summaries = self.summaries();
        let mut mine = summaries.remove(&self.pid).unwrap_or_default();
        assert_eq!(mine.len(), 1, "a process writes one summary\n{self}");
        mine.remove(0)
    }

    /// Its probes, in its order.
    pub fn probes(&self) -> Vec<Probe> {
        let summary = self.summary();
        let probes = summary["probes"].as_array().unwrap_or_else(|| panic!("no probes in {summary}"));
        let probes: Vec<Probe> = probes.iter().map(Probe::from_json).collect();
        if only_int3() {
            let jump = probes.iter().find(|probe| probe.method.as_deref() == Some("jump"));
            assert_eq!(jump, None, "no place has a jump\n{self}");
        }
        probes
    }

    /// The probe written as `at`, or called so.
    pub fn at(&self, at: &str) -> Probe {
        let probes = self.probes();
        let found: Vec<&Probe> = probes.iter().filter(|p| p.at == at || p.name == at).collect();
        assert_eq!(found.len(), 1, "'{at}' in the summary: {probes:#?}\n{self}");
        found[0].clone()
    }

    pub fn hits(&self, at: &str) -> u64 {
        self.at(at).hits
    }

    /// The event log of the process that was started.
    pub fn events(&self) -> String {
        self.files("events.").remove(&self.pid).unwrap_or_default()
    }

    /// Its lines; the last one ends like the others.
    pub fn event_lines(&self) -> Vec<String> {
        let events = self.events();
        assert!(events.is_empty() || events.ends_with('\n'), "the last event is cut off\n{self}");
        events.lines().map(String::from).collect()
    }

    /// All event logs or summaries, by pid.
    pub fn files(&self, prefix: &str) -> BTreeMap<u32, String> {
        let read = |path: PathBuf| String::from_utf8_lossy(&fs::read(path).expect("our file")).into_owned();
        self.paths(prefix).into_iter().map(|(pid, path)| (pid, read(path))).collect()
    }

    fn paths(&self, prefix: &str) -> BTreeMap<u32, PathBuf> {
        let mut paths = BTreeMap::new();
        for entry in fs::read_dir(&self.dir).expect("our directory") {
            let path = entry.expect("our directory").path();
            let name = path.file_name().expect("it has a name").to_string_lossy().into_owned();
            if let Some(pid) = name.strip_prefix(prefix).and_then(|rest| rest.parse().ok()) {
                paths.insert(pid, path);
            }
        }
        paths
    }
}
