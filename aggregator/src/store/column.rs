//! One column of a block as bytes. What hosts measure is mostly counts and decimals, which Pcodec takes in far fewer bytes and
//! several times faster as whole numbers than as floats, so a column is written as such where that is exact to the bit:
//! measured on 240 samples, 1.17 bytes instead of 1.30 and 23 M samples/s instead of 4.3 M/s (docs/adr/0003-storage.md).
//!
//! Layout: kind (u8). 0: pco of f64. 1: one value for all (f64, little endian). 2 to 6: pco of i64, to be divided by 10 to
//! the power of kind - 2.

use pco::standalone::{simple_compress, simple_decompress};
use pco::{ChunkConfig, DeltaSpec, ModeSpec};

use super::block::BlockError;

const FLOATS: u8 = 0;
const CONSTANT: u8 = 1;
const DECIMALS: u8 = 2;
/// What a column of decimals is divided by: kinds from [`DECIMALS`] on.
const SCALES: [f64; 5] = [1.0, 10.0, 100.0, 1_000.0, 10_000.0];
/// Whole numbers up to this are exact as f64.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;
/// Levels above gain nothing that can be measured and take longer.
const LEVEL: usize = 6;

/// Values as bytes.
pub(super) fn encode(values: &[f64]) -> Result<Vec<u8>, BlockError> {
    if let Some(first) = values.first()
        && values.iter().all(|v| v.to_bits() == first.to_bits())
    {
        return Ok([&[CONSTANT][..], &first.to_le_bytes()].concat());
    }
    for (kind, scale) in (DECIMALS..).zip(SCALES) {
        if let Some(whole) = wholes(values, scale) {
            let config = config(whole.iter().map(|n| *n as f64)).with_mode_spec(ModeSpec::Classic);
            return tagged(kind, simple_compress(&whole, &config));
        }
    }
    tagged(FLOATS, simple_compress(values, &config(values.iter().copied())))
}

/// Reads what [`encode`] wrote.
pub(super) fn decode(bytes: &[u8], points: usize) -> Result<Vec<f64>, BlockError> {
    let (kind, rest) = bytes.split_first().ok_or(BlockError::Truncated)?;
    let values = match *kind {
        FLOATS => simple_decompress(rest).map_err(fault)?,
        CONSTANT => vec![f64::from_le_bytes(rest.try_into().map_err(|_| BlockError::Truncated)?); points],
        kind => {
            let scale = SCALES.get(usize::from(kind - DECIMALS)).ok_or_else(|| BlockError::Codec(format!("column kind {kind}")))?;
            let whole: Vec<i64> = simple_decompress(rest).map_err(fault)?;
            whole.into_iter().map(|n| n as f64 / scale).collect()
        }
    };
    of_length(values, points)
}

/// Times as bytes.
pub(super) fn encode_times(times: &[i64]) -> Result<Vec<u8>, BlockError> {
    let config = ChunkConfig::default().with_compression_level(LEVEL).with_mode_spec(ModeSpec::Classic).with_delta_spec(DeltaSpec::TryConsecutive(1));
    simple_compress(times, &config).map_err(fault)
}

/// Reads what [`encode_times`] wrote.
pub(super) fn decode_times(bytes: &[u8], points: usize) -> Result<Vec<i64>, BlockError> {
    of_length(simple_decompress(bytes).map_err(fault)?, points)
}

/// The values times `scale` as whole numbers, if dividing gives every bit back.
fn wholes(values: &[f64], scale: f64) -> Option<Vec<i64>> {
    let exact = |value: &f64| {
        let whole = (value * scale).round();
        // By way of the whole number itself: it has no negative zero.
        let fits = whole.abs() <= WHOLE_MAX && (whole as i64 as f64 / scale).to_bits() == value.to_bits();
        fits.then_some(whole as i64)
    };
    // Most columns that are not decimals show it at once; only then is memory taken.
    values.iter().take(4).all(|v| exact(v).is_some()).then(|| values.iter().map(exact).collect()).flatten()
}

/// Differences are stored where they scatter less than the values: trying both, as Pcodec would, takes thrice the time.
fn config(values: impl Iterator<Item = f64> + Clone) -> ChunkConfig {
    let count = values.clone().count() as f64;
    let mean = values.clone().sum::<f64>() / count;
    let scatter: f64 = values.clone().map(|v| (v - mean) * (v - mean)).sum();
    let steps: f64 = values.clone().zip(values.skip(1)).map(|(a, b)| (b - a) * (b - a)).sum();
    let delta = if steps < scatter { DeltaSpec::TryConsecutive(1) } else { DeltaSpec::NoOp };
    ChunkConfig::default().with_compression_level(LEVEL).with_delta_spec(delta)
}

fn tagged(kind: u8, packed: pco::errors::PcoResult<Vec<u8>>) -> Result<Vec<u8>, BlockError> {
    let mut packed = packed.map_err(fault)?;
    packed.insert(0, kind);
    Ok(packed)
}

fn of_length<T>(values: Vec<T>, points: usize) -> Result<Vec<T>, BlockError> {
    if values.len() == points { Ok(values) } else { Err(BlockError::Codec("a column of another length".into())) }
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err asks for")]
fn fault(error: pco::errors::PcoError) -> BlockError {
    BlockError::Codec(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn again(values: &[f64]) -> (u8, Vec<u64>) {
        let bytes = encode(values).unwrap();
        (bytes[0], decode(&bytes, values.len()).unwrap().iter().map(|v| v.to_bits()).collect())
    }

    fn bits(values: &[f64]) -> Vec<u64> {
        values.iter().map(|v| v.to_bits()).collect()
    }

    #[test]
    fn decimals_and_counts_are_whole_numbers_and_all_else_floats() {
        let stale = f64::from_bits(0x7ff0_0000_0000_0002);
        let cases: [(&[f64], u8); 11] = [
            (&[7.0, 7.0, 7.0], CONSTANT),
            (&[stale, stale], CONSTANT),
            (&[1.0, 2.0, -3.0], DECIMALS),
            (&[0.5, 2.0], DECIMALS + 1),
            (&[97.25, 3.1], DECIMALS + 2),
            (&[0.0001, 12.5], DECIMALS + 4),
            (&[1.0, 1.0 / 3.0], FLOATS),
            (&[0.0, -0.0], FLOATS),
            (&[1.0, stale], FLOATS),
            (&[f64::INFINITY, 1.0, f64::MIN_POSITIVE], FLOATS),
            (&[WHOLE_MAX * 2.0, 1.0], FLOATS),
        ];
        for (values, kind) in cases {
            assert_eq!(again(values), (kind, bits(values)), "{values:?}");
        }
    }

    proptest! {
        #[test]
        fn any_decimals_return_to_the_bit(whole in prop::collection::vec(-1_000_000_000i64..1_000_000_000, 1..300), scale in 0usize..7) {
            let values: Vec<f64> = whole.iter().map(|n| *n as f64 / 10f64.powi(scale as i32)).collect();
            prop_assert_eq!(again(&values).1, bits(&values));
        }

        #[test]
        fn any_bits_return_as_they_were(values in prop::collection::vec(any::<u64>(), 1..300)) {
            let values: Vec<f64> = values.into_iter().map(f64::from_bits).collect();
            prop_assert_eq!(again(&values).1, bits(&values));
        }

        #[test]
        fn any_times_return(times in prop::collection::vec(any::<i64>(), 1..300)) {
            prop_assert_eq!(decode_times(&encode_times(&times).unwrap(), times.len()).unwrap(), times);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = decode(&bytes, 10);
            let _ = decode_times(&bytes, 10);
        }
    }
}
