//! Starting the engine, once: for a config before anything of the program runs, or at the first
//! call of the C API.

use std::ffi::{CStr, CString};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering::*};

use once_cell::sync::OnceCell;

use crate::config::{
    self, Action, Loaded, OutputConfig, OutputFormat, ProbeSpec, SummaryConfig, SummaryFormat,
};
use crate::elf::{ElfFile, FileBytes, FileId, NoFiles};
use crate::hit::{
    actions, asm, barrier, clock, consumer, gates as hit_gates, output, pending, process, restrict, ring,
    shadow, thread,
};
use crate::probe::{Asked, Registry, lock};
use crate::runtime::files::{self, Naming};
use crate::runtime::messages::{Level, say};
use crate::runtime::starters::Starter;
use crate::runtime::{gates, plugins, prepare, refusals, report, timebase, trace_file, watch};
use crate::sys::{self, FixedHashMap, reserve};
use crate::trace::file::DEFAULT_SIZE;

/// EX_CONFIG of sysexits.h: a config that can't be used, under UPROBE_STRICT.
pub const EXIT_CONFIG: i32 = 78;
/// UPROBES may hold the config itself, after this prefix.
const INLINE: &str = "toml:";

/// What the config says about files.
#[derive(Debug)]
pub struct Settings {
    /// `[output]`.
    pub output: OutputConfig,
    /// `[summary]`.
    pub summary: SummaryConfig,
    /// `follow`.
    pub follow: bool,
    /// How file names are made.
    pub naming: Naming,
    /// `UPROBES=` and the absolute path, where the variable holds a relative one.
    pub config_path: Option<CString>,
}

/// Set when there is a config.
pub static SETTINGS: OnceCell<Settings> = OnceCell::new();
static BASE: OnceCell<()> = OnceCell::new();
static FOUND: OnceCell<gates::Gates> = OnceCell::new();
static GATED: OnceCell<()> = OnceCell::new();

/// Thread that is starting the engine, or [`FORKING`]; 0: nobody. The cells above are only filled under it:
/// a fork in the middle of that would leave the child one that is being filled for ever.
static STARTER: AtomicU32 = AtomicU32::new(0);
/// In [`STARTER`]: a fork is under way.
const FORKING: u32 = u32::MAX;
/// How long a fork waits for a start, in rounds of about a millisecond.
const PATIENCE: u32 = 2000;

/// Takes [`STARTER`] for `owner`.
fn begin_start(owner: u32, mut rounds: u32) -> Result<(), i32> {
    while let Err(other) = STARTER.compare_exchange(0, owner, Acquire, Relaxed) {
        let is_cut_off = other != FORKING && !sys::thread_exists(sys::getpid(), other as i32);
        if other == owner || rounds == 0 || is_cut_off {
            return Err(-libc::ENOSYS);
        }
        rounds -= 1;
        sys::futex_wait(&STARTER, other);
    }
    Ok(())
}

fn end_start() {
    STARTER.store(0, Release);
    sys::futex_wake(&STARTER);
}

/// Runs `work` as the one thread that starts the engine.
fn starting(work: impl FnOnce() -> Result<(), i32>) -> Result<(), i32> {
    // In the order of `probe::lock`.
    let work = || {
        begin_start(sys::gettid() as u32, u32::MAX)?;
        let result = work();
        end_start();
        result
    };
    let done = match BASE.get() {
        Some(()) => lock::holding_objects(work),
        None => {
            let _starter = Starter::enter().ok_or(-libc::ENOSYS)?;
            lock::holding_objects_first(work)
        }
    };
    done.unwrap_or(Err(-libc::EFAULT))
}

/// Signals, clock, registry: what has to be there before anything can be read or probed.
///
/// # Errors
/// -ENOSYS in a child that was forked while another thread was at this.
pub fn base() -> Result<(), i32> {
    if BASE.get().is_some() {
        return Ok(());
    }
    starting(|| {
        start_base();
        Ok(())
    })
}

