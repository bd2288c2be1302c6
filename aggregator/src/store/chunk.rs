//! Columns of values as bytes. What hosts measure is mostly counts and decimals: these are written as whole numbers, which
//! Pcodec takes in fewer bytes and several times faster than floats, where that is exact to the bit. Columns of one metric
//! that are alike are one chunk, so that they share what Pcodec learns of them. Measured on 240 samples a column, bytes and
//! encoding: each column as floats 1.30 and 4.3 M/s, as whole numbers 1.17 and 23 M/s (docs/adr/0003-storage.md).
//!
//! Layout: form (u8). 0: pco of f64. 1: one f64 (little endian) for each column. 2 to 6: pco of i64, to be divided by 10 to
//! the power of form - 2. 7 to 11: the same of differences, behind the first value of each column as a signed LEB128.

use pco::standalone::{simple_compress, simple_decompress};
use pco::{ChunkConfig, DeltaSpec, ModeSpec};

use super::block::BlockError;
use super::varint::{put_signed, take_signed};

const FLOATS: u8 = 0;
const CONSTANT: u8 = 1;
const WHOLE: u8 = 2;
const STEPS: u8 = 7;
/// What whole numbers are divided by.
const SCALES: [f64; 5] = [1.0, 10.0, 100.0, 1_000.0, 10_000.0];
/// Whole numbers up to this are exact as f64.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;
/// Levels above gain nothing that can be measured and take longer.
const LEVEL: usize = 6;

/// A column as it will be written.
#[derive(Debug)]
pub(super) struct Column<'a> {
    /// Columns of one form may share a chunk.
    pub(super) form: u8,
    values: &'a [f64],
    whole: Vec<i64>,
}

impl<'a> Column<'a> {
    /// Chooses the form.
    pub(super) fn new(values: &'a [f64]) -> Self {
        let constant = values.first().is_some_and(|first| values.iter().all(|v| v.to_bits() == first.to_bits()));
        if constant {
            return Self { form: CONSTANT, values, whole: Vec::new() };
        }
        for (form, scale) in (WHOLE..).zip(SCALES) {
            if let Some(whole) = wholes(values, scale) {
                let form = if goes_in_steps(&whole) { form + (STEPS - WHOLE) } else { form };
                return Self { form, values, whole };
            }
        }
        Self { form: FLOATS, values, whole: Vec::new() }
    }
}

/// Columns of one form and length as bytes.
pub(super) fn encode<'a>(columns: impl Iterator<Item = &'a Column<'a>> + Clone) -> Result<Vec<u8>, BlockError> {
    let form = columns.clone().next().map_or(FLOATS, |column| column.form);
    let mut out = vec![form];
    let packed = match form {
        CONSTANT => {
            columns.filter_map(|c| c.values.first()).for_each(|value| out.extend_from_slice(&value.to_le_bytes()));
            return Ok(out);
        }
        FLOATS => {
            let all: Vec<f64> = columns.flat_map(|c| c.values.iter().copied()).collect();
            simple_compress(&all, &ChunkConfig::default().with_compression_level(LEVEL).with_delta_spec(DeltaSpec::TryConsecutive(1)))
        }
        STEPS.. => {
            columns.clone().filter_map(|c| c.whole.first()).for_each(|first| put_signed(&mut out, *first));
            let all: Vec<i64> = columns.flat_map(|c| c.whole.windows(2).map(|w| w[1] - w[0])).collect();
            simple_compress(&all, &classic(DeltaSpec::NoOp))
        }
        _ => {
            let all: Vec<i64> = columns.flat_map(|c| c.whole.iter().copied()).collect();
            simple_compress(&all, &classic(DeltaSpec::NoOp))
        }
    };
    out.extend_from_slice(&packed.map_err(fault)?);
    Ok(out)
}

/// Reads a chunk of `count` columns; calls `each` with the place and the values of those that `wanted` says.
pub(super) fn decode(
    bytes: &[u8],
    (count, points): (usize, usize),
    wanted: impl Fn(usize) -> bool,
    mut each: impl FnMut(usize, Vec<f64>),
) -> Result<(), BlockError> {
    let (form, mut rest) = bytes.split_first().ok_or(BlockError::Truncated)?;
    let ours = || (0..count).filter(|at| wanted(*at));
    match *form {
        CONSTANT => {
            let (values, odd) = rest.as_chunks::<8>();
            of_length(values.len(), count)?;
            of_length(odd.len(), 0)?;
            ours().for_each(|at| each(at, vec![f64::from_le_bytes(values[at]); points]));
        }
        FLOATS => {
            let all: Vec<f64> = simple_decompress(rest).map_err(fault)?;
            of_length(all.len(), count * points)?;
            ours().for_each(|at| each(at, all[at * points..][..points].to_vec()));
        }
        form if form >= STEPS => {
            let scale = scale(form - STEPS)?;
            let firsts = (0..count).map(|_| take_signed(&mut rest)).collect::<Option<Vec<_>>>().ok_or(BlockError::Truncated)?;
            let all: Vec<i64> = simple_decompress(rest).map_err(fault)?;
            let steps = points.saturating_sub(1);
            of_length(all.len(), count * steps)?;
            for at in ours() {
                let mut whole = firsts[at];
                let mut values = Vec::with_capacity(points);
                values.push(whole as f64 / scale);
                values.extend(all[at * steps..][..steps].iter().map(|step| {
                    whole = whole.wrapping_add(*step);
                    whole as f64 / scale
                }));
                each(at, values);
            }
        }
        form => {
            let scale = scale(form - WHOLE)?;
            let all: Vec<i64> = simple_decompress(rest).map_err(fault)?;
            of_length(all.len(), count * points)?;
            ours().for_each(|at| each(at, all[at * points..][..points].iter().map(|n| *n as f64 / scale).collect()));
        }
    }
    Ok(())
}

