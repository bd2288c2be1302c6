//! Level 0: what was acknowledged and is not in blocks yet, one row for each request. Two forms of body: a batch of an agent
//! as it arrived (it is compressed already), and the samples of every other protocol by the ids of their series. Pure:
//! bytes in, bytes out; sealing and storing are the caller's.
//!
//! Layout, little endian, numbers as LEB128: kind (u8). Kind 0: length of the host (u16), host, frame. Kind 1: number of
//! runs; for each its series (difference to the one before), start (ms) and number of samples; all times, each as the
//! difference to the one before; all values (f64).

use super::StoreError;
use super::varint::{put, put_signed, take, take_signed};
use crate::index::{SeriesId, TenantId};

const FRAME: u8 = 0;
const ROWS: u8 = 1;

/// Samples by series, in the order they came. What every protocol but the agents' own becomes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rows {
    pub(crate) runs: Vec<Run>,
    pub(crate) times: Vec<i64>,
    pub(crate) values: Vec<f64>,
}

/// Neighbouring samples of one series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) series: SeriesId,
    /// Counters: when counting began, Unix ms; 0 for not known.
    pub(crate) start_ms: i64,
    /// End of its samples in the columns.
    pub(crate) end: u32,
}

impl Rows {
    /// Number of samples.
    #[must_use]
    pub fn len(&self) -> usize {
        self.times.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    /// Each run with its samples.
    pub(crate) fn runs(&self) -> impl Iterator<Item = (&Run, &[i64], &[f64])> {
        let mut from = 0;
        self.runs.iter().map(move |run| {
            let (at, end) = (from, run.end as usize);
            from = end;
            (run, &self.times[at..end], &self.values[at..end])
        })
    }

    /// As the body of a row.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(16 + self.runs.len() * 5 + self.times.len() * 11);
        out.push(ROWS);
        put(&mut out, self.runs.len() as u64);
        let (mut series, mut from) = (0i64, 0);
        for run in &self.runs {
            put_signed(&mut out, i64::from(run.series) - series);
            put_signed(&mut out, run.start_ms);
            put(&mut out, u64::from(run.end - from));
            (series, from) = (i64::from(run.series), run.end);
        }
        let mut before = 0i64;
        for time in &self.times {
            put_signed(&mut out, time.wrapping_sub(before));
            before = *time;
        }
        for value in &self.values {
            out.extend_from_slice(&value.to_le_bytes());
        }
        out
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut at = bytes;
        let runs = usize::try_from(take(&mut at)?).ok().filter(|n| *n <= at.len())?;
        let mut rows = Self { runs: Vec::with_capacity(runs), ..Self::default() };
        let (mut series, mut end) = (0i64, 0u64);
        for _ in 0..runs {
            series = series.checked_add(take_signed(&mut at)?)?;
            let start_ms = take_signed(&mut at)?;
            end = end.checked_add(take(&mut at)?)?;
            rows.runs.push(Run { series: SeriesId::try_from(series).ok()?, start_ms, end: u32::try_from(end).ok()? });
        }
        // Nine bytes a sample are the least there can be.
        let count = usize::try_from(end).ok().filter(|n| n.saturating_mul(9) <= at.len())?;
        rows.times.reserve_exact(count);
        let mut before = 0i64;
        for _ in 0..count {
            before = before.wrapping_add(take_signed(&mut at)?);
            rows.times.push(before);
        }
        let (values, rest) = at.as_chunks::<8>();
        rows.values.extend(values.iter().map(|v| f64::from_le_bytes(*v)));
        (values.len() == count && rest.is_empty()).then_some(rows)
    }
}

/// A body, opened.
#[derive(Debug, PartialEq)]
pub(super) enum Body<'a> {
    /// An agent's batch, and the host whose tag its series get.
    Frame { host: Option<&'a str>, frame: &'a [u8] },
    /// Samples of series that are known.
    Rows(Rows),
}

/// An agent's batch as the body of a row.
pub(super) fn frame_body(host: &str, frame: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(3 + host.len() + frame.len());
    out.push(FRAME);
    out.extend_from_slice(&u16::try_from(host.len()).unwrap_or(0).to_le_bytes());
    out.extend_from_slice(host.as_bytes());
    out.extend_from_slice(frame);
    out
}

/// What the body of a row is sealed for.
pub(super) fn place(tenant: TenantId) -> String {
    format!("level0:{tenant}")
}

/// Reads the body of a row.
pub(super) fn open(plain: &[u8]) -> Result<Body<'_>, StoreError> {
    let (kind, rest) = plain.split_first().ok_or(StoreError::Level0)?;
    match *kind {
        FRAME => {
            let (length, rest) = rest.split_first_chunk::<2>().ok_or(StoreError::Level0)?;
            let (host, frame) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length))).ok_or(StoreError::Level0)?;
            let host = std::str::from_utf8(host).map_err(|_| StoreError::Level0)?;
            Ok(Body::Frame { host: Some(host).filter(|h| !h.is_empty()), frame })
        }
        ROWS => Rows::decode(rest).map(Body::Rows).ok_or(StoreError::Level0),
        _ => Err(StoreError::Level0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Rows {
        let runs = vec![Run { series: 7, start_ms: 0, end: 2 }, Run { series: 3, start_ms: 99, end: 3 }, Run { series: u32::MAX >> 1, start_ms: 0, end: 4 }];
        Rows { runs, times: vec![i64::MAX, i64::MIN, 0, 1_763_836_800_003], values: vec![f64::from_bits(0x7ff0_0000_0000_0002), -0.0, f64::INFINITY, 1.5] }
    }

    #[test]
    fn rows_come_back_to_the_bit() {
        let Body::Rows(found) = open(&rows().encode()).map_err(|e| e.to_string()).unwrap() else { panic!("rows") };
        assert_eq!((&found.runs, &found.times), (&rows().runs, &rows().times));
        let bits = |rows: &Rows| rows.values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&found), bits(&rows()), "a staleness mark is a NaN of its own bits");
    }

    #[test]
    fn a_body_cut_anywhere_is_an_error_and_takes_no_memory_for_what_it_claims() {
        let whole = rows().encode();
        for end in 0..whole.len() {
            assert!(open(&whole[..end]).is_err(), "{end} bytes of {}", whole.len());
        }
        let mut claims = vec![ROWS];
        put(&mut claims, u64::MAX);
        assert!(open(&claims).is_err());
        let mut claims = vec![ROWS, 1, 2, 0];
        put(&mut claims, u64::from(u32::MAX));
        assert!(open(&claims).is_err());
    }

    #[test]
    fn a_frame_comes_back_with_its_host() {
        assert_eq!(open(&frame_body("web-1", b"xyz")).unwrap(), Body::Frame { host: Some("web-1"), frame: b"xyz" });
        assert_eq!(open(&frame_body("", b"")).unwrap(), Body::Frame { host: None, frame: b"" });
    }
}
