//! The form in which batches travel and lie in buffers: an eight-byte head, then zstd over bincode. Everything is bounded
//! before it is allocated; a version that is not known is refused with its number, never guessed at.
//!
//! Frame: `KVB`, version (u8), codec (u8: 1 = zstd), three reserved zero bytes, raw length (u32 LE), compressed bytes.
//! Push: `KVP`, version (u8), bincode of [`Push`]. Ack: `KVA`, version (u8), bincode of [`Ack`].
//! bincode: `config::standard()` of 2.0.1 (little endian, variable integers) with a limit. Rules for the types: no
//! recursion, no `usize`, no maps, enums grow at their end only. Called by the agent's buffer and uplink and by `ingest`.

mod error;

use std::cell::RefCell;

use bincode::error::DecodeError;
use bincode::{BorrowDecode, Decode, Encode, config};

use crate::event::Event;
use crate::key::{Sighting, clamp_text};
use crate::limits::{
    BATCH_DECODE_BYTES_MAX, BATCH_FRAME_BYTES_MAX, BATCH_RAW_BYTES_MAX, BATCH_RECORDS_MAX, BATCH_SAMPLES_MAX, BATCH_SERIES_MAX, EVIDENCE_MAX, PUSH_BYTES_MAX,
    PUSH_DROPPED_MAX, PUSH_FRAMES_MAX, TEXT_BYTES_MAX,
};
use crate::sample::Series;
use crate::sequence::Range;

pub use error::WireError;

/// Version written by this code. Readers take this one and, once there is a second, the one before it.
pub const VERSION: u8 = 1;
const CODEC_ZSTD: u8 = 1;
const HEAD_BYTES: usize = 12;
/// Level 1: the agent's CPU matters more than the last bytes.
const ZSTD_LEVEL: i32 = 1;

/// How much a batch matters when there is no room for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Encode, Decode)]
pub enum Class {
    /// Security events: kept to the last and sent at once.
    Security,
    /// Key sightings and key events.
    Key,
    /// Ordinary samples.
    Sample,
}

impl Class {
    /// Name in gap records and in the CLI.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Security => "security",
            Self::Key => "key",
            Self::Sample => "sample",
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
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
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

/// One sealed unit of delivery.
#[derive(Debug, Clone, Default, PartialEq, Encode, Decode)]
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

    fn check_all_but_series(&self, series: usize) -> Result<(), WireError> {
        let records = [self.sightings.len(), self.events.len(), self.gaps.len()];
        if series > BATCH_SERIES_MAX || self.samples() > BATCH_SAMPLES_MAX || records.iter().any(|n| *n > BATCH_RECORDS_MAX) {
            return Err(WireError::TooMany);
        }
        for group in &self.groups {
            check_group(group, series)?;
        }
        for event in &self.events {
            let texts = event.evidence.iter().flat_map(|(n, v)| [n, v]).chain([&event.message]);
            if event.evidence.len() > EVIDENCE_MAX || texts.chain(&event.path).any(|t| t.len() > TEXT_BYTES_MAX) {
                return Err(WireError::Shape("an event with too much text"));
            }
        }
        for sighting in &self.sightings {
            let facts = &sighting.facts;
            if facts.id.len() != 64 || !facts.id.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
                return Err(WireError::Shape("a key id that is not 64 lower-case hex digits"));
            }
            if sighting.place.path.len() > TEXT_BYTES_MAX || facts.fingerprint.len() > 128 {
                return Err(WireError::Shape("a sighting with too much text"));
            }
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
            event.path.iter_mut().for_each(clamp_text);
        }
        for sighting in &mut self.sightings {
            sighting.facts.clamp();
            clamp_text(&mut sighting.place.path);
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

/// One request of the agent: consecutive batches as they lie in its buffer.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Push {
    /// Random identity of the agent's buffer file.
    pub epoch: [u8; 16],
    /// Ranges given up since the last ack, so that the numbers may jump.
    pub dropped: Vec<Range>,
    /// Sequence number and frame, ascending.
    pub frames: Vec<(u64, Vec<u8>)>,
}

/// The aggregator's answer once everything up to `cursor` is on disk.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Ack {
    /// The epoch it speaks of.
    pub epoch: [u8; 16],
    /// Last sequence number settled.
    pub cursor: u64,
    /// Aggregator's wall clock, Unix ms.
    pub now_ms: i64,
    /// Orders for the agent.
    pub directives: Vec<Directive>,
}

/// An order that rides on an ack.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Directive {
    /// Sample these sensors (all where empty) at their shortest interval until then.
    Enhance {
        /// Names of sensors.
        sensors: Vec<String>,
        /// Unix ms.
        until_ms: i64,
    },
}

