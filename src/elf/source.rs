//! How the bytes of files are had. Inside another program this must not go through libc's `open`
//! and `read`, which may be probed and are cancellation points, so `elf` never opens a file by
//! itself: it is given a [`FileSource`].

use std::fmt;
use std::ops::Deref;
use std::path::Path;

/// Which file this is, by whatever path it was reached, and which content it has: a number may be another file's
/// when the file is gone.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct FileId {
    /// `st_dev`.
    pub dev: u64,
    /// `st_ino`.
    pub ino: u64,
    /// `st_size`.
    pub size: u64,
    /// `st_mtime`, in nanoseconds.
    pub modified_ns: i64,
}

/// The content of one file, owned: a mapping, or a buffer.
pub struct FileBytes {
    bytes: Box<dyn AsRef<[u8]> + Send + Sync>,
    id: FileId,
    release: Option<fn(&[u8])>,
}

impl FileBytes {
    /// Wraps whatever holds the bytes. `as_ref` must return the same bytes each time.
    pub fn new(bytes: impl AsRef<[u8]> + Send + Sync + 'static, id: FileId) -> Self {
        Self { bytes: Box::new(bytes), id, release: None }
    }

    /// With what lets the bytes go that can be had again.
    #[must_use]
    pub fn with_release(self, release: fn(&[u8])) -> Self {
        Self { release: Some(release), ..self }
    }

    /// They are not needed for now.
    pub(super) fn release(&self) {
        if let Some(release) = self.release {
            release(self);
        }
    }

    /// The identity of the file. Two names of one file have the same.
    #[must_use]
    pub const fn id(&self) -> FileId {
        self.id
    }
}

impl Deref for FileBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        (*self.bytes).as_ref()
    }
}

impl fmt::Debug for FileBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileBytes").field("id", &self.id).field("len", &self.len()).finish()
    }
}

/// Opens files for reading.
pub trait FileSource {
    /// The whole content of the regular file at `path`; `None` where there is none or it can't be read.
    fn open(&self, path: &Path) -> Option<FileBytes>;
}

/// No file at all: for resolving without separate debug files.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoFiles;

impl FileSource for NoFiles {
    fn open(&self, _: &Path) -> Option<FileBytes> {
        None
    }
}

/// Files through `std::fs`: for the command line and tests, never inside a probed program.
#[derive(Clone, Copy, Debug, Default)]
pub struct StdFiles;

fn id_of(metadata: &std::fs::Metadata) -> FileId {
    use std::os::unix::fs::MetadataExt;
    FileId {
        dev: metadata.dev(),
        ino: metadata.ino(),
        size: metadata.size(),
        modified_ns: metadata.mtime().wrapping_mul(1_000_000_000).wrapping_add(metadata.mtime_nsec()),
    }
}

impl FileSource for StdFiles {
    fn open(&self, path: &Path) -> Option<FileBytes> {
        use std::io::Read;
        // A path may name a FIFO or a terminal, whose open or read would wait for ever.
        if !std::fs::metadata(path).ok()?.is_file() {
            return None;
        }
        let mut file = std::fs::File::open(path).ok()?;
        let metadata = file.metadata().ok()?;
        let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).ok()?);
        file.read_to_end(&mut bytes).ok()?;
        Some(FileBytes::new(bytes, id_of(&metadata)))
    }
}
