//! The objects loaded now, and reading their files without libc.

use std::ffi::{CStr, CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use findshlibs::{Segment, SharedLibrary, TargetSharedLibrary};

use crate::addr::{LoadBias, RuntimeAddr};
use crate::elf::{FileBytes, FileId, FileSource};
use crate::sys;

/// A loaded object.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Module {
    /// Its path as the loader knows it; the program's own is what /proc/self/exe points to.
    pub path: PathBuf,
    /// Its file; two paths with one id are one object.
    pub id: FileId,
    /// What was added to its link addresses.
    pub bias: LoadBias,
    /// First byte.
    pub low: u64,
    /// First byte behind.
    pub high: u64,
    /// The program itself.
    pub is_exe: bool,
    /// libuprobe itself.
    pub is_own: bool,
}

impl Module {
    /// Whether the object's memory contains `at`.
    #[must_use]
    pub fn contains(&self, at: RuntimeAddr) -> bool {
        (self.low..self.high).contains(&at.0)
    }
}

/// Files by raw system calls, mapped. A file that can't be opened by its name any more (replaced,
/// another root) is tried through the kernel's own link for the program.
pub struct MappedFiles;

impl FileSource for MappedFiles {
    fn open(&self, path: &Path) -> Option<FileBytes> {
        let path = CString::new(path.as_os_str().as_bytes()).ok()?;
        let mapping = sys::Mapping::open(&path).ok()?;
        let id = FileId { dev: mapping.id.dev, ino: mapping.id.ino };
        // SAFETY: a private mapping that was never written: it is read anew from the file.
        let release = |bytes: &[u8]| unsafe {
            let _ = sys::madvise(bytes.as_ptr() as usize, bytes.len(), libc::MADV_DONTNEED);
        };
        Some(FileBytes::new(mapping, id).with_release(release))
    }
}

/// The kernel's link to the program's file: right even after it was renamed or replaced.
const EXE_LINK: &CStr = c"/proc/self/exe";

fn exe_path() -> PathBuf {
    let mut buffer = [0_u8; 4096];
    sys::readlink(EXE_LINK, &mut buffer)
        .map_or_else(|_| executed_path(), |bytes| PathBuf::from(OsStr::from_bytes(bytes)))
}

/// The name the program was executed by: where there is no /proc the best there is.
fn executed_path() -> PathBuf {
    // SAFETY: reads the auxiliary vector.
    let name = unsafe { libc::getauxval(libc::AT_EXECFN) } as *const libc::c_char;
    if name.is_null() {
        return PathBuf::new();
    }
    // SAFETY: a terminated string the kernel put on the stack.
    PathBuf::from(OsStr::from_bytes(unsafe { CStr::from_ptr(name) }.to_bytes()))
}

fn id_of(path: &Path) -> Option<FileId> {
    let path = CString::new(path.as_os_str().as_bytes()).ok()?;
    let id = sys::file_id(&path).ok()?;
    Some(FileId { dev: id.dev, ino: id.ino })
}

/// The loaded objects that have a file, the program first. One of those `before` is what it was where nobody can
/// ask any more: in another root, or without /proc, the names lead nowhere.
#[must_use]
pub fn list_modules(before: &[Rc<Module>]) -> Vec<Rc<Module>> {
    let own = list_modules as *const () as u64;
    let mut modules = Vec::new();
    let mut index = 0;
    TargetSharedLibrary::each(|object| {
        let is_exe = index == 0;
        index += 1;
        let bias = object.virtual_memory_bias().0 as u64;
        let mut low = u64::MAX;
        let mut high = 0;
        for segment in object.segments().filter(Segment::is_load) {
            let start = bias.wrapping_add(segment.stated_virtual_memory_address().0 as u64);
            low = low.min(start);
            high = high.max(start + segment.len() as u64);
        }
        let path = if is_exe { exe_path() } else { PathBuf::from(object.name()) };
        let link = if is_exe { id_of(Path::new("/proc/self/exe")) } else { None };
        let of_before = || {
            before.iter().find(|known| {
                (known.bias, known.low, known.high) == (LoadBias(bias), low, high)
                    && (is_exe || known.path == path)
            })
        };
        // What the program's name leads to may be another file by now.
        let known = if is_exe && link.is_none() { of_before() } else { None };
        match known.map(|known| known.id).or(link).or_else(|| id_of(&path)) {
            _ if low >= high => {}
            Some(id) => {
                let path = known.map_or(path, |known| known.path.clone());
                let is_own = (low..high).contains(&own);
                modules.push(Module { path, id, bias: LoadBias(bias), low, high, is_exe, is_own });
            }
            None => modules.extend(of_before().map(|known| Module::clone(known))),
        }
    });
    modules.extend(other_namespaces(&modules, before));
    modules.into_iter().map(Rc::new).collect()
}

