//! The codec, for `benches/`.

use super::block::{Block, BlockError, Column, Head};

/// A block as bytes.
#[derive(Debug)]
pub struct Packed {
    head: Vec<u8>,
    stripes: Vec<Vec<u8>>,
}

impl Packed {
    /// Its size, unsealed.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.head.len() + self.stripes.iter().map(Vec::len).sum::<usize>()
    }
}

/// Writes columns that share their times.
///
/// # Panics
/// Where the codec fails.
#[must_use]
pub fn pack(times: &[i64], columns: &[Vec<f64>]) -> Packed {
    let column = |(series, values): (u32, &Vec<f64>)| Column { series, kin: 0, values: values.clone() };
    let block = Block { times: times.to_vec(), columns: (1..).zip(columns).map(column).collect() };
    let encoded = block.encode().expect("a block");
    let lengths: Vec<usize> = encoded.stripes.iter().map(Vec::len).collect();
    Packed { head: encoded.head(&lengths), stripes: encoded.stripes }
}

/// Reads times and the columns that are `wanted`; returns how many values these are.
///
/// # Panics
/// Where the codec fails.
pub fn unpack(packed: &Packed, wanted: impl Fn(u32) -> bool) -> usize {
    let head = Head::decode(&packed.head).expect("a head");
    let stripe = |at: usize| packed.stripes.get(at).cloned().ok_or(BlockError::Truncated);
    let mut values = head.times::<BlockError>(stripe).expect("times").len();
    head.columns::<BlockError>(wanted, stripe, |_, column| values += column.len()).expect("columns");
    values
}
