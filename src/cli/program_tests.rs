//! Which files are programs for us, and why others aren't.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;

/// An ELF header with one program header after it.
fn elf_head(class: u8, machine: u8, kind: u8, segment: u8) -> Vec<u8> {
    let mut head = vec![0; 64 + 56];
    head[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', class, 1]);
    head[16] = kind;
    head[18] = machine;
    head[32] = 64; // e_phoff
    head[54] = 56; // e_phentsize
    head[56] = 1; // e_phnum
    head[64] = segment;
    head[64 + 8] = 120; // p_offset
    head[64 + 32] = 28; // p_filesz
    head.extend_from_slice(b"/lib64/ld-linux-x86-64.so.2\0");
    head
}

fn unfit_why(head: &[u8]) -> String {
    match inspect(head) {
        Image::Unfit(why) => why,
        other => panic!("not unfit: {other:?}"),
    }
}

#[test]
fn tells_images_apart() {
    let loader = PathBuf::from("/lib64/ld-linux-x86-64.so.2");
    assert_eq!(inspect(&elf_head(2, 62, 3, 3)), Image::Dynamic { loader: loader.clone() });
    assert_eq!(inspect(&elf_head(2, 62, 2, 3)), Image::Dynamic { loader });
    assert_eq!(inspect(&elf_head(2, 62, 3, 1)), Image::Loader);
    assert_eq!(inspect(b""), Image::Plain);
    assert_eq!(inspect(b"echo hello\n"), Image::Plain);
}

#[test]
fn refuses_with_the_reason() {
    for (head, why) in [
        (elf_head(2, 62, 2, 1), STATIC),
        (elf_head(1, 3, 2, 3), "is a 32-bit program; libuprobe is for x86-64"),
        (elf_head(1, 62, 2, 3), "is a 32-bit program; libuprobe is for x86-64"),
        (elf_head(2, 183, 2, 3), "is for another architecture (ELF machine 183), not x86-64"),
        (elf_head(2, 62, 4, 1), "is an ELF file, but not a program"),
        (b"\x7fELF".to_vec(), "is a damaged ELF file"),
        (b"#!\n".to_vec(), "has an empty '#!' line"),
    ] {
        assert_eq!(unfit_why(&head), why);
    }
}

#[test]
fn damaged_headers_never_panic() {
    let good = elf_head(2, 62, 3, 3);
    for len in 0..good.len() {
        let _ = inspect(&good[..len]);
    }
    for at in 0..good.len() {
        for value in [0x7f, 0x80, 0xff] {
            let mut bad = good.clone();
            bad[at] = value;
            let _ = inspect(&bad);
        }
    }
    let mut far = good.clone();
    far[32..40].fill(0xff);
    assert_eq!(unfit_why(&far), "is a damaged ELF file");
}

#[test]
fn reads_script_lines() {
    for (line, interpreter, argument) in [
        (&b"#!/bin/sh\necho"[..], "/bin/sh", None),
        (b"#! /bin/sh -e\n", "/bin/sh", Some("-e")),
        (b"#!/usr/bin/env  -S awk -f \n", "/usr/bin/env", Some("-S awk -f")),
        (b"#!/bin/sh", "/bin/sh", None),
    ] {
        let argument = argument.map(OsString::from);
        assert_eq!(inspect(line), Image::Script { interpreter: interpreter.into(), argument });
    }
}

struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("uprobe-program-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a temporary directory");
        Self(path)
    }

    fn file(&self, name: &str, content: &str, mode: u32) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, content).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("its mode");
        path
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn found(name: &OsStr, search: &OsStr) -> Program {
    find(name, &["x".into()], Some(search)).unwrap_or_else(|e| panic!("{}", e.message))
}

#[test]
fn follows_scripts_to_their_interpreter() {
    let dir = Dir::new("scripts");
    let search = OsStr::new("/usr/bin:/bin");
    let direct = dir.file("direct", "#!/bin/cat -n\n", 0o755);
    let program = found(direct.as_os_str(), search);
    assert_eq!(program.path, direct);
    assert_eq!(program.argv, [direct.clone().into_os_string(), "x".into()]);
    assert_eq!(program.image, PathBuf::from("/bin/cat"));

    // Through env: started at once, since env is not the program that is meant.
    let env = dir.file("env", "#!/usr/bin/env cat\n", 0o755);
    let program = found(env.as_os_str(), search);
    assert_eq!(
        (&program.path, &program.image),
        (&PathBuf::from("/usr/bin/cat"), &PathBuf::from("/usr/bin/cat"))
    );
    assert_eq!(program.argv, [OsString::from("cat"), env.into_os_string(), "x".into()]);

    // No '#!': given to the shell, as execvp does.
    let plain = dir.file("plain", "echo $0\n", 0o755);
    let program = found(plain.as_os_str(), search);
    assert_eq!(program.path, PathBuf::from("/bin/sh"));
    assert_eq!(program.argv, [OsString::from("sh"), plain.into_os_string(), "x".into()]);

    let around = dir.0.join("around");
    let around = dir.file("around", &format!("#!{}\n", around.display()), 0o755);
    let refusal = find(around.as_os_str(), &[], None).expect_err("a circle");
    assert!(refusal.message.ends_with("too many of them"), "{}", refusal.message);
}

#[test]
fn searches_as_a_shell() {
    let dir = Dir::new("search");
    dir.file("tool", "#!/bin/sh\n", 0o755);
    let search = dir.0.clone().into_os_string();
    assert_eq!(which(OsStr::new("tool"), Some(&search)).map_err(|e| e.message), Ok(dir.0.join("tool")));
    for (name, status, end) in [
        ("no-such-tool", 127, "no-such-tool: command not found"),
        ("", 127, ": command not found"),
        ("/no/such/file", 127, "/no/such/file: no such file"),
        ("/usr", 126, "/usr: is a directory"),
        ("/etc/passwd", 126, "/etc/passwd: is not executable"),
    ] {
        let refusal = which(OsStr::new(name), Some(&search)).expect_err(name);
        assert_eq!((refusal.status, refusal.message.as_str()), (status, end));
    }
    dir.file("data", "", 0o644);
    let refusal = which(OsStr::new("data"), Some(&search)).expect_err("no x bit");
    assert_eq!(refusal.status, 126);
}