/// Times as bytes.
pub(super) fn encode_times(times: &[i64]) -> Result<Vec<u8>, BlockError> {
    simple_compress(times, &classic(DeltaSpec::TryConsecutive(1))).map_err(fault)
}

/// Reads what [`encode_times`] wrote.
pub(super) fn decode_times(bytes: &[u8], points: usize) -> Result<Vec<i64>, BlockError> {
    let times: Vec<i64> = simple_decompress(bytes).map_err(fault)?;
    of_length(times.len(), points).map(|()| times)
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

/// Whether the differences scatter less than the values: trying both, as Pcodec would, takes thrice the time.
fn goes_in_steps(whole: &[i64]) -> bool {
    let mean = whole.iter().map(|n| *n as f64).sum::<f64>() / whole.len() as f64;
    let scatter: f64 = whole.iter().map(|n| (*n as f64 - mean).powi(2)).sum();
    let steps: f64 = whole.windows(2).map(|w| ((w[1] - w[0]) as f64).powi(2)).sum();
    steps < scatter
}

fn classic(delta: DeltaSpec) -> ChunkConfig {
    ChunkConfig::default().with_compression_level(LEVEL).with_mode_spec(ModeSpec::Classic).with_delta_spec(delta)
}

fn scale(at: u8) -> Result<f64, BlockError> {
    SCALES.get(usize::from(at)).copied().ok_or_else(|| BlockError::Codec(format!("scale {at}")))
}

fn of_length(found: usize, expected: usize) -> Result<(), BlockError> {
    if found == expected { Ok(()) } else { Err(BlockError::Codec(format!("{found} values where {expected} were written"))) }
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err asks for")]
fn fault(error: pco::errors::PcoError) -> BlockError {
    BlockError::Codec(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bits(values: &[f64]) -> Vec<u64> {
        values.iter().map(|v| v.to_bits()).collect()
    }

    fn again(columns: &[&[f64]]) -> Vec<Vec<u64>> {
        let planned: Vec<Column<'_>> = columns.iter().map(|values| Column::new(values)).collect();
        let mut out = Vec::new();
        for (at, run) in planned.chunk_by(|a, b| a.form == b.form).scan(0, |from, run| Some((std::mem::replace(from, *from + run.len()), run))) {
            let bytes = encode(run.iter()).unwrap();
            decode(&bytes, (run.len(), columns[at].len()), |_| true, |_, values| out.push(bits(&values))).unwrap();
        }
        out
    }

    #[test]
    fn decimals_and_counts_are_whole_numbers_and_all_else_floats() {
        let stale = f64::from_bits(0x7ff0_0000_0000_0002);
        let cases: [(&[f64], u8); 12] = [
            (&[7.0, 7.0, 7.0], CONSTANT),
            (&[stale, stale], CONSTANT),
            (&[1.0, 5.0, -3.0], WHOLE),
            (&[1.0, 2.0, 3.0, 4.0], STEPS),
            (&[0.5, 2.0], WHOLE + 1),
            (&[97.25, 3.1], WHOLE + 2),
            (&[0.0001, 12.5], WHOLE + 4),
            (&[1.0, 1.0 / 3.0], FLOATS),
            (&[0.0, -0.0], FLOATS),
            (&[1.0, stale], FLOATS),
            (&[f64::INFINITY, 1.0, f64::MIN_POSITIVE], FLOATS),
            (&[WHOLE_MAX * 2.0, 1.0], FLOATS),
        ];
        for (values, form) in cases {
            assert_eq!((Column::new(values).form, again(&[values])), (form, vec![bits(values)]), "{values:?}");
        }
    }

    #[test]
    fn one_column_of_a_chunk_is_read_by_itself() {
        let columns: Vec<Vec<f64>> = (0..20).map(|c| (0..50).map(|n| f64::from(c * 1_000 + n * n)).collect()).collect();
        let planned: Vec<Column<'_>> = columns.iter().map(|values| Column::new(values)).collect();
        let mut found = Vec::new();
        decode(&encode(planned.iter()).unwrap(), (20, 50), |at| at == 13, |at, values| found.push((at, values))).unwrap();
        assert_eq!(found, [(13, columns[13].clone())]);
    }

    proptest! {
        #[test]
        fn any_decimals_return_to_the_bit(whole in prop::collection::vec(-1_000_000_000i64..1_000_000_000, 2..300), scale in 0usize..7) {
            let values: Vec<f64> = whole.iter().map(|n| *n as f64 / 10f64.powi(scale as i32)).collect();
            let (a, b) = values.split_at(values.len() / 2);
            let b = &b[..a.len()];
            prop_assert_eq!(again(&[a, b]), [bits(a), bits(b)]);
        }

        #[test]
        fn any_bits_return_as_they_were(values in prop::collection::vec(any::<u64>(), 1..300)) {
            let values: Vec<f64> = values.into_iter().map(f64::from_bits).collect();
            prop_assert_eq!(again(&[&values, &values]), [bits(&values), bits(&values)]);
        }

        #[test]
        fn any_times_return(times in prop::collection::vec(any::<i64>(), 1..300)) {
            prop_assert_eq!(decode_times(&encode_times(&times).unwrap(), times.len()).unwrap(), times);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..64), form in 0u8..14) {
            let bytes = [&[form][..], &bytes].concat();
            let _ = decode(&bytes, (3, 10), |_| true, |_, _| ());
            let _ = decode_times(&bytes, 10);
        }
    }
}
