//! Puts packets together: a primary key, its users, its subkeys, and what the signatures behind each say. Of signatures only
//! the newest of a kind is kept, so that a key with a hundred thousand of strangers' takes no room.

use keyvigil_common::key::KeyFacts;
use keyvigil_common::limits::SANS_MAX;

use super::key::{self, Key};
use super::packets::{PUBLIC_KEY, PUBLIC_SUBKEY, Packet, SECRET_KEY, SECRET_SUBKEY, SIGNATURE, USER_ATTRIBUTE, USER_ID};
use super::signature::{Signature, signature};
use crate::parse::keys::{FaultClass, Parsed, Within};

/// Users of one key that are kept; the others are counted by nobody.
const USERS_MAX: usize = SANS_MAX + 1;
/// Subkeys of one key.
const SUBKEYS_MAX: usize = 200;
/// Keys that may revoke one key.
const REVOKERS_MAX: usize = 16;

/// One key with all that belongs to it, so far.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    offset: usize,
    primary: Option<Result<Key, String>>,
    /// Newest signature that speaks of the key itself.
    direct: Option<Signature>,
    revokers: Vec<Vec<u8>>,
    /// Revocations, the primary's own or of someone who may.
    revocations: Vec<Signature>,
    users: Vec<User>,
    subkeys: Vec<Subkey>,
    /// To what the next signature belongs.
    latest: Latest,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Latest {
    #[default]
    Primary,
    User,
    Subkey,
    /// A picture, or something that is not kept.
    Other,
}

#[derive(Debug, Default)]
struct User {
    text: String,
    certified: Option<Signature>,
    revoked: Option<Signature>,
}

#[derive(Debug)]
struct Subkey {
    offset: usize,
    key: Result<Key, String>,
    bound: Option<Signature>,
    revoked: Option<Signature>,
}

impl Assembly {
    /// Takes in the next packet.
    pub(super) fn add(&mut self, packet: &Packet<'_>) {
        match packet.tag {
            PUBLIC_KEY | SECRET_KEY => *self = Self { offset: packet.offset, primary: Some(key::key(packet)), ..Self::default() },
            PUBLIC_SUBKEY | SECRET_SUBKEY if self.subkeys.len() < SUBKEYS_MAX => {
                self.subkeys.push(Subkey { offset: packet.offset, key: key::key(packet), bound: None, revoked: None });
                self.latest = Latest::Subkey;
            }
            USER_ID if self.users.len() < USERS_MAX => {
                const TEXT_MAX: usize = 1_024;
                let text = String::from_utf8_lossy(&packet.body[..packet.body.len().min(TEXT_MAX)]).into_owned();
                self.users.push(User { text, ..User::default() });
                self.latest = Latest::User;
            }
            PUBLIC_SUBKEY | SECRET_SUBKEY | USER_ID | USER_ATTRIBUTE => self.latest = Latest::Other,
            SIGNATURE => {
                if let Some(signature) = signature(packet.body) {
                    self.sign(signature);
                }
            }
            _ => {}
        }
    }

    fn sign(&mut self, signature: Signature) {
        let Some(Ok(primary)) = &self.primary else { return };
        let is_own = signature.is_by(primary);
        match (self.latest, signature.kind) {
            // Whether its maker may is only known when all signatures are.
            (_, 0x20) => self.revocations.extend((self.revocations.len() < REVOKERS_MAX || is_own).then_some(signature)),
            _ if !is_own => {}
            (_, 0x1f) => {
                self.revokers.extend(signature.revoker.clone().filter(|_| self.revokers.len() < REVOKERS_MAX));
                newer(&mut self.direct, signature);
            }
            (Latest::User, 0x10..=0x13) => self.users.iter_mut().last().into_iter().for_each(|user| newer(&mut user.certified, signature.clone())),
            (Latest::User, 0x30) => self.users.iter_mut().last().into_iter().for_each(|user| newer(&mut user.revoked, signature.clone())),
            (Latest::Subkey, 0x18) => self.subkeys.iter_mut().last().into_iter().for_each(|key| newer(&mut key.bound, signature.clone())),
            (Latest::Subkey, 0x28) => self.subkeys.iter_mut().last().into_iter().for_each(|key| newer(&mut key.revoked, signature.clone())),
            _ => {}
        }
        // One that may revoke is remembered only so often.
        self.revocations.truncate(2 * REVOKERS_MAX);
    }

