//! `/proc/net/dev`, `/proc/net/sockstat` and `/proc/net/snmp`: interfaces, sockets and protocols.

/// One direction of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// Bytes.
    pub bytes: u64,
    /// Packets.
    pub packets: u64,
    /// Packets that were damaged.
    pub errors: u64,
    /// Packets for which there was no room.
    pub drops: u64,
}

/// One interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface<'a> {
    /// Name, `eth0`.
    pub name: &'a str,
    /// What came in.
    pub recv: Flow,
    /// What went out.
    pub sent: Flow,
}

/// Columns of `/proc/net/dev` for each direction.
const DIRECTION_COLUMNS: usize = 8;

/// Reads `/proc/net/dev`.
pub fn interfaces(text: &str) -> impl Iterator<Item = Interface<'_>> {
    text.lines().filter_map(|line| {
        // From the right: an alias such as `eth0:1` holds a colon itself.
        let (name, rest) = line.rsplit_once(':')?;
        let mut numbers = rest.split_ascii_whitespace().map_while(|word| word.parse().ok());
        let recv = flow(&mut numbers)?;
        let sent = flow(&mut numbers.skip(DIRECTION_COLUMNS - 4))?;
        Some(Interface { name: name.trim(), recv, sent })
    })
}

fn flow(numbers: &mut impl Iterator<Item = u64>) -> Option<Flow> {
    Some(Flow { bytes: numbers.next()?, packets: numbers.next()?, errors: numbers.next()?, drops: numbers.next()? })
}

/// Protocol, name and number of each pair in `/proc/net/sockstat` or `sockstat6`.
pub fn sockstat(text: &str) -> impl Iterator<Item = (&str, &str, u64)> {
    text.lines().filter_map(|line| line.split_once(':')).flat_map(|(protocol, rest)| {
        let mut words = rest.split_ascii_whitespace();
        std::iter::from_fn(move || Some((words.next()?, words.next()?))).filter_map(move |(name, value)| Some((protocol, name, value.parse().ok()?)))
    })
}

/// Protocol, name and number of each column in `/proc/net/snmp`: lines come in pairs, names and then numbers. Negative
/// numbers mean "no limit" and are left out.
pub fn snmp(text: &str) -> impl Iterator<Item = (&str, &str, u64)> {
    let mut lines = text.lines();
    std::iter::from_fn(move || Some((lines.next()?, lines.next()?)))
        .filter_map(|(names, numbers)| {
            let (protocol, names) = names.split_once(':')?;
            let numbers = numbers.strip_prefix(protocol)?.strip_prefix(':')?;
            Some((protocol, names.split_ascii_whitespace().zip(numbers.split_ascii_whitespace())))
        })
        .flat_map(|(protocol, pairs)| pairs.filter_map(move |(name, number)| Some((protocol, name, number.parse().ok()?))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_are_read_with_and_without_a_space_after_the_colon() {
        let text = "Inter-| Receive | Transmit\n face |bytes packets\n eth0:10 2 3 4 5 6 7 8 90 10 11 12 13 14 15 16\n  lo: 1 2 3\n";
        let found: Vec<_> = interfaces(text).collect();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].name, "eth0");
        assert_eq!(found[0].recv, Flow { bytes: 10, packets: 2, errors: 3, drops: 4 });
        assert_eq!(found[0].sent, Flow { bytes: 90, packets: 10, errors: 11, drops: 12 });
    }

    #[test]
    fn sockets_and_protocols_are_read_in_pairs() {
        let text = "sockets: used 13\nTCP: inuse 4 orphan 0 tw x mem\n";
        assert_eq!(sockstat(text).collect::<Vec<_>>(), [("sockets", "used", 13), ("TCP", "inuse", 4), ("TCP", "orphan", 0)]);
        let text = "Tcp: MaxConn CurrEstab\nTcp: -1 5\nUdp: InErrors\nIp: 3\n";
        assert_eq!(snmp(text).collect::<Vec<_>>(), [("Tcp", "CurrEstab", 5)]);
    }
}
