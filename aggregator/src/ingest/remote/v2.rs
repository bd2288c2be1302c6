//! Remote write 2.0, `io.prometheus.write.v2.Request`. Labels are numbers of symbols that hold for one request only, so the
//! key of a series is what they stand for, each with its length, behind the series' type.

use keyvigil_common::limits::TAGS_MAX;
use keyvigil_common::sample::{MetricType, Series};

use super::labels;
use super::native;
use crate::ingest::Refusal;
use crate::ingest::protobuf::{Fault, Message};
use crate::ingest::sink::Sink;

const SYMBOLS: u64 = 4;
const TIMESERIES: u64 = 5;
const LABELS_REFS: u64 = 1;
const SAMPLES: u64 = 2;
const HISTOGRAMS: u64 = 3;
const METADATA: u64 = 5;
const CREATED_TIMESTAMP: u64 = 6;

/// First byte of a key: no other protocol's begin with it.
const KEY: u8 = 2;
/// References of one series that are looked at; with more it has too many labels anyway.
const REFS_MAX: usize = 2 * (TAGS_MAX + 1);

/// Gives all series of a request to `sink`.
pub(super) fn decode(body: &[u8], sink: &mut Sink<'_>) -> Result<(), Refusal> {
    let symbols = symbols(body, sink)?;
    let mut request = Message::new(body);
    let mut found = Found::default();
    let mut nth = 0;
    while let Some(field) = request.next()? {
        if field.number == TIMESERIES {
            found.read(field.message()?)?;
            series(&mut found, field.message()?, &symbols, nth, sink)?;
            nth += 1;
        }
    }
    Ok(())
}

/// The table of symbols, wherever in the body it stands.
fn symbols<'a>(body: &'a [u8], sink: &mut Sink<'_>) -> Result<Vec<&'a [u8]>, Refusal> {
    let (mut request, mut count) = (Message::new(body), 0);
    while let Some(field) = request.next()? {
        count += usize::from(field.number == SYMBOLS);
    }
    sink.hold(count * size_of::<&[u8]>())?;
    let (mut request, mut symbols) = (Message::new(body), Vec::with_capacity(count));
    while let Some(field) = request.next()? {
        if field.number == SYMBOLS {
            symbols.push(field.message()?.bytes());
        }
    }
    Ok(symbols)
}

/// What a series has beside its samples; used again for the next.
#[derive(Debug, Default)]
struct Found {
    refs: Vec<u64>,
    too_many: bool,
    /// Place of the first sample.
    first: Option<usize>,
    samples: usize,
    histograms: usize,
    /// The metric's type as the protocol counts them.
    kind: u64,
    created_ms: i64,
    key: Vec<u8>,
}

impl Found {
    fn read(&mut self, mut message: Message<'_>) -> Result<(), Fault> {
        let (mut refs, key) = (std::mem::take(&mut self.refs), std::mem::take(&mut self.key));
        refs.clear();
        *self = Self { key, ..Self::default() };
        while let Some(field) = message.next()? {
            match field.number {
                LABELS_REFS => field.numbers(|n| if refs.len() < REFS_MAX { refs.push(n) } else { self.too_many = true })?,
                SAMPLES => {
                    self.first = self.first.or(Some(field.at));
                    self.samples += 1;
                }
                HISTOGRAMS => self.histograms += 1,
                METADATA => {
                    let mut metadata = field.message()?;
                    while let Some(field) = metadata.next()? {
                        if field.number == 1 {
                            self.kind = field.number()?;
                        }
                    }
                }
                CREATED_TIMESTAMP => self.created_ms = field.signed()?,
                _ => {}
            }
        }
        self.refs = refs;
        Ok(())
    }

    /// Writes the key, or says why there is none.
    fn resolve(&mut self, symbols: &[&[u8]]) -> Result<(), String> {
        if self.too_many {
            return Err(format!("more than {} labels", REFS_MAX / 2));
        }
        if !self.refs.len().is_multiple_of(2) {
            return Err(format!("{} label references, an odd number", self.refs.len()));
        }
        self.key.clear();
        self.key.extend_from_slice(&[KEY, u8::try_from(self.kind).unwrap_or(0)]);
        for place in &self.refs {
            let symbol = symbol(symbols, *place).ok_or_else(|| format!("label reference {place}, but there are {} symbols", symbols.len()))?;
            self.key.extend_from_slice(&u32::try_from(symbol.len()).unwrap_or(u32::MAX).to_le_bytes());
            self.key.extend_from_slice(symbol);
        }
        Ok(())
    }

