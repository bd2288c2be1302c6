//! The inventory as CSV (RFC 4180): one row a key, lists within a cell separated by `; `.

use std::fmt::Write;
use std::sync::Arc;

use crate::keys::{Findings, KeyRecord, name};
use crate::web::query::field;
use keyvigil_common::clock::utc;

const HEAD: &str = "id,fingerprint,name,kind,algorithm,bits,curve,status,severity,findings,not_before,not_after,subject,issuer,sans,serial,hosts,places,first_seen,last_seen,last_used,observed_since\r\n";
/// Entries of a list in one cell: a public CA lies on every host.
const LISTED_MAX: usize = 100;

pub(super) fn rows(keys: Vec<Arc<KeyRecord>>, found: Arc<Findings>, now_ms: i64) -> impl Iterator<Item = String> {
    std::iter::once(HEAD.to_owned()).chain(keys.into_iter().map(move |key| row(&key, &found, now_ms)))
}

fn row(key: &KeyRecord, found: &Findings, now_ms: i64) -> String {
    let facts = &key.facts;
    let mut out = String::with_capacity(512);
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let number = |value: Option<i64>| value.map(instant).unwrap_or_default();
    let cells = [
        facts.id.clone(),
        facts.fingerprint.clone(),
        name(key),
        facts.kind.as_str().to_owned(),
        facts.algorithm.clone(),
        facts.bits.map(|bits| bits.to_string()).unwrap_or_default(),
        text(&facts.curve),
        found.status(key, now_ms).as_str().to_owned(),
        found.worst(key).map(|severity| severity.as_str().to_owned()).unwrap_or_default(),
        list(found.named(key)),
        number(facts.not_before_ms),
        number(facts.not_after_ms),
        text(&facts.subject),
        text(&facts.issuer),
        list(facts.sans.iter().map(String::as_str)),
        text(&facts.serial),
        list(key.hosts()),
        list(places(key)),
        instant(key.first_seen_ms),
        instant(key.last_seen_ms),
        number(key.last_used_ms),
        number(found.observed_since(key)),
    ];
    for (at, cell) in cells.iter().enumerate() {
        let _ = write!(out, "{}{}", if at > 0 { "," } else { "" }, field(cell));
    }
    out.push_str("\r\n");
    out
}

/// Each once, in order: several keys of a file are several places.
fn places(key: &KeyRecord) -> impl Iterator<Item = String> {
    let mut places: Vec<(&str, &str)> = key.live().map(|p| (p.host.as_str(), p.place.path.as_str())).collect();
    places.dedup();
    places.into_iter().map(|(host, path)| format!("{host}:{path}"))
}

/// RFC 3339, which spreadsheets read.
fn instant(ms: i64) -> String {
    utc(ms).map(|at| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()).unwrap_or_default()
}

fn list(items: impl IntoIterator<Item = impl Into<String>>) -> String {
    let mut items = items.into_iter();
    let mut out = items.by_ref().take(LISTED_MAX).map(Into::into).collect::<Vec<String>>().join("; ");
    match items.count() {
        0 => {}
        more => {
            let _ = write!(out, "; and {more} more");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyvigil_common::key::{KeyFacts, KeyKind, Place, Sighting};

    #[test]
    fn each_place_is_told_with_its_host() {
        let seen = |before, host: &str, path: &str, slot| {
            let facts = KeyFacts::bare(KeyKind::Certificate, "a".repeat(64), "a".repeat(64), "rsa");
            let place = Place { slot, ..Place::at(path) };
            Some(KeyRecord::sighted(before, host, Sighting { facts, place, at_ms: 1, gone: false, replaces: None }))
        };
        let places = [("poor", "/b.pem", 0), ("poor", "/b.pem", 1), ("vm", "/a.pem", 0)];
        let key = places.into_iter().fold(None, |key, (host, path, slot)| seen(key, host, path, slot));
        let row = row(&key.unwrap(), &Findings::default(), 2);
        assert!(row.contains(",poor; vm,poor:/b.pem; vm:/a.pem,"), "{row}");
    }
}
