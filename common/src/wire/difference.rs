//! A push told as a difference to those before it: an agent sends the same names and mostly the same values again and again.
//! Both ends keep a [`Base`], the last raw bytes that were acknowledged; zstd takes it for what came just before. What lies
//! in buffers and stores stays whole: only the way is shorter. Nothing depends on the base being there: an aggregator
//! that lacks it asks for the push as it is.
//!
//! Under the compression lies a text: bincode of the push with the length of each batch in its place, then the raw bytes of the
//! batches. What is sent is the zstd frame after its magic number; its checksum tells whether both ends made the same of it.

use bincode::{Decode, Encode};
use zstd::zstd_safe::{CCtx, CParameter, DCtx, compress_bound, get_error_name, get_frame_content_size};

use super::frame::{CODEC_ZSTD, Raw, claimed_bytes};
use super::{Push, Sender, VERSION, WireError, decode_front, encode_push, open_head, standard};
use crate::canary::Canaries;
use crate::limits::{BASE_BYTES_MAX, BASE_BYTES_MIN, DIFFERENCE_RAW_BYTES_MAX, PUSH_FRAMES_MAX};
use crate::sequence::Range;

/// Dearer than frames by themselves, for a fifth less: 25 us for the batch of a host.
const LEVEL: i32 = 3;
/// Slots of zstd's tables, as a power of two: the base and a batch have not many more places, and they are cleared each time.
const TABLES_LOG: u32 = 14;
/// What is equal over so many bytes is looked for first: names of series look so much alike that else some are taken for others.
const RUN_BYTES: u32 = 64;
/// Slots for such runs, one for eight bytes.
const RUNS_LOG: u32 = 12;
const HEAD_BYTES: usize = 12;
/// What zstd begins with; it is not sent.
const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// The end of what was acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    /// Tells it from others: the hash of all that went into it.
    pub name: u64,
    /// Its bytes, at most [`BASE_BYTES_MAX`].
    pub bytes: Vec<u8>,
}

impl Base {
    /// The base once `text` is acknowledged as well.
    fn after(before: Option<&Self>, text: &[u8]) -> Self {
        let (name, bytes) = before.map_or((0, &[][..]), |before| (before.name, &before.bytes));
        let keep = (2 * text.len()).clamp(BASE_BYTES_MIN, BASE_BYTES_MAX);
        let end = &text[text.len().saturating_sub(keep)..];
        let begin = &bytes[(bytes.len() + end.len()).saturating_sub(keep).min(bytes.len())..];
        let hash = crate::sha256(&[&name.to_le_bytes(), end].concat());
        let name = hash.first_chunk().map_or(0, |first| u64::from_le_bytes(*first));
        Self { name, bytes: [begin, end].concat() }
    }

    /// The base once a push that went whole is acknowledged; `None` if nothing can follow it.
    ///
    /// # Errors
    /// Never in practice; the encoder's error type is passed on.
    pub fn after_whole<'r>(push: &Push, raws: impl DoubleEndedIterator<Item = (u64, &'r Raw)> + Clone) -> Result<Option<Self>, WireError> {
        let Some((_, last)) = raws.clone().next_back().filter(|(_, last)| last.len() <= BASE_BYTES_MAX) else { return Ok(None) };
        if raws.clone().any(|(_, raw)| raw.version != VERSION) {
            return Ok(None);
        }
        Self::of_whole(push, raws.map(|(seq, raw)| (seq, raw.len())), last)
    }

    fn of_whole(push: &Push, lengths: impl Iterator<Item = (u64, usize)>, last: &Raw) -> Result<Option<Self>, WireError> {
        let front = front(push, lengths)?;
        Ok(front.map(|front| Self::after(None, &[&front, &last.bytes[..]].concat())))
    }
}

/// A sender: what stays the same for the time of its life comes first.
#[derive(Encode, Decode)]
struct SenderBytes {
    instance: [u8; 16],
    machine: [u8; 32],
    boot: [u8; 16],
    trusts: [u8; 32],
    blind: Option<u32>,
    canaries: Canaries,
    /// Wall clock less the time since the boot: when the host was started, by its clock.
    booted_ms: i64,
    boot_ms: i64,
}

