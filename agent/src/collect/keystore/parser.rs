//! From the bytes of one file to its keys: brings the passwords that are configured for it and the lists of weak keys, and
//! outlives a parser that fails. Passwords are read when a store needs them and kept no longer than that. Called by the reader.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use keyvigil_common::limits::PASSWORD_FILE_BYTES_MAX;
use zeroize::Zeroizing;

use super::debian::DebianLists;
use super::disk::Stamp;
use super::homes::Homes;
use super::model::Object;
use super::pattern::Pattern;
use super::trouble::Trouble;
use crate::collect::StorePassword;
use crate::parse::given::{Given, during};
use crate::parse::keys::{Fault, FaultClass, Parsed, keys_at, takes_password};
use crate::parse::pbe::Password;
use crate::rootfs::RootFs;

/// Makes keys of bytes.
#[derive(Debug)]
pub(super) struct Parser {
    passwords: Vec<(Pattern, PathBuf)>,
    lists: Arc<DebianLists>,
    /// Patterns of stores have none.
    no_homes: Homes,
}

/// By which a change of a store's password files is noticed: inode, size, last change.
pub(super) type PasswordFiles = Vec<Option<(u64, u64, i64, i64)>>;

impl Parser {
    pub(super) fn new(root: &RootFs, passwords: &[StorePassword]) -> Self {
        let passwords = passwords.iter().map(|entry| (Pattern::new(&entry.path), entry.file.clone())).collect();
        Self { passwords, lists: Arc::new(DebianLists::new(root)), no_homes: Homes::default() }
    }

    /// Keys and troubles of the file `path`.
    pub(super) fn parse(&self, path: &Path, bytes: &[u8], stamp: Stamp) -> (Vec<Object>, Vec<Trouble>) {
        let (mut passwords, mut troubles) = (Vec::new(), Vec::new());
        if takes_password(bytes) {
            for file in self.files(path) {
                match password(file) {
                    Ok(password) => passwords.push(password),
                    Err(e) => troubles.push(Trouble::password_file(file, e)),
                }
            }
        }
        let given = Given { passwords: passwords.into(), blacklist: Some(self.lists.clone()) };
        let modified_ms = i64::try_from(stamp.modified_ns / 1_000_000).ok();
        let parsed = guarded(|| during(given, || keys_at(bytes, path))).dated(modified_ms);
        troubles.extend(parsed.faults.iter().map(Trouble::fault));
        // Not collected: that would keep the larger allocation of what was parsed.
        let mut objects = Vec::with_capacity(parsed.objects.len());
        objects.extend(parsed.objects.into_iter().map(Object::from));
        (objects, troubles)
    }

    /// What is configured for a store, as it is now.
    pub(super) fn password_files(&self, path: &Path) -> PasswordFiles {
        let stamp = |file: &Path| std::fs::metadata(file).ok().map(|meta| (meta.ino(), meta.size(), meta.ctime(), meta.ctime_nsec()));
        self.files(path).map(stamp).collect()
    }

    /// Gives back what was loaded for one scan.
    pub(super) fn rest(&self) {
        self.lists.forget();
    }

    fn files<'a>(&'a self, path: &'a Path) -> impl Iterator<Item = &'a Path> {
        self.passwords.iter().filter(|(pattern, _)| pattern.covers(path, &self.no_homes)).map(|(_, file)| file.as_path())
    }
}

/// A parser that panics has met a file that nobody thought of: that file is told, all others are read.
fn guarded(parse: impl FnOnce() -> Parsed) -> Parsed {
    // Nothing is shared with the parser but what it borrows, and what that holds is not changed.
    catch_unwind(AssertUnwindSafe(parse)).unwrap_or_else(|_| {
        let reason = "the parser failed on this file; the log has where".to_owned();
        let mut parsed = Parsed::default();
        parsed.faults.push(Fault { slot: 0, offset: 0, class: FaultClass::Internal, reason });
        parsed
    })
}

/// The password in a file: its first line.
fn password(file: &Path) -> io::Result<Password> {
    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::CLOEXEC;
    let mut file = File::options().read(true).custom_flags(flags.bits().cast_signed()).open(file)?;
    let meta = file.metadata()?;
    let refused = |reason: &str| Err(io::Error::new(io::ErrorKind::InvalidData, reason));
    if !meta.is_file() {
        return refused("not a regular file");
    }
    if meta.mode() & 0o006 != 0 {
        return refused("everyone on the host can read or write it: take those permissions away");
    }
    if meta.size() > PASSWORD_FILE_BYTES_MAX {
        return refused("too long for a password");
    }
    // Large enough for all of it: growing would leave a copy behind that nobody wipes.
    let mut bytes = Zeroizing::new(vec![0; usize::try_from(meta.size()).unwrap_or(0)]);
    file.read_exact(&mut bytes)?;
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    match std::str::from_utf8(line) {
        Ok(text) if !bytes.is_empty() => Ok(Password::new(text.to_owned())),
        Ok(_) => refused("is empty"),
        Err(_) => refused("is not UTF-8"),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::testkit::Workshop;

    #[test]
    fn the_first_line_is_the_password_and_a_file_for_everyone_is_refused() {
        let shop = Workshop::new();
        let of = |text: &[u8], mode: u32| {
            let path = shop.write("password", text);
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            password(&path).map(|password| password.to_string()).map_err(|e| e.to_string())
        };
        for text in ["pass wörd", "pass wörd\n", "pass wörd\r\n", "pass wörd\nsecond\n"] {
            assert_eq!(of(text.as_bytes(), 0o640), Ok("pass wörd".into()));
        }
        assert_eq!(of(b"\n", 0o600), Ok(String::new()), "an empty password is one");
        assert!(of(b"secret", 0o604).unwrap_err().contains("everyone"));
        assert!(of(b"secret", 0o602).unwrap_err().contains("everyone"));
        assert!(of(b"", 0o600).is_err() && of(b"\xff", 0o600).is_err() && of(&[b'x'; 5_000], 0o600).is_err());
        assert!(password(&shop.path("missing")).is_err() && password(shop.root()).is_err());
    }

    #[test]
    fn a_parser_that_panics_is_one_fault() {
        let parsed = guarded(|| std::panic::resume_unwind(Box::new("a file that nobody thought of")));
        assert_eq!((parsed.objects.len(), parsed.faults[0].class), (0, FaultClass::Internal));
    }
}
