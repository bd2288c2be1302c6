//! What a host's sensors showed over hours, small enough for the repository: made by the real sensors from raw copies of
//! `/proc`, or on the spot. Its form: zstd over the length of a JSON head (u32 LE), the head, and one Pcodec column for the
//! times and one a series, each after its length (u32 LE). A value that was not there is not a number.

use std::collections::HashMap;
use std::io::{BufRead, Read};
use std::path::Path;
use std::time::Duration;

use keyvigil_agent::collect::{AccessRules, At, COLLECTORS, Collector, Context, KeystoreConfig, KnownKeys, Link, ServedConfig, Sink};
use keyvigil_agent::rootfs::RootFs;
use keyvigil_common::clock::SharedClock;
use keyvigil_common::sample::Series;
use keyvigil_common::telemetry::Registry;
use pco::ChunkConfig;
use pco::standalone::{simple_compress, simple_decompress};
use serde::{Deserialize, Serialize};

/// Distance of its times, ms: half the shortest interval of the sensors.
pub const STEP_MS: i64 = 5_000;
/// Sensors that are recorded, and what of `/proc` they read.
pub const SENSORS: [&str; 6] = ["cpu", "memory", "load", "pressure", "network", "disk"];
const FILES: [&str; 9] = [
    "/proc/stat",
    "/proc/meminfo",
    "/proc/loadavg",
    "/proc/diskstats",
    "/proc/net/dev",
    "/proc/vmstat",
    "/proc/pressure/cpu",
    "/proc/pressure/io",
    "/proc/pressure/memory",
];
/// Decompressed bytes of a recording: a week of 200 series.
const BYTES_MAX: u64 = 256 << 20;

/// A column of a recording.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recorded {
    /// Its sensor.
    pub sensor: String,
    /// What was measured.
    pub series: Series,
}

/// A recording.
#[derive(Debug, Clone, Default)]
pub struct Recording {
    /// What the columns are.
    pub head: Vec<Recorded>,
    /// Unix ms, multiples of [`STEP_MS`].
    pub times: Vec<i64>,
    /// One a series, as long as the times.
    pub columns: Vec<Vec<f64>>,
    places: HashMap<Series, usize>,
}

/// The sensors, and the host that they look at.
struct Recorder {
    sensors: Vec<(&'static str, Box<dyn Collector>)>,
    recording: Recording,
}

impl Recorder {
    fn new(root: RootFs) -> Self {
        // Nobody's ports are knocked at for a recording.
        let served = ServedConfig { exclude: vec!["1-65535".into()], ..ServedConfig::default() };
        let (keystore, known) = (KeystoreConfig::default(), KnownKeys::default());
        let (access, probe) = (AccessRules::default(), Link::new("/nonexistent"));
        let context = Context {
            root,
            started_ms: 0,
            keystore,
            served,
            known,
            access,
            probe,
            canary: keyvigil_agent::canary::Canary::none(),
            registry: Registry::default(),
            waiting: None,
        };
        let rows = COLLECTORS.iter().filter(|row| SENSORS.contains(&row.name));
        Self { sensors: rows.map(|row| (row.name, (row.make)(&context))).collect(), recording: Recording::default() }
    }

    fn look(&mut self, at_ms: i64) {
        let at = At { wall_ms: at_ms, monotonic: Duration::from_millis(at_ms.unsigned_abs()) };
        let recording = &mut self.recording;
        recording.times.push(at_ms);
        let length = recording.times.len();
        for (name, sensor) in &mut self.sensors {
            let mut sink = Sink::new("recorded", at);
            sensor.collect(at, &mut sink);
            for sample in sink.samples {
                let next = recording.columns.len();
                let place = *recording.places.entry(sample.series.clone()).or_insert(next);
                if place == next {
                    recording.head.push(Recorded { sensor: (*name).to_owned(), series: sample.series });
                    recording.columns.push(vec![f64::NAN; length - 1]);
                }
                recording.columns[place].push(sample.value);
            }
        }
        recording.columns.iter_mut().for_each(|column| column.resize(length, f64::NAN));
    }
}

impl Recording {
    /// Records this host for so many steps.
    pub async fn of_this_host(steps: usize, clock: &SharedClock) -> Self {
        let mut recorder = Recorder::new(RootFs::host());
        for _ in 0..steps {
            let now_ms = clock.now_ms();
            let mark = (now_ms / STEP_MS + 1) * STEP_MS;
            clock.sleep(Duration::from_millis((mark - now_ms).unsigned_abs())).await;
            recorder.look(mark);
        }
        recorder.recording
    }

