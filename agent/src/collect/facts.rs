//! What the host is: sent when the agent starts and when it changes. Read like everything else from the files of the host;
//! what they do not tell stays empty.

use keyvigil_common::wire::HostFacts;

use crate::parse::os_release::pretty_name;
use crate::parse::procfs::memory::meminfo;
use crate::parse::procfs::stat::stat;
use crate::rootfs::RootFs;

/// Describes the host below `root`.
#[must_use]
pub fn facts(root: &RootFs) -> HostFacts {
    let line = |path: &str| root.read(path).map(|text| text.trim().to_owned()).unwrap_or_default();
    let os = ["/etc/os-release", "/usr/lib/os-release"].iter().find_map(|path| pretty_name(&root.read(path).ok()?));
    let cpus = root.read("/proc/stat").map_or(0, |text| stat(&text).cores.len());
    let memory = root.read("/proc/meminfo").ok().and_then(|text| meminfo(&text).find(|(name, _)| *name == "MemTotal").map(|(_, bytes)| bytes));
    HostFacts {
        hostname: line("/proc/sys/kernel/hostname"),
        os: os.unwrap_or_else(|| line("/proc/sys/kernel/ostype")),
        kernel: line("/proc/sys/kernel/osrelease"),
        arch: sysinfo::System::cpu_arch(),
        cpus: u32::try_from(cpus).unwrap_or(u32::MAX),
        memory_bytes: memory.unwrap_or(0),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::fixture_root;
    use super::*;

    #[test]
    fn a_host_is_described_by_its_own_files() {
        let facts = facts(&fixture_root());
        assert_eq!((facts.hostname.as_str(), facts.os.as_str(), facts.kernel.as_str()), ("small-host", "Smallix 4.2 (Twig)", "6.1.0-small"));
        assert_eq!((facts.cpus, facts.memory_bytes), (2, 4_194_304_000));
        assert!(!facts.arch.is_empty() && !facts.agent_version.is_empty());
    }

    #[test]
    fn this_host_is_described_as_another_source_does() {
        let facts = facts(&RootFs::host());
        let mut system = sysinfo::System::new().unwrap();
        system.refresh_memory();
        assert_eq!(facts.memory_bytes, system.total_memory());
        assert_eq!(facts.hostname, sysinfo::System::host_name().unwrap());
        assert_eq!(facts.kernel, sysinfo::System::kernel_version().unwrap());
        assert!(facts.cpus > 0);
    }
}
