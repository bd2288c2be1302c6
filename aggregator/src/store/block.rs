//! The form of compacted samples: one block holds series that were sampled together, so their times are stored once. Its
//! chunks lie in stripes that are sealed one by one, so that who asks for one series opens a few kB of the block. Pure:
//! bytes in, bytes out; sealing and storing are the caller's.
//!
//! Stripe 0 holds the times, the others chunks end to end, each as `chunk` writes it. The head, numbers as LEB128: version 3
//! (u8); points; stripes; stored length of each; chunks; for each whether it begins a stripe, its length and number of
//! columns, and the series of each column (difference to the one before).

use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};

use super::varint::{put, put_signed, take, take_signed};
use super::{Point, chunk};

const VERSION: u8 = 3;
/// Points of one column that a block may claim.
const POINTS_MAX: usize = 1 << 20;
/// Points after which a column goes on in another block: seven hours at 10 s. Who asks for an hour decodes no more.
const POINTS_PER_BLOCK: usize = 2_520;
/// Series in one block. More means a larger head for who asks for one; fewer means more rows.
pub(crate) const SERIES_PER_BLOCK: usize = 512;
/// Points of one chunk: enough to learn from, few enough to decode for one series.
const CHUNK_POINTS: usize = 4_096;
/// Bytes of chunks after which a new stripe begins.
const STRIPE_BYTES: usize = 8 << 10;

/// Series that share a time column.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Block {
    /// Unix ms, strictly ascending.
    pub(crate) times: Vec<i64>,
    /// As many values as there are times.
    pub(crate) columns: Vec<Column>,
}

/// One series of a block.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Column {
    pub(crate) series: u32,
    /// Columns of one kin (a metric) may share a chunk. Not stored.
    pub(crate) kin: u32,
    pub(crate) values: Vec<f64>,
}

/// A block's stripes, and where each series lies in them.
#[derive(Debug)]
pub(crate) struct Stripes {
    points: usize,
    places: Vec<Place>,
    pub(crate) stripes: Vec<Vec<u8>>,
}

/// A chunk's place.
#[derive(Debug)]
struct Place {
    stripe: usize,
    length: usize,
    series: Vec<u32>,
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
        if self.times.len() > POINTS_MAX {
            return Err(BlockError::Codec(format!("{} points in one block", self.times.len())));
        }
        let mut out = Stripes { points: self.times.len(), places: Vec::new(), stripes: vec![chunk::encode_times(&self.times)?] };
        let planned: Vec<(&Column, chunk::Column<'_>)> = self.columns.iter().map(|column| (column, chunk::Column::new(&column.values))).collect();
        for alike in planned.chunk_by(|a, b| a.0.kin == b.0.kin && a.1.form == b.1.form) {
            for part in alike.chunks((CHUNK_POINTS / self.times.len().max(1)).max(1)) {
                out.add(part)?;
            }
        }
        Ok(out)
    }
}

