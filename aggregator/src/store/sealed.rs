//! Blocks as they are stored: each part sealed by itself for its place, so that a part opens without the others.

use std::sync::Arc;

use keyvigil_common::seal::KeyRing;
use rusqlite::blob::Blob;
use rusqlite::{Connection, MAIN_DB};

use super::StoreError;
use super::block::{Block, BlockError, Head};
use super::cache::{BlockKey, Cache};
use crate::index::SeriesId;

/// Where a block belongs: the kind of its file, the file, its row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) kind: &'static str,
    pub(super) part: i64,
    pub(super) id: i64,
}

impl Place {
    /// What its head, or one of its stripes, is sealed for.
    fn of(self, stripe: Option<usize>) -> String {
        let Self { kind, part, id } = self;
        match stripe {
            None => format!("{kind}:{part}:{id}"),
            Some(stripe) => format!("{kind}:{part}:{id}:{stripe}"),
        }
    }
}

/// A block as it is stored: length of the sealed head (u32), the head, the stripes, each sealed by itself.
pub(super) fn seal_block(ring: &KeyRing, place: Place, block: &Block) -> Result<Vec<u8>, StoreError> {
    let encoded = block.encode()?;
    let seal = |(at, stripe): (usize, &Vec<u8>)| ring.seal(stripe, place.of(Some(at)).as_bytes());
    let stripes = encoded.stripes.iter().enumerate().map(seal).collect::<Result<Vec<_>, _>>()?;
    let lengths: Vec<usize> = stripes.iter().map(Vec::len).collect();
    let head = ring.seal(&encoded.head(&lengths), place.of(None).as_bytes())?;
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

impl Opened {
    /// Memory that it takes.
    pub(super) fn bytes(&self) -> usize {
        self.head.bytes() + self.ends.len() * size_of::<usize>()
    }
}

/// Where a block is read from.
pub(super) struct Source<'a> {
    pub(super) ring: &'a KeyRing,
    pub(super) reading: &'a Connection,
    pub(super) place: Place,
}

impl Source<'_> {
    fn blob(&self) -> Result<Blob<'_>, StoreError> {
        Ok(self.reading.blob_open(MAIN_DB, "block", "body", self.place.id, true)?)
    }

    /// Reads the head.
    pub(super) fn head(&self) -> Result<Opened, StoreError> {
        let blob = self.blob()?;
        let length = stored(&blob, 0, 4)?.first_chunk().map(|b| u32::from_le_bytes(*b) as usize).ok_or(BlockError::Truncated)?;
        let head = Head::decode(&self.ring.unseal(&stored(&blob, 4, length)?, self.place.of(None).as_bytes())?)?;
        let end = |at: &mut usize, length: &usize| {
            *at = at.saturating_add(*length);
            Some(*at)
        };
        let ends = head.stripes.iter().scan(4 + length, end).collect();
        Ok(Opened { head, ends })
    }

    fn stripe(&self, blob: &Blob<'_>, opened: &Opened, at: usize) -> Result<Vec<u8>, StoreError> {
        let (end, length) = opened.ends.get(at).zip(opened.head.stripes.get(at)).ok_or(BlockError::Truncated)?;
        Ok(self.ring.unseal(&stored(blob, end - length, *length)?, self.place.of(Some(at)).as_bytes())?)
    }

    /// Reads the times, and gives the values of each series that `wanted` says to `each`.
    pub(super) fn read(&self, opened: &Opened, wanted: impl Fn(SeriesId) -> bool, each: impl FnMut(SeriesId, Vec<f64>)) -> Result<Vec<i64>, StoreError> {
        let blob = self.blob()?;
        opened.head.columns(wanted, |at| self.stripe(&blob, opened, at), each)?;
        opened.head.times(|at| self.stripe(&blob, opened, at))
    }

    /// As [`Source::read`], with what the cache has; the rest comes into it.
    pub(super) fn read_by(
        &self,
        (cache, key): (&Cache, BlockKey),
        opened: &Opened,
        wanted: impl Fn(SeriesId) -> bool,
        mut each: impl FnMut(SeriesId, Arc<Vec<f64>>),
    ) -> Result<Option<Arc<Vec<i64>>>, StoreError> {
        let (mut missing, mut any) = (Vec::new(), false);
        for series in opened.head.series().filter(|series| wanted(*series)) {
            any = true;
            match cache.values(key, series) {
                Some(values) => each(series, values),
                None => missing.push(series),
            }
        }
        if !any {
            return Ok(None);
        }
        let known = cache.times(key);
        if let (true, Some(times)) = (missing.is_empty(), &known) {
            return Ok(Some(Arc::clone(times)));
        }
        let blob = self.blob()?;
        if !missing.is_empty() {
            missing.sort_unstable();
            let fetch = |at| self.stripe(&blob, opened, at);
            opened.head.columns(
                |series| missing.binary_search(&series).is_ok(),
                fetch,
                |series, values| {
                    let values = Arc::new(values);
                    cache.keep_values(key, series, &values);
                    each(series, values);
                },
            )?;
        }
        if let Some(times) = known {
            return Ok(Some(times));
        }
        let times = Arc::new(opened.head.times(|at| self.stripe(&blob, opened, at))?);
        cache.keep_times(key, &times);
        Ok(Some(times))
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
