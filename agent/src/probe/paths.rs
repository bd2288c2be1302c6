//! Where libraries and programs lie, in words that people find them by: the real path, and which container's it is.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::parse::cgroup;

/// Where the host's own libraries, and modules of PKCS#11, lie.
pub(super) const DIRECTORIES: [&str; 18] = [
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib64",
    "/usr/lib",
    "/lib64",
    "/usr/local/lib",
    "/usr/local/lib64",
    "/usr/local/ssl/lib64",
    "/usr/lib/x86_64-linux-gnu/pkcs11",
    "/usr/lib/aarch64-linux-gnu/pkcs11",
    "/usr/lib64/pkcs11",
    "/usr/lib/pkcs11",
    "/usr/lib/softhsm",
    "/usr/lib/x86_64-linux-gnu/softhsm",
    "/usr/lib/aarch64-linux-gnu/softhsm",
    "/usr/lib64/softhsm",
    "/usr/local/lib/softhsm",
    "/usr/lib/x86_64-linux-gnu/nss",
];

/// Whether a file of the usual directories is worth a look at its functions.
pub(super) fn may_be_one(directory: &str, name: &str) -> bool {
    let is_for_modules = directory.ends_with("/pkcs11") || directory.ends_with("/softhsm");
    super::functions::Library::of(name).is_some() || name.contains(".so") && (is_for_modules || name.contains("pkcs11"))
}

/// The real path of a file of the host: what a link of a developer leads to.
pub(super) fn shown(path: &Path) -> String {
    std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()).to_string_lossy().into_owned()
}

/// What a process takes for the root of its files.
#[derive(Debug)]
pub(super) struct Place {
    /// Container or unit, where the root is another than ours.
    within: Option<String>,
}

impl Place {
    /// That of a process.
    pub(super) fn of(pid: u32) -> Self {
        let root = |path: &str| std::fs::metadata(path).map(|meta| (meta.dev(), meta.ino())).ok();
        let own = root(&format!("/proc/{pid}/root/"));
        if own.is_none() || own == root("/") {
            return Self { within: None };
        }
        let cgroup = std::fs::read(format!("/proc/{pid}/cgroup")).map(|text| String::from_utf8_lossy(&text).into_owned()).unwrap_or_default();
        Self { within: Some(cgroup::unit(&cgroup).unwrap_or_else(|| "another root directory".to_owned())) }
    }

    /// A path as the process has it, with whose it is.
    pub(super) fn shown(&self, path: &str) -> String {
        match &self.within {
            Some(within) => format!("{path} of {within}"),
            None => path.to_owned(),
        }
    }
}
