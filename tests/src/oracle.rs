//! What a fault experiment sends and how it is judged. Batch number n holds one sample whose value is n, at an instant that n
//! gives, and one event that names n: a sample that is stored twice hides behind its instant, an event does not. Each number
//! that was committed to the buffer stands in a side log that no fault touches.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write;
use std::path::Path;

use keyvigil_common::client::{Client, Query};
use keyvigil_common::event::{Event, EventKind};
use keyvigil_common::sample::{MetricType, Series, Tags};
use keyvigil_common::wire::{Batch, Column, Group};

/// Samples and events of one batch.
pub const ITEMS: u64 = 2;
/// Between the instants of two numbers, ms.
pub const STEP_MS: i64 = 10;
/// The metric.
pub const METRIC: &str = "oracle.value";

/// Batch number `n`, from 1 on.
///
/// # Panics
/// Never in practice.
#[must_use]
pub fn batch(n: u64, base_ms: i64) -> Batch {
    let at_ms = base_ms + n as i64 * STEP_MS;
    let series = Series::new(METRIC, MetricType::Gauge, Tags::default()).expect("valid");
    let column = Column { series: 0, start_ms: 0, values: vec![n as f64] };
    let group = Group { sensor: "oracle".into(), interval_ms: 1_000, times: vec![at_ms], columns: vec![column] };
    let event = Event { kind: EventKind::Accessed, at_ms, key_id: None, path: None, actor: None, message: format!("oracle {n}"), evidence: Vec::new() };
    Batch { sealed_ms: at_ms, series: vec![series], groups: vec![group], events: vec![event], ..Batch::default() }
}

/// The side log of a sender: what it began to commit, and what was committed.
#[derive(Debug)]
pub struct SideLog(File);

/// What a side log holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Issued {
    /// Numbers that may be in the buffer.
    pub attempted: BTreeSet<u64>,
    /// Numbers that are.
    pub committed: BTreeSet<u64>,
}

impl SideLog {
    /// Appends to the log at `path`.
    ///
    /// # Panics
    /// Where that is not possible.
    #[must_use]
    pub fn open(path: &Path) -> Self {
        Self(File::options().create(true).append(true).open(path).expect("the side log"))
    }

    /// `n` is about to be committed.
    ///
    /// # Panics
    /// Where it cannot be written.
    pub fn attempt(&mut self, n: u64) {
        self.0.write_all(format!("a {n}\n").as_bytes()).expect("the side log");
    }

    /// `n` was committed.
    ///
    /// # Panics
    /// Where it cannot be written.
    pub fn commit(&mut self, n: u64) {
        self.0.write_all(format!("c {n}\n").as_bytes()).expect("the side log");
    }

    /// How full the buffer is, and why it is in memory.
    ///
    /// # Panics
    /// Where it cannot be written.
    pub fn level(&mut self, batches: u64, bytes: u64, degraded: Option<&str>) {
        let degraded = degraded.unwrap_or("-").replace('\n', " ");
        self.0.write_all(format!("l {batches} {bytes} {degraded}\n").as_bytes()).expect("the side log");
    }

    /// Bytes that waited and why the buffer was in memory, each time that was noted.
    #[must_use]
    pub fn levels(path: &Path) -> Vec<(u64, Option<String>)> {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let level = |line: &str| {
            let mut words = line.strip_prefix("l ")?.splitn(3, ' ').skip(1);
            Some((words.next()?.parse().ok()?, words.next().filter(|why| *why != "-").map(str::to_owned)))
        };
        text.lines().filter_map(level).collect()
    }

    /// Reads a log.
    #[must_use]
    pub fn read(path: &Path) -> Issued {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let mut issued = Issued::default();
        for line in text.lines() {
            let (kind, n) = line.split_once(' ').unwrap_or_default();
            let Ok(n) = n.parse() else { continue };
            match kind {
                "a" => issued.attempted.insert(n),
                "c" => issued.committed.insert(n),
                _ => false,
            };
        }
        issued
    }
}

/// What the aggregator has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stored {
    /// Numbers by their sample.
    pub samples: BTreeSet<u64>,
    /// How many events each number has.
    pub events: BTreeMap<u64, u32>,
    /// Items declared lost.
    pub declared: u64,
    /// Declarations that do not know how much was lost.
    pub unknown: u64,
    /// All declarations: class, cause, items.
    pub gaps: Vec<(String, String, u64)>,
}

