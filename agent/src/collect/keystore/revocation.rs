//! Marks what a revocation list that lies on this host revokes: certificates by their issuer and serial number, SSH keys by
//! their fingerprint. Whether a list was signed by its issuer is not checked here: who may write into the host's key directories
//! needs no forged list. Called by the reader when something changed.

use std::collections::HashMap;
use std::sync::Arc;

use keyvigil_common::crl::Lines;
use keyvigil_common::key::{KeyFacts, KeyKind};

/// All lists of a host, to look keys up.
#[derive(Debug, Default)]
pub(super) struct Lists {
    /// By the issuer's name; of SSH, which has none, under the empty name.
    by_issuer: HashMap<String, Vec<List>>,
}

#[derive(Debug)]
struct List {
    path: String,
    authority_key_id: Option<String>,
    lines: Arc<Lines>,
}

impl Lists {
    /// Takes in the list that lies at `path`.
    pub(super) fn add(&mut self, path: &str, facts: &KeyFacts, lines: &Arc<Lines>) {
        let list = List { path: path.to_owned(), authority_key_id: facts.authority_key_id.clone(), lines: Arc::clone(lines) };
        self.by_issuer.entry(facts.issuer.clone().unwrap_or_default()).or_default().push(list);
    }

    /// What becomes of a key's facts: `None` where no list revokes it.
    pub(super) fn revoke(&self, facts: &KeyFacts) -> Option<KeyFacts> {
        if facts.revoked_ms.is_some() {
            return None;
        }
        let (issuer, wanted) = match facts.kind {
            KeyKind::Certificate => (facts.issuer.as_deref()?, vec![facts.serial.clone()?]),
            KeyKind::SshPrivateKey | KeyKind::SshPublicKey => ("", vec![facts.fingerprint.clone()]),
            KeyKind::SshCertificate => {
                let by_serial = facts.issuer.as_ref().zip(facts.serial.as_ref()).map(|(issuer, serial)| format!("{issuer} {serial}"));
                ("", [Some(facts.fingerprint.clone()), by_serial].into_iter().flatten().collect())
            }
            _ => return None,
        };
        let lists = self.by_issuer.get(issuer)?.iter().filter(|list| is_of_signer(list, facts));
        let (list, (at_ms, reason)) = lists.filter_map(|list| Some((list, wanted.iter().find_map(|what| list.lines.find(what))?))).next()?;
        let reason = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
        Some(KeyFacts { revoked_ms: Some(at_ms), revocation: Some(format!("revocation list {}{reason}", list.path)), ..facts.clone() })
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.by_issuer.is_empty()
    }
}

/// Two authorities may go by one name: their keys tell them apart, where both say which.
fn is_of_signer(list: &List, facts: &KeyFacts) -> bool {
    list.authority_key_id.as_ref().zip(facts.authority_key_id.as_ref()).is_none_or(|(list, of_key)| list == of_key)
}
