//! The sockets that listen on this host, by address: who may be asked, and where. Never an address of another host. Called by the
//! sensor.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use crate::parse::procfs::tcp::listening;
use crate::rootfs::RootFs;

/// One address on which something listens; several sockets where a server has one for each worker.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Listener {
    pub(super) uid: u32,
    pub(super) inodes: BTreeSet<u64>,
}

/// All of them.
///
/// # Errors
/// What the system says, or that these are another machine's.
pub(super) fn listeners(root: &RootFs) -> Result<BTreeMap<SocketAddr, Listener>, String> {
    reachable(root)?;
    let mut text = root.read("/proc/net/tcp").map_err(|e| format!("/proc/net/tcp: {e}"))?;
    // Missing where IPv6 is switched off.
    text.push_str(&root.read("/proc/net/tcp6").unwrap_or_default());
    let mut all: BTreeMap<SocketAddr, Listener> = BTreeMap::new();
    for found in listening(&text) {
        let listener = all.entry(found.address).or_default();
        listener.uid = found.uid;
        listener.inodes.insert(found.inode);
    }
    Ok(all)
}

/// Whether a connection from here reaches the ports of the host below `root`.
fn reachable(root: &RootFs) -> Result<(), String> {
    if root.is_host() {
        return Ok(());
    }
    // An agent in a container, with the host mounted below a prefix: its ports are reached if it shares the host's network.
    let host = std::fs::read_link(root.path("/proc/1/ns/net"));
    let own = std::fs::read_link("/proc/self/ns/net");
    match (host, own) {
        (Ok(host), Ok(own)) if host == own => Ok(()),
        (Err(e), _) if e.kind() == io::ErrorKind::PermissionDenied => {
            Err("whether the agent shares the host's network may only be seen with CAP_SYS_PTRACE".into())
        }
        _ => Err("the agent does not share the network of the host that it watches".into()),
    }
}

/// Where to knock for what listens at `address`, the next where one refuses; empty where that is no address of this host.
pub(super) fn doors(address: SocketAddr) -> Vec<SocketAddr> {
    let (v4, v6) = (IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST));
    let ips = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => vec![v4],
        // It may take IPv4 as well, and the host may have no IPv6 but for this socket.
        IpAddr::V6(ip) if ip.is_unspecified() => vec![v6, v4],
        ip if ip.is_loopback() || is_own(address) => vec![ip],
        _ => Vec::new(),
    };
    ips.into_iter().map(|ip| SocketAddr::new(ip, address.port())).collect()
}

/// Whether the kernel would deliver to this host what is sent to `address`. A socket may listen at an address that another host
/// has just now, as a fail-over pair does (`ip_nonlocal_bind`). To connect a UDP socket asks the routes and sends nothing: it gets the
/// address itself as its source where that is an own one.
fn is_own(address: SocketAddr) -> bool {
    let any = if address.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
    let source = UdpSocket::bind((any, 0)).and_then(|socket| socket.connect(address).and_then(|()| socket.local_addr()));
    source.is_ok_and(|source| source.ip() == address.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_this_host_are_knocked_at() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        assert_eq!(doors(at("0.0.0.0:443")), [at("127.0.0.1:443")]);
        assert_eq!(doors(at("[::]:443")), [at("[::1]:443"), at("127.0.0.1:443")]);
        assert_eq!(doors(at("127.0.0.53:53")), [at("127.0.0.53:53")]);
        // Documentation addresses, which nobody has.
        assert_eq!(doors(at("192.0.2.7:443")), []);
        assert_eq!(doors(at("[2001:db8::7]:443")), []);
    }

    #[test]
    fn the_ports_of_a_host_in_a_directory_are_not_taken_for_ours() {
        let dir = tempfile::tempdir().unwrap();
        assert!(listeners(&RootFs::new(dir.path())).unwrap_err().contains("does not share"));
    }
}
