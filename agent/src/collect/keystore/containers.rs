//! Which containers run here: mount namespaces whose root is not the host's. A service that systemd gives a namespace of its own
//! has the host's root, and is none. Called by the sensor where the configuration asks for it.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::PathBuf;

use keyvigil_common::key::CONTAINER_PREFIX as PREFIX;
use keyvigil_common::limits::KEYSTORE_CONTAINERS_MAX;
use rustix::fs::Stat;

use crate::parse::cgroup;
use crate::rootfs::RootFs;

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Containers {
    /// Prefix of its paths, and where its root is.
    pub(super) running: BTreeMap<String, PathBuf>,
    /// Why not all of them are among these.
    pub(super) blind: Option<String>,
}

/// Whether a path lies in a container.
pub(super) fn is_inside(path: &str) -> bool {
    path.starts_with(PREFIX)
}

/// A path as the container in which it lies calls it; `None` of one that lies in none.
pub(super) fn inner(path: &str) -> Option<&str> {
    let rest = path.strip_prefix(PREFIX)?;
    rest.find('/').map(|at| &rest[at..])
}

/// Looks for those that run now.
///
/// # Errors
/// The processes cannot be listed.
pub(super) fn find(root: &RootFs) -> io::Result<Containers> {
    let host = rustix::fs::stat(root.path("/"))?;
    let mut pids: Vec<u32> = root.names("/proc")?.iter().filter_map(|name| name.parse().ok()).collect();
    pids.sort_unstable();
    let mut namespaces: HashMap<PathBuf, u32> = HashMap::new();
    let mut found = Containers::default();
    let mut closed = 0;
    for pid in pids {
        match std::fs::read_link(root.path(format!("/proc/{pid}/ns/mnt"))) {
            // The first process of a namespace is the oldest one, most often.
            Ok(namespace) => drop(namespaces.entry(namespace).or_insert(pid)),
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => closed += 1,
            // It has ended.
            Err(_) => {}
        }
    }
    let mut roots: HashMap<(u64, u64), PathBuf> = HashMap::new();
    let mut namespaces: Vec<(PathBuf, u32)> = namespaces.into_iter().collect();
    namespaces.sort_by_key(|(_, pid)| *pid);
    for (namespace, pid) in namespaces {
        let path = root.path(format!("/proc/{pid}/root"));
        let which = |stat: Stat| (stat.st_dev, stat.st_ino);
        match rustix::fs::stat(path.join(".")).map(which) {
            Ok(top) if top == which(host) || roots.contains_key(&top) => {}
            Ok(_) if found.running.len() >= KEYSTORE_CONTAINERS_MAX => {
                found.blind = Some(format!("more than {KEYSTORE_CONTAINERS_MAX} containers run; the others are not looked at"));
            }
            Ok(top) => {
                roots.insert(top, path.clone());
                found.running.insert(prefix(root, pid, &namespace, &found.running), path);
            }
            Err(rustix::io::Errno::ACCESS | rustix::io::Errno::PERM) => closed += 1,
            Err(_) => {}
        }
    }
    if closed > 0 {
        found.blind = Some(format!("{closed} processes of others cannot be looked into: that takes CAP_SYS_PTRACE"));
    }
    Ok(found)
}

/// `container:0123456789ab:`, the same as long as the container runs.
fn prefix(root: &RootFs, pid: u32, namespace: &std::path::Path, taken: &BTreeMap<String, PathBuf>) -> String {
    // `mnt:[4026531841]`
    let number: String = namespace.to_string_lossy().chars().filter(char::is_ascii_digit).collect();
    let named = root.read(format!("/proc/{pid}/cgroup")).ok().and_then(|text| cgroup::container(&text));
    let known = named.map(|id| format!("{PREFIX}{}:", id.replace(['/', ':'], "_"))).filter(|prefix| !taken.contains_key(prefix));
    known.unwrap_or_else(|| format!("{PREFIX}mnt-{number}:"))
}
