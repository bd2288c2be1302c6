//! The samples that every server is given: the same bytes for the same seed and end, as remote-write 1.0 requests (protobuf
//! in snappy's block format), encoded before anything is timed. Knows nothing of servers.

use bytes::Bytes;

use crate::ingest::{Random, step};

/// Metric, the tag that tells its series of one host apart, and the shape of its values (see [`step`]). Series `n` is of row `n % 4`.
pub(crate) const METRICS: [(&str, &str); 4] =
    [("system_memory_total_bytes", "dev"), ("system_cpu_usage_total", "cpu"), ("system_network_bytes_sent", "iface"), ("crypto_key_access_count", "key")];
pub(crate) const CONNECTIONS: usize = 8;
pub(crate) const SEED: u64 = 0x9E37_79B9_7F4A_7C15;
/// How far a host's scrape may lie beside the step, either way, ms.
const JITTER_MS: f64 = 3.0;
/// The last sample lies this far behind a multiple of the step: jitter moves no sample over the edge of a query's bucket, so
/// that buckets open on the left and buckets open on the right hold the same samples.
const OFFSET_MS: i64 = 7_000;

/// How much there is of what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) hosts: usize,
    /// Of one host.
    pub(crate) series: usize,
    pub(crate) steps: usize,
    pub(crate) step_ms: i64,
    /// Steps that one request holds.
    pub(crate) steps_per_request: usize,
    /// Hosts that one request holds.
    pub(crate) hosts_per_request: usize,
    /// No host begins the steps of the next request before all have sent these: Prometheus refuses what is an hour older
    /// than its newest sample. Otherwise all is encoded before anything is sent.
    pub(crate) by_window: bool,
    /// Time of the last step, Unix ms.
    pub(crate) end_ms: i64,
}

impl Shape {
    /// 4.8 M samples, 15 s apart.
    pub(crate) fn hour(now_ms: i64) -> Self {
        let step_ms = 15_000;
        let end_ms = end(now_ms, step_ms);
        Self { hosts: 100, series: 200, steps: 240, step_ms, steps_per_request: 5, hosts_per_request: 1, by_window: false, end_ms }
    }

    /// At least `samples`, 10 min apart.
    pub(crate) fn week(samples: usize, now_ms: i64) -> Self {
        let (series, steps, step_ms) = (100, 1_000, 600_000);
        let (hosts, end_ms) = (samples.div_ceil(series * steps), end(now_ms, step_ms));
        Self { hosts, series, steps, step_ms, steps_per_request: 5, hosts_per_request: 2, by_window: true, end_ms }
    }

    pub(crate) fn samples(&self) -> usize {
        self.hosts * self.series * self.steps
    }

    pub(crate) fn host(at: usize) -> String {
        format!("host-{at:05}.example")
    }

    /// Value of the metric's own tag for the `at`th series of the metric on a host.
    pub(crate) fn item(metric: usize, at: usize) -> String {
        format!("{}-{at:04}", METRICS[metric].1)
    }
}

/// The last step at or before `now_ms` that lies right.
fn end(now_ms: i64, step_ms: i64) -> i64 {
    (now_ms - OFFSET_MS).div_euclid(step_ms) * step_ms + OFFSET_MS
}

struct Host {
    random: Random,
    /// Labels of each series, encoded.
    labels: Vec<Vec<u8>>,
    /// Newest value of each series.
    values: Vec<f64>,
}

impl Host {
    fn new(at: usize, series: usize) -> Self {
        let mut random = Random(SEED ^ (at as u64 + 1));
        let values = (0..series).map(|n| match n % 4 {
            0 => (1.0 + (random.next() * 63.0).floor()) * 1_048_576.0,
            1 => (500.0 + (random.next() * 5_500.0).floor()) / 100.0,
            _ => 0.0,
        });
        let values = values.collect();
        Self { random, labels: (0..series).map(|n| labels(at, n)).collect(), values }
    }
}

