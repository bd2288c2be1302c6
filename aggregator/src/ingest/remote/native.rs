//! Native histograms of both versions, as they are sent: buckets in spans, counts as differences.

use keyvigil_common::limits::HISTOGRAM_BUCKETS_MAX;
use keyvigil_common::sample::Series;

use crate::ingest::Refusal;
use crate::ingest::protobuf::{Fault, Field, Message, unzigzag};
use crate::ingest::sink::{Distribution, Sink};

const CUSTOM: i64 = -53;
const GAUGE: u64 = 3;

/// Gives the histograms of a series (its fields `number`) to `sink`, under the label bytes `key`.
pub(super) fn take(
    mut message: Message<'_>,
    number: u64,
    created_ms: i64,
    sink: &mut Sink<'_>,
    key: &[u8],
    make: impl Fn() -> Result<Series, String>,
) -> Result<(), Refusal> {
    while let Some(field) = message.next()? {
        if field.number != number {
            continue;
        }
        let native = Native::read(field.message()?, created_ms)?;
        match native.classic() {
            Ok(histogram) => sink.histogram(key, &make, &histogram)?,
            Err(why) => sink.reject(1, || match make() {
                Ok(series) => format!("{series}: histogram at {} ms: {why}", native.at_ms),
                Err(reason) => reason,
            }),
        }
    }
    Ok(())
}

/// A histogram as it is sent.
#[derive(Debug, Default)]
struct Native {
    at_ms: i64,
    start_ms: i64,
    schema: i64,
    is_gauge: bool,
    count: f64,
    sum: f64,
    zero_threshold: f64,
    zero_count: f64,
    positive: Side,
    negative: Side,
    custom: Vec<f64>,
    too_many: bool,
}

/// Buckets above or below zero.
#[derive(Debug, Default)]
struct Side {
    /// Gap to the span before, and length.
    spans: Vec<(i64, u64)>,
    /// Each as its difference to the one before.
    deltas: Vec<i64>,
    counts: Vec<f64>,
}

/// Adds to a list that has an end; says whether there was room.
fn push<T>(list: &mut Vec<T>, value: T, too_many: &mut bool) {
    if list.len() < HISTOGRAM_BUCKETS_MAX {
        list.push(value);
    } else {
        *too_many = true;
    }
}

impl Native {
    fn read(mut message: Message<'_>, created_ms: i64) -> Result<Self, Fault> {
        let mut all = Self { start_ms: created_ms, ..Self::default() };
        while let Some(field) = message.next()? {
            match field.number {
                1 => all.count = field.number()? as f64,
                2 => all.count = field.double()?,
                3 => all.sum = field.double()?,
                4 => all.schema = field.zigzag()?,
                5 => all.zero_threshold = field.double()?,
                6 => all.zero_count = field.number()? as f64,
                7 => all.zero_count = field.double()?,
                8..=10 => all.negative.read(&field, field.number - 8, &mut all.too_many)?,
                11..=13 => all.positive.read(&field, field.number - 11, &mut all.too_many)?,
                14 => all.is_gauge = field.number()? == GAUGE,
                15 => all.at_ms = field.signed()?,
                16 => field.words(|bits| push(&mut all.custom, f64::from_bits(bits), &mut all.too_many))?,
                17 => all.start_ms = field.signed()?,
                _ => {}
            }
        }
        Ok(all)
    }

    fn classic(&self) -> Result<Distribution, String> {
        let (at_ms, start_ms, is_gauge) = (self.at_ms, self.start_ms.max(0), self.is_gauge);
        let mut out = Distribution { at_ms, start_ms, is_gauge, count: self.count, sum: Some(self.sum), buckets: Vec::new() };
        if self.too_many {
            return Err(format!("more than {HISTOGRAM_BUCKETS_MAX} buckets"));
        }
        match self.schema {
            CUSTOM => self.custom_buckets(&mut out)?,
            -4..=8 => out.exponential(self.schema, &self.negative.buckets()?, (self.zero_threshold, self.zero_count), &self.positive.buckets()?),
            other => return Err(format!("schema {other} is not known")),
        }
        Ok(out)
    }

    fn custom_buckets(&self, out: &mut Distribution) -> Result<(), String> {
        let buckets = self.positive.buckets()?;
        if buckets.iter().any(|bucket| !(0..=self.custom.len() as i64).contains(&bucket.0)) {
            return Err("a bucket without its bound".into());
        }
        if self.custom.windows(2).any(|pair| pair[0] >= pair[1]) {
            return Err("bounds that do not ascend".into());
        }
        let (mut total, mut left) = (0.0, buckets.iter().peekable());
        for (at, bound) in self.custom.iter().enumerate() {
            while let Some((_, count)) = left.next_if(|bucket| bucket.0 <= at as i64) {
                total += count;
            }
            out.push(*bound, total);
        }
        Ok(())
    }
}

impl Side {
    fn read(&mut self, field: &Field<'_>, part: u64, too_many: &mut bool) -> Result<(), Fault> {
        match part {
            0 => {
                let (mut message, mut span) = (field.message()?, (0, 0));
                while let Some(field) = message.next()? {
                    match field.number {
                        1 => span.0 = field.zigzag()?,
                        2 => span.1 = field.number()?,
                        _ => {}
                    }
                }
                push(&mut self.spans, span, too_many);
                Ok(())
            }
            1 => field.numbers(|n| push(&mut self.deltas, unzigzag(n), too_many)),
            _ => field.words(|bits| push(&mut self.counts, f64::from_bits(bits), too_many)),
        }
    }

    /// Index and count of each bucket, ascending.
    fn buckets(&self) -> Result<Vec<(i64, f64)>, String> {
        let mut before = 0i64;
        let mut whole = self.deltas.iter().map(|delta| {
            before = before.saturating_add(*delta);
            before as f64
        });
        let mut fractions = self.counts.iter().copied();
        let counts: &mut dyn Iterator<Item = f64> = if self.deltas.is_empty() { &mut fractions } else { &mut whole };
        let (mut out, mut index) = (Vec::new(), 0i64);
        for (nth, (offset, length)) in self.spans.iter().enumerate() {
            index = index.saturating_add(*offset);
            let ascends = nth == 0 || *offset >= 0;
            if !ascends || index.unsigned_abs() > u64::from(u32::MAX) {
                return Err("spans that do not ascend".into());
            }
            for _ in 0..*length {
                let count = counts.next().ok_or("spans that do not match the buckets")?;
                if count.is_nan() || count < 0.0 {
                    return Err("a bucket with less than nothing in it".into());
                }
                out.push((index, count));
                index += 1;
            }
        }
        if counts.next().is_some() { Err("spans that do not match the buckets".into()) } else { Ok(out) }
    }
}
