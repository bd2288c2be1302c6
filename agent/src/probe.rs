//! `keyvigil-agent probe`: the helper that may look into the kernel, so that the agent, which talks to the network, need not. It loads
//! the programs of `agent/bpf/`, follows which files hold private keys (the agent tells them by device and inode), attaches probes to
//! the cryptographic libraries that run here, and tells the agent over a Unix socket who opened and used which file.

mod audit;
pub mod budget;
pub mod digest;
pub mod functions;
pub mod helper;
mod kept;
pub mod kernel;
pub mod layout;
pub mod libraries;
pub mod library;
pub mod marks;
pub mod message;
mod paths;
pub(crate) mod place;
pub mod privileges;
pub mod probes;
pub mod programs;
mod ring;
pub mod serve;
mod sight;
pub(crate) mod sys;
pub mod tally;
mod told;

pub(crate) use self::told::CUT_OFF;

use rustix::time::{ClockId, clock_gettime};

/// The space of process numbers that the kernel begins with (`PROC_PID_INIT_INO`).
const FIRST_SPACE: &str = "pid:[4026531836]";

/// A device as the kernel numbers it: 20 bits of minor.
pub(crate) fn device(stat: &impl std::os::unix::fs::MetadataExt) -> u32 {
    rustix::fs::major(stat.dev()) << 20 | rustix::fs::minor(stat.dev())
}

/// Whether this process has the numbers that the kernel itself gives, and not those of a container.
pub(crate) fn is_numbered_by_the_kernel() -> bool {
    std::fs::read_link("/proc/self/ns/pid").is_ok_and(|space| space.as_os_str() == FIRST_SPACE)
}

/// Since boot, with sleep: as the kernel programs have it.
pub(crate) fn since_boot_ns() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    u64::try_from(now.tv_sec).unwrap_or_default() * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or_default()
}

#[cfg(test)]
mod tests;