impl From<Sender> for SenderBytes {
    fn from(Sender { instance, machine, boot, boot_ms, wall_ms, trusts, blind, canaries }: Sender) -> Self {
        Self { instance, machine, boot, trusts, blind, canaries, booted_ms: wall_ms.wrapping_sub(boot_ms), boot_ms }
    }
}

impl From<SenderBytes> for Sender {
    fn from(SenderBytes { instance, machine, boot, trusts, blind, canaries, booted_ms, boot_ms }: SenderBytes) -> Self {
        Self { instance, machine, boot, boot_ms, wall_ms: booted_ms.wrapping_add(boot_ms), trusts, blind, canaries }
    }
}

/// A push but for its batches: epoch, ranges dropped and waiting, sender, sequence number and raw length of each batch. What differs
/// from push to push comes last, beside the beginning of the first batch.
type Front = ([u8; 16], Vec<Range>, Vec<Range>, SenderBytes, Vec<(u64, u32)>);

/// `None` for a push of version 1.
fn front(push: &Push, lengths: impl Iterator<Item = (u64, usize)>) -> Result<Option<Vec<u8>>, WireError> {
    let Push { epoch, sender: Some(sender), dropped, waiting, .. } = push else { return Ok(None) };
    let batches: Vec<(u64, u32)> = lengths.map(|(seq, length)| (seq, u32::try_from(length).unwrap_or(u32::MAX))).collect();
    encode(&(epoch, dropped, waiting, SenderBytes::from(*sender), batches)).map(Some)
}

fn encode(value: &impl Encode) -> Result<Vec<u8>, WireError> {
    bincode::encode_to_vec(value, standard()).map_err(|e| WireError::Encode(e.to_string()))
}

/// Encodes a push as a difference to `base` where there is one and all of it is of this version and not too much, else whole. With
/// it goes the base of the push after this one, if this one is acknowledged.
///
/// # Errors
/// A push past the limits.
pub fn encode_push_after(push: &Push, base: Option<&Base>) -> Result<(Vec<u8>, Option<Base>), WireError> {
    let lengths = || push.frames.iter().map(|(seq, frame)| (*seq, claimed_bytes(frame)));
    let ours = |(_, frame): &(u64, Vec<u8>)| frame.starts_with(&[b'K', b'V', b'B', VERSION, CODEC_ZSTD]);
    let front = if push.frames.iter().all(ours) { front(push, lengths())? } else { None };
    let Some(front) = front else { return Ok((encode_push(push)?, None)) };
    let length = lengths().fold(front.len(), |sum, (_, length)| sum.saturating_add(length));
    if let Some(base) = base.filter(|_| length <= DIFFERENCE_RAW_BYTES_MAX)
        && let Some(text) = text(front, length, &push.frames)
    {
        let body = Difference::encode(base, &text)?;
        return Ok((body, Some(Base::after(Some(base), &text))));
    }
    let last = push.frames.last().filter(|(_, frame)| claimed_bytes(frame) <= BASE_BYTES_MAX).and_then(|(_, frame)| Raw::open(frame).ok());
    let next = last.map_or(Ok(None), |last| Base::of_whole(push, lengths(), &last))?;
    Ok((encode_push(push)?, next))
}

/// `None` where a frame is damaged: the aggregator must see it as it is.
fn text(front: Vec<u8>, length: usize, frames: &[(u64, Vec<u8>)]) -> Option<Vec<u8>> {
    let mut text = front;
    text.reserve_exact(length - text.len());
    for (_, frame) in frames {
        text.extend_from_slice(&Raw::open(frame).ok()?.bytes);
    }
    Some(text)
}

/// A push as a difference, not opened yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// To what.
    pub base: u64,
    /// Raw bytes that it claims, at most [`DIFFERENCE_RAW_BYTES_MAX`].
    pub claimed: usize,
    /// What zstd wrote.
    compressed: Vec<u8>,
}

/// A difference, opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// The push; its batches are in `batches`.
    pub push: Push,
    /// Sequence number and raw bytes, ascending.
    pub batches: Vec<(u64, Raw)>,
    /// The base once this is acknowledged.
    pub next: Base,
}

