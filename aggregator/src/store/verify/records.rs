//! The state database: every record unseals and parses, every series is one of its own, every request of level 0 decodes.
//! One read transaction a table.

use std::io::Read;

use keyvigil_common::sample::Series;
use keyvigil_common::seal::KeyRing;
use keyvigil_common::telemetry::chain;
use rusqlite::{Connection, Row, params};
use serde::de::IgnoredAny;

use super::super::level0::Body;
use super::super::{StoreError, ledger, level0, outbox, places, series};
use super::{DOUBTS_MAX, Doubt, Look, RESTORE};
use crate::index::{SeriesId, TenantId};

const FILE: &str = "main.db";
/// Series that one row may have given, and some more.
const GAP_MAX: u32 = 4_096;
const LOST: &str = "restore main.db from a backup; what it held since then is lost";

/// A table of sealed records: what to select (tenant, body, and the parts of its place as text), and the place it is sealed for.
struct Records {
    table: &'static str,
    parts: &'static str,
    place: fn(TenantId, &str, &str) -> Vec<u8>,
}

const RECORDS: [Records; 10] = [
    Records { table: "agent", parts: "id, ''", place: |tenant, id, _| ledger::place("agent", tenant, id).into_bytes() },
    Records { table: "key", parts: "id, ''", place: |tenant, id, _| ledger::place("key", tenant, id).into_bytes() },
    Records { table: "place", parts: "key, lower(hex(host) || hex(at))", place: |tenant, key, at| places::place(tenant, key, at).into_bytes() },
    Records { table: "rule", parts: "id, ''", place: |tenant, id, _| ledger::place("rule", tenant, id).into_bytes() },
    Records { table: "enroll_token", parts: "id, ''", place: |_, id, _| ledger::place("enroll_token", 0, id).into_bytes() },
    Records { table: "event", parts: "CAST(at_ms AS TEXT), id", place: |tenant, at_ms, _| ledger::place("event", tenant, at_ms).into_bytes() },
    Records { table: "gap", parts: "CAST(at_ms AS TEXT), id", place: |tenant, at_ms, _| ledger::place("gap", tenant, at_ms).into_bytes() },
    Records { table: "alert", parts: "id, ''", place: |tenant, id, _| outbox::alert_place(tenant, id) },
    Records {
        table: "alert_history",
        parts: "CAST(at_ms AS TEXT), alert",
        place: |tenant, at_ms, alert| outbox::history_place(tenant, alert, at_ms.parse().unwrap_or(i64::MIN)),
    },
    Records { table: "outbox", parts: "unique_key, ''", place: |_, key, _| outbox::outbox_place(key) },
];

/// All tables that are read row by row.
pub(super) fn tables() -> impl Iterator<Item = &'static str> {
    RECORDS.iter().map(|records| records.table).chain(["series", "level0"])
}

