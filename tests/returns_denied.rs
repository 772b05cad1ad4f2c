#[path = "returns_denied/frames.rs"]
mod frames;
#[path = "returns_denied/scan.rs"]
mod scan;
use std::path::Path;
use uprobe::elf::{ElfFile, StdFiles};

#[test]
fn print() {
    for name in ["libc.so.6","ld-linux-x86-64.so.2","libm.so.6","libpthread.so.0","libdl.so.2","libgcc_s.so.1","libstdc++.so.6","libc_malloc_debug.so.0","librt.so.1","libresolv.so.2","libmemusage.so","libpcprofile.so","libanl.so.1","libmvec.so.1","libnss_files.so.2","libBrokenLocale.so.1","libutil.so.1","libthread_db.so.1","libgomp.so.1","libasan.so.8"] {
        let path = Path::new("/lib/x86_64-linux-gnu").join(name).canonicalize(); let Ok(path)=path else {println!("no {name}"); continue};
        let file = ElfFile::open(&path, &StdFiles).unwrap();
        println!("=== {name} {}", file.functions(&StdFiles).len());
        for f in scan::scan(&file) { println!("{f}"); }
    }
}