    /// Converts raw copies: for each instant a line `@ UNIX_MS`, then for each file a line `# PATH` and what it holds. Of
    /// each step the first copy is taken. An end that is cut off is left out.
    ///
    /// # Errors
    /// Of the scratch directory.
    pub fn of_copies(copies: impl BufRead) -> std::io::Result<Self> {
        let root = tempfile::tempdir()?;
        let mut recorder = Recorder::new(RootFs::new(root.path()));
        let (mut at_ms, mut files): (i64, Vec<(String, String)>) = (0, Vec::new());
        for line in copies.lines().map_while(Result::ok) {
            if let Some(next_ms) = line.strip_prefix("@ ").and_then(|text| text.parse::<i64>().ok()) {
                let mark = at_ms / STEP_MS * STEP_MS;
                if recorder.recording.times.last().is_none_or(|last| *last < mark) && !files.is_empty() {
                    for (path, text) in &files {
                        let path = root.path().join(path.trim_start_matches('/'));
                        path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
                        std::fs::write(path, text)?;
                    }
                    recorder.look(mark);
                }
                (at_ms, files) = (next_ms, Vec::new());
            } else if let Some(path) = line.strip_prefix("# ") {
                files.push((path.to_owned(), String::new()));
            } else if let Some((path, text)) = files.last_mut()
                && FILES.contains(&path.as_str())
            {
                text.push_str(&line);
                text.push('\n');
            }
        }
        Ok(recorder.recording)
    }

    /// Its form in a file.
    ///
    /// # Errors
    /// Of the codecs.
    pub fn encode(&self) -> std::io::Result<Vec<u8>> {
        let fault = |e: pco::errors::PcoError| std::io::Error::other(e.to_string());
        let mut raw = Vec::new();
        let mut part = |bytes: &[u8]| {
            raw.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
            raw.extend_from_slice(bytes);
        };
        part(&serde_json::to_vec(&self.head)?);
        part(&simple_compress(&self.times, &ChunkConfig::default()).map_err(fault)?);
        for column in &self.columns {
            part(&simple_compress(column, &ChunkConfig::default()).map_err(fault)?);
        }
        zstd::bulk::compress(&raw, 19)
    }

    /// Reads a file.
    ///
    /// # Errors
    /// A file that is not one.
    pub fn read(path: &Path) -> std::io::Result<Self> {
        let fault = |e: pco::errors::PcoError| std::io::Error::other(e.to_string());
        let mut raw = Vec::new();
        zstd::Decoder::new(std::fs::File::open(path)?)?.take(BYTES_MAX).read_to_end(&mut raw)?;
        let mut rest = raw.as_slice();
        let mut part = || {
            let (length, tail) = rest.split_at_checked(4).ok_or(std::io::ErrorKind::UnexpectedEof)?;
            let length = length.try_into().map_or(usize::MAX, |bytes| u32::from_le_bytes(bytes) as usize);
            let (bytes, tail) = tail.split_at_checked(length).ok_or(std::io::ErrorKind::UnexpectedEof)?;
            rest = tail;
            Ok::<_, std::io::Error>(bytes)
        };
        let head: Vec<Recorded> = serde_json::from_slice(part()?)?;
        let times = simple_decompress(part()?).map_err(fault)?;
        let columns = head.iter().map(|_| simple_decompress(part()?).map_err(fault)).collect::<Result<_, _>>()?;
        Ok(Self { head, times, columns, places: HashMap::new() })
    }
}
