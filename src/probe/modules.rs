//! The objects loaded now, and reading their files without libc.

use std::cell::OnceCell;
use std::ffi::{CStr, CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use findshlibs::{Segment, SharedLibrary, TargetSharedLibrary};

use crate::addr::{LinkAddr, LoadBias, RuntimeAddr};
use crate::code::read_maps;
use crate::elf::{ElfFile, FileBytes, FileId, FileSource};
use crate::hit::memory::SafeMemory;
use crate::regs::Memory;
use crate::sys;

/// A loaded object.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Module {
    /// Its path as the loader knows it; the program's own is what /proc/self/exe points to, unless that is the loader.
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
    /// See [`Module::other_paths`].
    pub names: Names,
}

/// Other paths of a module, once somebody has asked for them. They say nothing new about which module it is.
#[derive(Clone, Debug, Default)]
pub struct Names(OnceCell<Vec<PathBuf>>);

impl PartialEq for Names {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Names {}

impl Module {
    /// Whether the object's memory contains `at`.
    #[must_use]
    pub fn contains(&self, at: RuntimeAddr) -> bool {
        (self.low..self.high).contains(&at.0)
    }

    /// What else leads to the file: the path without links (`libz.so.1.2.13`, where the loader opened
    /// `libz.so.1`), and of the program the one it was executed by (`python3`, which is `python3.11`).
    #[must_use]
    pub fn other_paths(&self) -> &[PathBuf] {
        self.names.0.get_or_init(|| {
            let found = if self.is_exe {
                executed_paths()
            } else {
                path_without_links(&self.path).into_iter().collect()
            };
            let leads_here = |path: &PathBuf| {
                *path != self.path
                    && id_of(path).is_some_and(|id| (id.dev, id.ino) == (self.id.dev, self.id.ino))
            };
            found.into_iter().filter(leads_here).collect()
        })
    }
}

/// The path that the kernel knows the file by.
fn path_without_links(path: &Path) -> Option<PathBuf> {
    let path = CString::new(path.as_os_str().as_bytes()).ok()?;
    let file = sys::Fd::open(&path, libc::O_PATH, 0).ok()?;
    let link = CString::new(format!("/proc/self/fd/{}", file.raw())).ok()?;
    let mut buffer = [0_u8; 4096];
    let bytes = sys::readlink(&link, &mut buffer).ok()?;
    Some(PathBuf::from(OsStr::from_bytes(bytes)))
}

/// The paths the program may have been executed by; its own, or an interpreter's, which only its first argument
/// names.
fn executed_paths() -> Vec<PathBuf> {
    let arguments = sys::read_whole(c"/proc/self/cmdline").unwrap_or_default();
    let first = arguments.split(|byte| *byte == 0).next().filter(|name| name.contains(&b'/'));
    let first = first.map(|name| PathBuf::from(OsStr::from_bytes(name)));
    first.into_iter().chain([executed_path()]).collect()
}

/// Files by raw system calls, mapped. A file that can't be opened by its name any more (replaced,
/// another root) is tried through the kernel's own link for the program.
pub struct MappedFiles;

impl FileSource for MappedFiles {
    fn open(&self, path: &Path) -> Option<FileBytes> {
        let path = CString::new(path.as_os_str().as_bytes()).ok()?;
        let mapping = sys::Mapping::open(&path).ok()?;
        let id = as_file_id(mapping.id);
        // SAFETY: a private mapping that was never written: it is read anew from the file.
        let release = |bytes: &[u8]| unsafe {
            let _ = sys::madvise(bytes.as_ptr() as usize, bytes.len(), libc::MADV_DONTNEED);
        };
        Some(FileBytes::new(mapping, id).with_release(release))
    }
}

/// The kernel's link to the program's file: right even after it was renamed or replaced.
const EXE_LINK: &CStr = c"/proc/self/exe";

/// Whether it was the dynamic linker that was executed, with the program's name among its arguments (`ld.so PROGRAM`):
/// the kernel's link leads to the linker then, and no interpreter's address is known.
fn is_run_by_linker() -> bool {
    // SAFETY: reads the auxiliary vector.
    unsafe { libc::getauxval(libc::AT_BASE) == 0 }
}

/// The file that is mapped where the program's headers are (the linker writes their address over its own).
fn mapped_program() -> Option<PathBuf> {
    // SAFETY: reads the auxiliary vector.
    let headers = unsafe { libc::getauxval(libc::AT_PHDR) };
    let maps = read_maps()?;
    let map = maps.into_iter().find(|map| (map.start..map.end).contains(&headers))?;
    map.name.starts_with('/').then(|| PathBuf::from(map.name))
}

/// Whether `path` leads to the program's file.
#[must_use]
pub fn is_program(path: &CStr) -> bool {
    id_of(Path::new(OsStr::from_bytes(path.to_bytes()))).is_some_and(|id| program_id() == Some(id))
}

fn program_id() -> Option<FileId> {
    let link = Path::new(OsStr::from_bytes(EXE_LINK.to_bytes()));
    let linked = if is_run_by_linker() { None } else { id_of(link) };
    linked.or_else(|| id_of(&exe_path()))
}

fn exe_path() -> PathBuf {
    if is_run_by_linker() {
        return mapped_program().unwrap_or_else(executed_path);
    }
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

fn as_file_id(id: sys::FileId) -> FileId {
    FileId { dev: id.dev, ino: id.ino, size: id.size, modified_ns: id.modified_ns }
}

fn id_of(path: &Path) -> Option<FileId> {
    let path = CString::new(path.as_os_str().as_bytes()).ok()?;
    sys::file_id(&path).ok().map(as_file_id)
}

/// The loaded objects that have a file, the program first. One of `known` that is still there is what it was,
/// whatever has happened to its file since: removed, replaced by another version.
#[must_use]
pub fn list_modules(known: &[Rc<Module>]) -> Vec<Rc<Module>> {
    let own = list_modules as *const () as u64;
    let mut modules = Vec::new();
    let mut index = 0;
    TargetSharedLibrary::each(|object| {
        let is_exe = index == 0;
        index += 1;
        let bias = LoadBias(object.virtual_memory_bias().0 as u64);
        let mut low = u64::MAX;
        let mut high = 0;
        for segment in object.segments().filter(Segment::is_load) {
            let start = bias.0.wrapping_add(segment.stated_virtual_memory_address().0 as u64);
            low = low.min(start);
            high = high.max(start + segment.len() as u64);
        }
        let name = Path::new(object.name());
        let is_known = |module: &&Rc<Module>| {
            (module.bias, module.low, module.high) == (bias, low, high)
                && (if is_exe { module.is_exe } else { module.path == name })
        };
        if let Some(module) = known.iter().find(is_known) {
            modules.push(Rc::clone(module));
            return;
        }
        let path = if is_exe { exe_path() } else { name.to_path_buf() };
        let id = if is_exe { program_id() } else { id_of(&path) };
        if let (Some(id), true) = (id, low < high) {
            let is_own = (low..high).contains(&own);
            modules.push(Rc::new(Module {
                path,
                id,
                bias,
                low,
                high,
                is_exe,
                is_own,
                names: Names::default(),
            }));
        }
    });
    let others = other_namespaces(&modules, known);
    modules.extend(others);
    modules
}

/// `struct link_map` (link.h), as far as it is public.
#[repr(C)]
struct LinkMap {
    bias: u64,
    name: *const libc::c_char,
    dynamic: usize,
    next: *const LinkMap,
}

/// `struct r_debug_extended` (link.h).
#[repr(C)]
pub struct RDebug {
    version: i32,
    map: *const LinkMap,
    /// The function that the linker calls before and after each change.
    pub breakpoint: u64,
    /// Which of the two it is.
    pub state: i32,
    loader: u64,
    /// From version 2 on.
    next: *const RDebug,
}

unsafe extern "C" {
    /// The linker's own, in ld.so. Not looked up by dlsym, which takes the lock that dlopen holds: a thread in
    /// dlopen may be waiting for the registry, or for the lock that [`with_objects_held`] has taken.
    static _r_debug: RDebug;
}

/// The linker's own struct. The linker writes it.
#[must_use]
pub fn linker() -> *const RDebug {
    &raw const _r_debug
}

/// Objects of dlmopen's namespaces, which dl_iterate_phdr shows only to callers inside them. Read while
/// the linker waits for us or with unmapping held back.
fn other_namespaces(listed: &[Rc<Module>], known: &[Rc<Module>]) -> Vec<Rc<Module>> {
    let mut found = Vec::new();
    // SAFETY: the linker's own list, which only grows; `next` is there from this version on.
    let mut namespace = unsafe { if (*linker()).version >= 2 { (*linker()).next } else { return found } };
    // SAFETY: as above.
    while let Some(debug) = unsafe { namespace.as_ref() } {
        // SAFETY: objects of the namespace, not unmapped meanwhile.
        for (name, bias) in unsafe { objects_of(debug) } {
            if !listed.iter().any(|module| module.bias.0 == bias) {
                found.extend(known_or_new(Path::new(OsStr::from_bytes(&name)), bias, known));
            }
        }
        namespace = debug.next;
    }
    found
}

/// Name and bias of each object of a namespace; the program's own name is empty.
///
/// # Safety
/// No object is unmapped meanwhile.
unsafe fn objects_of(debug: &RDebug) -> Vec<(Vec<u8>, u64)> {
    let mut found = Vec::new();
    let mut map = debug.map;
    // SAFETY: the caller's promise.
    while let Some(object) = unsafe { map.as_ref() } {
        map = object.next;
        if !object.name.is_null() {
            // SAFETY: a terminated string of the linker's.
            let name = unsafe { CStr::from_ptr(object.name) }.to_bytes();
            found.push((name.to_vec(), object.bias));
        }
    }
    found
}

/// The same as [`list_modules`] where no other thread can change anything, and without libc's lock; `known` are
/// those of before.
#[must_use]
pub(super) fn list_modules_alone(known: &[Rc<Module>]) -> Vec<Rc<Module>> {
    // SAFETY: the linker's own struct; only this thread could unmap an object.
    let objects = unsafe { objects_of(&*linker()) };
    let mut modules: Vec<Rc<Module>> = objects
        .iter()
        .filter_map(|(name, bias)| known_or_new(Path::new(OsStr::from_bytes(name)), *bias, known))
        .collect();
    let others = other_namespaces(&modules, known);
    modules.extend(others);
    modules
}

/// An object of the linker's list; the program's name is empty there.
fn known_or_new(path: &Path, bias: u64, known: &[Rc<Module>]) -> Option<Rc<Module>> {
    let is_known = |module: &&Rc<Module>| {
        module.bias.0 == bias && (module.path == path || module.is_exe && path.as_os_str().is_empty())
    };
    known.iter().find(is_known).cloned().or_else(|| module_of(path, bias).map(Rc::new))
}

/// Whether the file that a module's path leads to is the one that was mapped: the program headers and the notes
/// (a build id is one) are the same in memory.
pub(super) fn is_file_of(module: &Module, file: &ElfFile) -> bool {
    /// Headers before the text, which may be in the same page.
    const HEADER_SIZE: usize = 64;
    let first = file.load_segments().iter().min_by_key(|segment| segment.link.0).map(|segment| segment.link);
    let Some(first) = first else { return false };
    let header = file.bytes_at(first, HEADER_SIZE);
    let Some(table) = header.get(32..40).and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes)
    else {
        return false;
    };
    let count = header.get(56..58).map_or(0, |bytes| usize::from(u16::from_le_bytes([bytes[0], bytes[1]])));
    let is_same = |at: LinkAddr, len: usize| {
        let wanted = file.bytes_at(at, len);
        let mut found = vec![0; wanted.len()];
        SafeMemory.read(at.at(module.bias).0, &mut found) == found.len() && found == wanted
    };
    const PROGRAM_HEADER_SIZE: usize = 56;
    const PT_NOTE: u32 = 4;
    let headers = file.bytes_at(first.add(table), count * PROGRAM_HEADER_SIZE);
    let notes = headers.chunks_exact(PROGRAM_HEADER_SIZE).filter_map(|header| {
        let word = |at: usize| header[at..at + 8].try_into().ok().map(u64::from_le_bytes);
        let is_note = header[..4] == PT_NOTE.to_le_bytes();
        is_note.then(|| Some((LinkAddr(word(16)?), word(32)? as usize)))?
    });
    is_same(first, HEADER_SIZE)
        && is_same(first.add(table), count * PROGRAM_HEADER_SIZE)
        && notes.into_iter().all(|(at, len)| is_same(at, len))
}

/// A module known by its path and bias alone: its extent is in its file.
fn module_of(path: &Path, bias: u64) -> Option<Module> {
    let bytes = MappedFiles.open(path)?;
    let id = bytes.id();
    let file = ElfFile::parse(path, bytes).ok()?;
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
        names: Names::default(),
    })
}

/// Runs `work` while no object can be unmapped: inside dl_iterate_phdr, which holds the lock that
/// dlclose takes (it is recursive, so `work` may list objects). `None` where it panicked.
pub(super) fn with_objects_held<R>(work: impl FnOnce() -> R) -> Option<R> {
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
