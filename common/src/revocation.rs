//! Which key a revocation list revokes: certificates by their issuer and serial number, SSH keys by their fingerprint. Called by
//! the agent for lists on its host, and by the aggregator for those of the whole fleet.

use std::collections::HashMap;
use std::sync::Arc;

use crate::crl::Lines;
use crate::key::{KeyFacts, KeyKind};

/// Lists, to look keys up.
#[derive(Debug, Default)]
pub struct Lists {
    /// By the issuer's name; of SSH, which has none, under the empty name.
    by_issuer: HashMap<String, Vec<List>>,
}

#[derive(Debug)]
struct List {
    name: String,
    authority_key_id: Option<String>,
    /// When it was made: lists of SSH do not say of each line since when.
    made_ms: i64,
    lines: Arc<Lines>,
}

/// What a list says of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    /// When, Unix ms.
    pub at_ms: i64,
    /// Name of the list.
    pub list: String,
    /// Why, where it says so.
    pub reason: Option<String>,
}

impl Revocation {
    /// `revocation list /etc/ssl/crl.pem: keyCompromise`.
    #[must_use]
    pub fn sentence(&self) -> String {
        let reason = self.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        format!("revocation list {}{reason}", self.list)
    }
}

impl Lists {
    /// Takes in the list that goes by `name` and has these facts.
    pub fn add(&mut self, name: impl Into<String>, facts: &KeyFacts, lines: &Arc<Lines>) {
        let made_ms = facts.not_before_ms.unwrap_or(0);
        let list = List { name: name.into(), authority_key_id: facts.authority_key_id.clone(), made_ms, lines: Arc::clone(lines) };
        self.by_issuer.entry(facts.issuer.clone().unwrap_or_default()).or_default().push(list);
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_issuer.is_empty()
    }

    /// Whether there is one of that name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.by_issuer.values().flatten().any(|list| list.name == name)
    }

    /// What becomes of a key; `None` where no list revokes it. Of several, always the same one.
    #[must_use]
    pub fn find(&self, facts: &KeyFacts) -> Option<Revocation> {
        let (issuer, names) = looked_up_by(facts)?;
        let says = |list: &List| names.iter().find_map(|name| list.lines.find(name));
        let lists = self.by_issuer.get(issuer)?.iter().filter(|list| is_of_signer(list, facts));
        let (list, (at_ms, reason)) = lists.filter_map(|list| Some((list, says(list)?))).min_by_key(|(list, _)| &list.name)?;
        let at_ms = if at_ms == 0 { list.made_ms } else { at_ms };
        Some(Revocation { at_ms, list: list.name.clone(), reason: reason.map(str::to_owned) })
    }
}

/// Under which issuer, and as what, a list would name a key.
fn looked_up_by(facts: &KeyFacts) -> Option<(&str, Vec<String>)> {
    match facts.kind {
        KeyKind::Certificate => Some((facts.issuer.as_deref()?, vec![facts.serial.clone()?])),
        KeyKind::SshPrivateKey | KeyKind::SshPublicKey => Some(("", vec![facts.fingerprint.clone()])),
        KeyKind::SshCertificate => {
            // A certificate is revoked with its key and with its authority's, and by what the authority calls it.
            let mut names = vec![facts.fingerprint.clone()];
            names.extend(facts.issuer.clone());
            for authority in facts.issuer.iter().map(String::as_str).chain(["any"]) {
                names.extend(facts.serial.as_ref().map(|serial| format!("{authority} {serial}")));
                names.extend(facts.subject.as_ref().map(|id| format!("{authority} id:{id}")));
            }
            Some(("", names))
        }
        _ => None,
    }
}

/// Two authorities may go by one name: their keys tell them apart, where both say which.
fn is_of_signer(list: &List, facts: &KeyFacts) -> bool {
    list.authority_key_id.as_ref().zip(facts.authority_key_id.as_ref()).is_none_or(|(list, of_key)| list == of_key)
}
