//! Which revocations go, and which stay though nothing says them any more: a list that is gone takes nothing back. Pure. Called by
//! the tracker.

use std::sync::Arc;

use keyvigil_common::key::{KeyFacts, KeyKind, Place};

use super::model::{Change, Held, Scan};

/// How a mark begins that a list gave.
const BY_LIST: &str = "revocation list ";
/// How the mark of a list ends that is not there.
const LIST_GONE: &str = " (that list is gone)";

/// What becomes of a mark that `facts`, as the file and the lists have it now, do not carry.
pub(super) struct Marks<'a> {
    /// Path of each list that was seen, with what it is.
    lists: Vec<(&'a str, &'a KeyFacts)>,
}

impl<'a> Marks<'a> {
    pub(super) fn of(scan: &'a Scan<'_>) -> Self {
        let lists = scan.files.iter().flat_map(|(path, file)| file.objects.iter().map(move |object| (path.as_str(), object.facts.as_ref())));
        Self { lists: lists.filter(|(_, facts)| facts.kind == KeyKind::Crl).collect() }
    }

    /// Facts of a key that was `held` so: with the mark that nobody took back.
    pub(super) fn kept(&self, held: &KeyFacts, facts: Arc<KeyFacts>) -> Arc<KeyFacts> {
        let Some(why) = held.revocation.as_ref().filter(|why| held.revoked_ms.is_some() && why.starts_with(BY_LIST)) else { return facts };
        if facts.revoked_ms.is_some() || self.takes_back(held).is_some() {
            return facts;
        }
        let why = if why.ends_with(LIST_GONE) { why.clone() } else { format!("{why}{LIST_GONE}") };
        Arc::new(KeyFacts { revoked_ms: held.revoked_ms, revocation: Some(why), ..(*facts).clone() })
    }

    /// The news that a mark went, if it did.
    pub(super) fn lifted(&self, held: &KeyFacts, facts: &Arc<KeyFacts>, place: &Place) -> Option<Change> {
        let is_lifted = held.revoked_ms.is_some() && facts.revoked_ms.is_none();
        is_lifted.then(|| Change::Reinstated(Arc::clone(facts), place.clone(), self.takes_back(held).map(str::to_owned)))
    }

    /// The list that would name a revoked key, and was made since: an older one knows nothing of it.
    fn takes_back(&self, held: &KeyFacts) -> Option<&'a str> {
        let is_ssh = held.kind != KeyKind::Certificate;
        let issuer = if is_ssh { "" } else { held.issuer.as_deref().unwrap_or_default() };
        let speaks = |list: &KeyFacts| {
            let signer = list.authority_key_id.as_ref().zip(held.authority_key_id.as_ref());
            list.issuer.as_deref().unwrap_or_default() == issuer
                && signer.is_none_or(|(of_list, of_key)| of_list == of_key)
                && list.not_before_ms.is_none_or(|made| held.revoked_ms.is_none_or(|at| at <= made))
        };
        self.lists.iter().find(|(_, list)| speaks(list)).map(|(path, _)| *path)
    }
}

/// Whether it is marked by a list that is not there: the next one may take that back, though the file stays as it is.
pub(super) fn is_orphaned(held: &Held) -> bool {
    held.facts.revocation.as_ref().is_some_and(|why| why.ends_with(LIST_GONE))
}
