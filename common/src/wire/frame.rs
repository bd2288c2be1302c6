//! A batch in its frame, and the raw bytes in there: what it says, however it was compressed on its way. The times in them
//! are differences, the first of a group to the last of the group before it, that of the first group to the time of sealing, and
//! instead of the time since the boot stands the boot's: so what repeats from batch to batch repeats byte by byte, and a
//! [`super::Difference`] finds it.

use std::cell::RefCell;

use bincode::{BorrowDecode, Decode, Encode};

use super::before::RestBefore;
use super::{Batch, Column, Gap, Group, HostFacts, Sealed, VERSION, VERSION_BEFORE, WireError};
use super::{decode_front, decode_whole, open_head, standard};
use crate::event::Event;
use crate::key::Sighting;
use crate::limits::{BATCH_FRAME_BYTES_MAX, BATCH_RAW_BYTES_MAX};
use crate::sample::Series;

pub(super) const CODEC_ZSTD: u8 = 1;
pub(super) const HEAD_BYTES: usize = 12;
/// Level 1: the agent's CPU matters more than the last bytes.
const ZSTD_LEVEL: i32 = 1;

/// Encodes and compresses a batch. The agent does this once; whatever way it travels, its raw bytes stay as they are.
///
/// # Errors
/// A batch past the limits, which must be split.
pub fn encode_batch(batch: &Batch) -> Result<Vec<u8>, WireError> {
    batch.check()?;
    Raw { version: VERSION, bytes: raw_of(batch)? }.seal()
}

/// Decodes and checks a batch.
///
/// # Errors
/// What is wrong with the bytes; none of them leads to an allocation beyond the limits.
pub fn decode_batch(frame: &[u8]) -> Result<Batch, WireError> {
    Raw::open(frame)?.decode()
}

/// Raw bytes that a frame claims, read off its head: what decoding it may cost, before that is paid. 0 if it has no head.
#[must_use]
pub fn claimed_bytes(frame: &[u8]) -> usize {
    frame.get(8..HEAD_BYTES).and_then(|bytes| bytes.try_into().ok()).map_or(0, |bytes| u32::from_le_bytes(bytes) as usize)
}

/// A frame, opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Raw {
    pub(super) version: u8,
    pub(super) bytes: Vec<u8>,
}

impl Raw {
    /// Decompresses a frame.
    ///
    /// # Errors
    /// What is wrong with it; nothing beyond the limits is allocated.
    pub fn open(frame: &[u8]) -> Result<Self, WireError> {
        if frame.len() > BATCH_FRAME_BYTES_MAX {
            return Err(WireError::TooLarge { bytes: frame.len(), max: BATCH_FRAME_BYTES_MAX });
        }
        let (version, body) = open_head(frame, *b"KVB")?;
        let (Some(codec), Some(compressed)) = (body.first(), body.get(HEAD_BYTES - 4..)) else { return Err(WireError::Truncated) };
        if *codec != CODEC_ZSTD {
            return Err(WireError::Codec(*codec));
        }
        let claimed = claimed_bytes(frame);
        if claimed > BATCH_RAW_BYTES_MAX {
            return Err(WireError::TooLarge { bytes: claimed, max: BATCH_RAW_BYTES_MAX });
        }
        Ok(Self { version, bytes: inflate(compressed, claimed)? })
    }

    /// Compresses it into a frame by itself.
    ///
    /// # Errors
    /// It does not fit.
    pub fn seal(&self) -> Result<Vec<u8>, WireError> {
        let Self { version, bytes } = self;
        if bytes.len() > BATCH_RAW_BYTES_MAX {
            return Err(WireError::TooLarge { bytes: bytes.len(), max: BATCH_RAW_BYTES_MAX });
        }
        let mut out = Vec::with_capacity(HEAD_BYTES + bytes.len() / 4);
        out.extend_from_slice(b"KVB");
        out.extend_from_slice(&[*version, CODEC_ZSTD, 0, 0, 0]);
        out.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
        let compressed = zstd::bulk::compress(bytes, ZSTD_LEVEL).map_err(|e| WireError::Encode(e.to_string()))?;
        out.extend_from_slice(&compressed);
        if out.len() > BATCH_FRAME_BYTES_MAX {
            return Err(WireError::TooLarge { bytes: out.len(), max: BATCH_FRAME_BYTES_MAX });
        }
        Ok(out)
    }

