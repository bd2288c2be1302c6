//! The form of compacted samples: one block holds series that were sampled together, so their times are stored once.
//! Pure: bytes in, bytes out; sealing and storing are the caller's. Compression: Pcodec (docs/adr/0003-storage.md).
//!
//! Layout, little endian: version 1 (u8); points (u32); length of times (u32); times (pco of i64);
//! series (u32); for each series its id (u32) and length (u32); then the values of each (pco of f64).

use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};

use pco::ChunkConfig;

use super::Point;

const VERSION: u8 = 1;
/// Points of one column that a block may claim.
const POINTS_MAX: usize = 1 << 20;
/// Points after which a column goes on in another block: two hours at two a second.
const POINTS_PER_BLOCK: usize = 1 << 14;
/// Series in one block. More means reading more to answer for one; fewer means more rows.
pub(crate) const SERIES_PER_BLOCK: usize = 256;

/// Series that share a time column.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Block {
    /// Unix ms, strictly ascending.
    pub(crate) times: Vec<i64>,
    /// Id of the series, and as many values as there are times.
    pub(crate) columns: Vec<(u32, Vec<f64>)>,
}

impl Block {
    /// The block as bytes.
    pub(crate) fn encode(&self) -> Result<Vec<u8>, BlockError> {
        if self.times.len() > POINTS_MAX {
            return Err(BlockError::Codec(format!("{} points in one block", self.times.len())));
        }
        let config = ChunkConfig::default();
        let fault = |e: pco::errors::PcoError| BlockError::Codec(e.to_string());
        let times = pco::standalone::simple_compress(&self.times, &config).map_err(fault)?;
        let values = self.columns.iter().map(|(_, v)| pco::standalone::simple_compress(v, &config).map_err(fault)).collect::<Result<Vec<_>, _>>()?;
        let size = |n: usize| u32::try_from(n).map(u32::to_le_bytes).map_err(|_| BlockError::Codec("block too large".into()));
        let mut out = vec![VERSION];
        out.extend_from_slice(&size(self.times.len())?);
        out.extend_from_slice(&size(times.len())?);
        out.extend_from_slice(&times);
        out.extend_from_slice(&size(self.columns.len())?);
        for ((id, _), bytes) in self.columns.iter().zip(&values) {
            out.extend_from_slice(&id.to_le_bytes());
            out.extend_from_slice(&size(bytes.len())?);
        }
        values.iter().for_each(|bytes| out.extend_from_slice(bytes));
        Ok(out)
    }

    /// Reads a block; of its series only those that `wanted` says.
    pub(crate) fn decode(bytes: &[u8], wanted: impl Fn(u32) -> bool) -> Result<Self, BlockError> {
        let mut at = Cursor(bytes);
        if at.take(1)?[0] != VERSION {
            return Err(BlockError::Version(bytes[0]));
        }
        let points = at.u32()? as usize;
        let times_len = at.u32()? as usize;
        let times = column(at.take(times_len)?, points)?;
        let count = at.u32()? as usize;
        let mut index = Cursor(at.take(count.checked_mul(8).ok_or(BlockError::Truncated)?)?);
        let mut columns = Vec::new();
        for _ in 0..count {
            let (id, length) = (index.u32()?, index.u32()? as usize);
            let values = at.take(length)?;
            if wanted(id) {
                columns.push((id, column(values, points)?));
            }
        }
        if at.0.is_empty() { Ok(Self { times, columns }) } else { Err(BlockError::Codec("bytes after the end".into())) }
    }
}

fn column<T: pco::data_types::Number>(bytes: &[u8], points: usize) -> Result<Vec<T>, BlockError> {
    if points > POINTS_MAX {
        return Err(BlockError::Codec(format!("{points} points claimed")));
    }
    let values = pco::standalone::simple_decompress(bytes).map_err(|e| BlockError::Codec(e.to_string()))?;
    if values.len() == points { Ok(values) } else { Err(BlockError::Codec("a column of another length".into())) }
}

struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], BlockError> {
        let (head, rest) = self.0.split_at_checked(n).ok_or(BlockError::Truncated)?;
        self.0 = rest;
        Ok(head)
    }

    fn u32(&mut self) -> Result<u32, BlockError> {
        self.take(4)?.try_into().map(u32::from_le_bytes).map_err(|_| BlockError::Truncated)
    }
}

