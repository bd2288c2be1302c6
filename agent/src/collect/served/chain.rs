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

/// What is wrong with a chain, so that some client fails; the first thing that is. Names and key identifiers are compared,
/// signatures are not. Where the issuer is nobody that this host knows, nothing is said: it may be a root that clients have.
fn chain_fault(chain: &[KeyFacts], known: Option<&Known>, now_ms: i64) -> Option<String> {
    let (leaf, others) = chain.split_first()?;
    let name = |facts: &KeyFacts| facts.subject.clone().filter(|name| !name.is_empty()).unwrap_or_else(|| format!("serial {:?}", facts.serial));
    if leaf.is_ca == Some(true)
        && let Some(own) = others.iter().find(|other| other.is_ca != Some(true) && other.issuer == leaf.subject)
    {
        return Some(format!("the server's own certificate is not first: {} stands before {}", name(leaf), name(own)));
    }
    let is_over = |facts: &KeyFacts| facts.not_after_ms.is_some_and(|end| end <= now_ms);
    // Who trusts the same authority by itself does not follow its signature by an older one.
    let is_trusted =
        |other: &KeyFacts| known.is_some_and(|known| known.certificates.iter().any(|root| is_root_of(&root.facts, other) && !is_over(&root.facts)));
    let expired = others.iter().find(|other| is_over(other) && !is_self_signed(other) && !is_trusted(other));
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
        return missing(of, &issuer, known);
    }
    None
}

/// Whether the last one's issuer should have been sent: only an intermediate certificate that this host knows tells.
fn missing(last: &KeyFacts, issuer: &str, known: Option<&Known>) -> Option<String> {
    // The clients of an aggregator have its authority from their join token.
    if last.sans.iter().any(|san| san.strip_prefix("DNS:") == Some(AGGREGATOR_NAME)) {
        return None;
    }
    let here: Vec<_> = known?.certificates.iter().filter(|certificate| signs(&certificate.facts, last)).collect();
    if here.iter().any(|certificate| is_self_signed(&certificate.facts)) {
        return None;
    }
    let path = &here.first()?.path;
    let subject = last.subject.clone().unwrap_or_default();
    Some(format!("the intermediate certificate of {issuer}, who issued {subject}, is not sent: clients that do not have it cannot verify; it lies in {path}"))
}

/// Whether `issuer` can have signed `of`: an authority of another key that has the name of the former one has not.
fn signs(issuer: &KeyFacts, of: &KeyFacts) -> bool {
    let is_its_key = of.authority_key_id.is_none() || issuer.key_id.is_none() || of.authority_key_id == issuer.key_id;
    issuer.subject == of.issuer && issuer.is_ca != Some(false) && is_its_key
}

/// Whether `root` is the same authority, signed by itself.
fn is_root_of(root: &KeyFacts, other: &KeyFacts) -> bool {
    is_self_signed(root) && root.subject == other.subject && root.fingerprint == other.fingerprint
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
        assert_eq!(fault(&[leaf()]), "", "mid may be a root that clients have: nobody can tell");
        let with_mid = known(&[root(), mid()]);
        assert!(chain_fault(&[leaf()], Some(&with_mid), NOW).unwrap().contains("of mid, who issued leaf, is not sent"));
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

    #[test]
    fn an_authority_is_known_by_its_key_and_not_by_its_name_alone() {
        let keyed = |subject: &str, issuer: &str, own: &str, by: &str| KeyFacts {
            fingerprint: own.into(),
            key_id: Some(own.into()),
            authority_key_id: Some(by.into()),
            ..facts(subject, issuer, subject != "leaf")
        };
        let leaf = || keyed("leaf", "mid", "l", "m2");
        let here = known(&[keyed("root", "root", "r", "r")]);
        let fault = |chain: &[KeyFacts], here: &Known| chain_fault(chain, Some(here), NOW).unwrap_or_default();
        assert_eq!(fault(&[leaf(), keyed("mid", "root", "m2", "r")], &here), "");
        assert!(fault(&[leaf(), keyed("mid", "root", "m1", "r")], &here).contains("did not issue it"), "the one before it had the same name");
        assert_eq!(fault(&[leaf()], &known(&[keyed("mid", "root", "m1", "r")])), "", "that is not the one that is missing");
        // A root that an older one had signed as well, until that ended: whoever has the root does not miss it.
        let cross = || KeyFacts { not_after_ms: Some(NOW), ..keyed("root", "older", "r", "o") };
        let chain = [leaf(), keyed("mid", "root", "m2", "r"), cross()];
        assert_eq!(fault(&chain, &here), "");
        assert!(fault(&chain, &known(&[])).contains("root has expired"));
    }
}
