//! The raw OS calls of the command: who we are, what a file may do, and one child.

use std::ffi::{CStr, CString};
use std::io;
use std::sync::atomic::{AtomicI32, Ordering};

/// How the program ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// With this exit status.
    Exited(u8),
    /// Killed by this signal.
    Signaled(i32),
    /// `execve` failed with this errno; nothing was run.
    NotStarted(i32),
}

/// Signals the terminal sends to the whole group: the program decides, we wait.
const IGNORED: [i32; 2] = [libc::SIGINT, libc::SIGQUIT];
/// Signals somebody sends to us alone and means for the program.
const FORWARDED: [i32; 4] = [libc::SIGTERM, libc::SIGHUP, libc::SIGUSR1, libc::SIGUSR2];

/// The program's pid while it runs, for the forwarding handler.
static CHILD: AtomicI32 = AtomicI32::new(0);

/// Our real user and group id.
pub fn real_ids() -> (u32, u32) {
    // SAFETY: getuid takes nothing and can't fail.
    let uid = unsafe { libc::getuid() };
    // SAFETY: getgid takes nothing and can't fail.
    let gid = unsafe { libc::getgid() };
    (uid, gid)
}

/// Whether we may execute the file.
pub fn can_execute(path: &CStr) -> bool {
    // SAFETY: `path` is a C string.
    unsafe { libc::access(path.as_ptr(), libc::X_OK) == 0 }
}

/// Whether the file grants capabilities to whoever runs it.
pub fn has_capabilities(path: &CStr) -> bool {
    let name = c"security.capability";
    // SAFETY: two C strings; a size of 0 asks for the length and writes nothing.
    unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), std::ptr::null_mut(), 0) > 0 }
}

/// The release of the running kernel.
pub fn kernel_release() -> String {
    // SAFETY: all-zero is a valid utsname.
    let mut name: libc::utsname = unsafe { std::mem::zeroed() };
    // SAFETY: `name` is ours.
    unsafe { libc::uname(&raw mut name) };
    let bytes: Vec<u8> = name.release.iter().map(|c| *c as u8).take_while(|byte| *byte != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The version of the C library in this process.
pub fn glibc_version() -> String {
    // SAFETY: takes nothing; the string is static.
    unsafe { CStr::from_ptr(libc::gnu_get_libc_version()) }.to_string_lossy().into_owned()
}

/// Whether the file lies where nothing may be executed from.
pub fn is_noexec(path: &std::path::Path) -> bool {
    use std::os::unix::ffi::OsStrExt;
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else { return false };
    // SAFETY: all-zero is a valid statvfs.
    let mut found: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: a C string, and a statvfs of ours.
    let status = unsafe { libc::statvfs(path.as_ptr(), &raw mut found) };
    status == 0 && found.f_flag & libc::ST_NOEXEC != 0
}

/// Whether a page of executable memory can be had that is no file's.
///
/// # Errors
/// Why not.
pub fn can_map_code() -> io::Result<()> {
    const LEN: usize = 4096;
    let access = libc::PROT_READ | libc::PROT_EXEC;
    // SAFETY: no fixed address: no existing mapping changes.
    let page = unsafe {
        libc::mmap(std::ptr::null_mut(), LEN, access, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)
    };
    if page == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the page of above.
    unsafe { libc::munmap(page, LEN) };
    Ok(())
}

/// getppid(2), by the libc function.
pub fn call_getppid() {
    // SAFETY: takes nothing and can't fail.
    std::hint::black_box(unsafe { libc::getppid() });
}

/// Ends a child of ours for good.
pub fn kill(pid: u32) {
    // SAFETY: a child that was not waited for: the number is its own.
    unsafe { libc::kill(pid as libc::pid_t, libc::SIGKILL) };
}

/// Runs a program and waits for it. `argv` and `env` are passed as they are.
///
/// To be called from a single-threaded process: between fork and exec the child
/// uses only what it was left in a consistent state.
///
/// # Errors
/// Where no pipe or no process can be had.
pub fn run(path: &CStr, argv: &[CString], env: &[CString]) -> io::Result<Ended> {
    let argv = pointers(argv);
    let env = pointers(env);
    let (reader, writer) = io::pipe()?;
    let before = Signals::take_over();
    // SAFETY: one thread, so the child's memory is consistent; it calls only
    // async-signal-safe functions before exec or _exit.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        before.restore();
        default_sigpipe();
        // SAFETY: a C string and two null-terminated arrays of C strings, all alive.
        unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), env.as_ptr()) };
        report_errno_and_exit(&writer);
    }
    if pid < 0 {
        let error = io::Error::last_os_error();
        before.restore();
        return Err(error);
    }
    CHILD.store(pid, Ordering::Relaxed);
    before.unblock();
    drop(writer);
    let errno = read_errno(reader);
    let ended = wait(pid);
    CHILD.store(0, Ordering::Relaxed);
    before.restore();
    match errno {
        Some(errno) => Ok(Ended::NotStarted(errno)),
        None => ended,
    }
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect()
}