impl Stored {
    /// Asks for everything of `host`, issued from `base_ms` on.
    ///
    /// # Errors
    /// An aggregator that does not answer, or a sample that was never sent, in words.
    pub async fn ask(client: &Client, host: &str, base_ms: i64) -> Result<Self, String> {
        let mut stored = Self::default();
        let query = Query {
            metric_pattern: METRIC.into(),
            start_time: Some(base_ms.to_string()),
            end_time: Some((base_ms + 10_000_000 * STEP_MS).to_string()),
            tag: vec![format!("host:{host}")],
            ..Query::default()
        };
        let answer = client.query_metrics(&query).await.map_err(|e| e.to_string())?;
        for (at, value) in answer.series.iter().flat_map(|series| &series.points) {
            let n = value.as_f64().unwrap_or(f64::NAN);
            if n.fract() != 0.0 || *at != base_ms + n as i64 * STEP_MS {
                return Err(format!("a sample that was never sent: {n} at {at}"));
            }
            stored.samples.insert(n as u64);
        }
        stored.read_events(client, host).await?;
        stored.read_gaps(client, host).await?;
        Ok(stored)
    }

    async fn read_gaps(&mut self, client: &Client, host: &str) -> Result<(), String> {
        let mut cursor = String::new();
        loop {
            let mut filters = vec![("limit", "1000")];
            if !cursor.is_empty() {
                filters.push(("cursor", &cursor));
            }
            let page = client.gaps(&filters).await.map_err(|e| e.to_string())?;
            for gap in page["gaps"].as_array().into_iter().flatten().filter(|gap| gap["host"] == host) {
                let items = gap["items"].as_u64().unwrap_or(0);
                let text = |name: &str| gap[name].as_str().unwrap_or_default().to_owned();
                self.declared += items;
                self.unknown += u64::from(items == 0);
                self.gaps.push((text("class"), text("cause"), items));
            }
            match page["next_cursor"].as_str() {
                Some(next) => next.clone_into(&mut cursor),
                None => return Ok(()),
            }
        }
    }

    async fn read_events(&mut self, client: &Client, host: &str) -> Result<(), String> {
        let mut cursor = String::new();
        loop {
            let mut filters = vec![("kind", "accessed"), ("host", host), ("limit", "1000")];
            if !cursor.is_empty() {
                filters.push(("cursor", &cursor));
            }
            let page = client.events(&filters).await.map_err(|e| e.to_string())?;
            for event in page["events"].as_array().into_iter().flatten() {
                let n = event["message"].as_str().and_then(|text| text.strip_prefix("oracle ")?.parse().ok());
                *self.events.entry(n.ok_or("an event that was never sent")?).or_default() += 1;
            }
            match page["next_cursor"].as_str() {
                Some(next) => next.clone_into(&mut cursor),
                None => return Ok(()),
            }
        }
    }

    /// Judges, once nothing is buffered any more: what was committed is stored exactly once, or declared; nothing else is there.
    ///
    /// # Errors
    /// What is broken, in words.
    pub fn judge(&self, issued: &Issued) -> Result<String, String> {
        let by_event: BTreeSet<u64> = self.events.keys().copied().collect();
        if by_event != self.samples {
            let odd: Vec<_> = by_event.symmetric_difference(&self.samples).take(5).collect();
            return Err(format!("batches of which only a part is stored: {odd:?}"));
        }
        if let Some((n, count)) = self.events.iter().find(|(_, count)| **count != 1) {
            return Err(format!("batch {n} is stored {count} times"));
        }
        if let Some(n) = self.samples.difference(&issued.attempted).next() {
            return Err(format!("batch {n} was never sent"));
        }
        let missing = issued.committed.difference(&self.samples).count() as u64;
        let declared = self.declared / ITEMS;
        // A batch that was given up may have been one whose commit was not known.
        let unsure = issued.attempted.difference(&issued.committed).count() as u64;
        // Losses of unknown size may stand for some of it; more than is missing is never declared.
        let least = if self.unknown == 0 { missing } else { 0 };
        if !(least..=missing + unsure).contains(&declared) || missing > 0 && self.gaps.is_empty() {
            return Err(format!("{missing} committed batches are missing, {declared} are declared lost; declared: {:?}", self.gaps));
        }
        Ok(format!(
            "{} committed = {} stored once + {missing} declared lost ({declared} told{})",
            issued.committed.len(),
            issued.committed.len() as u64 - missing,
            if self.unknown > 0 { format!(", {} of unknown size", self.unknown) } else { String::new() }
        ))
    }
}