fn start_base() {
    BASE.get_or_init(|| {
        // SAFETY: functions that only take and release our locks.
        unsafe {
            libc::pthread_atfork(Some(before_fork), Some(after_fork), Some(after_fork));
        }
        process::start(on_fork_child);
        lock::note_objects_held();
        barrier::start();
        let _section = thread::LibrarySection::enter();
        asm::start();
        output::note_stderr();
        // SAFETY: libc's errno of this thread.
        clock::start(vdso_clock(), unsafe { libc::__errno_location() } as usize);
        timebase::start();
        process::page().start_ns.store(clock::now_ns(), Relaxed);
        hit_gates::start(report::finish, before_exec);
        restrict::start(prepare::before_loss);
        actions::start(|_signal| report::finish());
        note_main_stack();
        lock::start(Registry::new());
    });
}

/// Starts the engine where it does not run yet.
///
/// # Errors
/// As [`base`]; -EAGAIN where another thread keeps SIGTRAP blocked: any breakpoint it met would kill the process.
/// Only possible when the first call comes after such a thread was started.
pub fn engine() -> Result<(), i32> {
    if GATED.get().is_some() {
        return Ok(());
    }
    starting(start_engine)
}

fn start_engine() -> Result<(), i32> {
    start_base();
    let gated = GATED.get_or_try_init(|| {
        let _section = thread::LibrarySection::enter();
        let unusable = |_| -libc::ENOSYS;
        let found = FOUND.get_or_try_init(|| lock::with(gates::find).map_err(unusable))?;
        arm_blocking(found)?;
        lock::with(|registry| {
            gates::arm_others(registry, found);
            watch::install(registry);
        })
        .map_err(unusable)
    });
    gated.copied()
}

/// Addresses of the breakpoints at which the process ends.
#[must_use]
pub fn ends() -> &'static [u64] {
    FOUND.get().map_or(&[], |found| &found.ends)
}

/// Arms the sites that only block, when no other thread has SIGTRAP blocked by the program, and returns when none has it
/// blocked at all.
///
/// libc blocks all signals for moments (in pthread_create, at a thread's beginning and end), and a thread that is in one
/// when the first breakpoints are written gets out of it without meeting them. Not so one for which the program has
/// blocked them: it meets them in its next pthread_create, or at its end, and dies. So there must be none before, and
/// where one shows up afterwards that was quicker than we were, they are taken out again.
fn arm_blocking(found: &gates::Gates) -> Result<(), i32> {
    /// Looks, a millisecond apart, until libc's moments must be over.
    const MOMENT: u32 = 20;
    /// Looks altogether, about.
    const LONGEST: u32 = 1000;
    let unusable = |_| -libc::ENOSYS;
    let mut threads = Threads::default();
    let mut looks = 0;
    while looks < LONGEST {
        looks += 1;
        threads.look();
        // Of threads that come and go so fast that they are met in libc's moments only there is nothing else to know.
        if threads.are_deaf(looks > LONGEST / 2) {
            sys::sleep_ms(1);
            continue;
        }
        lock::with(|registry| gates::arm_blocking(registry, found)).map_err(unusable)?;
        for _ in 0..MOMENT {
            threads.look();
            if threads.masks.iter().all(|(_, mask)| !is_blocked(*mask)) {
                return Ok(());
            }
            sys::sleep_ms(1);
        }
        lock::with(|registry| gates::disarm_blocking(registry, found)).map_err(unusable)?;
        looks += MOMENT;
    }
    Err(-libc::EAGAIN)
}

/// What the other threads block.
#[derive(Default)]
struct Threads {
    /// At the last look.
    masks: Vec<(i32, u64)>,
    /// Whether it was the program that had blocked SIGTRAP, as of the last look outside of libc's moments.
    known: FixedHashMap<i32, bool>,
}

impl Threads {
    fn look(&mut self) {
        let me = sys::gettid();
        let others = sys::thread_ids().into_iter().filter(|tid| *tid != me);
        self.masks = others.filter_map(|tid| Some((tid, sys::blocked_signals(tid)?))).collect();
        for (tid, mask) in &self.masks {
            if !is_of_libc(*mask) {
                self.known.insert(*tid, is_blocked(*mask));
            }
        }
    }

    /// Whether the program has blocked SIGTRAP for one of them, or, unless `unknown_are_not`, may have.
    fn are_deaf(&self, unknown_are_not: bool) -> bool {
        self.masks.iter().any(|(tid, _)| self.known.get(tid).copied().unwrap_or(!unknown_are_not))
    }
}

fn is_blocked(mask: u64) -> bool {
    mask & sys::sigbit(libc::SIGTRAP) != 0
}

