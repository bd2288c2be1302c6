//! The form of compacted samples: one block holds series that were sampled together, so their times are stored once. Its
//! columns lie in stripes that are sealed one by one, so that who asks for one series opens a few kB of the block. Pure:
//! bytes in, bytes out; sealing and storing are the caller's.
//!
//! Stripe 0 holds the times, the others columns of values end to end, each as `column` writes it. The head, little endian:
//! version 2 (u8); points (u32); stripes (u32); stored length of each (u32); series (u32); for each series its id, its
//! stripe and the length of its column (u32 each).

use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};

use super::{Point, column};

const VERSION: u8 = 2;
/// Points of one column that a block may claim.
const POINTS_MAX: usize = 1 << 20;
/// Points after which a column goes on in another block: two hours at two a second.
const POINTS_PER_BLOCK: usize = 1 << 14;
/// Series in one block. More means reading more to answer for one; fewer means more rows.
pub(crate) const SERIES_PER_BLOCK: usize = 256;
/// Bytes of columns after which a new stripe begins.
const STRIPE_BYTES: usize = 8 << 10;

/// Series that share a time column.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Block {
    /// Unix ms, strictly ascending.
    pub(crate) times: Vec<i64>,
    /// Id of the series, and as many values as there are times.
    pub(crate) columns: Vec<(u32, Vec<f64>)>,
}

/// A block's stripes, and where each series lies in them.
#[derive(Debug)]
pub(crate) struct Stripes {
    points: u32,
    places: Vec<Place>,
    pub(crate) stripes: Vec<Vec<u8>>,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    series: u32,
    stripe: u32,
    length: u32,
}

/// The head of a block: what lies where.
#[derive(Debug)]
pub(crate) struct Head {
    points: usize,
    /// Stored length of each stripe.
    pub(crate) stripes: Vec<usize>,
    places: Vec<Place>,
}

impl Block {
    /// The block as stripes.
    pub(crate) fn encode(&self) -> Result<Stripes, BlockError> {
        let points = u32::try_from(self.times.len()).ok().filter(|n| *n as usize <= POINTS_MAX);
        let points = points.ok_or_else(|| BlockError::Codec(format!("{} points in one block", self.times.len())))?;
        let mut out = Stripes { points, places: Vec::with_capacity(self.columns.len()), stripes: Vec::new() };
        out.stripes.push(column::encode_times(&self.times)?);
        for (series, values) in &self.columns {
            let column = column::encode(values)?;
            if out.stripes.len() == 1 || out.stripes.last().is_some_and(|s| s.len() >= STRIPE_BYTES) {
                out.stripes.push(Vec::with_capacity(STRIPE_BYTES + column.len()));
            }
            let (stripe, length) = (number(out.stripes.len() - 1)?, number(column.len())?);
            out.places.push(Place { series: *series, stripe, length });
            out.stripes.last_mut().into_iter().for_each(|stripe| stripe.extend_from_slice(&column));
        }
        Ok(out)
    }
}

impl Stripes {
    /// The head, once it is known how long each stripe is as it is stored.
    pub(crate) fn head(&self, stored: &[usize]) -> Result<Vec<u8>, BlockError> {
        let mut out = vec![VERSION];
        let mut put = |n: u32| out.extend_from_slice(&n.to_le_bytes());
        put(self.points);
        put(number(stored.len())?);
        for length in stored {
            put(number(*length)?);
        }
        put(number(self.places.len())?);
        for place in &self.places {
            [place.series, place.stripe, place.length].into_iter().for_each(&mut put);
        }
        Ok(out)
    }
}

