//! Inputs to begin with, made from those of the tests.

use std::path::{Path, PathBuf};

/// In a fuzz target: where `UPROBE_SEEDS` names a folder, writes the inputs there, and that is all.
pub fn write_if_asked(inputs: fn() -> Vec<Vec<u8>>) {
    let Some(folder) = std::env::var_os("UPROBE_SEEDS").map(PathBuf::from) else { return };
    std::fs::create_dir_all(&folder).expect("a folder that can be made");
    for (index, input) in inputs().iter().enumerate() {
        std::fs::write(folder.join(format!("seed-{index:04}")), input).expect("room on the disk");
    }
    std::process::exit(0);
}

/// The repository.
fn root() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    if env!("CARGO_PKG_NAME") == "uprobe-fuzz" { own.join("..") } else { own.to_owned() }
}

fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root().join(folder)).expect("a folder of the repository");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.retain(|path| path.to_string_lossy().ends_with(ending));
    paths.sort();
    paths
}

/// Every config there is, good or bad, and one-liners.
pub fn config() -> Vec<Vec<u8>> {
    let folders = ["tests/config_errors", "docs", "c-examples"];
    let paths = folders.into_iter().flat_map(|folder| files(folder, ".toml"));
    let mut seeds: Vec<Vec<u8>> = paths.map(|path| std::fs::read(path).expect("a file")).collect();
    for source in ["src/config/tests.rs", "src/place/tests.rs"] {
        let texts = literals(&std::fs::read_to_string(root().join(source)).expect("a source"));
        seeds.extend(texts.chunks(6).map(|chunk| chunk.join("\n").into_bytes()));
    }
    seeds
}

/// Arguments and filters of the unit tests, some together.
pub fn fetch() -> Vec<Vec<u8>> {
    let texts: Vec<String> = files("src/fetch/tests", ".rs")
        .iter()
        .flat_map(|path| literals(&std::fs::read_to_string(path).expect("a source")))
        .filter(|text| !text.contains('\n'))
        .collect();
    let is_filter = |text: &&String| [" == ", "<", "&", "~", "!"].iter().any(|op| text.contains(op));
    let (filters, args): (Vec<&String>, Vec<&String>) = texts.iter().partition(is_filter);
    let mut seeds = Vec::new();
    for (index, chunk) in args.chunks(5).enumerate() {
        let mut seed = vec![index as u8];
        seed.extend((index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
        for (number, arg) in chunk.iter().enumerate() {
            let side = if number % 2 == 1 && index % 2 == 0 { ">" } else { "" };
            seed.extend(format!("{side}{arg}\n").bytes());
        }
        seed.extend(format!("?{}", filters[index % filters.len()]).bytes());
        seeds.push(seed);
    }
    for (index, filter) in filters.iter().enumerate() {
        let mut seed = vec![index as u8; 9];
        let args = "path=$arg2:string\n>r=$retval:s32\nn=%di:u64\n>s=$retval:string\nc=+0(%si):char\n";
        seed.extend(format!("{args}?{filter}").bytes());
        seeds.push(seed);
    }
    seeds
}

/// String literals of a Rust source, the simple escapes undone.
fn literals(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut chars = source.chars();
    while let Some(c) = chars.next() {
        match c {
            '\'' => {
                // A character, or a lifetime.
                let ahead: Vec<char> = chars.clone().take(3).collect();
                let len = match ahead[..] {
                    ['\\', _, '\''] => 3,
                    [_, '\'', ..] => 2,
                    _ => 0,
                };
                chars.by_ref().take(len).for_each(drop);
            }
            '"' => {
                let mut text = String::new();
                while let Some(c) = chars.next().filter(|c| *c != '"') {
                    text.push(match c {
                        '\\' => match chars.next() {
                            Some('n') => '\n',
                            Some('t') => '\t',
                            Some(other) => other,
                            None => break,
                        },
                        other => other,
                    });
                }
                found.push(text);
            }
            _ => {}
        }
    }
    found
}

/// The byte columns of the tables of instructions.
fn instructions() -> Vec<Vec<u8>> {
    let tables = ["tests/insn_relocation.txt", "tests/insn_relocate.txt", "tests/insn_table.txt"];
    let mut found = Vec::new();
    for table in tables {
        let text = std::fs::read_to_string(root().join(table)).expect("a table");
        for line in text.lines() {
            let column = line.split('|').next().unwrap_or_default();
            let byte = |word: &str| match word.split('+').next() {
                Some("P8" | "N8") => Some(vec![0x20]),
                Some("P32") => Some(vec![0x40, 0, 0, 0]),
                Some("M32") => Some(vec![0x44, 0x33, 0x22, 0x11]),
                _ if word.len() == 2 => u8::from_str_radix(word, 16).ok().map(|byte| vec![byte]),
                _ => None,
            };
            let bytes: Option<Vec<Vec<u8>>> = column.split_whitespace().map(byte).collect();
            found.extend(bytes.map(|bytes| bytes.concat()).filter(|bytes| !bytes.is_empty()));
        }
    }
    found
}

/// Runs of instructions and a state.
pub fn relocation() -> Vec<Vec<u8>> {
    let head = |index: usize| {
        let mut head = vec![(index as u8).wrapping_mul(37)];
        head.extend((index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
        head
    };
    let rows = instructions();
    let mut seeds: Vec<Vec<u8>> =
        rows.iter().enumerate().map(|(index, row)| [head(index & !7), row.clone()].concat()).collect();
    for (index, chunk) in rows.chunks(4).enumerate() {
        seeds.push([head(index | 7), chunk.concat()].concat());
    }
    seeds
}

/// Places with text.
pub fn window() -> Vec<Vec<u8>> {
    let rows = instructions();
    let texts = rows.chunks(5).map(<[Vec<u8>]>::concat);
    let place = |(index, text): (usize, Vec<u8>)| {
        let at = 0x5555_5555_4000_u64 + index as u64 * 37;
        let mut seed = (at << 17).to_le_bytes().to_vec();
        seed.extend([64 - index as u8 % 60, 64, index as u8 % 4, 1, 4, 5]);
        seed.truncate(11 + index % 4);
        seed.extend(((at + 0x1_0000 * index as u64) << 17).to_le_bytes());
        seed.extend(text.iter().chain(&[0x90; 32]));
        seed
    };
    texts.enumerate().map(place).collect()
}
