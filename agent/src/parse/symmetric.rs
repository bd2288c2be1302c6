//! Secrets that both sides hold. A hash of one would tell who guesses it that he guessed right, so such a key is known by where it
//! lies, what its file calls it and how long it is: another secret in the same place is the same key to us. Called by the
//! parsers of JWKS and WireGuard files.

use std::path::Path;

use keyvigil_common::key::{KeyFacts, KeyKind};
use keyvigil_common::{hex, sha256};

/// Facts of the secret of `bits` bits that the file at `path` calls `name`.
#[must_use]
pub fn symmetric(path: &Path, name: &str, algorithm: impl Into<String>, bits: Option<u32>) -> KeyFacts {
    let place = format!("secret\0{}\0{name}\0{}", path.display(), bits.unwrap_or(0));
    let id = hex(&sha256(place.as_bytes()));
    let mut facts = KeyFacts::bare(KeyKind::SymmetricKey, id.clone(), id, algorithm);
    facts.bits = bits;
    facts.encrypted = Some(false);
    facts
}
