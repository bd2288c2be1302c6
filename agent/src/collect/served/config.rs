//! `[served]`: what is left out, and which names are asked for beside those that the host's own certificates tell.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use serde::{Deserialize, Serialize};

/// `[served]`: which listening ports are asked what certificate they serve.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServedConfig {
    /// Left out: ports (`8443`, `9000-9099`), addresses (`10.0.0.5`), one of both (`10.0.0.5:8443`), programs (`redis-server` or
    /// `/usr/sbin/nginx`).
    pub exclude: Vec<String>,
    /// Server names to ask for.
    pub names: Vec<String>,
}

/// One line of `exclude`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Left {
    Ports(u16, u16),
    Address(IpAddr),
    Socket(SocketAddr),
    Program(String),
}

impl ServedConfig {
    /// What is wrong with it.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let exclude = self.exclude.iter().filter_map(|line| left(line).err());
        let is_name = |name: &&String| super::names::is_host_name(name);
        let names = self.names.iter().filter(|name| !is_name(name)).map(|name| format!("served.names: {name:?} is not a host name"));
        exclude.chain(names).collect()
    }

    pub(super) fn left(&self) -> Vec<Left> {
        self.exclude.iter().filter_map(|line| left(line).ok()).collect()
    }
}

impl Left {
    /// Whether that socket is left out whoever listens there.
    pub(super) fn holds(&self, address: SocketAddr) -> bool {
        match self {
            Self::Ports(first, last) => (*first..=*last).contains(&address.port()),
            Self::Address(ip) => *ip == address.ip(),
            Self::Socket(socket) => *socket == address,
            Self::Program(_) => false,
        }
    }

    /// Whether that program is left out wherever it listens.
    pub(super) fn holds_program(&self, exe: &str) -> bool {
        let Self::Program(wanted) = self else { return false };
        wanted == exe || Path::new(exe).file_name().is_some_and(|name| name == wanted.as_str())
    }
}

fn left(line: &str) -> Result<Left, String> {
    let ports = |first: &str, last: &str| Some((first.parse().ok()?, last.parse().ok()?)).filter(|(first, last): &(u16, u16)| first <= last && *first > 0);
    if let Ok(socket) = line.parse() {
        return Ok(Left::Socket(socket));
    }
    if let Ok(ip) = line.trim_start_matches('[').trim_end_matches(']').parse() {
        return Ok(Left::Address(ip));
    }
    let (first, last) = line.split_once('-').unwrap_or((line, line));
    if let Some((first, last)) = ports(first, last) {
        return Ok(Left::Ports(first, last));
    }
    let looks_like_ports = !line.is_empty() && line.bytes().all(|b| b.is_ascii_digit() || b == b'-');
    if line.trim().is_empty() || looks_like_ports {
        return Err(format!("served.exclude: {line:?} is neither a port, a range of ports, an address nor a program"));
    }
    Ok(Left::Program(line.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_addresses_and_programs_can_be_left_out() {
        let holds = |line: &str, address: &str| left(line).unwrap().holds(address.parse().unwrap());
        assert!(holds("8443", "10.0.0.1:8443") && !holds("8443", "10.0.0.1:443"));
        assert!(holds("9000-9099", "[::1]:9099") && !holds("9000-9099", "[::1]:9100"));
        assert!(holds("10.0.0.1", "10.0.0.1:1") && holds("::1", "[::1]:7") && holds("[::1]:7", "[::1]:7") && !holds("[::1]:7", "[::1]:8"));
        let program = left("nginx").unwrap();
        assert!(program.holds_program("/usr/sbin/nginx") && !program.holds_program("/usr/sbin/nginx-debug") && !holds("nginx", "10.0.0.1:443"));
        assert!(left("/opt/a/server").unwrap().holds_program("/opt/a/server"));
        assert_eq!(left("redis-server"), Ok(Left::Program("redis-server".into())));
    }

    #[test]
    fn what_makes_no_sense_is_said_in_the_check_of_the_configuration() {
        let config = ServedConfig { exclude: vec!["70000".into(), "20-10".into(), String::new(), "443".into()], names: vec!["a b".into(), "a.example".into()] };
        let faults = config.faults();
        assert_eq!(faults.len(), 4, "{faults:?}");
        assert!(faults[0].contains("\"70000\"") && faults[3].contains("\"a b\""));
    }
}
