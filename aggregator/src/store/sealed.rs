//! Blocks as they are stored: each part sealed by itself for its place, so that a part opens without the others. Heads that
//! were read are kept, since every question about a series begins with them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use keyvigil_common::seal::KeyRing;
use rusqlite::blob::Blob;
use rusqlite::{Connection, MAIN_DB};

use super::StoreError;
use super::block::{Block, BlockError, Head};
use crate::index::SeriesId;

/// Memory for heads, bytes; past it all are forgotten, and read again.
const HEADS_BYTES_MAX: usize = 32 << 20;

/// Where a part of a block belongs: its head, or a stripe.
fn place(day: i64, id: i64, part: Option<usize>) -> String {
    match part {
        None => format!("block:{day}:{id}"),
        Some(stripe) => format!("block:{day}:{id}:{stripe}"),
    }
}

/// A block as it is stored: length of the sealed head (u32), the head, the stripes, each sealed by itself.
pub(super) fn seal_block(ring: &KeyRing, day: i64, id: i64, block: &Block) -> Result<Vec<u8>, StoreError> {
    let encoded = block.encode()?;
    let seal = |(at, stripe): (usize, &Vec<u8>)| ring.seal(stripe, place(day, id, Some(at)).as_bytes());
    let stripes = encoded.stripes.iter().enumerate().map(seal).collect::<Result<Vec<_>, _>>()?;
    let lengths: Vec<usize> = stripes.iter().map(Vec::len).collect();
    let head = ring.seal(&encoded.head(&lengths), place(day, id, None).as_bytes())?;
    let mut out = Vec::with_capacity(4 + head.len() + lengths.iter().sum::<usize>());
    out.extend_from_slice(&u32::try_from(head.len()).map_err(|_| BlockError::Truncated)?.to_le_bytes());
    out.extend_from_slice(&head);
    stripes.iter().for_each(|stripe| out.extend_from_slice(stripe));
    Ok(out)
}

/// A block's head, and where its stripes lie.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) head: Head,
    /// End of each stripe.
    ends: Vec<usize>,
}

/// Heads by day and block. No number of a block is ever used twice in the life of its day's file.
#[derive(Debug, Default)]
pub(super) struct Heads(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    heads: HashMap<(i64, i64), Arc<Opened>>,
    bytes: usize,
}

impl Heads {
    /// The head that is known, or that `open` reads.
    pub(super) fn get(&self, place: (i64, i64), open: impl FnOnce() -> Result<Opened, StoreError>) -> Result<Arc<Opened>, StoreError> {
        if let Some(head) = self.0.lock().unwrap_or_else(PoisonError::into_inner).heads.get(&place) {
            return Ok(Arc::clone(head));
        }
        let head = Arc::new(open()?);
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = head.head.bytes() + head.ends.len() * size_of::<usize>();
        if known.bytes + bytes > HEADS_BYTES_MAX {
            *known = Known::default();
        }
        known.heads.insert(place, Arc::clone(&head));
        known.bytes += bytes;
        Ok(head)
    }

    /// The file of `day` is gone; another may come in its place.
    pub(super) fn forget(&self, day: i64) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Known::default();
        tracing::debug!(day, "heads of blocks are forgotten");
    }
}

/// Where a block is read from.
pub(super) struct Source<'a> {
    pub(super) ring: &'a KeyRing,
    pub(super) reading: &'a Connection,
    pub(super) day: i64,
    pub(super) id: i64,
}

impl Source<'_> {
    fn blob(&self) -> Result<Blob<'_>, StoreError> {
        Ok(self.reading.blob_open(MAIN_DB, "block", "body", self.id, true)?)
    }

    /// Reads the head.
    pub(super) fn head(&self) -> Result<Opened, StoreError> {
        let blob = self.blob()?;
        let length = stored(&blob, 0, 4)?.first_chunk().map(|b| u32::from_le_bytes(*b) as usize).ok_or(BlockError::Truncated)?;
        let head = Head::decode(&self.ring.unseal(&stored(&blob, 4, length)?, place(self.day, self.id, None).as_bytes())?)?;
        let end = |at: &mut usize, length: &usize| {
            *at = at.saturating_add(*length);
            Some(*at)
        };
        let ends = head.stripes.iter().scan(4 + length, end).collect();
        Ok(Opened { head, ends })
    }

    /// Reads what `wanted` asks for.
    pub(super) fn read(&self, opened: &Opened, wanted: impl Fn(SeriesId) -> bool) -> Result<Block, StoreError> {
        let blob = self.blob()?;
        opened.head.read(wanted, |at| {
            let (end, length) = opened.ends.get(at).zip(opened.head.stripes.get(at)).ok_or(BlockError::Truncated)?;
            Ok(self.ring.unseal(&stored(&blob, end - length, *length)?, place(self.day, self.id, Some(at)).as_bytes())?)
        })
    }
}

/// Part of a body on disk.
fn stored(blob: &Blob<'_>, offset: usize, length: usize) -> Result<Vec<u8>, StoreError> {
    if offset.saturating_add(length) > blob.len() {
        return Err(BlockError::Truncated.into());
    }
    let mut bytes = vec![0; length];
    blob.read_at_exact(&mut bytes, offset)?;
    Ok(bytes)
}
