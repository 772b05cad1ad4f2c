//! The functions whose return is not followed, and why. Entry probes on them work.
//!
//! A return probe puts an address of ours where the return address was. Nearly every function only
//! hands it to its `ret`. The exceptions were found by reading the code of all functions of glibc,
//! libgcc and libstdc++ (`tests/returns_denied.rs` does so again, on the machine it runs on); the same
//! test lists those that do look at the address and don't mind: setjmp, getcontext, swapcontext and
//! vfork keep it and go there once more, which is right since the address is good for ever.
//!
//! One that never returns is followed as any other: exit is still in flight when the process ends, longjmp and
//! __cxa_throw leave their own frames with all others (`unwound`).
//!
//! Called when a probe is registered, and by `uprobe list`: the same answer from the same code.

use std::path::Path;

use crate::elf::ElfFile;

/// Why no return is followed in an object of Go's.
const GO: &str =
    "the object is Go's, whose runtime moves stacks and ends the program at a return address it doesn't know";

/// Why the return of a function of `file`, which has these names, is not followed.
#[must_use]
pub fn why_no_return_in(file: &ElfFile, names: &[&str]) -> Option<&'static str> {
    if file.is_go() {
        return Some(GO);
    }
    why_no_return(file.soname(), file.path(), names)
}

/// One rule of the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Denied {
    /// The sonames it holds for (where a file has none: its file name); empty: all objects.
    pub objects: &'static [&'static str],
    /// The function's name without version; `*` stands for any characters.
    pub name: &'static str,
    /// The reason, a sentence without its full stop.
    pub why: &'static str,
}

/// What one reason holds for.
struct Group {
    objects: &'static [&'static str],
    why: &'static str,
    names: &'static [&'static str],
}

/// The names are reserved for the implementation, so they mean the same in every object.
const ANY: &[&str] = &[];
/// Before 2.34 the functions were spread over several objects.
const GLIBC: &[&str] = &["libc.so.6", "ld-linux-x86-64.so.2", "libdl.so.2", "libpthread.so.0"];
const MALLOC_DEBUG: &[&str] = &["libc_malloc_debug.so.0"];

#[rustfmt::skip]
const TABLE: &[Group] = &[
    // It uses the return address for more than returning.
    Group {
        objects: GLIBC,
        why: "it searches the RUNPATH and the namespace of its caller, whom it finds by the return address",
        names: &["dlopen", "dlmopen", "__libc_dlopen_mode"],
    },
    Group {
        objects: GLIBC,
        why: "it searches the scope of its caller (RTLD_DEFAULT) or what comes behind it (RTLD_NEXT), and finds it by the return address",
        names: &["dlsym", "dlvsym"],
    },
    Group {
        objects: GLIBC,
        why: "it lists the namespace of its caller, whom it finds by the return address",
        names: &["dl_iterate_phdr"],
    },
    Group {
        objects: ANY,
        why: "it tells the profiler who called whom, by the return addresses of two functions",
        names: &["mcount", "_mcount", "__fentry__", "_dl_mcount_wrapper", "_dl_mcount_wrapper_check"],
    },
    Group {
        objects: MALLOC_DEBUG,
        why: "mtrace writes down where it was called, by the return address",
        names: &[
            "malloc", "calloc", "realloc", "free", "memalign", "memalign_hook_ini", "aligned_alloc",
            "posix_memalign", "valloc", "pvalloc",
        ],
    },
    Group {
        objects: ANY,
        why: "it reads the code behind its return address, and runs its caller on another stack",
        names: &["__morestack"],
    },
    Group {
        objects: ANY,
        why: "an unwinder starts from the frame it returns to, when that frame has made other calls since",
        names: &["unw_getcontext", "__unw_getcontext", "_Ux86_64_getcontext", "uw_init_context_1"],
    },
    Group {
        objects: ANY,
        why: "it shows the frames from its caller's on, and backtrace(3) leaves out the first, its own",
        names: &["_Unwind_Backtrace"],
    },
    // What lies on top of the stack at its first instruction is no return address.
    Group {
        objects: ANY,
        why: "nothing calls it: the program's arguments are on the stack, and no return address",
        names: &["_start", "_dl_start_user"],
    },
    Group {
        objects: ANY,
        why: "nothing calls it: a signal's frame is on the stack, and no return address",
        names: &["__restore_rt"],
    },
    Group {
        objects: ANY,
        why: "nothing calls it: a context's function returns into it, on the context's own stack",
        names: &["__start_context"],
    },
    Group {
        objects: ANY,
        why: "it is entered from the PLT, with two words on top of the return address, and leaves by a jump",
        names: &["_dl_runtime_resolve*", "_dl_runtime_profile*"],
    },
];

