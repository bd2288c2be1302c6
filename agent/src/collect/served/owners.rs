//! Which process holds a listening socket: its program, user and service. Looks through the open files of processes only when a
//! socket is new or its process has gone. What may not be seen stays unknown. Called by the sensor.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::collect::keystore::owner::Owners as Names;
use crate::parse::cgroup;
use crate::rootfs::RootFs;

/// What to say where processes could not be looked into.
pub(super) const BLIND: &str = "the agent may not look into other users' processes: that takes CAP_SYS_PTRACE; the user of each port is known";

/// The process behind a socket.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) pid: u32,
    /// When it was started, in ticks since boot: tells it from another that gets its number.
    started: u64,
    pub(super) exe: Option<String>,
    pub(super) unit: Option<String>,
}

/// What is known of who holds what.
#[derive(Debug, Default)]
pub(super) struct Owners {
    by_inode: HashMap<u64, Owner>,
    /// Sockets that nobody was found for when all processes were looked through.
    unknown: HashSet<u64>,
    /// Some process could not be looked into then.
    denied: bool,
    /// That has kept an owner from being found.
    blind: bool,
}

impl Owners {
    /// Looks up all sockets with these inodes; whether any of them stays unknown since some process could not be looked into.
    pub(super) fn look(&mut self, root: &RootFs, inodes: &BTreeSet<u64>) -> bool {
        // What systemd listens for is found again with each look: a service may have taken it over.
        self.by_inode.retain(|inode, owner| owner.pid != 1 && inodes.contains(inode) && started(root, owner.pid) == Some(owner.started));
        self.unknown.retain(|inode| inodes.contains(inode));
        if inodes.iter().any(|inode| !self.by_inode.contains_key(inode) && !self.unknown.contains(inode)) {
            self.search(root, inodes);
        }
        // It lasts, though no such socket may be there just now.
        self.blind = self.denied && (self.blind || !self.unknown.is_empty());
        self.blind
    }

    /// The process that holds one of the sockets: the oldest, which of a server and its workers is the server.
    pub(super) fn of(&self, inodes: &BTreeSet<u64>) -> Option<&Owner> {
        inodes.iter().filter_map(|inode| self.by_inode.get(inode)).min_by_key(|owner| (owner.started, owner.pid))
    }

    fn search(&mut self, root: &RootFs, inodes: &BTreeSet<u64>) {
        let pids = root.names("/proc").unwrap_or_default().into_iter().filter_map(|name| name.parse::<u32>().ok());
        let mut found: BTreeMap<u64, (bool, u64, u32)> = BTreeMap::new();
        self.denied = false;
        for pid in pids {
            for inode in sockets(root, pid, &mut self.denied).into_iter().filter(|inode| inodes.contains(inode)) {
                let Some(started) = started(root, pid) else { break };
                // The oldest; but systemd only keeps open what it hands to a service.
                let this = (pid == 1, started, pid);
                let best = found.entry(inode).or_insert(this);
                *best = (*best).min(this);
            }
        }
        self.unknown = inodes.iter().filter(|inode| !found.contains_key(inode)).copied().collect();
        self.by_inode = found.into_iter().map(|(inode, (_, started, pid))| (inode, describe(root, pid, started))).collect();
    }
}

/// Inodes of a process's sockets; says where they may not be seen.
fn sockets(root: &RootFs, pid: u32, denied: &mut bool) -> Vec<u64> {
    let inode = |link: std::path::PathBuf| link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse::<u64>().ok();
    let mut inodes = Vec::new();
    let mut note = |e: std::io::Error| *denied |= e.kind() == std::io::ErrorKind::PermissionDenied;
    // A process or a file of it that has gone meanwhile holds nothing.
    let entries = std::fs::read_dir(root.path(format!("/proc/{pid}/fd"))).map_err(&mut note);
    for entry in entries.into_iter().flatten().flatten() {
        match std::fs::read_link(entry.path()) {
            Ok(link) => inodes.extend(inode(link)),
            Err(e) => note(e),
        }
    }
    inodes
}

fn describe(root: &RootFs, pid: u32, started: u64) -> Owner {
    let exe = std::fs::read_link(root.path(format!("/proc/{pid}/exe"))).ok();
    // A program that was replaced by an upgrade is still named as it was started.
    let exe = exe.map(|path| path.to_string_lossy().trim_end_matches(" (deleted)").to_owned());
    let unit = root.read(format!("/proc/{pid}/cgroup")).ok().and_then(|text| cgroup::unit(&text));
    Owner { pid, started, exe, unit }
}

/// Field 22 of `/proc/PID/stat`; the name before it may hold anything.
fn started(root: &RootFs, pid: u32) -> Option<u64> {
    let text = root.read(format!("/proc/{pid}/stat")).ok()?;
    text.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// Name of a user of the host.
pub(super) fn user(root: &RootFs, uid: u32) -> String {
    Names::new(root).user(uid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn process(root: &RootFs, pid: u32, started: u32, exe: &str, sockets: &[u64]) {
        let dir = root.path(format!("/proc/{pid}"));
        std::fs::create_dir_all(dir.join("fd")).unwrap();
        let stat = format!("{pid} (a) b) S 1 1 1 0 -1 4194560 1 0 0 0 1 1 0 0 20 0 1 0 {started} 1000 100\n");
        std::fs::write(dir.join("stat"), stat).unwrap();
        std::fs::write(dir.join("cgroup"), "0::/system.slice/web.service\n").unwrap();
        symlink(exe, dir.join("exe")).unwrap();
        for (at, inode) in sockets.iter().enumerate() {
            symlink(format!("socket:[{inode}]"), dir.join(format!("fd/{at}"))).unwrap();
        }
    }

    #[test]
    fn a_server_is_named_and_not_its_workers_until_it_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let root = RootFs::new(dir.path());
        process(&root, 70, 500, "/usr/sbin/web", &[11]);
        process(&root, 60, 900, "/usr/sbin/web", &[11, 12]);
        process(&root, 50, 950, "/usr/sbin/other (deleted)", &[13]);
        let mut owners = Owners::default();
        assert!(!owners.look(&root, &BTreeSet::from([11, 12, 13, 14])), "nobody was found for 14, as for a socket of the kernel's");
        let of = |owners: &Owners, inode| owners.of(&BTreeSet::from([inode])).map(|owner| (owner.pid, owner.exe.clone().unwrap()));
        assert_eq!(of(&owners, 11), Some((70, "/usr/sbin/web".into())));
        assert_eq!(of(&owners, 13), Some((50, "/usr/sbin/other".into())));
        assert_eq!(of(&owners, 14), None);
        assert_eq!(owners.of(&BTreeSet::from([11, 12])).unwrap().unit.as_deref(), Some("web.service"));
        std::fs::remove_dir_all(root.path("/proc/70")).unwrap();
        assert!(!owners.look(&root, &BTreeSet::from([11])));
        assert_eq!(of(&owners, 11).unwrap().0, 60);
    }
}