impl Stripes {
    fn add(&mut self, columns: &[(&Column, chunk::Column<'_>)]) -> Result<(), BlockError> {
        let bytes = chunk::encode(columns.iter().map(|(_, planned)| planned))?;
        if self.stripes.len() == 1 || self.stripes.last().is_some_and(|stripe| stripe.len() >= STRIPE_BYTES) {
            self.stripes.push(Vec::with_capacity(STRIPE_BYTES + bytes.len()));
        }
        self.places.push(Place { stripe: self.stripes.len() - 1, length: bytes.len(), series: columns.iter().map(|(column, _)| column.series).collect() });
        self.stripes.last_mut().into_iter().for_each(|stripe| stripe.extend_from_slice(&bytes));
        Ok(())
    }

    /// The head, once it is known how long each stripe is as it is stored.
    pub(crate) fn head(&self, stored: &[usize]) -> Vec<u8> {
        let mut out = vec![VERSION];
        put(&mut out, self.points as u64);
        put(&mut out, stored.len() as u64);
        stored.iter().for_each(|length| put(&mut out, *length as u64));
        put(&mut out, self.places.len() as u64);
        let (mut stripe, mut before) = (0, 0);
        for place in &self.places {
            put(&mut out, (place.stripe - stripe) as u64);
            put(&mut out, place.length as u64);
            put(&mut out, place.series.len() as u64);
            for series in &place.series {
                put_signed(&mut out, i64::from(*series) - before);
                before = i64::from(*series);
            }
            stripe = place.stripe;
        }
        out
    }
}

impl Head {
    /// Reads a head.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, BlockError> {
        let (version, rest) = bytes.split_first().ok_or(BlockError::Truncated)?;
        if *version != VERSION {
            return Err(BlockError::Version(*version));
        }
        Self::numbers(rest).ok_or(BlockError::Truncated)
    }

    /// A count claims no more than there are bytes.
    fn numbers(mut at: &[u8]) -> Option<Self> {
        let number = |at: &mut &[u8]| take(at).and_then(|n| usize::try_from(n).ok());
        let count = |at: &mut &[u8]| number(at).filter(|n| *n <= at.len());
        let points = number(&mut at).filter(|n| *n <= POINTS_MAX)?;
        let stripes = (0..count(&mut at)?).map(|_| number(&mut at)).collect::<Option<Vec<_>>>()?;
        let (mut stripe, mut before) = (0usize, 0i64);
        let mut places = Vec::new();
        for _ in 0..count(&mut at)? {
            stripe = stripe.checked_add(number(&mut at)?)?;
            let length = number(&mut at)?;
            let mut series = Vec::new();
            for _ in 0..count(&mut at)? {
                before = before.checked_add(take_signed(&mut at)?)?;
                series.push(u32::try_from(before).ok()?);
            }
            places.push(Place { stripe, length, series });
        }
        at.is_empty().then_some(Self { points, stripes, places })
    }

    /// Memory that it takes.
    pub(crate) fn bytes(&self) -> usize {
        size_of::<Self>() + self.stripes.len() * size_of::<usize>() + self.places.iter().map(|p| size_of::<Place>() + p.series.len() * 4).sum::<usize>()
    }

    /// The series in the block.
    pub(crate) fn series(&self) -> impl Iterator<Item = u32> {
        self.places.iter().flat_map(|place| place.series.iter().copied())
    }

    /// Whether a series is in the block.
    pub(crate) fn has(&self, series: u32) -> bool {
        self.places.iter().any(|place| place.series.contains(&series))
    }

    /// Number of points of each column.
    pub(crate) fn points(&self) -> usize {
        self.points
    }

    /// Reads the times; `stripe` fetches a stripe by its number.
    pub(crate) fn times<E: From<BlockError>>(&self, stripe: impl FnOnce(usize) -> Result<Vec<u8>, E>) -> Result<Vec<i64>, E> {
        Ok(chunk::decode_times(&stripe(0)?, self.points)?)
    }

    /// Reads the columns that `wanted` says, and gives them to `each`; `stripe` fetches a stripe by its number.
    pub(crate) fn columns<E: From<BlockError>>(
        &self,
        wanted: impl Fn(u32) -> bool,
        mut stripe: impl FnMut(usize) -> Result<Vec<u8>, E>,
        mut each: impl FnMut(u32, Vec<f64>),
    ) -> Result<(), E> {
        let (mut open, mut bytes) = (0, Vec::new());
        // Chunks lie in their stripe in the order of the head.
        let mut begun = (0, 0usize);
        for place in &self.places {
            let offset = if begun.0 == place.stripe { begun.1 } else { 0 };
            begun = (place.stripe, offset.saturating_add(place.length));
            let ours: Vec<bool> = place.series.iter().map(|series| wanted(*series)).collect();
            if !ours.contains(&true) {
                continue;
            }
            if open != place.stripe {
                (bytes, open) = (stripe(place.stripe)?, place.stripe);
            }
            let bytes = bytes.get(offset..begun.1).ok_or(BlockError::Truncated)?;
            chunk::decode(bytes, (ours.len(), self.points), |at| ours[at], |at, values| each(place.series[at], values))?;
        }
        Ok(())
    }
}

/// One series with its samples, ascending.
pub(crate) struct Member<'a> {
    pub(crate) series: u32,
    pub(crate) kin: u32,
    pub(crate) points: Cow<'a, [Point]>,
}