/// `struct link_map` (link.h), as far as it is public.
#[repr(C)]
struct LinkMap {
    bias: u64,
    name: *const libc::c_char,
    dynamic: usize,
    next: *const LinkMap,
}

/// `struct r_debug_extended` (link.h); `next` is there from version 2 on.
#[repr(C)]
struct RDebug {
    version: i32,
    map: *const LinkMap,
    breakpoint: u64,
    state: i32,
    loader: u64,
    next: *const RDebug,
}

unsafe extern "C" {
    /// The linker's own, in ld.so. Not looked up by dlsym, which takes the lock that dlopen holds: a thread in
    /// dlopen may be waiting for the registry, or for the lock that [`with_objects_held`] has taken.
    static _r_debug: RDebug;
}

/// Objects of dlmopen's namespaces, which dl_iterate_phdr shows only to callers inside them. Read while
/// the linker waits for us or with unmapping held back.
fn other_namespaces(known: &[Module], before: &[Rc<Module>]) -> Vec<Module> {
    let mut found = Vec::new();
    let first = &raw const _r_debug;
    // SAFETY: the linker's own list, which only grows; `next` is there from this version on.
    let mut namespace = unsafe { if (*first).version >= 2 { (*first).next } else { return found } };
    // SAFETY: as above.
    while let Some(debug) = unsafe { namespace.as_ref() } {
        let mut map = debug.map;
        // SAFETY: objects of the namespace, not unmapped meanwhile.
        while let Some(object) = unsafe { map.as_ref() } {
            map = object.next;
            if object.name.is_null() || known.iter().any(|module| module.bias.0 == object.bias) {
                continue;
            }
            // SAFETY: a terminated string of the linker's.
            let name = unsafe { CStr::from_ptr(object.name) }.to_bytes();
            let path = Path::new(OsStr::from_bytes(name));
            let known = || {
                before
                    .iter()
                    .find(|known| known.bias.0 == object.bias && known.path == path)
                    .map(|known| Module::clone(known))
            };
            found.extend(module_of(path, object.bias).or_else(known));
        }
        namespace = debug.next;
    }
    found
}

/// A module known by its path and bias alone: its extent is in its file.
fn module_of(path: &Path, bias: u64) -> Option<Module> {
    let bytes = MappedFiles.open(path)?;
    let id = bytes.id();
    let file = crate::elf::ElfFile::parse(path, bytes).ok()?;
    let segments = file.load_segments();
    let low = segments.iter().map(|segment| segment.link.0).min()?;
    let high = segments.iter().map(|segment| segment.link.0 + segment.mem_size).max()?;
    Some(Module {
        path: path.to_owned(),
        id,
        bias: LoadBias(bias),
        low: bias.wrapping_add(low),
        high: bias.wrapping_add(high),
        is_exe: false,
        is_own: false,
    })
}

/// Runs `work` while no object can be unmapped: inside dl_iterate_phdr, which holds the lock that
/// dlclose takes (it is recursive, so `work` may list objects).
pub fn with_objects_held<R>(work: impl FnOnce() -> R) -> Option<R> {
    struct State<F, R> {
        work: Option<F>,
        result: Option<R>,
    }
    unsafe extern "C" fn call<F: FnOnce() -> R, R>(
        _: *mut libc::dl_phdr_info,
        _: usize,
        state: *mut libc::c_void,
    ) -> libc::c_int {
        // SAFETY: the pointer passed below.
        let state = unsafe { &mut *state.cast::<State<F, R>>() };
        if let Some(work) = state.work.take() {
            state.result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).ok();
        }
        1
    }
    fn run<F: FnOnce() -> R, R>(state: &mut State<F, R>) {
        // SAFETY: `call` gets the state it expects, once.
        unsafe { libc::dl_iterate_phdr(Some(call::<F, R>), std::ptr::from_mut(state).cast()) };
    }
    let mut state = State { work: Some(work), result: None };
    run(&mut state);
    state.result
}
