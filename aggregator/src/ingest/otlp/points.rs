//! Data points of each kind of metric as samples, histograms and summaries. The numbers are those of
//! `opentelemetry/proto/metrics/v1/metrics.proto`.

use keyvigil_common::limits::HISTOGRAM_BUCKETS_MAX;
use keyvigil_common::sample::{MetricType, Series};

use super::attributes::{Origin, put};
use crate::ingest::Refusal;
use crate::ingest::protobuf::{Fault, Message};
use crate::ingest::sink::{Distribution, STALE, Sink};

/// First byte of a key: no other protocol's begin with it.
const KEY: u8 = 3;
const DELTA: u64 = 1;
const CUMULATIVE: u64 = 2;
/// Flag of a data point that says that its series has no value any more.
const NO_RECORDED_VALUE: u64 = 1;
/// Scales that OpenTelemetry makes.
const SCALES: std::ops::RangeInclusive<i64> = -10..=20;

/// Gives all data points of a request to `sink`.
pub(super) fn decode(body: &[u8], sink: &mut Sink<'_>) -> Result<(), Refusal> {
    let mut request = Message::new(body);
    while let Some(field) = request.next()? {
        if field.number == 1 {
            resource(field.message()?, sink)?;
        }
    }
    Ok(())
}

/// The last field `number` of a message.
fn last(mut message: Message<'_>, number: u64) -> Result<Option<Message<'_>>, Fault> {
    let mut found = None;
    while let Some(field) = message.next()? {
        if field.number == number {
            found = Some(field.message()?);
        }
    }
    Ok(found)
}

fn resource(mut message: Message<'_>, sink: &mut Sink<'_>) -> Result<(), Refusal> {
    let mut origin = Origin::of_resource(last(message, 1)?)?;
    let mut key = Vec::new();
    while let Some(field) = message.next()? {
        if field.number == 2 {
            let mut scope = field.message()?;
            origin.enter(last(scope, 1)?)?;
            while let Some(field) = scope.next()? {
                if field.number == 2 {
                    metric(field.message()?, &origin, &mut key, sink)?;
                }
            }
        }
    }
    Ok(())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Gauge,
    Sum,
    Histogram,
    Exponential,
    Summary,
}

impl Kind {
    /// Which field of its data points the attributes are.
    fn attributes(self) -> u64 {
        match self {
            Self::Gauge | Self::Sum | Self::Summary => 7,
            Self::Histogram => 9,
            Self::Exponential => 1,
        }
    }
}

/// A metric without its data points.
#[derive(Clone, Copy)]
struct Metric<'a> {
    name: &'a str,
    kind: Kind,
    /// What a number of it is.
    metric_type: MetricType,
    origin: &'a Origin,
}

fn metric<'a>(mut message: Message<'a>, origin: &'a Origin, key: &mut Vec<u8>, sink: &mut Sink<'_>) -> Result<(), Refusal> {
    let (mut name, mut data) = ("", None);
    while let Some(field) = message.next()? {
        let kind = match field.number {
            1 => {
                name = field.text()?;
                continue;
            }
            5 => Kind::Gauge,
            7 => Kind::Sum,
            9 => Kind::Histogram,
            10 => Kind::Exponential,
            11 => Kind::Summary,
            _ => continue,
        };
        data = Some((kind, field.message()?));
    }
    let Some((kind, mut data)) = data else { return Ok(()) };
    let (mut temporality, mut monotonic, mut points, mut rest) = (0, false, 0, data);
    while let Some(field) = rest.next()? {
        match field.number {
            1 => points += 1,
            2 if kind != Kind::Gauge && kind != Kind::Summary => temporality = field.number()?,
            3 if kind == Kind::Sum => monotonic = field.number()? != 0,
            _ => {}
        }
    }
    if !matches!(kind, Kind::Gauge | Kind::Summary) && temporality != CUMULATIVE {
        let which = if temporality == DELTA { "delta" } else { "unspecified" };
        sink.reject(points, || {
            format!(
                "{name}: aggregation temporality {which}: have it sent as cumulative (OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE, deltatocumulative)"
            )
        });
        return Ok(());
    }
    let metric = Metric { name, kind, metric_type: if monotonic { MetricType::Counter } else { MetricType::Gauge }, origin };
    key.clear();
    key.extend_from_slice(&[KEY, if monotonic { b'c' } else { b'g' }]);
    origin.key(key);
    put(key, name.as_bytes());
    let length = key.len();
    while let Some(field) = data.next()? {
        if field.number == 1 {
            key.truncate(length);
            metric.point(field.message()?, key, sink)?;
        }
    }
    Ok(())
}

