//! Which key of a keyring a private key of `gpg-agent` is the secret half of. Its file holds only numbers; when the key was made,
//! whose it is and what it is for stands in the keyring, and by that it is known. Pure. Called by the reader.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use keyvigil_common::key::KeyFacts;

use super::model::Object;

/// Form of the files of `gpg-agent`.
const AGENT: &str = "gnupg";

/// The OpenPGP keys that lie in keyrings and in other files.
#[derive(Debug, Default)]
pub(super) struct Rings {
    /// By what all forms of a key have in common: where it lies, and what is said there.
    keys: HashMap<String, Vec<(PathBuf, Arc<KeyFacts>)>>,
}

impl Rings {
    /// Takes in an object of the file at `path`, of which the file says `facts`.
    pub(super) fn add(&mut self, path: &Path, object: &Object, facts: &Arc<KeyFacts>) {
        if facts.kind.is_openpgp() && !is_of_agent(object) {
            self.keys.entry(facts.key().to_owned()).or_default().push((path.to_owned(), Arc::clone(facts)));
        }
    }

    /// Nothing to look up.
    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// What is known of the private key `object` of the file at `path`; `None` where it is in no keyring, or not one of `gpg-agent`'s.
    pub(super) fn complete(&self, path: &Path, object: &Object, own: &KeyFacts) -> Option<KeyFacts> {
        let known = self.keys.get(own.key()).filter(|_| own.kind.is_openpgp() && is_of_agent(object))?;
        // `private-keys-v1.d` lies beside its keyring. A key may lie in several, and be the half of two with different dates.
        let home = path.parent().and_then(Path::parent);
        let (_, facts) = known.iter().min_by_key(|(ring, facts)| (ring.parent() != home, facts.not_before_ms, &facts.id))?;
        Some(KeyFacts { kind: own.kind, encrypted: own.encrypted, kdf: own.kdf.clone(), ..(**facts).clone() })
    }
}

fn is_of_agent(object: &Object) -> bool {
    object.within.format.as_deref() == Some(AGENT)
}
