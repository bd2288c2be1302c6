//! Who it was, in the words of the host: program, user, unit or container.

use std::path::Path;

use keyvigil_common::event::{Actor, EventKind};

use crate::collect::keystore::owner::Owners;
use crate::parse::{cgroup, passwd};
use crate::probe::message::{Opened, Who};
use crate::rootfs::RootFs;

/// Flags of an open: whether it may write, and whether it asked for nothing but the name.
const WRITES: u32 = 0o3;
/// What the kernel has where there is no user's number.
const NOBODY_KNOWN: u32 = u32::MAX;

/// Looks up what a process's numbers mean.
#[derive(Debug)]
pub(in crate::collect) struct Actors {
    root: RootFs,
}

impl Actors {
    pub(in crate::collect) fn new(root: &RootFs) -> Self {
        Self { root: root.clone() }
    }

    /// The actor of an event.
    pub(in crate::collect) fn of(&self, who: &Who) -> Actor {
        Actor {
            exe: Some(who.exe.clone()).filter(|exe| !exe.is_empty()),
            pid: Some(who.pid),
            uid: Some(who.uid).filter(|uid| *uid != NOBODY_KNOWN),
            login_uid: who.login_uid,
            unit: self.unit(who),
            peer: None,
        }
    }

    /// The kernel tells the control group of version 2; where that is the root, systemd uses version 1, and then it is asked of the
    /// process, or its parent, as long as one is there.
    fn unit(&self, who: &Who) -> Option<String> {
        if !who.cgroup.is_empty() {
            return cgroup::unit(&format!("0::{}", who.cgroup));
        }
        let of = |pid: u32| self.root.read(Path::new("/proc").join(pid.to_string()).join("cgroup")).ok();
        of(who.pid).or_else(|| of(who.parent)).and_then(|text| cgroup::unit(&text))
    }

    /// Number of a user, by any name.
    pub(super) fn uid(&self, name: &str) -> Option<u32> {
        let passwd = self.root.read("/etc/passwd").ok()?;
        passwd::users(&passwd).find(|user| user.name == name).map(|user| user.uid)
    }

    /// Name of a user; its number where it has none; nothing where the process was gone before it could be asked.
    pub(in crate::collect) fn user(&self, uid: u32) -> String {
        if uid == NOBODY_KNOWN {
            return String::new();
        }
        Owners::new(&self.root).user(uid)
    }
}

/// What supports it.
pub(super) fn evidence(opened: &Opened, user: &str) -> Vec<(String, String)> {
    let Opened { who, flags, errno, asked, is_cut, exe_sha256, .. } = opened;
    let mut evidence = vec![("user".to_owned(), user.to_owned()), ("process".to_owned(), who.comm.clone())];
    evidence.push(("parent".to_owned(), format!("{} (pid {})", who.parent_comm, who.parent)));
    if *errno == 0 {
        evidence.push(("opened_for".to_owned(), if flags & WRITES == 0 { "reading" } else { "writing" }.to_owned()));
    } else {
        evidence.push(("asked_for".to_owned(), asked.clone()));
        evidence.push(("error".to_owned(), if *errno == 13 { "EACCES" } else { "EPERM" }.to_owned()));
    }
    evidence.push(("exe_sha256".to_owned(), exe_sha256.clone()));
    if *is_cut {
        evidence.push(("cut".to_owned(), "a path is longer than what is kept of it: … stands for its beginning".to_owned()));
    }
    evidence.retain(|(_, value)| !value.is_empty());
    evidence
}

/// One sentence for people.
pub(super) fn sentence(kind: EventKind, exe: &str, pid: u32, user: &str, path: &str) -> String {
    let program = exe.rsplit('/').next().unwrap_or(exe);
    let did = if kind == EventKind::Denied { "was denied" } else { "opened" };
    let (program, user) = [program, user].map(|name| if name.is_empty() { "unknown" } else { name }).into();
    format!("{program} (pid {pid}, user {user}) {did} {path}")
}
