//! What it costs to know 10,000 key files: the first look, and the looks after it at which nothing changed; beside them one that
//! reads and parses every file each time with the same parsers, as exporters of certificates do. `tests/bench/keystore` runs it.
//! Each side is a process of its own, so that its memory is its own.
#![expect(clippy::print_stdout, clippy::disallowed_methods, reason = "a benchmark prints, and measures with the system's clock")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use keyvigil_agent::collect::{AccessRules, At, COLLECTORS, Context, KeystoreConfig, KnownKeys, Link, ServedConfig, Sink};
use keyvigil_agent::rootfs::RootFs;
use keyvigil_agent::{allocator, parse};
use keyvigil_common::telemetry::Registry;
use rcgen::{CertificateParams, DnType, KeyPair, SerialNumber};

const FILES: usize = 10_000;
const PER_DIRECTORY: usize = 100;
const LOOKS: usize = 17;
/// Looks after which all keys were told, some at each.
const SETTLED: usize = 6;

fn main() {
    let arguments: Vec<String> = std::env::args().filter(|argument| argument != "--bench").collect();
    match &arguments[1..] {
        [mode, dir, looks] => measure(mode, Path::new(dir), looks.parse().expect("a number of looks")),
        _ => compare(),
    }
}

/// What one look took.
#[derive(Debug, Clone, Copy, Default)]
struct Look {
    wall: f64,
    cpu: f64,
    /// Bytes and calls of reading.
    read: f64,
    reads: f64,
    /// Largest resident set so far, KiB.
    peak: f64,
    /// Resident set when it was done, KiB.
    resident: f64,
}

fn compare() {
    let dir = tempfile::tempdir().expect("a directory");
    make(dir.path());
    let sides = ["keyvigil", "reread"].map(|mode| (mode, run(mode, dir.path(), LOOKS)));
    println!("{FILES} files, {PER_DIRECTORY} a directory: 60 % certificates in PEM, 20 % in DER, 10 % private keys, 10 % OpenSSH public keys");
    println!("{:<34} {:>14} {:>14}   ratio", "", "keyvigil", "reads all anew");
    let row = |name: &str, of: &dyn Fn(&[Look]) -> f64| {
        let [a, b] = [of(&sides[0].1), of(&sides[1].1)];
        println!("{name:<34} {a:>14.1} {b:>14.1}   {:.3}", a / b);
    };
    row("first look, ms", &|looks| looks[0].wall);
    row("first look, CPU ms", &|looks| looks[0].cpu);
    row("first look, peak RSS MiB", &|looks| looks[0].peak / 1_024.0);
    row("unchanged look, ms (median)", &|looks| median(looks, |look| look.wall));
    row("unchanged look, CPU ms (median)", &|looks| median(looks, |look| look.cpu));
    row("unchanged look, bytes read", &|looks| median(looks, |look| look.read));
    row("unchanged look, read calls", &|looks| median(looks, |look| look.reads));
    row("RSS after the last look, MiB", &|looks| looks.last().map_or(0.0, |look| look.resident) / 1_024.0);
    row("peak RSS of all, MiB", &|looks| looks.last().map_or(0.0, |look| look.peak) / 1_024.0);
    for (mode, _) in &sides {
        match (calls(mode, dir.path(), SETTLED + 2), calls(mode, dir.path(), SETTLED + 1)) {
            (Some(more), Some(less)) => {
                let mut difference: Vec<(i64, String)> = more.iter().map(|(name, count)| (count - less.get(name).unwrap_or(&0), name.clone())).collect();
                difference.sort_by(|a, b| b.cmp(a));
                let shown = difference.iter().filter(|(count, _)| *count > 5).map(|(count, name)| format!("{name} {count}"));
                println!("system calls of one unchanged look, {mode}: {}", shown.collect::<Vec<_>>().join(", "));
            }
            _ => println!("system calls of {mode}: strace is not installed"),
        }
    }
}