    /// Tells the primary key and its subkeys.
    pub(super) fn tell(self, base: usize, within: &Within, parsed: &mut Parsed) {
        let Self { offset, primary, direct, revokers, revocations, users, subkeys, .. } = self;
        let primary = match primary {
            Some(Ok(primary)) => primary,
            Some(Err(reason)) => return parsed.fault(base + offset, FaultClass::Corrupt, reason),
            None => return,
        };
        let may = |signature: &&Signature| signature.is_by(&primary) || revokers.iter().any(|revoker| signature.is_by_fingerprint(revoker));
        let revocation = revocations.iter().filter(may).min_by_key(|signature| signature.created);
        let users = Users(users);
        let mut facts = primary.facts.clone();
        let signature = direct.as_ref().or_else(|| users.newest());
        facts.usage = direct.as_ref().filter(|direct| direct.flags.is_some()).or_else(|| users.newest()).map(Signature::usage).unwrap_or_default();
        facts.signature_algorithm = signature.map(Signature::algorithm);
        let expires = direct.as_ref().and_then(|direct| direct.key_expires).or_else(|| users.expires());
        facts.not_after_ms = end(&primary, expires).or(facts.not_after_ms);
        facts.subject = users.main().map(|user| user.text.clone());
        facts.sans = users.valid().map(|user| format!("uid:{}", user.text)).collect();
        if let Some(revocation) = revocation {
            revoke(&mut facts, revocation, "its own signature");
        }
        let above = facts.clone();
        parsed.object(base + offset, within.clone(), Ok(facts));
        for subkey in subkeys {
            if !parsed.has_room(base + subkey.offset) {
                return;
            }
            let facts = subkey.key.map(|key| below(key, subkey.bound.as_ref(), subkey.revoked.as_ref(), &above));
            parsed.object(base + subkey.offset, within.clone().entry("subkey"), facts);
        }
    }
}

/// Facts of a subkey: it lasts no longer than its primary, and is revoked with it.
fn below(key: Key, bound: Option<&Signature>, revoked: Option<&Signature>, above: &KeyFacts) -> KeyFacts {
    let own_end = end(&key, bound.and_then(|bound| bound.key_expires)).or(key.facts.not_after_ms);
    let mut facts = key.facts;
    facts.not_after_ms = own_end.into_iter().chain(above.not_after_ms).min();
    facts.usage = bound.map(Signature::usage).unwrap_or_default();
    facts.signature_algorithm = bound.map(Signature::algorithm);
    facts.subject.clone_from(&above.subject);
    facts.issuer.clone_from(&above.key_id);
    match revoked {
        Some(revoked) => revoke(&mut facts, revoked, "its primary key's signature"),
        None => (facts.revoked_ms, facts.revocation) = (above.revoked_ms, above.revocation.as_ref().map(|why| format!("of its primary key, {why}"))),
    }
    facts
}

/// Keeps the newer; of two as old the later.
fn newer(kept: &mut Option<Signature>, signature: Signature) {
    if kept.as_ref().is_none_or(|kept| kept.created <= signature.created) {
        *kept = Some(signature);
    }
}

fn end(key: &Key, expires: Option<u32>) -> Option<i64> {
    expires.map(|seconds| (key.created + i64::from(seconds)) * 1_000)
}

fn revoke(facts: &mut KeyFacts, by: &Signature, what: &str) {
    facts.revoked_ms = Some(by.created * 1_000);
    facts.revocation = Some(format!("{what}: {}", by.why()));
}

/// The users of one key.
struct Users(Vec<User>);

impl Users {
    /// Those that were not taken back.
    fn valid(&self) -> impl Iterator<Item = &User> {
        let created = |signature: &Option<Signature>| signature.as_ref().map_or(i64::MIN, |signature| signature.created);
        self.0.iter().filter(move |user| user.revoked.is_none() || created(&user.certified) > created(&user.revoked))
    }

    /// The one that the key says is the first, else the first.
    fn main(&self) -> Option<&User> {
        let marked = |user: &&User| user.certified.as_ref().is_some_and(|signature| signature.is_primary_user);
        let newest = self.valid().filter(marked).max_by_key(|user| user.certified.as_ref().map(|signature| signature.created));
        newest.or_else(|| self.valid().next()).or(self.0.first())
    }

    fn signatures(&self) -> impl Iterator<Item = &Signature> {
        self.valid().filter_map(|user| user.certified.as_ref())
    }

    fn newest(&self) -> Option<&Signature> {
        self.signatures().max_by_key(|signature| signature.created)
    }

    /// As GnuPG has it: what the newest says that says something.
    fn expires(&self) -> Option<u32> {
        self.signatures().filter(|signature| signature.key_expires.is_some()).max_by_key(|signature| signature.created)?.key_expires
    }
}