impl Difference {
    fn encode(base: &Base, text: &[u8]) -> Result<Vec<u8>, WireError> {
        let fault = |code| WireError::Encode(get_error_name(code).to_owned());
        let mut compressor = CCtx::try_create().ok_or_else(|| WireError::Encode("no memory".into()))?;
        let parameters = [
            CParameter::CompressionLevel(LEVEL),
            CParameter::HashLog(TABLES_LOG),
            CParameter::ChainLog(TABLES_LOG),
            CParameter::EnableLongDistanceMatching(true),
            CParameter::LdmMinMatch(RUN_BYTES),
            CParameter::LdmHashRateLog(3),
            CParameter::LdmHashLog(RUNS_LOG),
            CParameter::ChecksumFlag(true),
        ];
        for parameter in parameters {
            compressor.set_parameter(parameter).map_err(fault)?;
        }
        compressor.ref_prefix(&base.bytes).map_err(fault)?;
        let mut compressed = Vec::with_capacity(compress_bound(text.len()));
        compressor.compress2(&mut compressed, text).map_err(fault)?;
        Ok([b"KVD".as_slice(), &[VERSION], &base.name.to_le_bytes(), &compressed[MAGIC.len()..]].concat())
    }

    /// Reads the head of a request; `None` if it is no difference.
    ///
    /// # Errors
    /// It is one, but past the limits or of another version.
    pub fn read(bytes: &[u8]) -> Result<Option<Self>, WireError> {
        if !bytes.starts_with(b"KVD") {
            return Ok(None);
        }
        let (version, _) = open_head(bytes, *b"KVD")?;
        if version != VERSION {
            return Err(WireError::Version(version));
        }
        let max = HEAD_BYTES + compress_bound(DIFFERENCE_RAW_BYTES_MAX);
        if bytes.len() > max {
            return Err(WireError::TooLarge { bytes: bytes.len(), max });
        }
        let Some(([_, _, _, _, base @ ..], compressed)) = bytes.split_first_chunk::<HEAD_BYTES>() else { return Err(WireError::Truncated) };
        let compressed = [&MAGIC, compressed].concat();
        let claimed = get_frame_content_size(&compressed).ok().flatten().ok_or(WireError::Truncated)?;
        let claimed = usize::try_from(claimed).unwrap_or(usize::MAX);
        if claimed > DIFFERENCE_RAW_BYTES_MAX {
            return Err(WireError::TooLarge { bytes: claimed, max: DIFFERENCE_RAW_BYTES_MAX });
        }
        Ok(Some(Self { base: u64::from_le_bytes(*base), claimed, compressed }))
    }

    /// Makes the push of it again.
    ///
    /// # Errors
    /// It does not fit the base, or is not valid; nothing beyond what it claims is allocated.
    pub fn open(&self, base: &Base) -> Result<Opened, WireError> {
        let fault = |code| WireError::Garbled(get_error_name(code).to_owned());
        let mut decompressor = DCtx::try_create().ok_or_else(|| WireError::Garbled("no memory".into()))?;
        decompressor.ref_prefix(&base.bytes).map_err(fault)?;
        let mut text = Vec::with_capacity(self.claimed);
        decompressor.decompress(&mut text, &self.compressed).map_err(fault)?;
        if text.len() != self.claimed {
            return Err(WireError::Garbled("length is not what the head says".into()));
        }
        let ((epoch, dropped, waiting, sender, batches), mut rest) = decode_front::<Front>(&text)?;
        // One more than fits is enough to be refused.
        let frames = batches.iter().take(PUSH_FRAMES_MAX + 1).map(|(seq, _)| (*seq, Vec::new())).collect();
        let mut push = Push { epoch, sender: Some(sender.into()), dropped, waiting, frames }.check()?;
        push.frames.clear();
        let mut raws = Vec::with_capacity(batches.len());
        for (seq, length) in batches {
            let (bytes, after) = rest.split_at_checked(length as usize).ok_or(WireError::Truncated)?;
            raws.push((seq, Raw { version: VERSION, bytes: bytes.to_vec() }));
            rest = after;
        }
        if !rest.is_empty() {
            return Err(WireError::Garbled(format!("{} bytes after the end", rest.len())));
        }
        Ok(Opened { push, batches: raws, next: Base::after(Some(base), &text) })
    }
}

#[cfg(test)]
mod tests;
