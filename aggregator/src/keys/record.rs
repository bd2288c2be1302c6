//! One key as it is stored, and how a sighting changes it.

use keyvigil_common::key::{KeyFacts, KeyKind, Place, Role, Sighting};
use keyvigil_common::limits::KEY_USAGES_MAX;
use serde::{Deserialize, Serialize};

use super::finding::weak;
use super::places::{PlaceRecord, Places};
use super::trust;
use super::used::UsedBy;

/// First and last ms of the calendar.
const YEAR_1_MS: i64 = -62_135_596_800_000;
const YEAR_9999_MS: i64 = 253_402_300_799_999;

/// A key with everything known about it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeyRecord {
    /// What it is.
    #[serde(flatten)]
    pub facts: KeyFacts,
    /// When it was first seen anywhere, Unix ms.
    pub first_seen_ms: i64,
    /// When it was last seen anywhere, Unix ms.
    pub last_seen_ms: i64,
    /// When it was seen to be used last; `None`: it was not, which is no proof of no use where nothing observes.
    pub last_used_ms: Option<i64>,
    /// By whom.
    #[serde(default)]
    pub last_used_by: Option<UsedBy>,
    /// When it was revoked, as the earliest to say so has it, Unix ms. The facts' own is kept here and not there: in the store
    /// they are one object.
    pub revoked_ms: Option<i64>,
    /// When the aggregator came to know that it was, Unix ms.
    #[serde(default)]
    pub revoked_known_ms: Option<i64>,
    /// Where it lies so: host and path of who said it first, where it was not the aggregator's own look at a list.
    #[serde(default)]
    pub revoked_at: Option<(String, String)>,
    /// The list that does, where the aggregator found it there and not the key's host.
    #[serde(default)]
    pub revoked_list: Option<String>,
    /// Id of the key it replaced.
    pub replaces: Option<String>,
    /// Id of the key that replaced it.
    pub replaced_by: Option<String>,
    /// How many places are stored of it.
    #[serde(default)]
    pub place_count: usize,
    /// Every place it lies or lay: in the store they are rows of their own.
    #[serde(skip)]
    pub places: Places,
}

/// How a key stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Lies somewhere and is valid.
    Active,
    /// Another took its place.
    Superseded,
    /// Its validity ended.
    Expired,
    /// It was revoked.
    Revoked,
    /// It lies nowhere any more.
    Removed,
}

impl Status {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Active, Self::Superseded, Self::Expired, Self::Revoked, Self::Removed];

    /// Name in the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Superseded => "superseded",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::Removed => "removed",
        }
    }
}

impl std::str::FromStr for Status {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|status| status.as_str() == word);
        known.ok_or_else(|| format!("{word:?} is none of: {}", Self::ALL.map(Self::as_str).join(" ")))
    }
}

/// Brings a time that somebody else wrote into the years that calendars have, so that it may be reckoned with.
fn bound(at_ms: &mut i64) {
    *at_ms = (*at_ms).clamp(YEAR_1_MS, YEAR_9999_MS);
}

/// What one host says of a key that lies on others too. The same key is the same everywhere, so who says otherwise is mistaken or
/// lies: of two answers the worse counts, and no host makes another's certificate one of a CA.
fn cautious(said: KeyFacts, known: &KeyFacts) -> KeyFacts {
    let not_after_ms = said.not_after_ms.into_iter().chain(known.not_after_ms).min();
    let bits = said.bits.into_iter().chain(known.bits).min();
    let is_ca = if known.is_ca == Some(false) { known.is_ca } else { said.is_ca };
    let encrypted = if known.encrypted == Some(false) { known.encrypted } else { said.encrypted };
    let exponent = if known.exponent.is_some_and(weak::is_weak_exponent) { known.exponent } else { said.exponent };
    let signature_algorithm = match &known.signature_algorithm {
        Some(name) if weak::broken_hash(name).is_some() => Some(name.clone()),
        _ => said.signature_algorithm,
    };
    KeyFacts { not_after_ms, bits, is_ca, encrypted, exponent, signature_algorithm, ..said }
}

