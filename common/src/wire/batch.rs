//! What travels: one sealed unit of delivery with its samples, keys, events and losses.

use bincode::{Decode, Encode};

use super::WireError;
use crate::event::Event;
use crate::key::{Sighting, clamp_text};
use crate::limits::{BATCH_RECORDS_MAX, BATCH_SAMPLES_MAX, BATCH_SERIES_MAX, EVIDENCE_MAX, TEXT_BYTES_MAX};
use crate::sample::Series;
use crate::sequence::Range;

/// How much a batch matters when there is no room for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Encode, Decode)]
pub enum Class {
    /// Security events: kept to the last and sent at once.
    Security,
    /// Key sightings and key events.
    Key,
    /// Ordinary samples.
    Sample,
    /// What alerts are made of beside security events: sight that was lost, and losses that are told.
    Alert,
    /// Samples taken more often than the sensor's longest interval asks for.
    Detail,
}

impl Class {
    /// All classes, what is kept to the last first: who must make room gives up the last of these first.
    pub const KEPT: [Self; 5] = [Self::Security, Self::Alert, Self::Key, Self::Sample, Self::Detail];

    /// Name in gap records and in the CLI.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Security => "security",
            Self::Key => "key",
            Self::Sample => "sample",
            Self::Alert => "alert",
            Self::Detail => "detail",
        }
    }
}

/// Values of one series, one for each time of its group.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct Column {
    /// Position in the batch's `series`.
    pub series: u32,
    /// Counters: when counting began, Unix ms; 0 where not stated.
    pub start_ms: i64,
    /// As many as the group has times.
    pub values: Vec<f64>,
}

/// What one sensor measured: its series share the time column.
#[derive(Debug, Clone, PartialEq, Decode)]
pub struct Group {
    /// Name of the sensor.
    pub sensor: String,
    /// The interval it was sampled at, ms: effective, not configured.
    pub interval_ms: u32,
    /// Unix ms, ascending.
    pub times: Vec<i64>,
    /// One for each series.
    pub columns: Vec<Column>,
}

/// A declared loss: these sequence numbers will never come.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Gap {
    /// The numbers given up.
    pub range: Range,
    /// What class they were.
    pub class: Class,
    /// Why: `buffer full`, `too old`, `corrupt`.
    pub cause: String,
    /// Samples, sightings and events in them, as far as known.
    pub items: u64,
    /// When it was given up, Unix ms.
    pub at_ms: i64,
    /// The epoch that counts these numbers, where it is known.
    pub epoch: Option<[u8; 16]>,
}

/// When a batch was sealed by a clock that nobody can set: tells how old it is, whatever the host's wall clock showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Sealed {
    /// Random identity of the boot (`/proc/sys/kernel/random/boot_id`).
    pub boot: [u8; 16],
    /// Time since that boot, suspension included, ms.
    pub boot_ms: i64,
}

/// What the host is, sent when the agent starts and when it changes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode, serde::Serialize, serde::Deserialize)]
pub struct HostFacts {
    /// Host name.
    pub hostname: String,
    /// Operating system and version.
    pub os: String,
    /// Kernel release.
    pub kernel: String,
    /// Machine architecture.
    pub arch: String,
    /// Logical processors.
    pub cpus: u32,
    /// Memory, bytes.
    pub memory_bytes: u64,
    /// Agent's version.
    pub agent_version: String,
}

impl HostFacts {
    fn texts(&self) -> [&String; 5] {
        [&self.hostname, &self.os, &self.kernel, &self.arch, &self.agent_version]
    }
}

/// One sealed unit of delivery.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Batch {
    /// Wall clock when it was sealed, Unix ms.
    pub sealed_ms: i64,
    /// Dictionary that the columns point into.
    pub series: Vec<Series>,
    /// Samples.
    pub groups: Vec<Group>,
    /// Keys seen or gone.
    pub sightings: Vec<Sighting>,
    /// What happened.
    pub events: Vec<Event>,
    /// What was given up before.
    pub gaps: Vec<Gap>,
    /// What the host is.
    pub host: Option<HostFacts>,
    /// When it was sealed, by the time since boot.
    pub sealed: Option<Sealed>,
}

impl Batch {
    /// Number of samples.
    #[must_use]
    pub fn samples(&self) -> usize {
        self.groups.iter().flat_map(|g| &g.columns).map(|c| c.values.len()).sum()
    }