/// Series whose time columns are equal, as blocks of bounded size, made one by one.
pub(crate) fn group<'a>(series: &'a [Member<'a>]) -> impl Iterator<Item = Block> + 'a {
    let mut groups: Vec<Vec<&Member<'a>>> = Vec::new();
    let mut known: HashMap<u64, Vec<usize>> = HashMap::new();
    let hasher = RandomState::new();
    for member in series {
        let mut state = hasher.build_hasher();
        member.points.iter().for_each(|p| p.0.hash(&mut state));
        let alike = known.entry(state.finish()).or_default();
        let same = |group: &&usize| {
            let first = &groups[**group][0].points;
            first.len() == member.points.len() && first.iter().zip(member.points.iter()).all(|(a, b)| a.0 == b.0)
        };
        match alike.iter().find(same) {
            Some(group) => groups[*group].push(member),
            None => {
                alike.push(groups.len());
                groups.push(vec![member]);
            }
        }
    }
    groups.into_iter().flat_map(|members| {
        let length = members.first().map_or(0, |member| member.points.len());
        let parts: Vec<Vec<&Member<'a>>> = members.chunks(SERIES_PER_BLOCK).map(<[_]>::to_vec).collect();
        parts.into_iter().flat_map(move |mut members| {
            members.sort_by_key(|member| (member.kin, member.series));
            (0..length).step_by(POINTS_PER_BLOCK).map(move |from| block(&members, from))
        })
    })
}

/// The block of `members` from their point `from` on.
fn block(members: &[&Member<'_>], from: usize) -> Block {
    let part = |points: &[Point]| from..(from + POINTS_PER_BLOCK).min(points.len());
    let column = |member: &&Member<'_>| {
        let values = member.points[part(&member.points)].iter().map(|p| p.1).collect();
        Column { series: member.series, kin: member.kin, values }
    };
    let times = members.first().map(|m| m.points[part(&m.points)].iter().map(|p| p.0).collect()).unwrap_or_default();
    Block { times, columns: members.iter().map(column).collect() }
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

    fn column(series: u32, values: Vec<f64>) -> Column {
        Column { series, kin: 0, values }
    }

    fn same(a: &Block, b: &Block) -> bool {
        let bits = |b: &Block| b.columns.iter().map(|c| (c.series, c.values.iter().map(|x| x.to_bits()).collect::<Vec<_>>())).collect::<Vec<_>>();
        a.times == b.times && bits(a) == bits(b)
    }

    fn again(block: &Block, wanted: impl Fn(u32) -> bool) -> (Block, usize) {
        let encoded = block.encode().unwrap();
        let lengths: Vec<usize> = encoded.stripes.iter().map(Vec::len).collect();
        let head = Head::decode(&encoded.head(&lengths)).unwrap();
        assert_eq!(head.stripes, lengths);
        let mut fetched = 0;
        let mut read = Block::default();
        let stripe = |at: usize| {
            fetched += 1;
            Ok(encoded.stripes[at].clone())
        };
        head.columns::<BlockError>(wanted, stripe, |series, values| read.columns.push(column(series, values))).unwrap();
        if !read.columns.is_empty() {
            read.times = head.times::<BlockError>(|at| Ok(encoded.stripes[at].clone())).unwrap();
            fetched += 1;
        }
        (read, fetched)
    }

    proptest! {
        #[test]
        fn any_bits_return_as_they_were(times in prop::collection::btree_set(any::<i64>(), 1..50), seed in prop::collection::vec(any::<u64>(), 50)) {
            let times: Vec<i64> = times.into_iter().collect();
            let values = seed[..times.len()].iter().map(|b| f64::from_bits(*b)).collect();
            let block = Block { columns: vec![column(7, values), column(9, vec![f64::NAN; times.len()])], times };
            prop_assert!(same(&again(&block, |_| true).0, &block));
            prop_assert_eq!(again(&block, |id| id == 9).0.columns.len(), 1);
        }

        #[test]
        fn changed_bytes_never_panic(at in 0usize..500, to in any::<u8>()) {
            let block = Block { times: (0..100).map(|n| n * 10_000).collect(), columns: vec![column(1, (0..100).map(f64::from).collect())] };
            let encoded = block.encode().unwrap();
            let lengths: Vec<usize> = encoded.stripes.iter().map(Vec::len).collect();
            let mut head = encoded.head(&lengths);
            let mut stripes = encoded.stripes;
            let length = head.len();
            head[at % length] = to;
            let length = stripes[1].len();
            stripes[1][at % length] = to;
            for head in [&head[..], &head[..at % head.len()]] {
                if let Ok(head) = Head::decode(head) {
                    let stripe = |at: usize| stripes.get(at).cloned().ok_or(BlockError::Truncated);
                    let _ = head.columns::<BlockError>(|_| true, stripe, |_, _| ());
                    let _ = head.times::<BlockError>(stripe);
                }
            }
        }
    }

    #[test]
    fn one_series_of_many_opens_two_stripes() {
        let times: Vec<i64> = (0..200).map(|n| n * 15_000).collect();
        let noise = |id: u32| (0..200u32).map(|n| f64::from(n.wrapping_mul(2_654_435_761).rotate_left(id) % 100_003)).collect();
        let block = Block { columns: (0..200).map(|id| column(id, noise(id))).collect(), times };
        let (one, fetched) = again(&block, |id| id == 150);
        assert_eq!((one.columns, fetched), (vec![column(150, noise(150))], 2));
        assert!(block.encode().unwrap().stripes.len() > 4);
        assert_eq!(again(&block, |_| false), (Block::default(), 0));
        assert!(same(&again(&block, |_| true).0, &block));
    }

    #[test]
    fn series_that_were_sampled_together_share_their_times() {
        let times = vec![1, 2, 3];
        let odd = vec![1, 2, 4];
        let member = |series: u32, times: &[i64]| Member { series, kin: 0, points: Cow::Owned(times.iter().map(|t| (*t, 1.0)).collect()) };
        let many: Vec<Member<'_>> = (0..600).map(|id| member(id, &times)).chain([member(999, &odd)]).collect();
        let blocks: Vec<Block> = group(&many).collect();
        assert_eq!(blocks.iter().map(|b| b.columns.len()).collect::<Vec<_>>(), [SERIES_PER_BLOCK, 600 - SERIES_PER_BLOCK, 1]);
        assert_eq!(blocks[2].times, odd);
    }

    #[test]
    fn a_long_column_goes_on_in_further_blocks_and_each_can_be_read() {
        let count = POINTS_PER_BLOCK * 2 + 7;
        let times: Vec<i64> = (0..count as i64).collect();
        let points = times.iter().map(|t| (*t, *t as f64)).collect();
        let blocks: Vec<Block> = group(&[Member { series: 1, kin: 0, points: Cow::Owned(points) }]).collect();
        let read: Vec<i64> = blocks.iter().flat_map(|b| again(b, |_| true).0.times).collect();
        assert_eq!((blocks.len(), read), (3, times));
    }
}
