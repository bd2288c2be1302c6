//! Every read of the host goes through here, so that a test can bring its own host: a directory that stands for `/`.
//! Reads are bounded. Nothing here writes.

use std::io::Read;
use std::path::{Path, PathBuf};

/// Bytes of one pseudo-file that are read; `/proc/mounts` of a container host is the largest.
const PSEUDO_FILE_BYTES_MAX: u64 = 4 << 20;

/// The root below which the host is read.
#[derive(Debug, Clone)]
pub struct RootFs(PathBuf);

impl RootFs {
    /// A host whose `/` is `prefix`.
    #[must_use]
    pub fn new(prefix: impl Into<PathBuf>) -> Self {
        Self(prefix.into())
    }

    /// The host itself.
    #[must_use]
    pub fn host() -> Self {
        Self::new("/")
    }

    /// Whether this is the host itself: then system calls speak of the same machine as the files.
    #[must_use]
    pub fn is_host(&self) -> bool {
        self.0 == Path::new("/")
    }

    /// Where the absolute `path` of the host really lies.
    #[must_use]
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.0.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// What the host calls the file that lies at `real`.
    #[must_use]
    pub fn as_seen(&self, real: &Path) -> PathBuf {
        real.strip_prefix(&self.0).map_or_else(|_| real.to_owned(), |rest| Path::new("/").join(rest))
    }

    /// Reads a pseudo-file as text; bytes that are not UTF-8 are replaced.
    ///
    /// # Errors
    /// What the system says.
    pub fn read(&self, path: impl AsRef<Path>) -> std::io::Result<String> {
        let mut bytes = Vec::new();
        std::fs::File::open(self.path(path))?.take(PSEUDO_FILE_BYTES_MAX).read_to_end(&mut bytes)?;
        Ok(String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()))
    }

    /// Names in the directory `path`, sorted; names that are not UTF-8 are left out.
    ///
    /// # Errors
    /// What the system says.
    pub fn names(&self, path: impl AsRef<Path>) -> std::io::Result<Vec<String>> {
        let entries = std::fs::read_dir(self.path(path))?;
        let mut names: Vec<String> = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
        names.sort_unstable();
        Ok(names)
    }
}