impl KeyRecord {
    /// The record after a sighting; `before` is what was known. Of its places it takes the one that is told of, and one where it
    /// lies now, on another host if it can.
    #[must_use]
    pub fn sighted(before: Option<Self>, host: &str, sighting: Sighting) -> Self {
        let Sighting { mut facts, mut place, at_ms, gone, replaces } = sighting;
        let times = [&mut facts.not_before_ms, &mut facts.not_after_ms, &mut facts.revoked_ms, &mut place.not_after_ms, &mut place.modified_ms];
        times.into_iter().flatten().chain(facts.revokes.iter_mut().filter_map(|line| line.at_ms.as_mut())).for_each(bound);
        let kind = facts.kind;
        let mut record = before.unwrap_or_else(|| Self {
            facts: facts.clone(),
            first_seen_ms: at_ms,
            last_seen_ms: at_ms,
            last_used_ms: None,
            last_used_by: None,
            revoked_ms: None,
            revoked_known_ms: None,
            revoked_at: None,
            revoked_list: None,
            replaces: None,
            replaced_by: None,
            place_count: 0,
            places: Places::default(),
        });
        let revoked = facts.revoked_ms.take().map(|at_ms| (at_ms, facts.revocation.take()));
        let why = record.facts.revocation.take();
        let elsewhere = record.places.iter().any(|p| !p.gone && p.host != host);
        // Bad news counts whoever brings it; good news only from the one host that has the key.
        let known = std::mem::take(&mut record.facts.weaknesses);
        let mut weaknesses = facts.weaknesses.clone();
        if elsewhere || facts.kind > record.facts.kind {
            weaknesses.extend(known);
            weaknesses.sort_unstable();
            weaknesses.dedup();
        }
        // A key file says more than its public half; either may be seen first.
        if facts.kind <= record.facts.kind || !gone && record.places.iter().all(|p| p.gone) {
            record.facts = if elsewhere { cautious(facts, &record.facts) } else { facts };
        }
        (record.facts.weaknesses, record.facts.revocation) = (weaknesses, why);
        record.facts.weaknesses.truncate(KEY_USAGES_MAX);
        record.hear_of_revocation((host, &place.path), revoked.filter(|_| !gone), at_ms);
        record.first_seen_ms = record.first_seen_ms.min(at_ms);
        if !gone {
            record.last_seen_ms = record.last_seen_ms.max(at_ms);
            let replaces = replaces.filter(|old| *old != record.facts.id);
            let is_back = || record.places.get(host, &place.path, place.slot).is_some_and(|known| known.gone);
            if replaces.is_some() || is_back() {
                // It was put back: what took its place then has it no more.
                record.replaced_by = None;
            }
            record.replaces = replaces.or(record.replaces);
        }
        record.set_place(host, kind, place, at_ms, gone);
        record
    }

    /// It was used; whether that is the latest use.
    pub fn use_at(&mut self, at_ms: i64, by: &UsedBy) -> bool {
        let is_later = self.last_used_ms.is_none_or(|known| at_ms > known);
        if is_later {
            (self.last_used_ms, self.last_used_by) = (Some(at_ms), Some(by.clone()));
        }
        is_later
    }

    /// Another key took this one's place on `host`.
    pub fn replaced_by(&mut self, host: &str, successor: &Sighting) {
        if let Some(place) = self.places.get(host, &successor.place.path, successor.place.slot) {
            self.places.put(PlaceRecord { gone: true, ..place.clone() });
        }
        // Of two that took each other's place the one undid what the other did; and of two files that were swapped both are in use.
        let undone = self.replaces.take_if(|old| *old == successor.facts.id).is_some();
        if !(undone && self.places.are_live()) {
            self.replaced_by = Some(successor.facts.id.clone());
        }
    }

    fn set_place(&mut self, host: &str, kind: KeyKind, place: Place, at_ms: i64, gone: bool) {
        let is_stale = place.served.as_ref().is_some_and(|served| served.file_key.is_some());
        let known = self.places.get(host, &place.path, place.slot).cloned();
        self.place_count += usize::from(known.is_none());
        let (first_seen_ms, seen_ms) = known.as_ref().map_or((at_ms, at_ms), |known| (known.first_seen_ms, known.last_seen_ms.max(at_ms)));
        let stale_since_ms = is_stale.then(|| known.as_ref().and_then(|known| known.stale_since_ms).unwrap_or(at_ms));
        self.places.put(match known {
            // What is gone is known as it was.
            Some(known) if gone => PlaceRecord { gone, ..known },
            _ => PlaceRecord { host: host.to_owned(), kind: Some(kind), place, first_seen_ms, last_seen_ms: seen_ms, gone, stale_since_ms },
        });
    }