fn median(looks: &[Look], of: impl Fn(&Look) -> f64) -> f64 {
    let mut values: Vec<f64> = looks[SETTLED..].iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn run(mode: &str, dir: &Path, looks: usize) -> Vec<Look> {
    let out = Command::new(std::env::current_exe().expect("this program")).arg(mode).arg(dir).arg(looks.to_string()).output().expect("itself");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let numbers = |line: &str| line.split(' ').map(|number| number.parse().expect("a number")).collect::<Vec<f64>>();
    let look = |line: &str| match numbers(line)[..] {
        [wall, cpu, read, reads, peak, resident] => Look { wall, cpu, read, reads, peak, resident },
        _ => panic!("{line}"),
    };
    String::from_utf8_lossy(&out.stdout).lines().map(look).collect()
}

/// System calls by name; `None` without strace.
fn calls(mode: &str, dir: &Path, looks: usize) -> Option<BTreeMap<String, i64>> {
    let counts = tempfile::NamedTempFile::new().ok()?;
    let program = std::env::current_exe().ok()?;
    let mut command = Command::new("strace");
    command.args(["-f", "-c", "-U", "calls,name", "-o"]).arg(counts.path()).arg(program).arg(mode).arg(dir).arg(looks.to_string());
    command.output().ok().filter(|out| out.status.success())?;
    let text = fs::read_to_string(counts.path()).ok()?;
    let line = |line: &str| {
        let (count, name) = line.trim().split_once(char::is_whitespace)?;
        Some((name.trim().to_owned(), count.parse().ok()?))
    };
    Some(text.lines().filter_map(line).filter(|(name, _)| name != "total").collect())
}

/// Looks so many times and prints what each took.
fn measure(mode: &str, dir: &Path, looks: usize) {
    allocator::hold_little();
    let keystore = KeystoreConfig { paths: vec!["/keys".into()], ..KeystoreConfig::default() };
    let context = Context {
        root: RootFs::new(dir),
        started_ms: 0,
        keystore,
        registry: Registry::default(),
        waiting: None,
        known: KnownKeys::default(),
        served: ServedConfig::default(),
        access: AccessRules::default(),
        probe: Link::new("/nonexistent"),
        canary: keyvigil_agent::canary::Canary::none(),
    };
    let mut sensor = COLLECTORS.iter().find(|row| row.name == "keystore").map(|row| (row.make)(&context)).expect("the sensor");
    // As the sampler does it: nothing is remembered.
    sensor.restore(Vec::new());
    // Nothing may seem to have been written just now.
    let wall_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64) + 60_000;
    let (mut held, mut told) = (Vec::new(), 0);
    for n in 0..looks {
        let at = At { wall_ms: wall_ms + n as i64 * 60_000, monotonic: Duration::from_secs(100 + n as u64 * 60) };
        let (begun, cpu, [read, reads]) = (Instant::now(), cpu_ms(), io());
        if mode == "keyvigil" {
            let mut sink = Sink::new("bench", at);
            sensor.collect(at, &mut sink);
            told += sink.sightings.len();
        } else {
            held = reread(&dir.join("keys"));
            assert_eq!(held.len(), FILES);
        }
        allocator::give_back();
        let [after, reads_after] = io();
        let line = [begun.elapsed().as_secs_f64() * 1e3, cpu_ms() - cpu, after - read, reads_after - reads, status("VmHWM"), status("VmRSS")];
        println!("{}", line.map(|number| number.to_string()).join(" "));
    }
    assert!(looks < SETTLED || mode != "keyvigil" || told == FILES, "every key once: {told}");
    drop(held);
}

/// Reads and parses every file.
fn reread(dir: &Path) -> Vec<(PathBuf, parse::Found)> {
    let mut found = Vec::new();
    for directory in fs::read_dir(dir).expect("the keys") {
        for file in fs::read_dir(directory.expect("an entry").path()).expect("a directory") {
            let path = file.expect("an entry").path();
            let bytes = fs::read(&path).expect("a file");
            found.extend(parse::keys(&bytes).objects.into_iter().map(|object| (path.clone(), object)));
        }
    }
    found
}

fn cpu_ms() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 * 1e3 + time.tv_nsec as f64 / 1e6
}

fn io() -> [f64; 2] {
    let text = fs::read_to_string("/proc/self/io").unwrap_or_default();
    ["rchar", "syscr"].map(|name| number(&text, name))
}

fn status(name: &str) -> f64 {
    number(&fs::read_to_string("/proc/self/status").unwrap_or_default(), name)
}

fn number(text: &str, name: &str) -> f64 {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value.and_then(|value| value.split_whitespace().next()?.parse().ok()).unwrap_or(f64::NAN)
}

/// Key files of every kind; each holds another key.
fn make(root: &Path) {
    let key = KeyPair::generate().expect("a key");
    for n in 0..FILES {
        let dir = root.join(format!("keys/{:03}", n / PER_DIRECTORY));
        fs::create_dir_all(&dir).expect("a directory");
        let (name, bytes) = match n % 10 {
            0..6 => (format!("{n}.pem"), certificate(&key, n).pem().into_bytes()),
            6 | 7 => (format!("{n}.der"), certificate(&key, n).der().to_vec()),
            8 => (format!("{n}.key"), KeyPair::generate().expect("a key").serialize_pem().into_bytes()),
            _ => (format!("{n}.pub"), public_line(n).into_bytes()),
        };
        fs::write(dir.join(name), bytes).expect("a file");
    }
}

fn certificate(key: &KeyPair, n: usize) -> rcgen::Certificate {
    let name = format!("host-{n}.example.org");
    let mut params = CertificateParams::new(vec![name.clone(), format!("www.{name}")]).expect("names");
    params.distinguished_name.push(DnType::CommonName, name);
    params.serial_number = Some(SerialNumber::from(n as u64 + 1));
    params.self_signed(key).expect("a certificate")
}

/// An Ed25519 key (RFC 8709) whose bytes are the number; 51 bytes are whole groups of base64.
fn public_line(n: usize) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut blob = [&[0, 0, 0, 11][..], b"ssh-ed25519", &[0, 0, 0, 32], &[7; 24]].concat();
    blob.extend((n as u64).to_be_bytes());
    let text: String = blob
        .chunks(3)
        .map(|chunk| chunk.iter().fold(0_usize, |bits, byte| bits << 8 | usize::from(*byte)))
        .flat_map(|bits| [18, 12, 6, 0].map(|shift| char::from(ALPHABET[bits >> shift & 63])))
        .collect();
    format!("ssh-ed25519 {text} user-{n}@example.org\n")
}