    /// What tells a batch that came in `frame` from any other. Version 1 knew batches by their frames, and travels in no other
    /// way; since then they are known by what is in them.
    #[must_use]
    pub fn hash(&self, frame: &[u8]) -> [u8; 32] {
        crate::sha256(if self.version == VERSION_BEFORE { frame } else { &self.bytes })
    }

    /// Length, bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Decodes and checks the batch.
    ///
    /// # Errors
    /// As [`decode_batch`].
    pub fn decode(&self) -> Result<Batch, WireError> {
        // One decoder for what is taken and for what is read back: what fits here fits there.
        self.decode_unless(|_| false)
    }

    /// The same, without the dictionary where `known` says of its bytes that they were decoded before: an agent sends the same
    /// series again and again, and they are most of the work. `series` is empty then.
    ///
    /// # Errors
    /// As [`decode_batch`].
    pub fn decode_unless(&self, known: impl FnOnce(&[u8]) -> bool) -> Result<Batch, WireError> {
        let (sealed_ms, after_time) = decode_front::<i64>(&self.bytes)?;
        let (names, after_series) = decode_front::<Vec<SeriesBytes<'_>>>(after_time)?;
        let dictionary = &after_time[..after_time.len() - after_series.len()];
        let count = names.len();
        drop(names);
        let rest = if self.version == VERSION_BEFORE {
            decode_whole::<RestBefore>(after_series)?.into()
        } else {
            let mut rest = decode_whole::<Rest>(after_series)?;
            sum_up(&mut rest, sealed_ms);
            rest
        };
        let series = if known(dictionary) { Vec::new() } else { decode_whole(dictionary)? };
        let Rest { groups, sightings, events, gaps, host, sealed } = rest;
        let batch = Batch { sealed_ms, series, groups, sightings, events, gaps, host, sealed };
        batch.series.iter().try_for_each(Series::check)?;
        batch.check_all_but_series(count)?;
        Ok(batch)
    }
}

/// The raw bytes of a batch.
pub(super) fn raw_of(batch: &Batch) -> Result<Vec<u8>, WireError> {
    let Batch { sealed_ms, series, groups, sightings, events, gaps, host, sealed } = batch;
    let mut before = *sealed_ms;
    let groups: Vec<_> = groups.iter().map(|group| GroupBytes::of(group, &mut before)).collect();
    let sealed = sealed.map(|sealed| since_boot(sealed, *sealed_ms));
    bincode::encode_to_vec((sealed_ms, series, groups, sightings, events, gaps, host, sealed), standard()).map_err(|e| WireError::Encode(e.to_string()))
}

/// A group as it is written.
#[derive(Encode)]
struct GroupBytes<'a> {
    sensor: &'a str,
    interval_ms: u32,
    /// Each as the difference to the one before it.
    times: Vec<i64>,
    columns: &'a [Column],
}

impl<'a> GroupBytes<'a> {
    fn of(group: &'a Group, before: &mut i64) -> Self {
        let Group { sensor, interval_ms, times, columns } = group;
        let difference = |time: &i64| time.wrapping_sub(std::mem::replace(before, *time));
        Self { sensor, interval_ms: *interval_ms, times: times.iter().map(difference).collect(), columns }
    }
}

/// Exchanges the time from the boot to the sealing and the boot's time by the wall clock, which is the same in each batch.
fn since_boot(Sealed { boot, boot_ms }: Sealed, sealed_ms: i64) -> Sealed {
    Sealed { boot, boot_ms: sealed_ms.wrapping_sub(boot_ms) }
}

/// Turns differences into the times that they stand for.
fn sum_up(Rest { groups, sealed, .. }: &mut Rest, sealed_ms: i64) {
    *sealed = sealed.map(|sealed| since_boot(sealed, sealed_ms));
    let mut before = sealed_ms;
    for time in groups.iter_mut().flat_map(|group| &mut group.times) {
        before = before.wrapping_add(*time);
        *time = before;
    }
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
pub(super) struct Rest {
    pub(super) groups: Vec<Group>,
    pub(super) sightings: Vec<Sighting>,
    pub(super) events: Vec<Event>,
    pub(super) gaps: Vec<Gap>,
    pub(super) host: Option<HostFacts>,
    pub(super) sealed: Option<Sealed>,
}

pub(super) fn inflate(compressed: &[u8], claimed: usize) -> Result<Vec<u8>, WireError> {
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
