//! Losses as they are stored: those that agents declare, and those that a limit of series makes here. Of the latter there is
//! one record an agent and hour, which counts on while it lasts, and one event when it begins.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use keyvigil_common::event::EventKind;
use keyvigil_common::key::clamp_text;
use keyvigil_common::wire::{Class, Gap};
use serde::{Deserialize, Serialize};

use crate::index::TenantId;
use crate::keys::EventRecord;
use crate::store::{StoreError, Tx};

/// How long one record counts on, ms.
const RECORD_MS: i64 = 3_600_000;

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
}

impl GapRecord {
    /// What an agent declares, at a time that can be believed.
    pub(super) fn declared(host: &str, gap: Gap, at_ms: i64) -> Self {
        let (first_seq, last_seq) = (gap.range.first, gap.range.last);
        Self { host: host.to_owned(), class: gap.class.as_str().to_owned(), cause: gap.cause, first_seq, last_seq, items: gap.items, at_ms }
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

/// The records of the agents whose new series are refused now: row and time.
#[derive(Debug, Default)]
pub(super) struct Losses(Mutex<HashMap<(TenantId, String), (i64, i64)>>);

impl Losses {
    /// Counts `items` samples of batch `seq` that limits kept out, in the record of this hour.
    pub(super) fn refused(&self, tx: &Tx<'_>, tenant: TenantId, host: &str, seq: u64, items: u64, why: &str, now_ms: i64) -> Result<(), StoreError> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (tenant, host.to_owned());
        if let Some((row, at_ms)) = open.get(&key).copied().filter(|(_, at_ms)| (0..RECORD_MS).contains(&(now_ms - at_ms)))
            // Asked of the database, which alone knows whether the transaction that wrote it was committed.
            && let Some(mut record) = tx.gap::<GapRecord>(row, tenant, at_ms)?.filter(|record| record.host == host)
        {
            record.items += items;
            (record.first_seq, record.last_seq) = (record.first_seq.min(seq), record.last_seq.max(seq));
            return tx.replace_gap(row, tenant, at_ms, &record);
        }
        let mut cause = why.to_owned();
        clamp_text(&mut cause);
        let message = format!("samples of new series are not kept: {cause}");
        let class = Class::Sample.as_str().to_owned();
        let record = GapRecord { host: host.to_owned(), class, cause, first_seq: seq, last_seq: seq, items, at_ms: now_ms };
        let row = record.put(tx, tenant, message)?;
        tracing::warn!(host, reason = record.cause, "new series refused");
        open.retain(|_, (_, at_ms)| (0..RECORD_MS).contains(&(now_ms - *at_ms)));
        open.insert(key, (row, now_ms));
        Ok(())
    }
}