impl Metric<'_> {
    /// Takes one data point; `key` says whose, up to its attributes.
    fn point(self, message: Message<'_>, key: &mut Vec<u8>, sink: &mut Sink<'_>) -> Result<(), Refusal> {
        let mut rest = message;
        while let Some(field) = rest.next()? {
            if field.number == self.kind.attributes() {
                key.extend_from_slice(message.span(field.at, rest.at()));
            }
        }
        let make = || self.origin.series(self.name, self.metric_type, message, self.kind.attributes());
        match self.kind {
            Kind::Gauge | Kind::Sum => self.number(message, key, make, sink),
            Kind::Histogram => taken(explicit(message)?, make, sink, |make, of, sink| sink.histogram(key, make, of)),
            Kind::Exponential => taken(exponential(message)?, make, sink, |make, of, sink| sink.histogram(key, make, of)),
            Kind::Summary => taken(summary(message)?, make, sink, |make, of, sink| sink.summary(key, make, of)),
        }
    }

    fn number(self, mut message: Message<'_>, key: &[u8], make: impl Fn() -> Result<Series, String>, sink: &mut Sink<'_>) -> Result<(), Refusal> {
        let (mut start_ms, mut at_ms, mut value, mut flags) = (0, 0, None, 0);
        while let Some(field) = message.next()? {
            match field.number {
                2 => start_ms = ms(field.fixed64()?),
                3 => at_ms = ms(field.fixed64()?),
                4 => value = Some(field.double()?),
                6 => value = Some(field.fixed64()?.cast_signed() as f64),
                8 => flags = field.number()?,
                _ => {}
            }
        }
        let value = if flags & NO_RECORDED_VALUE != 0 { Some(STALE) } else { value };
        let Some(value) = value else {
            sink.reject(1, || faulty(make, "a data point without a value"));
            return Ok(());
        };
        let start_ms = if self.metric_type == MetricType::Counter { start_ms } else { 0 };
        sink.column(key, start_ms, make, std::iter::once(Ok::<_, Fault>((at_ms, value))))
    }
}

/// Gives a distribution on, or says what is wrong with it.
fn taken<M: Fn() -> Result<Series, String>>(
    of: Result<Distribution, String>,
    make: M,
    sink: &mut Sink<'_>,
    give: impl FnOnce(M, &Distribution, &mut Sink<'_>) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    match of {
        Ok(of) => give(make, &of, sink),
        Err(why) => {
            sink.reject(1, || faulty(make, &why));
            Ok(())
        }
    }
}

fn faulty(make: impl Fn() -> Result<Series, String>, why: &str) -> String {
    make().map_or_else(|reason| reason, |series| format!("{series}: {why}"))
}

fn ms(nanos: u64) -> i64 {
    (nanos / 1_000_000).cast_signed()
}

/// Adds to a list that has an end; what is beyond it makes the histogram one of too many buckets.
fn push<T>(list: &mut Vec<T>, value: T) {
    if list.len() <= HISTOGRAM_BUCKETS_MAX {
        list.push(value);
    }
}

fn too_many(lengths: &[usize]) -> Option<String> {
    lengths.iter().any(|length| *length > HISTOGRAM_BUCKETS_MAX).then(|| format!("more than {HISTOGRAM_BUCKETS_MAX} buckets"))
}

/// What has no value any more, whatever else it says.
fn ended(at_ms: i64, flags: u64) -> Option<Distribution> {
    (flags & NO_RECORDED_VALUE != 0).then(|| Distribution { at_ms, sum: Some(STALE), ..Distribution::default() })
}