fn standard() -> impl config::Config {
    config::standard().with_limit::<BATCH_DECODE_BYTES_MAX>()
}

/// Encodes and compresses a batch. The agent does this once; the bytes then travel unchanged.
///
/// # Errors
/// A batch past the limits, which must be split.
pub fn encode_batch(batch: &Batch) -> Result<Vec<u8>, WireError> {
    batch.check()?;
    let raw = bincode::encode_to_vec(batch, standard()).map_err(|e| WireError::Encode(e.to_string()))?;
    if raw.len() > BATCH_RAW_BYTES_MAX {
        return Err(WireError::TooLarge { bytes: raw.len(), max: BATCH_RAW_BYTES_MAX });
    }
    let mut out = Vec::with_capacity(HEAD_BYTES + raw.len() / 4);
    out.extend_from_slice(b"KVB");
    out.extend_from_slice(&[VERSION, CODEC_ZSTD, 0, 0, 0]);
    out.extend_from_slice(&u32::try_from(raw.len()).unwrap_or(u32::MAX).to_le_bytes());
    let compressed = zstd::bulk::compress(&raw, ZSTD_LEVEL).map_err(|e| WireError::Encode(e.to_string()))?;
    out.extend_from_slice(&compressed);
    if out.len() > BATCH_FRAME_BYTES_MAX {
        return Err(WireError::TooLarge { bytes: out.len(), max: BATCH_FRAME_BYTES_MAX });
    }
    Ok(out)
}

/// Decodes and checks a batch.
///
/// # Errors
/// What is wrong with the bytes; none of them leads to an allocation beyond the limits.
pub fn decode_batch(frame: &[u8]) -> Result<Batch, WireError> {
    // One decoder for what is taken and for what is read back: what fits here fits there.
    decode_batch_unless(frame, |_| false)
}

/// The same, without the dictionary where `known` says of its bytes that they were decoded before: an agent sends the same
/// series again and again, and they are most of the work. `series` is empty then.
///
/// # Errors
/// As [`decode_batch`].
pub fn decode_batch_unless(frame: &[u8], known: impl FnOnce(&[u8]) -> bool) -> Result<Batch, WireError> {
    let raw = open_frame(frame)?;
    let (sealed_ms, after_time) = decode_front::<i64>(&raw)?;
    let (names, after_series) = decode_front::<Vec<SeriesBytes<'_>>>(after_time)?;
    let dictionary = &after_time[..after_time.len() - after_series.len()];
    let count = names.len();
    drop(names);
    let rest: Rest = decode_whole(after_series)?;
    let series = if known(dictionary) { Vec::new() } else { decode_whole(dictionary)? };
    let Rest { groups, sightings, events, gaps, host } = rest;
    let batch = Batch { sealed_ms, series, groups, sightings, events, gaps, host };
    batch.series.iter().try_for_each(Series::check)?;
    batch.check_all_but_series(count)?;
    Ok(batch)
}

/// A series as it lies in the frame, to find its end.
#[derive(BorrowDecode)]
struct SeriesBytes<'a> {
    _name: &'a [u8],
    _kind: u32,
    _tags: Vec<(&'a [u8], &'a [u8])>,
}

/// What follows the dictionary.
#[derive(Decode)]
struct Rest {
    groups: Vec<Group>,
    sightings: Vec<Sighting>,
    events: Vec<Event>,
    gaps: Vec<Gap>,
    host: Option<HostFacts>,
}

/// A frame's raw bytes.
fn open_frame(frame: &[u8]) -> Result<Vec<u8>, WireError> {
    if frame.len() > BATCH_FRAME_BYTES_MAX {
        return Err(WireError::TooLarge { bytes: frame.len(), max: BATCH_FRAME_BYTES_MAX });
    }
    let body = open_head(frame, *b"KVB")?;
    let (Some(codec), Some(length)) = (body.first(), body.get(4..8)) else { return Err(WireError::Truncated) };
    if *codec != CODEC_ZSTD {
        return Err(WireError::Codec(*codec));
    }
    let claimed = length.try_into().map_or(usize::MAX, |bytes| u32::from_le_bytes(bytes) as usize);
    if claimed > BATCH_RAW_BYTES_MAX {
        return Err(WireError::TooLarge { bytes: claimed, max: BATCH_RAW_BYTES_MAX });
    }
    inflate(&body[8..], claimed)
}

/// Raw bytes that a frame claims, read off its head: what decoding it may cost, before that is paid. 0 if it has no head.
#[must_use]
pub fn claimed_bytes(frame: &[u8]) -> usize {
    frame.get(8..HEAD_BYTES).and_then(|bytes| bytes.try_into().ok()).map_or(0, |bytes| u32::from_le_bytes(bytes) as usize)
}

