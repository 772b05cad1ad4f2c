//! What a program's file says.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use super::finding::Finding;
use super::system::TURN_OFF;
use crate::cli::libraries;
use crate::cli::program::{self, Program};

/// Everything about one program.
pub fn look(name: &OsStr, args: &[OsString], library: Option<&Path>) -> Vec<Finding> {
    let search = std::env::var_os("PATH");
    let program = match program::find(name, args, search.as_deref()) {
        Ok(program) => program,
        Err(refusal) => return vec![Finding::fails("program", refusal.message, refusal.advice)],
    };
    let image = program.image.display();
    let text = if program.path == program.image
        && program.argv.first().is_some_and(|name| name == program.path.as_os_str())
    {
        format!("{image} is a dynamically linked x86-64 program")
    } else {
        format!("{} runs {image}, a dynamically linked x86-64 program", name.to_string_lossy())
    };
    let mut found = vec![Finding::ok("program", text)];
    found.extend(shadow_stack(&program));
    found.extend(library.map(|library| loads(&program, library)));
    found
}

/// Whether the program's own loader loads the library into it.
fn loads(program: &Program, library: &Path) -> Finding {
    let listed = match libraries::with_preloaded(&program.loader, &program.image, library) {
        Ok(listed) => listed,
        Err(why) => return Finding::fails("loader", why, "The program itself would not start."),
    };
    if !listed.found.iter().any(|path| path == library) {
        let why =
            if listed.complaint.is_empty() { "it does not say why".to_owned() } else { listed.complaint };
        let text = format!("{} does not load {}: {why}", program.loader.display(), library.display());
        return Finding::fails(
            "loader",
            text,
            "Build libuprobe.so on a system with the program's glibc, or an older one.",
        );
    }
    if let Some(missing) = listed.missing.first() {
        let text = format!("the loader does not find {missing}");
        return Finding::fails("loader", text, "The program itself would not start; see LD_LIBRARY_PATH.");
    }
    Finding::ok("loader", format!("{} loads the library into it", program.loader.display()))
}

/// Whether shadow stacks would be in force in the program: it is made for them, the processor and the kernel have
/// them, and glibc is told to use them.
pub fn shadow_stack(program: &Program) -> Option<Finding> {
    if !is_marked(&std::fs::read(&program.image).ok()?) {
        return None;
    }
    let has_flag = std::fs::read_to_string("/proc/cpuinfo")
        .is_ok_and(|text| text.lines().any(|line| line.starts_with("flags") && line.contains(" user_shstk")));
    let tunables = std::env::var("GLIBC_TUNABLES").unwrap_or_default();
    let is_wanted = tunables
        .split(':')
        .any(|one| matches!(one, "glibc.cpu.x86_shstk=on" | "glibc.cpu.x86_shstk=permissive"));
    let image = program.image.display();
    if has_flag && is_wanted {
        let text = format!("{image} is made for hardware shadow stacks, and GLIBC_TUNABLES turns them on");
        return Some(Finding::fails("shadow-stack", text, TURN_OFF));
    }
    Some(Finding::ok(
        "shadow-stack",
        format!("{image} is made for hardware shadow stacks, but they are not turned on"),
    ))
}

/// Whether the file's `.note.gnu.property` says SHSTK (x86-64 psABI, "Program Property").
fn is_marked(bytes: &[u8]) -> bool {
    const PT_GNU_PROPERTY: u32 = 0x6474_E553;
    const X86_FEATURE_1_AND: u32 = 0xC000_0002;
    const SHSTK: u32 = 2;
    let word =
        |at: usize, len: usize| program::word(bytes, at, len).and_then(|word| usize::try_from(word).ok());
    let headers = || Some((word(32, 8)?, word(54, 2)?, word(56, 2)?));
    let Some((table, size, count)) = headers() else { return false };
    (0..count).any(|index| {
        let note = || {
            let at = table.checked_add(index.checked_mul(size)?)?;
            (word(at, 4)? as u32 == PT_GNU_PROPERTY).then_some(())?;
            let from = word(at.checked_add(8)?, 8)?;
            bytes.get(from..from.checked_add(word(at.checked_add(32)?, 8)?)?)
        };
        // Behind the note's head (12 bytes and "GNU"): type, length, data, padded to eight.
        let Some(mut rest) = note().and_then(|note| note.get(16..)) else { return false };
        while let (Some(kind), Some(len)) = (program::word(rest, 0, 4), program::word(rest, 4, 4)) {
            if kind as u32 == X86_FEATURE_1_AND {
                return program::word(rest, 8, 4).is_some_and(|bits| bits as u32 & SHSTK != 0);
            }
            let next = (8 + len as usize).next_multiple_of(8);
            rest = rest.get(next..).unwrap_or_default();
        }
        false
    })
}