/// Makes the requests, some steps of all hosts at a time.
pub(crate) struct Maker {
    shape: Shape,
    hosts: Vec<Host>,
    /// The next step.
    at: usize,
    /// Bytes of all requests so far, as sent.
    pub(crate) wire_bytes: usize,
    pub(crate) requests: usize,
}

impl Maker {
    pub(crate) fn new(shape: Shape) -> Self {
        Self { shape, hosts: (0..shape.hosts).map(|at| Host::new(at, shape.series)).collect(), at: 0, wire_bytes: 0, requests: 0 }
    }

    /// The requests of the next `steps_per_request` steps: a queue for each connection; a host is always on the same one.
    /// `None` after the last.
    pub(crate) fn next_window(&mut self) -> Option<Vec<Vec<Bytes>>> {
        let (from, to) = (self.at, (self.at + self.shape.steps_per_request).min(self.shape.steps));
        if from == to {
            return None;
        }
        self.at = to;
        let mut snappy = snap::raw::Encoder::new();
        let mut queues = vec![Vec::new(); CONNECTIONS];
        for (at, hosts) in self.hosts.chunks_mut(self.shape.hosts_per_request).enumerate() {
            let mut plain = Vec::new();
            hosts.iter_mut().for_each(|host| scrapes(&self.shape, host, from, to, &mut plain));
            let body = snappy.compress_vec(&plain).expect("a request is far below snappy's 4 GiB");
            self.wire_bytes += body.len();
            self.requests += 1;
            queues[at % CONNECTIONS].push(Bytes::from(body));
        }
        Some(queues)
    }

    /// All that is left, a queue for each connection.
    pub(crate) fn rest(&mut self) -> Vec<Vec<Bytes>> {
        let mut all = vec![Vec::new(); CONNECTIONS];
        while let Some(window) = self.next_window() {
            all.iter_mut().zip(window).for_each(|(queue, more)| queue.extend(more));
        }
        all
    }
}

/// The series of one host with its samples from step `from` to before `to`, as `timeseries` fields of a WriteRequest.
fn scrapes(shape: &Shape, host: &mut Host, from: usize, to: usize, out: &mut Vec<u8>) {
    let times: Vec<i64> = (from..to)
        .map(|at| shape.end_ms - (shape.steps - 1 - at) as i64 * shape.step_ms + (host.random.next() * (2.0 * JITTER_MS + 1.0)) as i64 - JITTER_MS as i64)
        .collect();
    let mut series = Vec::new();
    for (n, labels) in host.labels.iter().enumerate() {
        series.clear();
        series.extend_from_slice(labels);
        for (at, time) in (from..to).zip(&times) {
            if at > 0 {
                host.values[n] = step(n % 4, host.values[n], &mut host.random);
            }
            let mut sample = vec![1 << 3 | 1];
            sample.extend_from_slice(&host.values[n].to_le_bytes());
            sample.push(2 << 3);
            varint(*time as u64, &mut sample);
            bytes_field(2, &sample, &mut series);
        }
        bytes_field(1, &series, out);
    }
}

/// The labels of series `n` of a host as `labels` fields of a TimeSeries, sorted by name as the protocol asks.
fn labels(host: usize, n: usize) -> Vec<u8> {
    let (metric, tag) = METRICS[n % 4];
    let mut pairs = [("__name__", metric.to_owned()), (tag, Shape::item(n % 4, n / 4)), ("host", Shape::host(host))];
    pairs.sort();
    let mut out = Vec::new();
    for (name, value) in pairs {
        let mut label = Vec::new();
        bytes_field(1, name.as_bytes(), &mut label);
        bytes_field(2, value.as_bytes(), &mut label);
        bytes_field(1, &label, &mut out);
    }
    out
}

/// A field of protobuf's wire type 2: what has a length.
fn bytes_field(number: u8, bytes: &[u8], out: &mut Vec<u8>) {
    out.push(number << 3 | 2);
    varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