impl Head {
    /// Reads a head.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, BlockError> {
        let (version, rest) = bytes.split_first().ok_or(BlockError::Truncated)?;
        if *version != VERSION {
            return Err(BlockError::Version(*version));
        }
        let (numbers, odd) = rest.as_chunks::<4>();
        let mut numbers = numbers.iter().map(|b| u32::from_le_bytes(*b));
        let mut next = || numbers.next().ok_or(BlockError::Truncated);
        let points = next()? as usize;
        if points > POINTS_MAX {
            return Err(BlockError::Codec(format!("{points} points claimed")));
        }
        let count = next()? as usize;
        let stripes = (0..count).map(|_| next().map(|n| n as usize)).collect::<Result<Vec<_>, _>>()?;
        let count = next()? as usize;
        let places = (0..count).map(|_| Ok(Place { series: next()?, stripe: next()?, length: next()? })).collect::<Result<Vec<_>, BlockError>>()?;
        if odd.is_empty() && next().is_err() { Ok(Self { points, stripes, places }) } else { Err(BlockError::Codec("bytes after the head".into())) }
    }

    /// Reads the times and the columns that `wanted` says; `stripe` fetches a stripe by its number.
    pub(crate) fn read<E: From<BlockError>>(&self, wanted: impl Fn(u32) -> bool, mut stripe: impl FnMut(usize) -> Result<Vec<u8>, E>) -> Result<Block, E> {
        let mut block = Block::default();
        let (mut open, mut bytes) = (0, Vec::new());
        // Columns lie in their stripe in the order of the head.
        let mut begun = (u32::MAX, 0usize);
        for place in &self.places {
            let offset = if begun.0 == place.stripe { begun.1 } else { 0 };
            begun = (place.stripe, offset + place.length as usize);
            if !wanted(place.series) {
                continue;
            }
            if block.columns.is_empty() {
                block.times = column::decode_times(&stripe(0)?, self.points)?;
            }
            if open != place.stripe {
                (bytes, open) = (stripe(place.stripe as usize)?, place.stripe);
            }
            let values = bytes.get(offset..begun.1).ok_or(BlockError::Truncated)?;
            block.columns.push((place.series, column::decode(values, self.points)?));
        }
        Ok(block)
    }
}

fn number(n: usize) -> Result<u32, BlockError> {
    u32::try_from(n).map_err(|_| BlockError::Codec("block too large".into()))
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

    fn again(block: &Block, wanted: impl Fn(u32) -> bool) -> (Block, usize) {
        let encoded = block.encode().unwrap();
        let lengths: Vec<usize> = encoded.stripes.iter().map(Vec::len).collect();
        let head = Head::decode(&encoded.head(&lengths).unwrap()).unwrap();
        assert_eq!(head.stripes, lengths);
        let mut fetched = 0;
        let read = head.read::<BlockError>(wanted, |at| {
            fetched += 1;
            Ok(encoded.stripes[at].clone())
        });
        (read.unwrap(), fetched)
    }

    proptest! {
        #[test]
        fn any_bits_return_as_they_were(times in prop::collection::btree_set(any::<i64>(), 1..50), seed in prop::collection::vec(any::<u64>(), 50)) {
            let times: Vec<i64> = times.into_iter().collect();
            let values = seed[..times.len()].iter().map(|b| f64::from_bits(*b)).collect();
            let block = Block { columns: vec![(7, values), (9, vec![f64::NAN; times.len()])], times };
            prop_assert!(same(&again(&block, |_| true).0, &block));
            prop_assert_eq!(again(&block, |id| id == 9).0.columns.len(), 1);
        }

        #[test]
        fn changed_bytes_never_panic(at in 0usize..500, to in any::<u8>()) {
            let block = Block { times: (0..100).map(|n| n * 10_000).collect(), columns: vec![(1, (0..100).map(f64::from).collect())] };
            let encoded = block.encode().unwrap();
            let lengths: Vec<usize> = encoded.stripes.iter().map(Vec::len).collect();
            let mut head = encoded.head(&lengths).unwrap();
            let mut stripes = encoded.stripes;
            let length = head.len();
            head[at % length] = to;
            let length = stripes[1].len();
            stripes[1][at % length] = to;
            for head in [&head[..], &head[..at % head.len()]] {
                if let Ok(head) = Head::decode(head) {
                    let _ = head.read::<BlockError>(|_| true, |at| stripes.get(at).cloned().ok_or(BlockError::Truncated));
                }
            }
        }
    }

    #[test]
    fn one_series_of_many_opens_two_stripes() {
        let times: Vec<i64> = (0..200).map(|n| n * 15_000).collect();
        let noise = |id: u32| (0..200u32).map(|n| f64::from(n.wrapping_mul(2_654_435_761).rotate_left(id) % 100_003)).collect();
        let block = Block { columns: (0..200).map(|id| (id, noise(id))).collect(), times };
        let (one, fetched) = again(&block, |id| id == 150);
        assert_eq!((one.columns, fetched), (vec![(150, noise(150))], 2));
        assert!(block.encode().unwrap().stripes.len() > 4);
        assert_eq!(again(&block, |_| false), (Block::default(), 0));
        assert!(same(&again(&block, |_| true).0, &block));
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
        let read: Vec<i64> = blocks.iter().flat_map(|b| again(b, |_| true).0.times).collect();
        assert_eq!((blocks.len(), read), (3, times));
    }
}
