//! What keeps the keystore sensor from reading something: class, reason, and what to do about it. Called by the walk, the
//! sensor and its reports.

use std::path::Path;
use std::{fmt, io};

use keyvigil_common::key::clamp_text;

use crate::parse::keys::{Fault, FaultClass};
use crate::parse::names::What;

/// Reasons under which `crypto.keystore.errors_total` is counted, all of them from the first scan on.
pub(super) const REASONS: [&str; 18] = [
    "corrupt",
    "internal",
    "io",
    "limit",
    "locked",
    "loop",
    "missing",
    NOT_A_KEY,
    "not_regular",
    "password_file",
    "permission",
    "too_costly",
    "too_large",
    "too_many",
    "truncated",
    UNRESOLVED,
    "unsupported",
    "wrong_password",
];

/// A file that is named as a key, and is none.
pub(super) const NOT_A_KEY: &str = "not_a_key";

/// A configuration names a key in a way that leads to no file.
const UNRESOLVED: &str = "unresolved";

/// One thing that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trouble {
    /// One of [`REASONS`].
    pub(super) reason: &'static str,
    /// For people.
    pub(super) detail: String,
    /// Whether it hides what lies there, so that nothing there may be said to be gone.
    pub(super) hides: bool,
}

impl Trouble {
    fn new(reason: &'static str, detail: String) -> Self {
        let hides = matches!(reason, "permission" | "io" | "limit" | "loop" | "too_large" | UNRESOLVED);
        Self { reason, detail, hides }
    }

    pub(super) fn system(error: &io::Error) -> Self {
        let reason = match error.kind() {
            _ if Self::is_loop(error) => "loop",
            io::ErrorKind::PermissionDenied => "permission",
            io::ErrorKind::InvalidInput => "not_regular",
            io::ErrorKind::NotFound => "missing",
            _ => "io",
        };
        Self::new(reason, error.to_string())
    }