    /// How it stands at `now_ms`.
    #[must_use]
    pub fn status(&self, now_ms: i64) -> Status {
        let lies = self.places.are_live();
        if self.revoked_ms.is_some() {
            Status::Revoked
        } else if !lies && self.replaced_by.is_some() {
            Status::Superseded
        } else if !lies {
            Status::Removed
        } else if self.facts.not_after_ms.is_some_and(|end| end <= now_ms) {
            Status::Expired
        } else {
            Status::Active
        }
    }

    /// Whether it is a certificate of this product itself, which renews it long before its end.
    #[must_use]
    pub fn is_our_own(&self) -> bool {
        let own = format!("DNS:{}", keyvigil_common::tls::AGGREGATOR_NAME);
        self.facts.kind == KeyKind::Certificate && self.facts.sans.contains(&own)
    }

    /// Whether what lies in one of its places holds a secret.
    #[must_use]
    pub fn is_secret_at(&self, at: &PlaceRecord) -> bool {
        at.kind.unwrap_or(self.facts.kind).is_private()
    }

    /// Where it lies now.
    pub fn live(&self) -> impl Iterator<Item = &PlaceRecord> {
        self.places.iter().filter(|p| !p.gone)
    }

    /// Whether it is one that vouches for others, as the system ships them.
    fn vouches(&self) -> bool {
        match self.facts.kind {
            KeyKind::Certificate => self.facts.is_ca == Some(true),
            KeyKind::OpenpgpPublicKey => true,
            _ => false,
        }
    }

    /// Whether it is a key that the system ships to trust others, in all places where it lies now.
    #[must_use]
    pub fn is_trust_store(&self) -> bool {
        self.vouches() && self.places.are_shipped(self.facts.kind == KeyKind::OpenpgpPublicKey)
    }

    /// Where it lies now as somebody's own: of what the system ships, only the copies that somebody made elsewhere.
    pub fn own(&self) -> impl Iterator<Item = &PlaceRecord> {
        let is_shipped = self.vouches() && self.places.is_bundled();
        let named = |p: &PlaceRecord| self.facts.kind == KeyKind::OpenpgpPublicKey && !p.place.used_by.is_empty();
        self.live().filter(move |p| !is_shipped || named(p) || !trust::is_shipped(&p.place))
    }

    /// Whether somebody should act before it expires: lies somewhere as somebody's own or as what he relies on, has an end, was
    /// not replaced, and is not of the system's trust store. A revocation list or a signing request is not a credential, and
    /// neither is what another host shows of itself. Being told that it is revoked hides no end.
    #[must_use]
    pub fn expiry_matters(&self, now_ms: i64) -> bool {
        let current = matches!(self.status(now_ms), Status::Active | Status::Expired | Status::Revoked);
        self.facts.not_after_ms.is_some() && current && !self.is_trust_store() && self.own().any(|p| self.relies_on_end(p.place.role))
    }

    /// Whether something stops working at its end, as far as a place of that role goes.
    fn relies_on_end(&self, role: Role) -> bool {
        match self.facts.kind {
            KeyKind::Certificate | KeyKind::SshCertificate => role != Role::Peer,
            KeyKind::OpenpgpPrivateKey => true,
            KeyKind::OpenpgpPublicKey => role == Role::Trusted,
            KeyKind::KernelKey => role == Role::Held,
            KeyKind::PrivateKey | KeyKind::PublicKey | KeyKind::SymmetricKey | KeyKind::CertificateRequest | KeyKind::Crl => false,
            // The lines that let them in may end; they do not.
            KeyKind::SshPrivateKey | KeyKind::SshPublicKey => false,
        }
    }

