//! Losses as they are stored: those that agents declare, and those that a limit of series makes here. Of the latter there is
//! one record an agent and hour, which counts on while it lasts, and one event when it begins.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};

use keyvigil_common::event::EventKind;
use keyvigil_common::key::clamp_text;
use keyvigil_common::wire::{Class, Gap};
use serde::{Deserialize, Serialize};

use super::limited::Limited;
use crate::index::TenantId;
use crate::keys::EventRecord;
use crate::store::{StoreError, Tx};

/// How long one record counts on, ms.
const RECORD_MS: i64 = 3_600_000;
/// Least time between two lines of the log, ms.
const LOG_MS: i64 = 60_000;

/// A declared loss as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GapRecord {
    /// Whose.
    pub host: String,
    /// `security`, `key` or `sample`.
    pub class: String,
    /// Why.
    pub cause: String,
    /// First sequence number.
    pub first_seq: u64,
    /// Last sequence number.
    pub last_seq: u64,
    /// Samples, sightings and events lost.
    pub items: u64,
    /// When it was given up, Unix ms.
    pub at_ms: i64,
    /// What counts these numbers, hex; not known of what an agent of version 1 told.
    #[serde(default)]
    pub epoch: Option<String>,
}

impl GapRecord {
    /// What an agent declares, at a time that can be believed.
    pub(super) fn declared(host: &str, gap: Gap, at_ms: i64) -> Self {
        let (first_seq, last_seq) = (gap.range.first, gap.range.last);
        Self {
            host: host.to_owned(),
            class: gap.class.as_str().to_owned(),
            cause: gap.cause,
            first_seq,
            last_seq,
            items: gap.items,
            at_ms,
            epoch: gap.epoch.map(|epoch| keyvigil_common::hex(&epoch)),
        }
    }

    /// What limits kept out of batch `seq`.
    pub(super) fn refused(host: &str, seq: u64, items: u64, why: &str, at_ms: i64) -> Self {
        let (class, mut cause) = (Class::Sample.as_str().to_owned(), why.to_owned());
        clamp_text(&mut cause);
        Self { host: host.to_owned(), class, cause, first_seq: seq, last_seq: seq, items, at_ms, epoch: None }
    }

    /// How much was lost, where that is known: nothing is declared that is nothing.
    #[must_use]
    pub fn known_items(&self) -> Option<u64> {
        (self.items > 0).then_some(self.items)
    }

    /// All of tenant 1, for tests.
    #[cfg(test)]
    pub(super) async fn all(store: &crate::store::Store) -> Vec<Self> {
        let read = |connection: &rusqlite::Connection, ring: &keyvigil_common::seal::KeyRing| {
            let mut all = Vec::new();
            crate::store::ledger::gaps(connection, ring, 1, i64::MAX, |stored| {
                all.push(stored.record);
                true
            })?;
            Ok(all)
        };
        store.read(read).await.unwrap()
    }

    /// Stores it, and the event that tells of it. Returns its row.
    pub(super) fn put(&self, tx: &Tx<'_>, tenant: TenantId, message: String) -> Result<i64, StoreError> {
        let row = tx.add_gap(tenant, self.at_ms, self)?;
        let lost = EventRecord {
            kind: EventKind::DataLost,
            at_ms: self.at_ms,
            host: self.host.clone(),
            key: None,
            path: None,
            actor: None,
            message,
            evidence: [("first_seq", self.first_seq), ("last_seq", self.last_seq)].map(|(n, v)| (n.to_owned(), v.to_string())).into(),
        };
        tx.add_event(tenant, lost.at_ms, lost.kind.as_str(), &lost)?;
        Ok(row)
    }
}

/// Who is refused now, as far as it was told.
#[derive(Debug, Default)]
pub(super) struct Losses {
    /// The records of the agents whose new series are refused: row and time.
    open: Mutex<HashMap<(TenantId, String), (i64, i64)>>,
    /// When the log last told of a foreign sender, Unix ms.
    logged_ms: AtomicI64,
}

impl Losses {
    /// Logs what was kept out of a request whose sender hears of it itself: not each time, it may come again and again.
    pub(super) fn log(&self, limited: &Limited, now_ms: i64) {
        let before = self.logged_ms.load(Ordering::Relaxed);
        let due = !limited.is_empty() && !(0..LOG_MS).contains(&(now_ms - before));
        if due && self.logged_ms.compare_exchange(before, now_ms, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            tracing::warn!(reason = %limited, "new series refused; more of this within a minute is not logged");
        }
    }

    /// Counts what limits kept out of a batch in the record of this hour.
    pub(super) fn refused(&self, tx: &Tx<'_>, tenant: TenantId, loss: &GapRecord) -> Result<(), StoreError> {
        let now_ms = loss.at_ms;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (tenant, loss.host.clone());
        if let Some((row, at_ms)) = open.get(&key).copied().filter(|(_, at_ms)| (0..RECORD_MS).contains(&(now_ms - at_ms)))
            // Asked of the database, which alone knows whether the transaction that wrote it was committed.
            && let Some(mut record) = tx.gap::<GapRecord>(row, tenant, at_ms)?.filter(|record| record.host == loss.host)
        {
            record.items += loss.items;
            (record.first_seq, record.last_seq) = (record.first_seq.min(loss.first_seq), record.last_seq.max(loss.last_seq));
            return tx.replace_gap(row, tenant, at_ms, &record);
        }
        let row = loss.put(tx, tenant, format!("samples of new series are not kept: {}", loss.cause))?;
        tracing::warn!(host = loss.host, reason = loss.cause, "new series refused");
        open.retain(|_, (_, at_ms)| (0..RECORD_MS).contains(&(now_ms - *at_ms)));
        open.insert(key, (row, now_ms));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use keyvigil_common::seal::MasterKey;

    use super::*;
    use crate::store::Store;

    const NOW: i64 = 1_763_836_800_000;

    #[tokio::test]
    async fn only_what_was_committed_is_counted_and_each_host_and_hour_has_its_record() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), &MasterKey::generate(), NOW, 512 << 20).unwrap();
        let losses = Arc::new(Losses::default());
        let refuse = async |host: &'static str, seq: u64, at_ms: i64, fails: bool| {
            let losses = Arc::clone(&losses);
            let write = store.write(move |tx| {
                losses.refused(tx, 1, &GapRecord::refused(host, seq, 10, "why", at_ms))?;
                if fails { Err(StoreError::Refused("on purpose".into())) } else { Ok(()) }
            });
            assert_eq!(write.await.is_err(), fails);
        };
        refuse("a", 1, NOW, true).await;
        refuse("b", 7, NOW, false).await;
        refuse("a", 2, NOW, false).await;
        refuse("a", 3, NOW + 1, true).await;
        refuse("a", 4, NOW + RECORD_MS - 1, false).await;
        refuse("a", 5, NOW + RECORD_MS, false).await;
        refuse("a", 6, NOW - 1, false).await;
        let found = GapRecord::all(&store).await.into_iter();
        let found: Vec<_> = found.map(|record| (record.host, record.first_seq, record.last_seq, record.items)).collect();
        let expected =
            [("a", 6, 6, 10), ("a", 5, 5, 10), ("a", 2, 4, 20), ("b", 7, 7, 10)].map(|(host, first, last, items)| (host.to_owned(), first, last, items));
        assert_eq!(found, expected);
    }
}