    fn made(&self, symbols: &[&[u8]]) -> Result<Series, String> {
        let text = |place: u64| std::str::from_utf8(symbol(symbols, place).unwrap_or_default()).map_err(|_| format!("symbol {place} is not UTF-8"));
        let (pairs, _) = self.refs.as_chunks::<2>();
        let labels = pairs.iter().map(|[name, value]| Ok((text(*name)?, text(*value)?))).collect::<Result<Vec<_>, String>>()?;
        labels::series(&labels, |name, has_le| self.metric_type(name, has_le))
    }

    /// What the values of a series mean, whose name may be one part of what has the type.
    fn metric_type(&self, name: &str, has_le: bool) -> MetricType {
        let counts = name.ends_with("_count") || name.ends_with("_sum");
        match self.kind {
            1 => MetricType::Counter,
            3 if has_le && name.ends_with("_bucket") => MetricType::Histogram,
            3 | 5 if counts => MetricType::Counter,
            2..=7 => MetricType::Gauge,
            _ => labels::guess(name, has_le),
        }
    }

    /// Whether its values only grow, so that they have a beginning.
    fn grows(&self, symbols: &[&[u8]]) -> bool {
        self.made(symbols).is_ok_and(|series| series.metric_type != MetricType::Gauge)
    }
}

fn symbol<'a>(symbols: &[&'a [u8]], place: u64) -> Option<&'a [u8]> {
    usize::try_from(place).ok().and_then(|at| symbols.get(at)).copied()
}

fn series(found: &mut Found, message: Message<'_>, symbols: &[&[u8]], nth: usize, sink: &mut Sink<'_>) -> Result<(), Refusal> {
    if let Err(why) = found.resolve(symbols) {
        sink.reject(found.samples + found.histograms, || format!("series {nth} of the request: {why}"));
        return Ok(());
    }
    let found = &*found;
    let make = || found.made(symbols);
    if let Some(at) = found.first {
        let mut samples = Samples::new(message.from(at))?;
        while let Some(own_ms) = samples.begin() {
            let start_ms = if own_ms > 0 { own_ms } else { found.created_ms };
            let start_ms = if start_ms > 0 && found.grows(symbols) { start_ms } else { 0 };
            sink.column(&found.key, start_ms, make, &mut samples)?;
        }
    }
    if found.histograms > 0 {
        native::take(message, HISTOGRAMS, found.created_ms, sink, &found.key, make)?;
    }
    Ok(())
}

/// The samples of a series, in runs that have the same start.
struct Samples<'a> {
    rest: Message<'a>,
    next: Option<Sample>,
    start_ms: i64,
}

struct Sample {
    at_ms: i64,
    value: f64,
    start_ms: i64,
}

impl<'a> Samples<'a> {
    fn new(rest: Message<'a>) -> Result<Self, Fault> {
        let mut samples = Self { rest, next: None, start_ms: 0 };
        samples.next = samples.read()?;
        Ok(samples)
    }

    /// Begins the next run, and says its start.
    fn begin(&mut self) -> Option<i64> {
        self.start_ms = self.next.as_ref()?.start_ms;
        Some(self.start_ms)
    }

    fn read(&mut self) -> Result<Option<Sample>, Fault> {
        while let Some(field) = self.rest.next()? {
            if field.number == SAMPLES {
                return sample(field.message()?).map(Some);
            }
        }
        Ok(None)
    }
}

impl Iterator for Samples<'_> {
    type Item = Result<(i64, f64), Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        let sample = self.next.take_if(|next| next.start_ms == self.start_ms)?;
        match self.read() {
            Ok(next) => {
                self.next = next;
                Some(Ok((sample.at_ms, sample.value)))
            }
            Err(fault) => Some(Err(fault)),
        }
    }
}

fn sample(mut message: Message<'_>) -> Result<Sample, Fault> {
    let mut sample = Sample { at_ms: 0, value: 0.0, start_ms: 0 };
    while let Some(field) = message.next()? {
        match field.number {
            1 => sample.value = field.double()?,
            2 => sample.at_ms = field.signed()?,
            3 => sample.start_ms = field.signed()?,
            _ => {}
        }
    }
    Ok(sample)
}