    /// Hosts it lies on.
    #[must_use]
    pub fn hosts(&self) -> Vec<&str> {
        self.places.hosts()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sighting(id: char, path: &str, at_ms: i64, gone: bool, replaces: Option<char>) -> Sighting {
        let name = |c: char| c.to_string().repeat(64);
        let mut facts = KeyFacts::bare(KeyKind::Certificate, name(id), name('f'), "rsa");
        facts.not_after_ms = Some(1_000);
        let place = Place::at(path);
        Sighting { facts, place, at_ms, gone, replaces: replaces.map(name) }
    }

    #[test]
    fn a_key_is_active_then_superseded_removed_or_expired() {
        let old = KeyRecord::sighted(None, "a", sighting('1', "/k", 10, false, None));
        assert_eq!((old.status(20), old.status(1_000)), (Status::Active, Status::Expired));
        let mut replaced = old.clone();
        replaced.replaced_by("a", &sighting('2', "/k", 20, false, Some('1')));
        assert_eq!(replaced.status(2_000), Status::Superseded, "an old certificate that was replaced is not an expired one");
        let gone = KeyRecord::sighted(Some(old.clone()), "a", sighting('1', "/k", 30, true, None));
        assert_eq!((gone.status(40), gone.last_seen_ms), (Status::Removed, 10));
        let two = KeyRecord::sighted(Some(old), "b", sighting('1', "/k", 15, false, None));
        let mut half = two.clone();
        half.replaced_by("a", &sighting('2', "/k", 20, false, Some('1')));
        assert_eq!((two.hosts(), half.hosts(), half.status(20)), (vec!["a", "b"], vec!["b"], Status::Active));
    }

    #[test]
    fn what_is_put_back_was_not_replaced_and_no_lineage_is_a_circle() {
        let seen = |record: &mut Option<KeyRecord>, id, path, replaces| {
            *record = Some(KeyRecord::sighted(record.take(), "a", sighting(id, path, 10, false, replaces)));
        };
        let lineage = |record: &Option<KeyRecord>| record.as_ref().map(|key| (key.replaces.clone(), key.replaced_by.clone(), key.status(20))).unwrap();
        let id = |c: char| Some(c.to_string().repeat(64));
        let (mut one, mut two) = (None, None);
        seen(&mut one, '1', "/k", None);
        one.as_mut().unwrap().replaced_by("a", &sighting('2', "/k", 10, false, Some('1')));
        seen(&mut two, '2', "/k", Some('1'));
        assert_eq!((lineage(&one), lineage(&two)), ((None, id('2'), Status::Superseded), (id('1'), None, Status::Active)));
        two.as_mut().unwrap().replaced_by("a", &sighting('1', "/k", 10, false, Some('2')));
        seen(&mut one, '1', "/k", Some('2'));
        assert_eq!((lineage(&one), lineage(&two)), ((id('2'), None, Status::Active), (None, id('1'), Status::Superseded)), "rolled back");

        let (mut one, mut two) = (None, None);
        seen(&mut one, '1', "/k", None);
        seen(&mut two, '2', "/l", None);
        one.as_mut().unwrap().replaced_by("a", &sighting('2', "/k", 10, false, Some('1')));
        seen(&mut two, '2', "/k", Some('1'));
        two.as_mut().unwrap().replaced_by("a", &sighting('1', "/l", 10, false, Some('2')));
        seen(&mut one, '1', "/l", Some('2'));
        assert_eq!((lineage(&one), lineage(&two)), ((id('2'), None, Status::Active), (None, None, Status::Active)), "two files were swapped");
    }

    #[test]
    fn a_host_that_lies_about_a_key_of_others_cannot_make_its_expiry_go_unnoticed() {
        let honest = sighting('1', "/etc/nginx/web.pem", 10, false, None);
        let mut facts = honest.facts.clone();
        facts.is_ca = Some(false);
        let honest = KeyRecord::sighted(None, "web", Sighting { facts, ..honest });
        let mut lie = sighting('1', "/etc/ssl/certs/ca-certificates.crt", 20, false, None);
        (lie.facts.not_after_ms, lie.facts.is_ca) = (Some(i64::MAX), Some(true));
        let told = KeyRecord::sighted(Some(honest.clone()), "liar", lie.clone());
        assert_eq!((told.facts.not_after_ms, told.facts.is_ca, told.status(1_000)), (Some(1_000), Some(false), Status::Expired));
        lie.facts.not_after_ms = None;
        assert!(KeyRecord::sighted(Some(honest.clone()), "liar", lie.clone()).expiry_matters(1_000));
        let corrected = KeyRecord::sighted(Some(honest), "web", Sighting { place: sighting('1', "/etc/nginx/web.pem", 0, false, None).place, ..lie });
        assert_eq!(corrected.facts.not_after_ms, None, "of its own it may say what it will");
    }

    #[test]
    fn bad_news_counts_whoever_brings_it_and_hides_no_end() {
        let honest = KeyRecord::sighted(None, "web", sighting('1', "/web.pem", 10, false, None));
        let mut bad = sighting('1', "/copy.pem", 20, false, None);
        (bad.facts.revoked_ms, bad.facts.weaknesses) = (Some(15), vec!["roca".into()]);
        bad.facts.revocation = Some("revocation list /ca.crl".into());
        let told = KeyRecord::sighted(Some(honest.clone()), "liar", bad.clone());
        assert_eq!((told.revoked_ms, told.status(20), told.facts.weaknesses.as_slice()), (Some(15), Status::Revoked, &["roca".to_owned()][..]));
        assert!(told.expiry_matters(2_000), "it still ends");
        let denied = KeyRecord::sighted(Some(told.clone()), "web", sighting('1', "/web.pem", 30, false, None));
        assert_eq!((denied.revoked_ms, denied.facts.weaknesses.len()), (Some(15), 1), "nobody takes another's word back");
        let alone = KeyRecord::sighted(Some(honest), "web", Sighting { place: Place::at("/web.pem"), ..bad });
        let corrected = KeyRecord::sighted(Some(alone), "web", sighting('1', "/web.pem", 40, false, None));
        assert_eq!((corrected.revoked_ms, corrected.facts.weaknesses.len()), (None, 0), "of its own it may say what it will");
        let mut own = sighting('1', "/key.asc", 50, false, None);
        (own.facts.revoked_ms, own.facts.revocation) = (Some(7), Some("the key itself: compromised".into()));
        let final_word = KeyRecord::sighted(Some(KeyRecord::sighted(None, "web", own)), "web", sighting('1', "/old.asc", 60, false, None));
        assert_eq!(final_word.revoked_ms, Some(7), "an older copy of a key does not take back what the key says of itself");
        let kept: KeyRecord = serde_json::from_str(&serde_json::to_string(&told).unwrap()).unwrap();
        assert_eq!(KeyRecord { places: told.places.clone(), ..kept }, told, "the store gives back what it got");
    }

    #[test]
    fn what_is_not_possessed_does_not_end_here() {
        let with = |kind, role| {
            let mut seen = sighting('1', "/x", 10, false, None);
            (seen.facts.kind, seen.place.role) = (kind, role);
            KeyRecord::sighted(None, "a", seen).expiry_matters(20)
        };
        use KeyKind::{Certificate, KernelKey, OpenpgpPublicKey, SshPublicKey};
        assert_eq!([Role::Held, Role::Trusted, Role::Served, Role::Peer].map(|role| with(Certificate, role)), [true, true, true, false]);
        assert_eq!([Role::Authorized, Role::Held, Role::Peer].map(|role| with(SshPublicKey, role)), [false; 3]);
        assert_eq!([with(OpenpgpPublicKey, Role::Trusted), with(OpenpgpPublicKey, Role::Held), with(KernelKey, Role::Held)], [true, false, true]);
    }

    #[test]
    fn the_systems_trust_store_expires_quietly_and_a_copy_elsewhere_does_not() {
        let mut shipped = KeyRecord::sighted(None, "a", sighting('1', "/etc/ssl/certs/X.pem", 10, false, None));
        assert!(shipped.expiry_matters(20), "a leaf in the same directory matters");
        shipped.facts.is_ca = Some(true);
        assert!(shipped.expiry_matters(20), "signed by somebody himself, as `openssl req -x509` does it, and put there");
        let mut bundle = sighting('1', "/etc/ssl/certs/ca-certificates.crt", 10, false, None);
        bundle.facts.is_ca = Some(true);
        let shipped = KeyRecord::sighted(Some(shipped), "a", bundle);
        assert!(!shipped.expiry_matters(20));
        let mut copy = sighting('1', "/etc/nginx/ca.pem", 10, false, None);
        copy.facts.is_ca = Some(true);
        assert!(KeyRecord::sighted(Some(shipped), "a", copy).expiry_matters(20));
    }
}
