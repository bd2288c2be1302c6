//! What a server showed, as facts: its leaf, the chain beside it and what is wrong with that, the stapled answer. Called by the
//! sensor.

use std::sync::Arc;

use keyvigil_common::key::{KeyFacts, Place, Role, Served, Staple, clamp_text};

use keyvigil_common::tls::AGGREGATOR_NAME;

use super::handshake::Shown;
use crate::collect::known::Known;
use crate::parse::ocsp::{self, Standing};
use crate::parse::x509;

/// A service: what a port serves under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) facts: Arc<KeyFacts>,
    /// What is known of it by the handshake alone.
    pub(super) served: Served,
}

/// Reads what was shown at `at`.
///
/// # Errors
/// The leaf does not parse.
pub(super) fn seen(shown: &Shown, at: &str, known: Option<&Known>, now_ms: i64) -> Result<Seen, String> {
    let mut chain = Vec::new();
    let mut fault = None;
    for (n, der) in shown.chain.iter().enumerate() {
        match x509::certificate(der) {
            Ok(facts) => chain.push(facts),
            Err(e) if n == 0 => return Err(e),
            Err(e) => fault = Some(format!("certificate {} does not parse: {e}", n + 1)),
        }
    }
    let mut facts = chain.first().cloned().ok_or("shows no certificate")?;
    let staple = (!shown.staple.is_empty()).then(|| staple(&shown.staple, at, &mut facts));
    facts.clamp();
    let mut served = Served {
        protocol: Some(shown.protocol.clone()),
        cipher: shown.suite.clone(),
        chain: chain.iter().skip(1).map(|facts| facts.id.clone()).collect(),
        chain_fault: fault.or_else(|| chain_fault(&chain, known, now_ms)),
        staple,
        ..Served::default()
    };
    served.chain_fault.iter_mut().for_each(clamp_text);
    Ok(Seen { facts: Arc::new(facts), served })
}

/// What the stapled answer says; a revocation becomes part of the facts.
fn staple(der: &[u8], at: &str, facts: &mut KeyFacts) -> Staple {
    let answer = match ocsp::answer(der, facts.serial.as_deref().unwrap_or_default()) {
        Ok(answer) => answer,
        Err(why) => return Staple { status: why, ..Staple::default() },
    };
    let status = match answer.standing {
        Standing::Good => "good",
        Standing::Unknown => "unknown",
        Standing::Revoked(at_ms, reason) => {
            facts.revoked_ms = at_ms.or(answer.this_update_ms);
            facts.revocation = Some(format!("OCSP staple at {at}: {}", reason.unwrap_or("no reason told")));
            "revoked"
        }
    };
    Staple { status: status.into(), this_update_ms: answer.this_update_ms, next_update_ms: answer.next_update_ms }
}

/// What is wrong with a chain, so that some client fails; the first thing that is. Names are compared, signatures are not.
fn chain_fault(chain: &[KeyFacts], known: Option<&Known>, now_ms: i64) -> Option<String> {
    let (leaf, others) = chain.split_first()?;
    let name = |facts: &KeyFacts| facts.subject.clone().filter(|name| !name.is_empty()).unwrap_or_else(|| format!("serial {:?}", facts.serial));
    let signs = |issuer: &KeyFacts, of: &KeyFacts| issuer.subject == of.issuer && issuer.is_ca != Some(false);
    if leaf.is_ca == Some(true)
        && let Some(own) = others.iter().find(|other| other.is_ca != Some(true) && other.issuer == leaf.subject)
    {
        return Some(format!("the server's own certificate is not first: {} stands before {}", name(leaf), name(own)));
    }
    let expired = others.iter().find(|other| other.not_after_ms.is_some_and(|end| end <= now_ms) && !is_self_signed(other));
    if let Some(expired) = expired {
        return Some(format!("the intermediate certificate {} has expired: serve the one that replaced it", name(expired)));
    }
    for (at, of) in chain.iter().enumerate().filter(|(_, of)| !is_self_signed(of)) {
        let next = chain.get(at + 1);
        if next.is_some_and(|next| signs(next, of)) {
            continue;
        }
        if next.is_some_and(|next| next.id == leaf.id) {
            return Some("the server's own certificate is sent twice".into());
        }
        if chain.iter().any(|other| signs(other, of)) {
            return Some(format!("wrong order: the certificate of the issuer of {} does not follow it", name(of)));
        }
        let issuer = of.issuer.clone().unwrap_or_default();
        if next.is_some() {
            return Some(format!("{} is followed by one that did not issue it, and {issuer} is not sent", name(of)));
        }
        return missing(of, at == 0, &issuer, known);
    }
    None
}