/// Series whose time columns are equal, as blocks of bounded size, made one by one. Samples are ascending.
pub(crate) fn group<'a>(series: &'a [(u32, Cow<'a, [Point]>)]) -> impl Iterator<Item = Block> + 'a {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut known: HashMap<u64, Vec<usize>> = HashMap::new();
    let hasher = RandomState::new();
    for (at, (_, points)) in series.iter().enumerate() {
        let mut state = hasher.build_hasher();
        points.iter().for_each(|p| p.0.hash(&mut state));
        let alike = known.entry(state.finish()).or_default();
        let same = |group: &&usize| {
            let first = &series[groups[**group][0]].1;
            first.len() == points.len() && first.iter().zip(points.iter()).all(|(a, b)| a.0 == b.0)
        };
        match alike.iter().find(same) {
            Some(group) => groups[*group].push(at),
            None => {
                alike.push(groups.len());
                groups.push(vec![at]);
            }
        }
    }
    groups.into_iter().flat_map(move |members| {
        let length = members.first().map_or(0, |at| series[*at].1.len());
        let parts: Vec<_> = members.chunks(SERIES_PER_BLOCK).map(<[usize]>::to_vec).collect();
        parts.into_iter().flat_map(move |members| (0..length).step_by(POINTS_PER_BLOCK).map(move |from| block(series, &members, from)))
    })
}

/// The block of `members` from their point `from` on.
fn block(series: &[(u32, Cow<'_, [Point]>)], members: &[usize], from: usize) -> Block {
    let part = |at: usize| {
        let points = &series[at].1;
        &points[from..(from + POINTS_PER_BLOCK).min(points.len())]
    };
    let times = members.first().map(|at| part(*at).iter().map(|p| p.0).collect()).unwrap_or_default();
    Block { times, columns: members.iter().map(|at| (series[*at].0, part(*at).iter().map(|p| p.1).collect())).collect() }
}

/// Why a block could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum BlockError {
    /// Ends too early.
    #[error("a block ends too early")]
    Truncated,
    /// Written by a later version.
    #[error("block version {0} is not known: this program is older than the data")]
    Version(u8),
    /// The codec's own words.
    #[error("block codec: {0}")]
    Codec(String),
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn same(a: &Block, b: &Block) -> bool {
        let bits = |b: &Block| b.columns.iter().map(|(id, v)| (*id, v.iter().map(|x| x.to_bits()).collect::<Vec<_>>())).collect::<Vec<_>>();
        a.times == b.times && bits(a) == bits(b)
    }

    proptest! {
        #[test]
        fn any_bits_return_as_they_were(times in prop::collection::btree_set(any::<i64>(), 1..50), seed in prop::collection::vec(any::<u64>(), 50)) {
            let times: Vec<i64> = times.into_iter().collect();
            let values = seed[..times.len()].iter().map(|b| f64::from_bits(*b)).collect();
            let block = Block { columns: vec![(7, values), (9, vec![f64::NAN; times.len()])], times };
            let bytes = block.encode().unwrap();
            prop_assert!(same(&Block::decode(&bytes, |_| true).unwrap(), &block));
            let one = Block::decode(&bytes, |id| id == 9).unwrap();
            prop_assert_eq!(one.columns.len(), 1);
        }

        #[test]
        fn changed_bytes_never_panic(at in 0usize..500, to in any::<u8>()) {
            let block = Block { times: (0..100).map(|n| n * 10_000).collect(), columns: vec![(1, (0..100).map(f64::from).collect())] };
            let mut bytes = block.encode().unwrap();
            let length = bytes.len();
            bytes[at % length] = to;
            let _ = Block::decode(&bytes, |_| true);
            let _ = Block::decode(&bytes[..at % length], |_| true);
        }
    }

    #[test]
    fn series_that_were_sampled_together_share_their_times() {
        let times = vec![1, 2, 3];
        let odd = vec![1, 2, 4];
        let points = |times: &[i64], value: f64| Cow::Owned(times.iter().map(|t| (*t, value)).collect());
        let many: Vec<(u32, Cow<'_, [Point]>)> = (0..300).map(|id| (id, points(&times, 0.0))).chain([(999, points(&odd, 1.0))]).collect();
        let blocks: Vec<Block> = group(&many).collect();
        assert_eq!(blocks.iter().map(|b| b.columns.len()).collect::<Vec<_>>(), [SERIES_PER_BLOCK, 300 - SERIES_PER_BLOCK, 1]);
        assert_eq!(blocks[2].times, odd);
    }

    #[test]
    fn a_long_column_goes_on_in_further_blocks_and_each_can_be_read() {
        let count = POINTS_PER_BLOCK * 2 + 7;
        let times: Vec<i64> = (0..count as i64).collect();
        let points = times.iter().map(|t| (*t, *t as f64)).collect();
        let blocks: Vec<Block> = group(&[(1, Cow::Owned(points))]).collect();
        let read: Vec<i64> = blocks.iter().flat_map(|b| Block::decode(&b.encode().unwrap(), |_| true).unwrap().times).collect();
        assert_eq!((blocks.len(), read), (3, times));
    }
}