    /// Samples, sightings and events together: what a loss of this batch would cost.
    #[must_use]
    pub fn items(&self) -> u64 {
        (self.samples() + self.sightings.len() + self.events.len()) as u64
    }

    /// Earliest and latest sample, Unix ms.
    #[must_use]
    pub fn span_ms(&self) -> Option<(i64, i64)> {
        let times = || self.groups.iter().flat_map(|g| g.times.iter().copied());
        times().min().zip(times().max())
    }

    /// Checks what the types cannot say.
    ///
    /// # Errors
    /// The first thing that is wrong, with its place.
    pub fn check(&self) -> Result<(), WireError> {
        for series in &self.series {
            series.check()?;
        }
        self.check_all_but_series(self.series.len())
    }

    pub(super) fn check_all_but_series(&self, series: usize) -> Result<(), WireError> {
        let records = [self.sightings.len(), self.events.len(), self.gaps.len()];
        if series > BATCH_SERIES_MAX || self.samples() > BATCH_SAMPLES_MAX || records.iter().any(|n| *n > BATCH_RECORDS_MAX) {
            return Err(WireError::TooMany);
        }
        for group in &self.groups {
            check_group(group, series)?;
        }
        for event in &self.events {
            let texts = event.evidence.iter().flat_map(|(n, v)| [n, v]).chain([&event.message]).chain(&event.path).chain(&event.key_id);
            let of_actor = event.actor.iter().flat_map(|actor| [&actor.exe, &actor.unit, &actor.peer]).flatten();
            if event.evidence.len() > EVIDENCE_MAX || texts.chain(of_actor).any(|t| t.len() > TEXT_BYTES_MAX) {
                return Err(WireError::Shape("an event with too much text"));
            }
        }
        for gap in &self.gaps {
            if !gap.range.is_of_numbers() || gap.cause.len() > TEXT_BYTES_MAX {
                return Err(WireError::Shape("a declared loss of no numbers, or with too much text"));
            }
        }
        for sighting in &self.sightings {
            let facts = &sighting.facts;
            if facts.id.len() != 64 || !facts.id.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
                return Err(WireError::Shape("a key id that is not 64 lower-case hex digits"));
            }
            let replaces = sighting.replaces.as_ref().is_none_or(|id| id.len() <= TEXT_BYTES_MAX);
            if !replaces || !sighting.place.is_bounded() || !facts.is_clamped() || facts.fingerprint.len() > 128 {
                return Err(WireError::Shape("a sighting with too much text, or a time that is no date"));
            }
        }
        if self.host.as_ref().is_some_and(|host| host.texts().iter().any(|text| text.len() > TEXT_BYTES_MAX)) {
            return Err(WireError::Shape("a host with too much text"));
        }
        Ok(())
    }

    /// Cuts over-long texts, so that what was sensed always travels.
    pub fn clamp(&mut self) {
        for event in &mut self.events {
            clamp_text(&mut event.message);
            event.evidence.truncate(EVIDENCE_MAX);
            event.evidence.iter_mut().for_each(|(n, v)| {
                clamp_text(n);
                clamp_text(v);
            });
            let of_actor = event.actor.iter_mut().flat_map(|actor| [&mut actor.exe, &mut actor.unit, &mut actor.peer]);
            of_actor.chain([&mut event.path, &mut event.key_id]).flatten().for_each(clamp_text);
        }
        for sighting in &mut self.sightings {
            sighting.facts.clamp();
            sighting.place.bound();
        }
        for gap in &mut self.gaps {
            clamp_text(&mut gap.cause);
        }
        if let Some(host) = &mut self.host {
            [&mut host.hostname, &mut host.os, &mut host.kernel, &mut host.arch, &mut host.agent_version].into_iter().for_each(clamp_text);
        }
    }
}

fn check_group(group: &Group, series: usize) -> Result<(), WireError> {
    if group.times.windows(2).any(|w| w[0] >= w[1]) {
        return Err(WireError::Shape("times that do not ascend"));
    }
    if group.times.is_empty() && !group.columns.is_empty() {
        return Err(WireError::Shape("columns without times"));
    }
    for column in &group.columns {
        if column.values.len() != group.times.len() {
            return Err(WireError::Shape("a column as long as its times is not"));
        }
        if column.series as usize >= series {
            return Err(WireError::Shape("a column of a series that is not in the dictionary"));
        }
    }
    Ok(())
}
