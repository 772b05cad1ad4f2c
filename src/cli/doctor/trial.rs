//! A real trial: this very command once more, with the library in it and a probe on a function that it calls so many
//! times.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::finding::Finding;
use crate::cli::process;

/// What the process of a trial is called by; not for users.
pub const ARGUMENT: &str = "doctor-trial";
/// How often the probed function is called.
const CALLS: usize = 1000;
/// Nobody else calls it here.
const FUNCTION: &str = "getppid";
/// How long a trial may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// The process of a trial.
pub fn main() -> u8 {
    (0..CALLS).for_each(|_| process::call_getppid());
    0
}

/// A breakpoint, and a jump.
pub fn both(library: &Path) -> Vec<Finding> {
    let at_int3 = one(library, "int3");
    let has_breakpoints = at_int3.is_ok();
    let first = match at_int3 {
        Ok(ran) => Finding::ok("breakpoint", format!("tried: {CALLS} calls, {CALLS} hits ({})", ran.method)),
        Err(why) => Finding::fails(
            "breakpoint",
            format!("tried: {why}"),
            "See the lines above for what may be the cause.",
        ),
    };
    let second = match one(library, "auto") {
        Ok(ran) if ran.method == "jump" => Finding::ok("jump", format!("tried: {CALLS} calls, {CALLS} hits")),
        Ok(ran) => Finding::warning(
            "jump",
            format!("tried: it stays a breakpoint ({}): {}", ran.method, ran.reason),
            "Counts are right, but a hit costs some microseconds.",
        ),
        Err(why) if has_breakpoints => Finding::fails(
            "jump",
            format!("tried: {why}"),
            "method = 'int3' in each [[probe]] does without jumps.",
        ),
        Err(why) => Finding::fails("jump", format!("tried: {why}"), ""),
    };
    vec![first, second]
}

/// How the place was probed, and why not by a jump.
struct Ran {
    method: String,
    reason: String,
}

/// Runs one; what went wrong otherwise.
fn one(library: &Path, method: &str) -> Result<Ran, String> {
    let config = format!(
        "toml:follow = false\n[summary]\nformat = 'json'\n[[probe]]\nat = 'libc.so.6:{FUNCTION}'\n\
         method = '{method}'\naction = ['count']\n"
    );
    let own = std::env::current_exe().map_err(|error| format!("/proc/self/exe: {error}"))?;
    let child = Command::new(own)
        .arg(ARGUMENT)
        .env("LD_PRELOAD", library)
        .env("UPROBES", config)
        .env_remove("UPROBE_LOG")
        .env_remove("UPROBE_STRICT")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("no process can be started: {error}"))?;
    let pid = child.id();
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || sender.send(child.wait_with_output()));
    let output = receiver.recv_timeout(PATIENCE).map_err(|_| {
        process::kill(pid);
        format!("the process hung, and was killed after {} s", PATIENCE.as_secs())
    })?;
    let output = output.map_err(|error| format!("the process can't be waited for: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let summary = said.lines().find(|line| line.starts_with('{')).map(|first| &said[offset(&said, first)..]);
    let complaint = said.lines().find(|line| line.starts_with("uprobe: ") || line.starts_with("ERROR: "));
    if !output.status.success() {
        let more = complaint.map(|line| format!(" ({line})")).unwrap_or_default();
        return Err(format!("the process ended with {}{more}", output.status));
    }
    let Some(summary) = summary else {
        return Err(complaint
            .map_or_else(|| "there is no summary: the library was not loaded".to_owned(), str::to_owned));
    };
    let hits: usize = field(summary, "hits").and_then(|n| n.parse().ok()).unwrap_or(0);
    let reason = field(summary, "reason").unwrap_or_default().trim_matches('"').to_owned();
    if hits != CALLS {
        let why = if reason == "null" { String::new() } else { format!(": {reason}") };
        return Err(format!("{CALLS} calls, {hits} hits{why}"));
    }
    Ok(Ran { method: field(summary, "method").unwrap_or_default().trim_matches('"').to_owned(), reason })
}

fn offset(whole: &str, part: &str) -> usize {
    part.as_ptr() as usize - whole.as_ptr() as usize
}

/// The value behind `"name":` in our own JSON, where it is a number, a word, or a string without quotes in it.
fn field<'a>(json: &'a str, name: &str) -> Option<&'a str> {
    let rest = json.split_once(&format!("\"{name}\":"))?.1;
    let end = match rest.strip_prefix('"') {
        Some(inner) => inner.find('"')? + 2,
        None => rest.find([',', '}'])?,
    };
    rest.get(..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_a_summary() {
        let json = "{\"name\":\"a, b\",\"reason\":null,\"hits\":12}";
        assert_eq!(field(json, "name"), Some("\"a, b\""));
        assert_eq!(field(json, "reason"), Some("null"));
        assert_eq!(field(json, "hits"), Some("12"));
        assert_eq!(field(json, "lost"), None);
    }
}
