//! Copies of `src/hit/protocol`, in each of which one thing is broken: the models must see it. A mutant is
//! of the real source, and where the source no longer has what is to be broken, the build fails.

use std::fmt::Write as _;
use std::path::Path;

/// Name, file, what stands there (once), and what is put in its place.
const MUTANTS: [(&str, &str, &str, &str); 16] = [
    // A pop that was overtaken by two others and a push takes a number that is another's.
    (
        "untagged",
        "free_list.rs",
        "((head >> 32).wrapping_add(1) << 32) | number as u64",
        "{ let _ = head; number as u64 }",
    ),
    (
        "given_unordered",
        "free_list.rs",
        "retag(top, number), AcqRel, Acquire)",
        "retag(top, number), Relaxed, Relaxed)",
    ),
    (
        "torn_carve",
        "free_list.rs",
        "match fresh.compare_exchange_weak(from, behind, AcqRel, Relaxed) {\n            Ok(_) => return Some(first),\n            Err(now) => from = now,\n        }",
        "fresh.store(behind, Relaxed); if true { return Some(first); } from = behind;",
    ),
    (
        "entry_unordered",
        "address_table.rs",
        "slot.store(tagged(entry), Release);\n                return true;",
        "slot.store(tagged(entry), Relaxed);\n                return true;",
    ),
    (
        "table_unordered",
        "address_table.rs",
        "self.cells.store(std::ptr::from_ref(table).cast_mut(), Release);",
        "self.cells.store(std::ptr::from_ref(table).cast_mut(), Relaxed);",
    ),
    (
        "table_published_early",
        "address_table.rs",
        "for cell in old.iter().flat_map(",
        "self.cells.store(std::ptr::from_ref(table).cast_mut(), Release);\n        for cell in old.iter().flat_map(",
    ),
    (
        "tag_forgotten",
        "address_table.rs",
        "slot.store(tagged(entry), Release);\n                return true;",
        "slot.store(std::ptr::from_ref(entry).cast_mut(), Release);\n                return true;",
    ),
    (
        "tag_believed",
        "address_table.rs",
        "entry_of(word).filter(|entry| entry.address() == at)",
        "entry_of(word)",
    ),
    (
        "looked_before_offered",
        "cell_count.rs",
        "smallest.fetch_min(capacity, SeqCst);\n    next.load(SeqCst) <= capacity",
        "let fits = next.load(SeqCst) <= capacity;\n    smallest.fetch_min(capacity, SeqCst);\n    fits",
    ),
    ("length_unordered", "definition.rs", "self.len.store(len, SeqCst);", "self.len.store(len, Relaxed);"),
    ("record_unordered", "record.rs", "at.store(word, Release);", "at.store(word, Relaxed);"),
    (
        "chunk_for_two",
        "record.rs",
        "let offset = next.fetch_add(size, Relaxed);",
        "let offset = next.load(Relaxed); next.store(offset + size, Relaxed);",
    ),
    (
        "hit_without_light",
        "grace.rs",
        "sequence.store(sequence.load(Relaxed) + 1, Relaxed);\n    light();",
        "sequence.store(sequence.load(Relaxed) + 1, Relaxed);\n    let _ = light;",
    ),
    (
        "run_without_light",
        "grace.rs",
        "running.store(whom, Release);\n    light();",
        "running.store(whom, Release);\n    let _ = light;",
    ),
    (
        "count_without_light",
        "only_thread.rs",
        "counting.store(true, Relaxed);\n    light();",
        "counting.store(true, Relaxed);\n    let _ = light;",
    ),
    (
        "arrival_without_heavy",
        "only_thread.rs",
        "phase.store(ENDING, SeqCst);\n    heavy();",
        "phase.store(ENDING, SeqCst);\n    let _ = heavy;",
    ),
];

fn main() {
    let protocol = Path::new("../../src/hit/protocol");
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed={}", protocol.display());
    let out = std::env::var("OUT_DIR").expect("cargo sets it");
    let mut modules = String::new();
    for (name, broken, from, to) in MUTANTS {
        let folder = Path::new(&out).join(name);
        std::fs::create_dir_all(&folder).expect("a folder");
        for entry in std::fs::read_dir(protocol).expect("the protocols") {
            let path = entry.expect("an entry").path();
            let file = path.file_name().expect("a name").to_string_lossy().into_owned();
            let mut text = std::fs::read_to_string(&path).expect("a source");
            if file == broken {
                assert_eq!(text.matches(from).count(), 1, "{name}: {file} has not once: {from}");
                text = text.replace(from, to);
            }
            std::fs::write(folder.join(file), text).expect("room on the disk");
        }
        let path = folder.join("mod.rs");
        let _ = writeln!(modules, "#[allow(dead_code)] #[path = {path:?}] pub mod {name};");
    }
    std::fs::write(Path::new(&out).join("mutants.rs"), modules).expect("room on the disk");
}