fn explicit(mut message: Message<'_>) -> Result<Result<Distribution, String>, Fault> {
    let mut of = Distribution::default();
    let (mut counts, mut bounds, mut flags) = (Vec::new(), Vec::new(), 0);
    while let Some(field) = message.next()? {
        match field.number {
            2 => of.start_ms = ms(field.fixed64()?),
            3 => of.at_ms = ms(field.fixed64()?),
            4 => of.count = field.fixed64()? as f64,
            5 => of.sum = Some(field.double()?),
            6 => field.words(|n| push(&mut counts, n))?,
            7 => field.words(|bits| push(&mut bounds, f64::from_bits(bits)))?,
            10 => flags = field.number()?,
            _ => {}
        }
    }
    if let Some(ended) = ended(of.at_ms, flags) {
        return Ok(Ok(ended));
    }
    if let Some(why) = too_many(&[counts.len(), bounds.len()]) {
        return Ok(Err(why));
    }
    if !counts.is_empty() && counts.len() != bounds.len() + 1 {
        return Ok(Err(format!("{} bucket counts for {} bounds", counts.len(), bounds.len())));
    }
    if bounds.windows(2).any(|pair| pair[0].partial_cmp(&pair[1]) != Some(std::cmp::Ordering::Less)) {
        return Ok(Err("bounds that do not ascend".into()));
    }
    let mut total = 0.0;
    for (bound, count) in bounds.into_iter().zip(counts) {
        total += count as f64;
        of.push(bound, total);
    }
    Ok(Ok(of))
}

fn exponential(mut message: Message<'_>) -> Result<Result<Distribution, String>, Fault> {
    let mut of = Distribution::default();
    let (mut scale, mut zero, mut sides, mut flags) = (0, (0.0, 0.0), [Vec::new(), Vec::new()], 0);
    while let Some(field) = message.next()? {
        match field.number {
            2 => of.start_ms = ms(field.fixed64()?),
            3 => of.at_ms = ms(field.fixed64()?),
            4 => of.count = field.fixed64()? as f64,
            5 => of.sum = Some(field.double()?),
            6 => scale = field.zigzag()?,
            7 => zero.1 = field.fixed64()? as f64,
            8 => sides[0] = side(field.message()?)?,
            9 => sides[1] = side(field.message()?)?,
            10 => flags = field.number()?,
            14 => zero.0 = field.double()?,
            _ => {}
        }
    }
    if let Some(ended) = ended(of.at_ms, flags) {
        return Ok(Ok(ended));
    }
    let [positive, negative] = sides;
    if let Some(why) = too_many(&[positive.len(), negative.len()]) {
        return Ok(Err(why));
    }
    if !SCALES.contains(&scale) {
        return Ok(Err(format!("scale {scale} is not one of -10 to 20")));
    }
    of.exponential(scale, &negative, zero, &positive);
    Ok(Ok(of))
}

/// Index and count of each bucket; OpenTelemetry counts a bucket by where it begins, we by where it ends.
fn side(mut message: Message<'_>) -> Result<Vec<(i64, f64)>, Fault> {
    let (mut offset, mut counts) = (0i32, Vec::new());
    while let Some(field) = message.next()? {
        match field.number {
            1 => offset = i32::try_from(field.zigzag()?).map_err(|_| message.fault("an offset of more than 32 bits"))?,
            2 => field.numbers(|n| push(&mut counts, n as f64))?,
            _ => {}
        }
    }
    Ok((i64::from(offset) + 1..).zip(counts).collect())
}

fn summary(mut message: Message<'_>) -> Result<Result<Distribution, String>, Fault> {
    let mut of = Distribution { sum: Some(0.0), ..Distribution::default() };
    let mut flags = 0;
    while let Some(field) = message.next()? {
        match field.number {
            2 => of.start_ms = ms(field.fixed64()?),
            3 => of.at_ms = ms(field.fixed64()?),
            4 => of.count = field.fixed64()? as f64,
            5 => of.sum = Some(field.double()?),
            6 => {
                let (mut quantile, mut pair) = (field.message()?, (0.0, 0.0));
                while let Some(field) = quantile.next()? {
                    match field.number {
                        1 => pair.0 = field.double()?,
                        2 => pair.1 = field.double()?,
                        _ => {}
                    }
                }
                push(&mut of.buckets, pair);
            }
            8 => flags = field.number()?,
            _ => {}
        }
    }
    if let Some(mut ended) = ended(of.at_ms, flags) {
        ended.buckets = of.buckets.into_iter().map(|(quantile, _)| (quantile, STALE)).collect();
        return Ok(Ok(ended));
    }
    match too_many(&[of.buckets.len()]) {
        Some(why) => Ok(Err(why)),
        None => Ok(Ok(of)),
    }
}
