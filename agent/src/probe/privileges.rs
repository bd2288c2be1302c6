//! What the helper may do, once it has its programs in the kernel and its socket: no more than attaching and looking needs. Started as
//! its unit does it has that and nothing else from the beginning; this is for one that root started.

use rustix::io::Errno;
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set, remove_capability_from_bounding_set, set_capabilities};

/// Attaching to libraries that come later (the kernel wants `SYS_ADMIN` for it), reading which libraries other users' processes have,
/// and the libraries wherever they lie. `BPF` and `PERFMON` are what newer kernels ask for instead of all of `SYS_ADMIN`.
const KEPT: CapabilitySet =
    CapabilitySet::SYS_ADMIN.union(CapabilitySet::BPF).union(CapabilitySet::PERFMON).union(CapabilitySet::SYS_PTRACE).union(CapabilitySet::DAC_READ_SEARCH);

/// Gives all else away, for this thread and those that it starts; nothing that is run from here gets it back.
///
/// # Errors
/// The system's.
pub fn reduce() -> Result<(), Errno> {
    rustix::thread::set_no_new_privs(true)?;
    let has = capabilities(None)?;
    for unwanted in CapabilitySet::all().difference(KEPT).iter() {
        // A kernel that does not know one says so, and then there is nothing to give away.
        if has.permitted.contains(CapabilitySet::SETPCAP) && capability_is_in_bounding_set(unwanted).unwrap_or(false) {
            remove_capability_from_bounding_set(unwanted)?;
        }
    }
    let kept = has.permitted.intersection(KEPT);
    set_capabilities(None, CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() })
}

/// Gives all away, before another program is run that needs none: what the agent's unit gives it would be that program's as well.
///
/// # Errors
/// The system's.
pub fn renounce() -> Result<(), Errno> {
    rustix::thread::set_no_new_privs(true)?;
    rustix::thread::clear_ambient_capability_set()?;
    if !rustix::process::geteuid().is_root() {
        // A program that is run has none then, whatever this one keeps: its unit may forbid it to change that.
        return Ok(());
    }
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_needed_is_gone_for_good() {
        let before = capabilities(None).unwrap().permitted;
        // A thread of its own: the others go on as they are.
        let after = std::thread::spawn(|| reduce().map(|()| capabilities(None).unwrap())).join().unwrap().unwrap();
        assert_eq!((after.permitted, after.effective), (before.intersection(KEPT), before.intersection(KEPT)));
        assert!(!after.permitted.contains(CapabilitySet::NET_ADMIN) && after.inheritable.is_empty());
        assert_eq!(capabilities(None).unwrap().permitted, before);
    }
}
