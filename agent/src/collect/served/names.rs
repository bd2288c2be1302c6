//! Which names a port is asked for: those of the certificates that lie on this host, their keys beside them first, and those that
//! are configured. Called by the sensor.

use keyvigil_common::limits::SERVED_NAMES_MAX;

use crate::collect::known::{Known, KnownCertificate};

/// Names to ask for, the most likely first.
pub(super) fn names(configured: &[String], known: &Known) -> Vec<String> {
    let mut names: Vec<String> = configured.iter().map(|name| name.to_ascii_lowercase()).collect();
    let mut leaves: Vec<&KnownCertificate> = known.certificates.iter().filter(|certificate| is_servers(certificate)).collect();
    leaves.sort_by_key(|leaf| (!known.keys.contains(&leaf.facts.fingerprint), std::cmp::Reverse(leaf.facts.not_before_ms)));
    for leaf in leaves {
        names.extend(names_of(leaf));
    }
    let mut seen = std::collections::HashSet::new();
    names.retain(|name| seen.insert(name.clone()));
    names.truncate(SERVED_NAMES_MAX);
    names
}

/// Whether a server may show it: not an authority, but for one who signed himself for a host.
fn is_servers(certificate: &KnownCertificate) -> bool {
    certificate.held && (certificate.facts.is_ca != Some(true) || certificate.facts.sans.iter().any(|san| san.starts_with("DNS:")))
}

fn names_of(leaf: &KnownCertificate) -> Vec<String> {
    let dns: Vec<&str> = leaf.facts.sans.iter().filter_map(|san| san.strip_prefix("DNS:")).collect();
    let common = leaf.facts.subject.as_deref().and_then(|subject| subject.rsplit("CN=").next()).filter(|_| dns.is_empty());
    let all = dns.into_iter().chain(common).map(|name| match name.strip_prefix("*.") {
        // Any name that the wildcard holds.
        Some(rest) => format!("www.{rest}"),
        None => name.to_owned(),
    });
    all.map(|name| name.to_ascii_lowercase()).filter(|name| is_host_name(name)).collect()
}

/// Whether it may stand in a greeting: letters, digits, hyphens and dots, at least one dot, no address.
pub(super) fn is_host_name(name: &str) -> bool {
    let is_label = |label: &str| {
        let inner = label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        inner && (1..=63).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-')
    };
    let is_address = name.parse::<std::net::IpAddr>().is_ok();
    name.len() <= 253 && name.contains('.') && !is_address && name.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use keyvigil_common::key::{KeyFacts, KeyKind};

    fn certificate(id: &str, sans: &[&str], is_ca: bool) -> KnownCertificate {
        let mut facts = KeyFacts::bare(KeyKind::Certificate, id.into(), format!("key of {id}"), "ec");
        facts.sans = sans.iter().map(|san| (*san).to_owned()).collect();
        facts.subject = Some(format!("O=Example, CN={id}.example.org"));
        facts.is_ca = Some(is_ca);
        KnownCertificate { facts: Arc::new(facts), path: format!("/{id}"), held: true, used_by: Vec::new() }
    }

    #[test]
    fn names_come_from_certificates_whose_key_is_here_first_and_are_bounded() {
        let mut known = Known::default();
        known.certificates.push(certificate("a", &["DNS:a.example.org", "IP:10.0.0.1", "DNS:Shared.example.org"], false));
        known.certificates.push(certificate("b", &["DNS:*.b.example.org", "DNS:shared.example.org", "DNS:bad name"], false));
        known.certificates.push(certificate("c", &[], false));
        known.certificates.push(certificate("ca", &[], true));
        known.keys.insert("key of b".into());
        let configured = ["Extra.example.org".to_owned()];
        assert_eq!(names(&configured, &known), ["extra.example.org", "www.b.example.org", "shared.example.org", "a.example.org", "c.example.org"]);
        let many: Vec<String> = (0..200).map(|n| format!("DNS:n{n}.example.org")).collect();
        known.certificates.push(certificate("many", &many.iter().map(String::as_str).collect::<Vec<_>>(), false));
        assert_eq!(names(&configured, &known).len(), SERVED_NAMES_MAX);
        assert!(!is_host_name("10.0.0.1") && !is_host_name("localhost") && !is_host_name("a..b") && is_host_name("xn--bcher-kva.example"));
    }
}
