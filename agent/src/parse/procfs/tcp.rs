//! `/proc/net/tcp` and `/proc/net/tcp6`: the sockets that listen. The kernel lists these before all others, so a table that is cut
//! short still has them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// State `TCP_LISTEN` of the kernel's table.
const LISTEN: &str = "0A";

/// A socket that listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listening {
    /// Where; an IPv4 address that an IPv6 socket was bound to is told as what it is.
    pub address: SocketAddr,
    /// User that it belongs to.
    pub uid: u32,
    /// Its inode, by which it is found among a process's files.
    pub inode: u64,
}

/// Reads either table.
pub fn listening(text: &str) -> impl Iterator<Item = Listening> {
    text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let address = address(words.nth(1)?)?;
        words.nth(1).filter(|state| *state == LISTEN)?;
        // tx:rx, timer:when, retransmits; then user, time-outs, inode.
        let uid = words.nth(3)?.parse().ok()?;
        let inode = words.nth(1)?.parse().ok()?;
        Some(Listening { address, uid, inode })
    })
}

/// `0100007F:1F90`: each 32 bits of the address as the processor has them, the port in hex.
fn address(word: &str) -> Option<SocketAddr> {
    let (address, port) = word.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let group = |at: usize| Some(u32::from_str_radix(address.get(at * 8..at * 8 + 8)?, 16).ok()?.to_ne_bytes());
    let ip = match address.len() {
        8 => IpAddr::V4(Ipv4Addr::from(group(0)?)),
        32 => {
            let mut bytes = [0; 16];
            for (at, place) in bytes.chunks_exact_mut(4).enumerate() {
                place.copy_from_slice(&group(at)?);
            }
            Ipv6Addr::from(bytes).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(all(test, target_endian = "little"))]
mod tests {
    use super::*;

    #[test]
    fn only_what_listens_is_read_of_both_families() {
        let text = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            \x20  0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000   998        0 41 1 0000000000000000 100 0 0 10 0\n\
            \x20  1: 0100007F:1F90 0100007F:9C42 01 00000000:00000000 00:00000000 00000000   998        0 43 1 0000000000000000 20 4 30 10 -1\n";
        let at = |text: &str| text.parse().unwrap();
        assert_eq!(listening(text).collect::<Vec<_>>(), [Listening { address: at("127.0.0.1:8080"), uid: 998, inode: 41 }]);
        let line = |address: &str| format!("0: {address}:01BB 00000000000000000000000000000000:0000 0A 0:0 00:0 0 0 0 7 1 0 100");
        let read = |address: &str| listening(&line(address)).next().map(|found| found.address);
        assert_eq!(read("00000000000000000000000000000000"), Some(at("[::]:443")));
        assert_eq!(read("B80D0120000000000000000001000000"), Some(at("[2001:db8::1]:443")));
        assert_eq!(read("0000000000000000FFFF00000100000A"), Some(at("10.0.0.1:443")));
        assert_eq!(read("B80D01"), None);
    }
}