    /// Whether a link leads to itself.
    pub(super) fn is_loop(error: &io::Error) -> bool {
        error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error())
    }

    /// A link that leads to itself: there is nothing behind it that could be seen.
    pub(super) fn link_loop() -> Self {
        Self { hides: false, ..Self::system(&rustix::io::Errno::LOOP.into()) }
    }

    pub(super) fn limit(detail: String) -> Self {
        Self::new("limit", detail)
    }

    pub(super) fn not_regular() -> Self {
        Self::new("not_regular", "a pipe or device, which is never opened".into())
    }

    /// What `user`, a line of a configuration, names is not there.
    pub(super) fn missing(user: &str, what: What) -> Self {
        let what = match what {
            What::Certificate => "certificate",
            What::Key => "private key",
            What::Authorities => "list of authorities",
            What::Revocations => "list of what is revoked",
            What::AuthorizedKeys => "list of authorised keys",
            What::Other => "secret",
        };
        Self::new("missing", format!("it does not exist, and {user} names it as a {what}"))
    }

    /// What `user`, a line of a configuration, names cannot be found by reading it.
    pub(super) fn unresolved(user: &str, why: &str) -> Self {
        Self::new(UNRESOLVED, format!("{user} {why}"))
    }

    /// What `user`, a line of a configuration, names is something else.
    pub(super) fn not_a_key(user: &str) -> Self {
        Self::new(NOT_A_KEY, format!("{user} names it, and there is no key or certificate in it"))
    }

    pub(super) fn too_large(bytes: u64) -> Self {
        let most = keyvigil_common::limits::KEY_FILE_BYTES_MAX;
        Self::new("too_large", format!("looks like a key file and has {bytes} bytes; at most {most} are read"))
    }

    pub(super) fn fault(fault: &Fault) -> Self {
        let mut detail = format!("object {} at byte {}: {}", fault.slot, fault.offset, fault.reason);
        clamp_text(&mut detail);
        Self::new(fault.class.as_str(), detail)
    }

    /// A password of the store cannot be had.
    pub(super) fn password_file(file: &Path, error: impl fmt::Display) -> Self {
        let mut detail = format!("the password file {}: {error}", file.display());
        clamp_text(&mut detail);
        Self::new("password_file", detail)
    }

    /// Whether another password, or a password file that can be read, may mend it.
    pub(super) fn is_about_passwords(&self) -> bool {
        Self::was_about_passwords(self.reason)
    }

    /// Whether troubles that were told, by their signature, were.
    pub(super) fn was_about_passwords(told: &str) -> bool {
        ["locked", "wrong_password", "password_file"].iter().any(|reason| told.starts_with(reason))
    }

    /// Whether troubles that were told, by their signature, hid keys that were there all along.
    pub(super) fn hid(told: &str) -> bool {
        Self::was_about_passwords(told) || ["permission", "io", "too_costly", "internal"].iter().any(|reason| told.starts_with(reason))
    }

    /// Whether it says that no key lies there, and not that one cannot be read.
    pub(super) fn is_no_file(&self) -> bool {
        !self.hides && ["missing", NOT_A_KEY, "not_regular", "loop"].contains(&self.reason)
    }

    /// Whether it may come from a file that is being written just now.
    pub(super) fn may_pass(&self) -> bool {
        [FaultClass::Corrupt.as_str(), FaultClass::Truncated.as_str(), "missing", NOT_A_KEY].contains(&self.reason)
    }

    /// What to do about it.
    pub(super) fn advice(&self) -> &'static str {
        match self.reason {
            "permission" => "give the agent's user read access (a group or an ACL), or exclude the path",
            "loop" => "remove the link that leads to itself",
            "not_regular" => "keep pipes and devices out of key directories, or exclude the path",
            "too_large" => "exclude the path if it is no key file",
            "too_many" => "split the file",
            "truncated" | "corrupt" => "write the file anew from its source; programs that load it fail, too",
            "missing" | NOT_A_KEY => "put it there, or take the line out: when it is started next the program fails, or runs without it",
            UNRESOLVED => "name where it lies in [keystore] extra_paths, if it lies in a file",
            "unsupported" => "nothing: such stores are listed, not opened",
            "locked" => "put the store's password into a file that only the agent's user can read, and name both in [[keystore.password]]",
            "wrong_password" => "put the right password into the file that [[keystore.password]] names, or add another",
            "password_file" => "let the file be there, readable for the agent's user and for nobody else but its owner",
            "too_costly" => "write the store anew with fewer iterations, or name fewer passwords for it",
            "internal" => "report it, with the form of the file and the program that wrote it",
            "limit" => "narrow the configured paths or list the directory among them",
            _ => "look at the file system; exclude the path if it is not needed",
        }
    }
}

/// What mends what the sensor cannot see, by the reason that it gave: by the time that people ask, only that is known.
pub(crate) fn remedy(reason: &str) -> &'static str {
    let says = |words: &[&str]| words.iter().any(|word| reason.contains(word));
    if says(&["Permission denied", "Operation not permitted"]) {
        "let the user of the agent look there (a group or an ACL), or leave it out: [keystore] exclude"
    } else if says(&["looks like a key file and has"]) {
        "make the file smaller, or leave it out: [keystore] exclude"
    } else if says(&["levels below its configured path", "another file system is mounted here"]) {
        "name the directory itself in [keystore] extra_paths, or leave it out: [keystore] exclude"
    } else if says(&["more than "]) {
        "leave out what holds no keys: [keystore] exclude"
    } else if says(&["nothing is there", "there is nothing any more", "none of the configured paths"]) {
        "put it there, or correct [keystore] paths"
    } else if says(&["a look may take"]) {
        "nothing, if it passes; otherwise leave out what holds no keys: [keystore] exclude"
    } else {
        "mend what it says, or leave it out: [keystore] exclude"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_mends_a_blindness_is_told_by_its_reason() {
        let denied = io::Error::from_raw_os_error(rustix::io::Errno::ACCESS.raw_os_error());
        assert!(remedy(&Trouble::system(&denied).detail).starts_with("let the user of the agent look there"));
        assert!(remedy(&Trouble::too_large(1 << 40).detail).starts_with("make the file smaller"));
        assert!(remedy("deeper than 12 levels below its configured path").starts_with("name the directory itself"));
        assert!(remedy("more than 50000 names lie below the configured paths").contains("exclude"));
        let full = io::Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error());
        assert!(remedy(&Trouble::system(&full).detail).starts_with("mend what it says"));
    }
}
