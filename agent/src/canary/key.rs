//! The canary's file: a private key that opens nothing, in a directory of its own, so that it can be told from users' keys.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};

/// Where it lies in its directory.
pub(super) fn path(dir: &Path) -> PathBuf {
    dir.join("canary.key")
}

/// Makes it where it is not there.
///
/// # Errors
/// The system's.
pub(super) fn make(dir: &Path) -> io::Result<()> {
    let path = path(dir);
    if fs::metadata(&path).is_ok_and(|meta| meta.is_file() && meta.len() > 0) {
        return Ok(());
    }
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
        _ => {}
    }
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(io::Error::other)?;
    let new = dir.join("canary.key.new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(key.serialize_pem().as_bytes())?;
    fs::rename(new, path)
}