/// Whether it is what libc blocks in one of its moments. Then the signal that cancels a thread is among it, which libc
/// leaves out of all masks that it sets for the program.
fn is_of_libc(mask: u64) -> bool {
    const SIGCANCEL: i32 = 32;
    is_blocked(mask) && mask & sys::sigbit(SIGCANCEL) != 0
}

unsafe extern "C" fn before_fork() {
    thread::begin_fork();
    lock::before_fork();
    let _ = begin_start(FORKING, PATIENCE);
    lock::before_fork_change();
}

unsafe extern "C" fn after_fork() {
    lock::after_fork();
    if STARTER.load(Relaxed) == FORKING {
        end_start();
    }
    thread::end_fork();
}

/// A child with memory of its own: its counts, its clock, its files are its own.
fn on_fork_child() {
    shadow::after_fork_drop();
    thread::after_fork();
    actions::after_fork();
    pending::after_fork();
    consumer::reset_all();
    shadow::after_fork_count();
    files::forget_report();
    process::page().start_ns.store(clock::now_ns(), Relaxed);
    if let Some(settings) = SETTINGS.get() {
        if settings.output.path.as_deref().is_some_and(|path| path.contains("%p")) {
            if settings.output.format == OutputFormat::Trace {
                ring::forget(open_trace);
            } else {
                output::forget();
            }
        } else {
            process::page().log_begun.store(1, Relaxed);
        }
        if !settings.follow {
            process::page().finished.store(process::SILENT, Relaxed);
        }
    }
}

/// Before execve: this program's report, and an environment without us where children are not
/// followed.
fn before_exec(envp: u64) -> u64 {
    let Some(settings) = SETTINGS.get() else { return envp };
    if !process::is_borrowed() {
        if !settings.follow || report::has_hits() {
            report::finish();
        } else {
            files::take_back_report();
        }
    }
    match (&settings.config_path, settings.follow) {
        (_, false) => replace_uprobes(envp, None),
        (Some(path), true) => replace_uprobes(envp, Some(path)),
        (None, true) => envp,
    }
}

/// A copy of the pointers in `envp` with another UPROBES=, or none: where children are not followed,
/// and where the config was named relative to a directory that the program may have left. The copy is
/// never freed: the program is replaced.
fn replace_uprobes(envp: u64, by: Option<&CString>) -> u64 {
    let mut kept: Vec<*const libc::c_char> = Vec::new();
    let mut entry = envp as *const *const libc::c_char;
    if entry.is_null() {
        return envp;
    }
    loop {
        // SAFETY: execve's own argument: pointers up to a null one.
        let text = unsafe { *entry };
        if text.is_null() {
            break;
        }
        // SAFETY: terminated strings, as execve demands.
        let ours = unsafe { std::ffi::CStr::from_ptr(text) }.to_bytes().starts_with(b"UPROBES=");
        match (ours, by) {
            (false, _) => kept.push(text),
            (true, Some(by)) => kept.push(by.as_ptr()),
            (true, None) => {}
        }
        // SAFETY: not beyond the null.
        entry = unsafe { entry.add(1) };
    }
    kept.push(std::ptr::null());
    Box::leak(kept.into_boxed_slice()).as_ptr() as u64
}

/// The main thread's stack: from where the kernel put the program's name, down as far as it may grow.
fn note_main_stack() {
    /// What "unlimited" means here: the kernel maps other things below at some distance.
    const MOST: u64 = 1 << 36;
    // SAFETY: reads the auxiliary vector.
    let inside = unsafe { libc::getauxval(libc::AT_EXECFN) };
    let maps = crate::code::read_maps().unwrap_or_default();
    let Some(map) = crate::code::mapping_at(&maps, inside).filter(|_| inside != 0) else { return };
    let below = maps.iter().filter(|other| other.end <= map.start).map(|other| other.end).max();
    let low = map.end.saturating_sub(sys::stack_limit().min(MOST)).max(below.unwrap_or(1)).min(map.start);
    shadow::note_main_stack(low, map.end);
}