/// In the child, after exec failed: the parent learns why from the pipe, which exec
/// would have closed.
fn report_errno_and_exit(writer: &io::PipeWriter) -> ! {
    use std::os::fd::AsRawFd;
    // SAFETY: errno of this thread.
    let bytes = unsafe { *libc::__errno_location() }.to_ne_bytes();
    // SAFETY: four bytes of ours; a short write leaves the parent with status 127.
    unsafe { libc::write(writer.as_raw_fd(), bytes.as_ptr().cast(), bytes.len()) };
    // SAFETY: ends the child without running anything of the parent's.
    unsafe { libc::_exit(127) }
}

fn read_errno(mut reader: io::PipeReader) -> Option<i32> {
    let mut bytes = [0; 4];
    io::Read::read_exact(&mut reader, &mut bytes).ok()?;
    Some(i32::from_ne_bytes(bytes))
}

fn wait(pid: i32) -> io::Result<Ended> {
    loop {
        let mut status = 0;
        // SAFETY: `status` is an int of ours.
        let got = unsafe { libc::waitpid(pid, &raw mut status, 0) };
        if got == pid {
            return Ok(if libc::WIFSIGNALED(status) {
                Ended::Signaled(libc::WTERMSIG(status))
            } else {
                Ended::Exited(u8::try_from(libc::WEXITSTATUS(status)).unwrap_or(u8::MAX))
            });
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// The standard library ignores SIGPIPE in us; the program starts as from a shell.
fn default_sigpipe() {
    // SAFETY: SIG_DFL is a valid disposition.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
}

/// The handler of the forwarded signals. What the kernel itself sends (a hangup of the
/// terminal) the program, being in our process group, has got already.
extern "C" fn forward(signal: i32, siginfo: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    // SAFETY: with SA_SIGINFO the kernel passes a valid siginfo.
    let from_kernel = unsafe { (*siginfo).si_code } > 0;
    let pid = CHILD.load(Ordering::Relaxed);
    if pid > 0 && !from_kernel {
        // SAFETY: errno of this thread.
        let errno = unsafe { *libc::__errno_location() };
        // SAFETY: async-signal-safe; the child has not been waited for, so the pid is its own.
        unsafe { libc::kill(pid, signal) };
        // SAFETY: errno of this thread.
        unsafe { *libc::__errno_location() = errno };
    }
}

/// Our own signal dispositions and mask while a child runs, and those from before.
struct Signals {
    dispositions: Vec<(i32, libc::sigaction)>,
    mask: libc::sigset_t,
}

impl Signals {
    /// Ignores what the terminal sends, forwards what is sent to us, lets children be
    /// waited for. What was ignored stays so (`nohup`). All is blocked until `unblock`.
    fn take_over() -> Self {
        let mut all = empty_set();
        // SAFETY: a set of ours.
        unsafe { libc::sigfillset(&raw mut all) };
        let mut mask = empty_set();
        // SAFETY: two sets of ours.
        unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const all, &raw mut mask) };
        let mut before = Self { dispositions: Vec::new(), mask };
        for signal in IGNORED {
            before.change(signal, libc::SIG_IGN, 0);
        }
        before.change(libc::SIGCHLD, libc::SIG_DFL, 0);
        for signal in FORWARDED {
            if disposition(signal).sa_sigaction != libc::SIG_IGN {
                let handler = forward as extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void);
                before.change(signal, handler as libc::sighandler_t, libc::SA_SIGINFO | libc::SA_RESTART);
            }
        }
        before
    }

    fn change(&mut self, signal: i32, handler: libc::sighandler_t, flags: i32) {
        let old = disposition(signal);
        let mut new = old;
        new.sa_sigaction = handler;
        new.sa_flags = flags;
        // SAFETY: `new` is complete; the handler is ours or one of the constants.
        if unsafe { libc::sigaction(signal, &raw const new, std::ptr::null_mut()) } == 0 {
            self.dispositions.push((signal, old));
        }
    }

    fn unblock(&self) {
        // SAFETY: the set the kernel gave us.
        unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const self.mask, std::ptr::null_mut()) };
    }

    /// Async-signal-safe: the child calls it after fork.
    fn restore(&self) {
        for (signal, old) in &self.dispositions {
            // SAFETY: the disposition the kernel gave us.
            unsafe { libc::sigaction(*signal, &raw const *old, std::ptr::null_mut()) };
        }
        self.unblock();
    }
}

fn disposition(signal: i32) -> libc::sigaction {
    // SAFETY: all-zero is a valid sigaction: default, no flags, nothing blocked.
    let mut old: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: `old` is ours; a null pointer only asks.
    unsafe { libc::sigaction(signal, std::ptr::null(), &raw mut old) };
    old
}

fn empty_set() -> libc::sigset_t {
    // SAFETY: all-zero is the empty set.
    unsafe { std::mem::zeroed() }
}