/// Whether the last one's issuer should have been sent.
fn missing(last: &KeyFacts, is_leaf: bool, issuer: &str, known: Option<&Known>) -> Option<String> {
    let known = known?;
    // The clients of an aggregator have its authority from their join token.
    if last.sans.iter().any(|san| san.strip_prefix("DNS:") == Some(AGGREGATOR_NAME)) {
        return None;
    }
    let mut here = known.certificates.iter().filter(|certificate| certificate.facts.subject.as_deref() == Some(issuer)).peekable();
    let is_known = here.peek().is_some();
    if here.any(|certificate| is_self_signed(&certificate.facts)) {
        return None;
    }
    // Above an intermediate certificate stands a root that clients have, whether this host has it or not.
    (is_leaf || is_known).then(|| {
        let subject = last.subject.clone().unwrap_or_default();
        let why = if is_known { "is an intermediate one" } else { "is no root that this host knows" };
        format!("the certificate of {issuer}, who issued {subject}, is not sent and {why}: clients that do not have it cannot verify the chain")
    })
}

fn is_self_signed(facts: &KeyFacts) -> bool {
    facts.subject.is_some() && facts.subject == facts.issuer
}

/// The place of what is served.
pub(super) fn place(path: &str, served: Served) -> Place {
    Place { role: Role::Served, format: Some("tls".into()), served: Some(Box::new(served)), ..Place::at(path) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::known::KnownCertificate;
    use keyvigil_common::key::KeyKind;

    const NOW: i64 = 1_000;

    fn facts(subject: &str, issuer: &str, is_ca: bool) -> KeyFacts {
        let mut facts = KeyFacts::bare(KeyKind::Certificate, format!("id of {subject} by {issuer}"), subject.into(), "ec");
        (facts.subject, facts.issuer, facts.is_ca, facts.not_after_ms) = (Some(subject.into()), Some(issuer.into()), Some(is_ca), Some(NOW + 1));
        facts
    }

    fn known(list: &[KeyFacts]) -> Known {
        let certificate = |facts: &KeyFacts| KnownCertificate { facts: Arc::new(facts.clone()), path: "/r".into(), held: false, used_by: Vec::new() };
        Known { certificates: list.iter().map(certificate).collect(), ..Known::default() }
    }

    #[test]
    fn a_chain_is_judged_by_its_order_and_by_what_is_missing() {
        let (leaf, mid, root) = (|| facts("leaf", "mid", false), || facts("mid", "root", true), || facts("root", "root", true));
        let here = known(&[root()]);
        let fault = |chain: &[KeyFacts]| chain_fault(chain, Some(&here), NOW).unwrap_or_default();
        assert_eq!(fault(&[leaf(), mid()]), "");
        assert_eq!(fault(&[leaf(), mid(), root()]), "", "a root that is sent along harms nobody");
        assert_eq!(fault(&[facts("own", "own", false)]), "", "signed by itself");
        assert_eq!(fault(&[facts("direct", "root", false)]), "", "by a root that this host knows");
        assert!(fault(&[leaf()]).contains("mid, who issued leaf, is not sent and is no root that this host knows"));
        let with_mid = known(&[root(), mid()]);
        assert!(chain_fault(&[leaf()], Some(&with_mid), NOW).unwrap().contains("is an intermediate one"));
        assert_eq!(chain_fault(&[leaf()], None, NOW), None, "before the keystore has looked nothing is said to be missing");
        assert!(fault(&[mid(), leaf()]).contains("is not first"));
        let low = || facts("low", "mid", true);
        assert!(fault(&[facts("leaf", "low", false), mid(), low()]).contains("wrong order"));
        assert!(fault(&[leaf(), leaf(), mid()]).contains("twice"));
        assert!(fault(&[leaf(), facts("stranger", "root", true)]).contains("did not issue it"));
        let old = KeyFacts { not_after_ms: Some(NOW), ..mid() };
        assert!(fault(&[leaf(), old]).contains("mid has expired"));
        assert_eq!(fault(&[leaf(), facts("mid", "cross", true)]), "", "its root may be the clients' own");
    }
}