/// The vDSO's clock_gettime: code the kernel maps, called without libc. 0 where there is none.
fn vdso_clock() -> usize {
    // SAFETY: reads the auxiliary vector.
    let base = unsafe { libc::getauxval(libc::AT_SYSINFO_EHDR) };
    let maps = crate::code::read_maps().unwrap_or_default();
    let Some(map) = crate::code::mapping_at(&maps, base).filter(|_| base != 0) else { return 0 };
    // SAFETY: the kernel's mapping, readable, never unmapped.
    let bytes = unsafe { std::slice::from_raw_parts(base as *const u8, (map.end - map.start) as usize) };
    let Ok(file) =
        ElfFile::parse(&PathBuf::from("[vdso]"), FileBytes::new(bytes.to_vec(), FileId::default()))
    else {
        return 0;
    };
    let found = file
        .functions(&NoFiles)
        .iter()
        .find(|function| file.names(function).any(|name| name == "__vdso_clock_gettime"))
        .map(|function| function.link.0);
    let first = file.load_segments().first().map_or(0, |segment| segment.link.0);
    found.map_or(0, |link| (base + link - first) as usize)
}

/// What the initialiser gets from the environment.
#[derive(Default, Debug)]
pub struct Environment {
    /// UPROBES.
    pub config: String,
    /// UPROBE_LOG.
    pub level: String,
    /// UPROBE_STRICT.
    pub strictness: Strictness,
}

/// What a wrong config or a probe that can't be armed means.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Strictness {
    /// It is reported, and the program runs.
    #[default]
    Lenient,
    /// The process ends.
    Strict,
    /// Another program was meant, which executed this one: a function this one lacks is no mistake.
    Inherited,
}

/// The main job: reads the config, arms what can be, reports what can't.
pub fn initialise(environment: &Environment) {
    if environment.config.is_empty() {
        return;
    }
    let strict = environment.strictness == Strictness::Strict;
    output::note_stderr();
    super::messages::set_level(&environment.level);
    // First of all: its memory functions, which we would use, are not ready yet.
    if let Some(sanitizer) = own_signals() {
        say(
            Level::Error,
            &format!(
                "nothing is probed: the program is compiled with {sanitizer}, which blocks SIGTRAP by system \
                 calls of its own, and would be killed at the next breakpoint"
            ),
        );
        stop_if(strict);
        return;
    }
    let loaded = match read_config(&environment.config) {
        Ok(loaded) => loaded,
        Err(message) => {
            say(Level::Error, &message);
            stop_if(strict);
            return;
        }
    };
    for diagnostic in &loaded.diagnostics {
        let level = match diagnostic.severity {
            config::Severity::Error => Level::Error,
            config::Severity::Warning => Level::Warn,
        };
        say(level, &diagnostic.to_string());
    }
    stop_if(strict && loaded.has_errors());
    if let Err(errno) = engine() {
        let error = std::io::Error::from_raw_os_error(-errno);
        say(Level::Error, &format!("the engine did not start: {error}"));
        stop_if(strict);
        return;
    }
    let config = loaded.config;
    let naming = naming();
    let settings = Settings {
        output: config.output,
        summary: config.summary,
        follow: config.follow,
        config_path: absolute(&environment.config, &naming),
        naming,
    };
    open_output(&settings, strict);
    // A descriptor in the program's table is there only where something will be written.
    if settings.summary.path.is_none() && settings.summary.format != SummaryFormat::None {
        output::keep_stderr();
    }
    let _ = SETTINGS.set(settings);
    if config.probes.iter().any(|probe| probe.actions.contains(&Action::Log)) {
        let is_open = output::prepare();
        stop_if(strict && !is_open && output::is_trace());
    }
    let refused = install(config.probes, environment.strictness);
    stop_if(strict && refused);
}

/// What is compiled into the program that makes the system calls of threads and signals itself, around those we
/// stand before. (AddressSanitizer does not.)
fn own_signals() -> Option<&'static str> {
    let known = [(c"__tsan_init", "ThreadSanitizer"), (c"__msan_init", "MemorySanitizer")];
    // SAFETY: lookups by name, at start.
    let is_there = |name: &CStr| unsafe { !libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()).is_null() };
    let found = known.into_iter().find(|(name, _)| is_there(name)).map(|(_, sanitizer)| sanitizer);
    // The program's first dlerror() must not be told that they are missing.
    // SAFETY: takes nothing.
    unsafe { libc::dlerror() };
    found
}

