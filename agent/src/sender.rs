//! Who this start of the agent is, and what its clocks show: what each push tells of its sender, and each batch of when it was
//! sealed.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use keyvigil_common::canary::Canaries;
use keyvigil_common::clock::SharedClock;
use keyvigil_common::wire::{Sealed, Sender};

use crate::rootfs::RootFs;

/// This start of the agent.
#[derive(Debug, Clone)]
pub struct Itself {
    instance: [u8; 16],
    machine: Arc<str>,
    boot: [u8; 16],
    clock: SharedClock,
}

impl Itself {
    /// The agent that starts now on the host at `root`, with its state in `dir`.
    #[must_use]
    pub fn starting(root: &RootFs, dir: &Path, clock: SharedClock) -> Self {
        let boot = root.read("/proc/sys/kernel/random/boot_id").ok();
        let boot = boot.and_then(|text| keyvigil_common::unhex(&text.trim().replace('-', ""))).and_then(|bytes| bytes.try_into().ok());
        // Where the kernel does not tell, nothing is said of the time before this start.
        let boot = boot.unwrap_or_else(keyvigil_common::random::<16>);
        Self { instance: keyvigil_common::random::<16>(), machine: installation(root, dir).into(), boot, clock }
    }

    /// What tells this installation from a copy of it: the machine's id, and where its state lies on its disk.
    #[must_use]
    pub fn machine(&self) -> &str {
        &self.machine
    }

    /// What a push says of its sender, which trusts CAs of this hash and does not see so many things.
    #[must_use]
    pub fn sender(&self, trusts: [u8; 32], blind: Option<u32>, canaries: Canaries) -> Sender {
        let Sealed { boot, boot_ms } = self.sealed();
        let machine = keyvigil_common::sha256(self.machine.as_bytes());
        Sender { instance: self.instance, machine, boot, boot_ms, wall_ms: self.clock.now_ms(), trusts, blind, canaries }
    }

    /// What a batch that is sealed now says of when that was.
    #[must_use]
    pub fn sealed(&self) -> Sealed {
        Sealed { boot: self.boot, boot_ms: i64::try_from(self.clock.since_boot().as_millis()).unwrap_or(i64::MAX) }
    }
}

fn installation(root: &RootFs, dir: &Path) -> String {
    let id = root.read("/etc/machine-id").unwrap_or_default();
    let place = std::fs::metadata(dir).map(|dir| format!("{}:{}", dir.dev(), dir.ino())).unwrap_or_default();
    format!("keyvigil installation {} {place}", id.trim())
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyvigil_common::clock::ManualClock;
    use std::time::Duration;

    #[test]
    fn a_restart_is_another_sender_on_the_same_machine_and_a_copy_is_on_another() {
        let (host, state, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let proc = host.path().join("proc/sys/kernel/random");
        std::fs::create_dir_all(&proc).unwrap();
        std::fs::write(proc.join("boot_id"), "01020304-0506-0708-090a-0b0c0d0e0f10\n").unwrap();
        let (root, clock) = (RootFs::new(host.path()), ManualClock::at(7_000));
        let start = |dir: &Path| Itself::starting(&root, dir, Arc::<ManualClock>::clone(&clock));
        let (first, again, other) = (start(state.path()), start(state.path()), start(copy.path()));
        clock.suspend(Duration::from_secs(60));
        clock.advance(Duration::from_secs(1));
        let sent = first.sender([5; 32], None, Canaries::default());
        assert_eq!((sent.boot, sent.boot_ms, sent.wall_ms), ([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16], 61_000, 68_000));
        assert_ne!(sent.instance, again.sender([5; 32], None, Canaries::default()).instance);
        assert_eq!(sent.machine, again.sender([5; 32], None, Canaries::default()).machine);
        assert_ne!(sent.machine, other.sender([5; 32], None, Canaries::default()).machine);
    }
}