fn inflate(compressed: &[u8], claimed: usize) -> Result<Vec<u8>, WireError> {
    thread_local! {
        /// Making one takes as long as a small batch does.
        static INFLATER: RefCell<Option<zstd::bulk::Decompressor<'static>>> = const { RefCell::new(None) };
    }
    let garbled = |e: std::io::Error| WireError::Garbled(e.to_string());
    // The claim is bounded by the caller; what is longer does not fit.
    let mut raw = Vec::with_capacity(claimed);
    INFLATER.with_borrow_mut(|kept| {
        let mut inflater = kept.take().map_or_else(zstd::bulk::Decompressor::new, Ok).map_err(garbled)?;
        inflater.decompress_to_buffer(compressed, &mut raw).map_err(garbled)?;
        *kept = Some(inflater);
        Ok::<(), WireError>(())
    })?;
    if raw.len() == claimed { Ok(raw) } else { Err(WireError::Garbled("length is not what the head says".into())) }
}

/// Encodes a push.
///
/// # Errors
/// A push past the limits.
pub fn encode_push(push: &Push) -> Result<Vec<u8>, WireError> {
    let out = encode_with_head(*b"KVP", push)?;
    if out.len() > PUSH_BYTES_MAX {
        return Err(WireError::TooLarge { bytes: out.len(), max: PUSH_BYTES_MAX });
    }
    Ok(out)
}

/// Decodes a push; its frames stay sealed until [`decode_batch`].
///
/// # Errors
/// As [`decode_batch`].
pub fn decode_push(bytes: &[u8]) -> Result<Push, WireError> {
    if bytes.len() > PUSH_BYTES_MAX {
        return Err(WireError::TooLarge { bytes: bytes.len(), max: PUSH_BYTES_MAX });
    }
    let push: Push = decode_whole(open_head(bytes, *b"KVP")?)?;
    if push.frames.len() > PUSH_FRAMES_MAX || push.dropped.len() > PUSH_DROPPED_MAX {
        return Err(WireError::TooMany);
    }
    if push.frames.is_empty() || push.frames[0].0 == 0 || push.frames.windows(2).any(|w| w[0].0 >= w[1].0) {
        return Err(WireError::Shape("frames that are not numbered upwards from 1"));
    }
    if push.dropped.iter().any(|r| r.first > r.last) {
        return Err(WireError::Shape("a dropped range that ends before it begins"));
    }
    Ok(push)
}

/// Encodes an ack.
///
/// # Errors
/// Never in practice; the encoder's error type is passed on.
pub fn encode_ack(ack: &Ack) -> Result<Vec<u8>, WireError> {
    encode_with_head(*b"KVA", ack)
}

/// Decodes an ack.
///
/// # Errors
/// As [`decode_batch`].
pub fn decode_ack(bytes: &[u8]) -> Result<Ack, WireError> {
    decode_whole(open_head(bytes, *b"KVA")?)
}

fn encode_with_head<T: Encode>(magic: [u8; 3], value: &T) -> Result<Vec<u8>, WireError> {
    let mut out = magic.to_vec();
    out.push(VERSION);
    let body = bincode::encode_to_vec(value, standard()).map_err(|e| WireError::Encode(e.to_string()))?;
    out.extend_from_slice(&body);
    Ok(out)
}

/// Checks magic and version; what follows them.
fn open_head(bytes: &[u8], magic: [u8; 3]) -> Result<&[u8], WireError> {
    let Some((head, body)) = bytes.split_at_checked(4) else { return Err(WireError::Truncated) };
    if head[..3] != magic {
        return Err(WireError::Magic);
    }
    if head[3] != VERSION {
        return Err(WireError::Version(head[3]));
    }
    Ok(body)
}

/// A value at the front of `bytes`, and what follows it.
fn decode_front<'a, T: BorrowDecode<'a, ()>>(bytes: &'a [u8]) -> Result<(T, &'a [u8]), WireError> {
    let (value, used) = bincode::borrow_decode_from_slice(bytes, standard()).map_err(fault)?;
    Ok((value, &bytes[used..]))
}

fn fault(error: DecodeError) -> WireError {
    match error {
        DecodeError::UnexpectedEnd { .. } => WireError::Truncated,
        other => WireError::Garbled(other.to_string()),
    }
}

fn decode_whole<T: Decode<()>>(bytes: &[u8]) -> Result<T, WireError> {
    let (value, used) = bincode::decode_from_slice(bytes, standard()).map_err(fault)?;
    if used == bytes.len() { Ok(value) } else { Err(WireError::Garbled(format!("{} bytes after the end", bytes.len() - used))) }
}

#[cfg(test)]
mod tests;