/// The whole table, rule by rule.
pub fn all() -> impl Iterator<Item = Denied> {
    TABLE.iter().flat_map(|group| {
        group.names.iter().map(|name| Denied { objects: group.objects, name, why: group.why })
    })
}

/// Why the return of a function can't be followed; `None`: it can.
///
/// `names` are all names of the function's address, with or without version: an alias is the same
/// function. `soname` and `path` are those of the object it is in.
#[must_use]
pub fn why_no_return(soname: Option<&str>, path: &Path, names: &[&str]) -> Option<&'static str> {
    let object = soname.or_else(|| path.file_name()?.to_str()).unwrap_or_default();
    let is_meant = |rule: &Denied| {
        (rule.objects.is_empty() || rule.objects.contains(&object))
            && names.iter().any(|name| matches(rule.name, name.split('@').next().unwrap_or(name)))
    };
    all().find(is_meant).map(|rule| rule.why)
}

/// Whether `name` is `pattern`, in which each `*` stands for any characters.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(behind) = name.strip_prefix(start) else { return false };
    (0..=behind.len()).any(|at| behind.get(at..).is_some_and(|tail| matches(rest, tail)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(object: &str, name: &str) -> Option<&'static str> {
        why_no_return(Some(object), Path::new("/lib/libc.so.6"), &[name])
    }

    #[test]
    fn names_and_objects() {
        for (object, name, start) in [
            ("libc.so.6", "dlopen", Some("it searches the RUNPATH")),
            ("libdl.so.2", "dlopen@GLIBC_2.2.5", Some("it searches the RUNPATH")),
            ("libapp.so", "dlopen", None),
            ("libc.so.6", "dlsym", Some("it searches the scope")),
            ("libc.so.6", "dlopenx", None),
            ("libc.so.6", "dladdr", None),
            ("libc.so.6", "malloc", None),
            ("libc_malloc_debug.so.0", "malloc", Some("mtrace")),
            ("ld-linux-x86-64.so.2", "_dl_runtime_resolve_xsavec", Some("it is entered from the PLT")),
            ("libstdc++.so.6", "_ZSt20__throw_length_errorPKc", None),
            ("app", "__cxa_throw", None),
            ("libc.so.6", "exit", None),
            ("libc.so.6", "longjmp", None),
            ("app", "_start", Some("nothing calls it")),
            ("libc.so.6", "setjmp", None),
            ("libc.so.6", "_setjmp", None),
            ("libc.so.6", "vfork", None),
            ("libc.so.6", "swapcontext", None),
            ("libc.so.6", "setcontext", None),
        ] {
            let found = why(object, name);
            let is_right = match (found, start) {
                (Some(found), Some(start)) => found.starts_with(start),
                (found, start) => found == start,
            };
            assert!(is_right, "{object}:{name}: {found:?}");
        }
    }

    #[test]
    fn any_alias_counts_and_a_file_without_soname_goes_by_its_name() {
        let libc = Path::new("/lib/libc.so.6");
        assert!(why_no_return(None, libc, &["___dlopen", "dlopen"]).is_some());
        assert!(why_no_return(None, Path::new("/bin/app"), &["___dlopen", "dlopen"]).is_none());
        assert!(why_no_return(Some("libapp.so.1"), libc, &["dlopen"]).is_none());
        assert!(why_no_return(Some("libc.so.6"), libc, &[]).is_none());
        assert!(why_no_return(None, Path::new("/"), &["_start"]).is_some());
    }

    #[test]
    fn each_reason_is_a_sentence_and_each_rule_is_there_once() {
        let rules: Vec<Denied> = all().collect();
        assert!(rules.len() > 30);
        for rule in &rules {
            assert!(!rule.why.ends_with('.') && rule.why.len() > 20, "{rule:?}");
            assert!(rule.why.starts_with(char::is_lowercase), "{rule:?}");
            assert_eq!(rules.iter().filter(|r| r.name == rule.name).count(), 1, "{rule:?}");
            assert!(rule.name.len() > 2 && !rule.name.starts_with('*'), "{rule:?}");
        }
    }

    #[test]
    fn stars() {
        for (pattern, name, expected) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("a*", "a", true),
            ("a*", "ba", false),
            ("_ZSt*__throw_*", "_ZSt17__throw_bad_allocv", true),
            ("_ZSt*__throw_*", "_ZSt17__throw", false),
            ("a*é*", "aéé", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