impl Look<'_> {
    pub(super) fn records(&mut self, main: &Connection) -> Result<(), StoreError> {
        self.tenants = main.prepare("SELECT id FROM tenant")?.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
        self.series(main)?;
        self.level0(main)?;
        let version: i64 = main.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        // An older store has no such table until it is opened for writing.
        for records in RECORDS.iter().filter(|records| version >= places::SINCE || records.table != places::TABLE) {
            let sql = format!("SELECT tenant, body, {} FROM {}", records.parts, records.table);
            let ring = self.files.ring;
            self.rows(main, records.table, &sql, |look, row| {
                look.found.records += 1;
                let (tenant, body): (TenantId, Vec<u8>) = (row.get(0)?, row.get(1)?);
                let part = |at: usize| row.get_ref(at).ok().and_then(|value| value.as_str().ok().map(str::to_owned)).unwrap_or_default();
                serde_json::from_slice::<IgnoredAny>(&ring.unseal(&body, &(records.place)(tenant, &part(2), &part(3)))?)?;
                Ok(look.tenant_fault(tenant))
            })?;
        }
        Ok(())
    }

    /// Calls `check` with each row that `sql` finds: what it returns, or the error it meets, is a fault of that row.
    fn rows(
        &mut self,
        main: &Connection,
        table: &str,
        sql: &str,
        mut check: impl FnMut(&mut Self, &Row<'_>) -> Result<Option<String>, StoreError>,
    ) -> Result<(), StoreError> {
        let mut walk = || -> Result<(), StoreError> {
            let mut statement = main.prepare(sql)?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let what = check(self, row).unwrap_or_else(|e| Some(format!("it does not open: {}", chain(&e))));
                if let Some(what) = what {
                    self.fault(FILE, table, name(table, row), what, LOST);
                }
                self.looked()?;
            }
            Ok(())
        };
        match walk() {
            Err(StoreError::Gone) => Err(StoreError::Gone),
            Err(e) => {
                self.progress.wanted()?;
                self.fault(FILE, table, "", format!("its rows cannot be read: {}", chain(&e)), RESTORE);
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    fn tenant_fault(&self, tenant: TenantId) -> Option<String> {
        (!self.tenants.contains(&tenant)).then(|| format!("it is of tenant {tenant}, which does not exist"))
    }

    fn series(&mut self, main: &Connection) -> Result<(), StoreError> {
        let ring = self.files.ring;
        self.rows(main, "series", "SELECT id, tenant, body FROM series ORDER BY id", |look, row| {
            let (first, tenant, body): (SeriesId, TenantId, Vec<u8>) = (row.get(0)?, row.get(1)?, row.get(2)?);
            look.through = look.through.max(first);
            let all = open_series(ring, first, &body)?;
            let twice: Vec<String> = all.iter().filter(|(id, _)| look.known.contains(*id)).map(|(id, _)| id.to_string()).collect();
            look.found.series += all.len() as u64;
            look.known.extend(all.iter().map(|(id, _)| *id));
            if let Some(index) = look.files.index {
                let doubts = all.into_iter().map(|(id, series)| Doubt { tenant, id, series }).filter(|doubt| !doubt.is_known(index));
                let room = DOUBTS_MAX.saturating_sub(look.doubts.len());
                look.doubts.extend(doubts.take(room));
            }
            let twice = (!twice.is_empty()).then(|| format!("ids that another row has given: {}", twice.join(", ")));
            Ok(twice.or_else(|| look.tenant_fault(tenant)))
        })
    }

    fn level0(&mut self, main: &Connection) -> Result<(), StoreError> {
        let ring = self.files.ring;
        self.rows(main, "level0", "SELECT id, tenant, body FROM level0 ORDER BY id", |look, row| {
            look.found.level0_rows += 1;
            let (tenant, body): (TenantId, Vec<u8>) = (row.get(1)?, row.get(2)?);
            let plain = ring.unseal(&body, level0::place(tenant).as_bytes())?;
            let lost = match level0::open(&plain)? {
                Body::Frame { frame, .. } => keyvigil_common::wire::decode_batch(frame).map(|_| None)?,
                Body::Rows(rows) => rows.runs.iter().map(|run| run.series).find(|id| !look.is_known(*id)),
            };
            look.told(lost.as_slice());
            Ok(lost.map(|id| format!("it has samples of series {id}, of which there is no row")).or_else(|| look.tenant_fault(tenant)))
        })
    }

    /// Whether a row gives this id, also one that came after the rows were read. 0 is none: such samples are not kept.
    pub(super) fn is_known(&mut self, id: SeriesId) -> bool {
        if id == 0 || self.known.contains(id) {
            return true;
        }
        let (through, mut newest, mut fresh) = (self.through, self.through, Vec::new());
        let read = each_series(&self.main, self.files.ring, through, |first, _, all| {
            newest = newest.max(first);
            fresh.extend(all.into_iter().map(|(id, _)| id));
        });
        self.through = newest;
        self.known.extend(fresh);
        read.is_ok() && self.known.contains(id)
    }
}

impl Look<'_> {
    /// A series that has no row is told once, and with it all that the same row gave, however many blocks have samples of it.
    pub(super) fn told(&mut self, unknown: &[SeriesId]) {
        for id in unknown {
            let below = self.known.rank(*id);
            let first = below.checked_sub(1).and_then(|at| self.known.select(u32::try_from(at).unwrap_or(u32::MAX))).map_or(1, |last| last + 1);
            let end = self.known.select(u32::try_from(below).unwrap_or(u32::MAX)).filter(|end| end - first <= GAP_MAX);
            match end {
                Some(end) => self.known.insert_range(first..end),
                None => u64::from(self.known.insert(*id)),
            };
        }
    }
}

/// Calls `each` with the rows of series after row `through`: first id, tenant, series. Rows that do not open are passed over.
pub(in crate::store) fn each_series(
    main: &Connection,
    ring: &KeyRing,
    through: SeriesId,
    mut each: impl FnMut(SeriesId, TenantId, Vec<(SeriesId, Series)>),
) -> Result<(), StoreError> {
    let mut statement = main.prepare_cached("SELECT id, tenant, body FROM series WHERE id > ?1 ORDER BY id")?;
    let mut rows = statement.query(params![through])?;
    while let Some(row) = rows.next()? {
        let (first, tenant, body): (SeriesId, TenantId, Vec<u8>) = (row.get(0)?, row.get(1)?, row.get(2)?);
        if let Ok(all) = open_series(ring, first, &body) {
            each(first, tenant, all);
        }
    }
    Ok(())
}

fn open_series(ring: &KeyRing, first: SeriesId, body: &[u8]) -> Result<series::Row, StoreError> {
    let packed = ring.unseal(body, series::place(first).as_bytes())?;
    let mut plain = Vec::new();
    zstd::stream::read::Decoder::new(packed.as_slice())?.read_to_end(&mut plain)?;
    Ok(serde_json::from_slice(&plain)?)
}

/// What a row is called in a fault.
fn name(table: &str, row: &Row<'_>) -> String {
    let at = |at: usize| match row.get_ref(at) {
        Ok(rusqlite::types::ValueRef::Integer(n)) => n.to_string(),
        Ok(value) => value.as_str().unwrap_or_default().to_owned(),
        Err(_) => String::new(),
    };
    match table {
        "series" | "level0" => at(0),
        "event" | "gap" => at(3),
        "alert_history" => format!("{} at {}", at(3), at(2)),
        _ => at(2),
    }
}