fn stop_if(strict: bool) {
    if strict {
        sys::exit_group(EXIT_CONFIG);
    }
}

fn read_config(text: &str) -> Result<Loaded, String> {
    if let Some(inline) = text.strip_prefix(INLINE) {
        return Ok(config::parse(inline, "UPROBES"));
    }
    let path = CString::new(text).map_err(|_| "UPROBES holds a NUL".to_owned())?;
    let bytes = sys::read_whole(&path).map_err(|errno| {
        format!("{text}: error: the config can't be read: {}", std::io::Error::from_raw_os_error(errno))
    })?;
    Ok(config::parse_bytes(&bytes, text))
}

fn absolute(config: &str, naming: &Naming) -> Option<CString> {
    let relative = !config.starts_with('/') && !config.starts_with(INLINE);
    relative
        .then(|| CString::new(format!("UPROBES={}", naming.directory.join(config).display())).ok())
        .flatten()
}

fn naming() -> Naming {
    // The name it was executed by, as in core(5): /usr/bin/redis-server is a link to another name.
    // SAFETY: reads the auxiliary vector.
    let executed = unsafe { libc::getauxval(libc::AT_EXECFN) } as *const libc::c_char;
    // SAFETY: null, or a terminated string the kernel put on the stack.
    let program = (!executed.is_null()).then(|| unsafe { std::ffi::CStr::from_ptr(executed) });
    let program = program.and_then(|path| {
        Some(PathBuf::from(path.to_string_lossy().into_owned()).file_name()?.to_string_lossy().into_owned())
    });
    let directory = sys::working_directory().unwrap_or_default();
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec.
    let _ = unsafe {
        sys::syscall3(libc::SYS_clock_gettime, libc::CLOCK_REALTIME as usize, &raw mut now as usize, 0)
    };
    Naming { program: program.unwrap_or_default(), start_unix_secs: now.tv_sec as u64, directory }
}

/// Opens the binary trace of this process; what is wrong with it was said at start, or is a fork child's.
fn open_trace() -> Option<ring::Mapped> {
    let settings = SETTINGS.get()?;
    let path = settings.output.path.as_ref()?;
    let size = settings.output.size.unwrap_or(DEFAULT_SIZE);
    trace_file::open(&settings.naming, path, size)
        .inspect_err(|why| say(Level::Error, &format!("[output] path '{path}': no trace: {why}")))
        .ok()
}

fn open_output(settings: &Settings, strict: bool) {
    if settings.output.format == OutputFormat::Trace {
        return output::start_trace(open_trace);
    }
    output::start(settings.output.format == OutputFormat::Json, || {
        let settings = SETTINGS.get()?;
        match &settings.output.path {
            None => files::stderr_log(),
            Some(path) => files::open_log(&settings.naming, path).ok(),
        }
    });
    let Some(path) = &settings.output.path else { return };
    match files::open_log(&settings.naming, path) {
        Ok(fd) => drop(sys::Fd::from_raw(fd)),
        Err(errno) => {
            let error = std::io::Error::from_raw_os_error(errno);
            say(Level::Error, &format!("[output] path '{path}' can't be opened: {error}"));
            stop_if(strict);
        }
    }
}

/// Registers the config's probes; reports what can't be armed. Whether any was refused.
fn install(probes: Vec<ProbeSpec>, strictness: Strictness) -> bool {
    let mut refused = false;
    let mut requests = Vec::new();
    for spec in probes {
        let mut loaded = Vec::new();
        for action in &spec.actions {
            let Action::Call { plugin, function } = action else { continue };
            match plugins::load(plugin, function) {
                Ok(handler) => loaded.push(handler),
                Err(refusal) => {
                    let message = spec.origin.diagnostic(config::Severity::Error, refusal.to_string(), None);
                    say(Level::Error, &message.to_string());
                    refused = true;
                }
            }
        }
        requests.push(Asked::spec(spec, loaded));
    }
    let before = sys::memory_usage();
    let reported = lock::with(|registry| {
        registry.register(requests);
        registry.release_files();
        reserve::provide(prepare::memory_for_report(registry));
        refusals::report(registry, strictness, before)
    });
    match reported {
        Ok(any) => refused | any,
        Err(busy) => {
            say(Level::Error, &format!("no probe is armed: {busy:?}"));
            true
        }
    }
}
