//! The form in which batches travel and lie in buffers: an eight-byte head, then zstd over bincode. Everything is bounded
//! before it is allocated; a version that is not known is refused with its number, never guessed at.
//!
//! Frame: `KVB`, version (u8), codec (u8: 1 = zstd), three reserved zero bytes, raw length (u32 LE), compressed bytes.
//! Push: `KVP`, version (u8), bincode of [`Push`]. Ack: `KVA`, version (u8), bincode of [`Ack`].
//! bincode: `config::standard()` of 2.0.1 (little endian, variable integers) with a limit. Rules for the types: no
//! recursion, no `usize`, no maps, enums grow at their end only. Called by the agent's buffer and uplink and by `ingest`.
//!
//! Versions: 1 had no [`Sealed`], no epoch in a [`Gap`], no [`Sender`], and pushes and acks that knew one lane. What is written
//! is 2; an agent of version 1 is understood and answered in its own.

mod batch;
mod error;
mod push;

use std::cell::RefCell;

use bincode::error::DecodeError;
use bincode::{BorrowDecode, Decode, Encode, config};

use crate::event::Event;
use crate::key::Sighting;
use crate::limits::{BATCH_DECODE_BYTES_MAX, BATCH_FRAME_BYTES_MAX, BATCH_RAW_BYTES_MAX};
use crate::sample::Series;
use crate::sequence::Range;

pub use batch::{Batch, Class, Column, Gap, Group, HostFacts, Sealed};
pub use error::WireError;
pub use push::{ACK_STREAMS_MAX, Ack, Directive, Push, Sender, decode_ack, decode_push, encode_ack, encode_push};

/// Version written by this code. Readers take this one and the one before it.
pub const VERSION: u8 = 2;
/// The version before.
const VERSION_BEFORE: u8 = 1;
const CODEC_ZSTD: u8 = 1;
const HEAD_BYTES: usize = 12;
/// Level 1: the agent's CPU matters more than the last bytes.
const ZSTD_LEVEL: i32 = 1;

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
    let (version, raw) = open_frame(frame)?;
    let (sealed_ms, after_time) = decode_front::<i64>(&raw)?;
    let (names, after_series) = decode_front::<Vec<SeriesBytes<'_>>>(after_time)?;
    let dictionary = &after_time[..after_time.len() - after_series.len()];
    let count = names.len();
    drop(names);
    let rest = if version == VERSION_BEFORE { decode_whole::<RestBefore>(after_series)?.into() } else { decode_whole::<Rest>(after_series)? };
    let series = if known(dictionary) { Vec::new() } else { decode_whole(dictionary)? };
    let Rest { groups, sightings, events, gaps, host, sealed } = rest;
    let batch = Batch { sealed_ms, series, groups, sightings, events, gaps, host, sealed };
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
    sealed: Option<Sealed>,
}

/// The same in version 1.
#[derive(Decode)]
struct RestBefore {
    groups: Vec<Group>,
    sightings: Vec<Sighting>,
    events: Vec<Event>,
    gaps: Vec<GapBefore>,
    host: Option<HostFacts>,
}

#[derive(Decode)]
struct GapBefore {
    range: Range,
    class: Class,
    cause: String,
    items: u64,
    at_ms: i64,
}

impl From<RestBefore> for Rest {
    fn from(before: RestBefore) -> Self {
        let gap = |GapBefore { range, class, cause, items, at_ms }| Gap { range, class, cause, items, at_ms, epoch: None };
        let RestBefore { groups, sightings, events, gaps, host } = before;
        Self { groups, sightings, events, gaps: gaps.into_iter().map(gap).collect(), host, sealed: None }
    }
}

/// A frame's version and raw bytes.
fn open_frame(frame: &[u8]) -> Result<(u8, Vec<u8>), WireError> {
    if frame.len() > BATCH_FRAME_BYTES_MAX {
        return Err(WireError::TooLarge { bytes: frame.len(), max: BATCH_FRAME_BYTES_MAX });
    }
    let (version, body) = open_head(frame, *b"KVB")?;
    let (Some(codec), Some(length)) = (body.first(), body.get(4..8)) else { return Err(WireError::Truncated) };
    if *codec != CODEC_ZSTD {
        return Err(WireError::Codec(*codec));
    }
    let claimed = length.try_into().map_or(usize::MAX, |bytes| u32::from_le_bytes(bytes) as usize);
    if claimed > BATCH_RAW_BYTES_MAX {
        return Err(WireError::TooLarge { bytes: claimed, max: BATCH_RAW_BYTES_MAX });
    }
    Ok((version, inflate(&body[8..], claimed)?))
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

fn encode_with_head<T: Encode>(magic: [u8; 3], version: u8, value: &T) -> Result<Vec<u8>, WireError> {
    let mut out = magic.to_vec();
    out.push(version);
    let body = bincode::encode_to_vec(value, standard()).map_err(|e| WireError::Encode(e.to_string()))?;
    out.extend_from_slice(&body);
    Ok(out)
}

/// Checks magic and version; the version, and what follows.
fn open_head(bytes: &[u8], magic: [u8; 3]) -> Result<(u8, &[u8]), WireError> {
    let Some((head, body)) = bytes.split_at_checked(4) else { return Err(WireError::Truncated) };
    if head[..3] != magic {
        return Err(WireError::Magic);
    }
    if ![VERSION, VERSION_BEFORE].contains(&head[3]) {
        return Err(WireError::Version(head[3]));
    }
    Ok((head[3], body))
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
