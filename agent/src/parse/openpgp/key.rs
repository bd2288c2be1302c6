//! One key packet: its public half, its fingerprint, and how its secret half is protected. Format: RFC 9580 section 5.5.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use keyvigil_common::key::{KeyFacts, KeyKind};
use keyvigil_common::{hex, sha256};
use md5::{Digest, Md5};

use super::material::{self, Input};
use super::packets::{PUBLIC_KEY, PUBLIC_SUBKEY, Packet};
use super::secret::{Secret, secret};

/// A key, before its signatures are known.
#[derive(Debug, Clone)]
pub(super) struct Key {
    pub(super) facts: KeyFacts,
    pub(super) fingerprint: Vec<u8>,
    /// Which signatures name.
    pub(super) number: [u8; 8],
    /// Unix seconds.
    pub(super) created: i64,
}

const BROKEN: &str = "the OpenPGP key does not parse";

/// Reads a key packet.
///
/// # Errors
/// What is wrong with it.
pub(super) fn key(packet: &Packet<'_>) -> Result<Key, String> {
    let is_public = matches!(packet.tag, PUBLIC_KEY | PUBLIC_SUBKEY);
    let kind = if is_public { KeyKind::OpenpgpPublicKey } else { KeyKind::OpenpgpPrivateKey };
    let mut input = Input(packet.body);
    let version = input.byte().ok_or(BROKEN)?;
    let created = i64::from(input.number(4).ok_or(BROKEN)?);
    let days = if version < 4 { input.number(2).ok_or(BROKEN)? } else { 0 };
    let algorithm = input.byte().ok_or(BROKEN)?;
    let counted = if version >= 5 { Some(input.number(4).ok_or(BROKEN)? as usize) } else { None };
    let start = input;
    let known = material::public(kind, algorithm, &mut input);
    let length = match (&known, counted) {
        (_, Some(length)) => length,
        (Some(_), None) => start.0.len() - input.0.len(),
        (None, None) if is_public => start.0.len(),
        (None, None) => return Err(format!("an OpenPGP secret key of an algorithm that is not known here ({algorithm})")),
    };
    if length > start.0.len() || known.is_none() && matches!(algorithm, 1..=3 | 16..=20 | 22 | 25..=28) {
        return Err(BROKEN.into());
    }
    let public = &packet.body[..packet.body.len() - start.0.len() + length];
    let fingerprint = fingerprint(version, public, start).ok_or(BROKEN)?;
    let mut facts = known.unwrap_or_else(|| KeyFacts::bare(kind, String::new(), String::new(), material::name(algorithm)));
    facts.id = hex(&sha256(&framed(version, public)));
    if facts.fingerprint.is_empty() {
        facts.fingerprint.clone_from(&facts.id);
    }
    facts.key_id = Some(hex(&fingerprint));
    facts.not_before_ms = Some(created * 1_000);
    facts.not_after_ms = (days > 0).then(|| (created + i64::from(days) * 86_400) * 1_000);
    if !is_public {
        match secret(version, &start.0[length..]).ok_or("the secret half of the OpenPGP key does not parse")? {
            Secret::Clear => facts.encrypted = Some(false),
            Secret::Locked(kdf) => (facts.encrypted, facts.kdf) = (Some(true), Some(kdf)),
            // No secret lies here.
            Secret::Elsewhere(where_) => (facts.kind, facts.kdf) = (KeyKind::OpenpgpPublicKey, Some(where_)),
        }
    }
    let number = match version {
        5.. => fingerprint.first_chunk().copied(),
        4 => fingerprint.last_chunk().copied(),
        // The end of the modulus.
        _ => Input(start.0).integer().and_then(|n| n.last_chunk().copied()),
    };
    Ok(Key { facts, number: number.ok_or(BROKEN)?, fingerprint, created })
}

/// What is hashed for a fingerprint: the public half as if it were a packet of its own.
fn framed(version: u8, public: &[u8]) -> Vec<u8> {
    let length = u32::try_from(public.len()).unwrap_or(u32::MAX).to_be_bytes();
    match version {
        6.. => [&[0x9b][..], &length, public].concat(),
        5 => [&[0x9a][..], &length, public].concat(),
        _ => [&[0x99][..], &length[2..], public].concat(),
    }
}

fn fingerprint(version: u8, public: &[u8], mut material: Input<'_>) -> Option<Vec<u8>> {
    match version {
        5.. => Some(digest(&SHA256, &framed(version, public)).as_ref().to_vec()),
        4 => Some(digest(&SHA1_FOR_LEGACY_USE_ONLY, &framed(version, public)).as_ref().to_vec()),
        _ => {
            let (n, e) = (material.integer()?, material.integer()?);
            Some(Md5::new().chain_update(n).chain_update(e).finalize().to_vec())
        }
    }
}
