//! What the kernel, or a container that stands for it, writes into files below `/proc`, into `/etc/os-release` and into access control
//! lists: no panic.

#![no_main]

use keyvigil_agent::parse::{acl, os_release, proc_keys, procfs};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = acl::read(bytes);
    // As the agent reads it.
    let text = String::from_utf8_lossy(bytes);
    let _ = os_release::pretty_name(&text);
    let _ = proc_keys::keys(&text);
    let _ = (procfs::number(&text), procfs::load(&text), procfs::uptime_seconds(&text), procfs::file_handles(&text));
    let _ = procfs::disk::diskstats(&text).count();
    let _ = (procfs::memory::meminfo(&text).count(), procfs::memory::vmstat(&text).count());
    let _ = procfs::mounts::mountinfo(&text).count();
    let _ = (procfs::net::interfaces(&text).count(), procfs::net::sockstat(&text).count(), procfs::net::snmp(&text).count());
    let _ = procfs::pressure::totals(&text).count();
    let stat = procfs::stat::stat(&text);
    let _ = procfs::stat::stat(&text.replace('1', "2")).total.and_then(|later| Some(later.busy_percent_since(stat.total.as_ref()?)));
});
