//! Ten thousand simulated agents against one real aggregator: joining, steady delivery, kill -9 and restart in the middle, and
//! at the end the judgement that each batch is stored exactly once. Prints figures; fails only where something is lost, doubled
//! or not back within [`PATIENCE`]. `tests/bench/fleet` builds and runs it.

use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use clap::Parser;
use keyvigil_common::clock::{SharedClock, SystemClock};
use keyvigil_tests::fleet::tally::{Part, quantile_ms};
use keyvigil_tests::fleet::{Fleet, Standing, joining, judge};
use keyvigil_tests::process::Aggregator;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Each phase ends after this, whatever happened.
const PATIENCE: Duration = Duration::from_secs(300);
/// File descriptors of each process that are not connections of agents.
const OTHER_FILES: u64 = 400;

#[derive(Parser)]
struct Options {
    /// Agents.
    #[arg(long, default_value_t = 10_000)]
    agents: usize,
    /// Between two batches of an agent.
    #[arg(long, default_value_t = 10)]
    every_seconds: u64,
    /// Before the aggregator is killed.
    #[arg(long, default_value_t = 60)]
    steady_seconds: u64,
    /// Between its end and its new start.
    #[arg(long, default_value_t = 5)]
    away_seconds: u64,
}

/// What a process took so far.
#[derive(Debug, Clone, Copy, Default)]
struct Taken {
    cpu_s: f64,
    rss_kib: u64,
    peak_kib: u64,
}

impl Taken {
    fn by(pid: u32) -> Self {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let after = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let ticks: u64 = after.split_ascii_whitespace().skip(11).take(2).filter_map(|n| n.parse::<u64>().ok()).sum();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let of = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.split_ascii_whitespace().next()?.parse().ok()).unwrap_or(0);
        Self { cpu_s: ticks as f64 / rustix::param::clock_ticks_per_second() as f64, rss_kib: of("VmRSS:"), peak_kib: of("VmHWM:") }
    }
}

/// As in the aggregator itself.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Time since some instant.
fn now() -> Duration {
    static CLOCK: OnceLock<SharedClock> = OnceLock::new();
    CLOCK.get_or_init(SystemClock::shared).monotonic()
}

/// One figure.
#[expect(clippy::print_stdout, reason = "a benchmark prints")]
fn tell(name: &str, value: std::fmt::Arguments<'_>) {
    println!("{name:<20}{value}");
}

/// Raises the limit of open files, and says how many agents there is room for.
fn room_for_agents() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if setrlimit(Resource::Nofile, raised).is_err() {
        tell("file descriptors", format_args!("the limit cannot be raised"));
    }
    let files = getrlimit(Resource::Nofile).current.unwrap_or(1 << 20);
    tell("file descriptors", format_args!("{files} each for the agents and the aggregator"));
    usize::try_from(files.saturating_sub(OTHER_FILES)).unwrap_or(usize::MAX)
}

#[tokio::main]
async fn main() {
    keyvigil_common::tls::install_provider();
    let mut options = Options::parse();
    let room = room_for_agents();
    if options.agents > room {
        tell("agents", format_args!("{room} instead of {}: file descriptors", options.agents));
        options.agents = room;
    }
    let (clock, dir) = (SystemClock::shared(), tempfile::tempdir().expect("a directory"));
    let mut server = Aggregator::start(dir.path(), &[]);
    let identities = join(&options, &server).await;
    let before = Taken::by(server.pid());
    let fleet = Fleet::start(identities, Duration::from_secs(options.every_seconds));
    connect(&options, &server, &fleet, before).await;
    let from_ms = clock.now_ms();
    fleet.seal();
    steady(&options, &server, &fleet).await;
    server = kill(&options, &clock, dir.path(), server, &fleet).await;
    steady(&options, &server, &fleet).await;
    fleet.drain();
    until("all is delivered", || fleet.standing(0).waiting == 0).await;
    let judged = now();
    let found = judge::judge(&server.client(), fleet.states(), from_ms).await;
    let odd = fleet.tally().odd();
    fleet.stop().await;
    match found {
        Ok(found) if odd.is_empty() => tell(
            "judged",
            format_args!("{} batches and {} samples sealed, each stored exactly once ({:.1} s)", found.batches, found.samples, (now() - judged).as_secs_f64()),
        ),
        Ok(_) => panic!("answers that no agent should get: {odd:?}"),
        Err(why) => panic!("{why}; {odd:?}"),
    }
}

async fn until(what: &str, mut is: impl FnMut() -> bool) -> Duration {
    let began = now();
    while !is() {
        assert!(now() - began < PATIENCE, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    now() - began
}

async fn join(options: &Options, server: &Aggregator) -> Vec<keyvigil_agent::identity::Identity> {
    let (began, before) = (now(), Taken::by(server.pid()));
    let (identities, mut took) = joining::join(&server.client(), options.agents, joining::named).await;
    let (wall, after) = ((now() - began).as_secs_f64(), Taken::by(server.pid()));
    took.sort_unstable();
    tell(
        "joined",
        format_args!(
            "{} agents in {wall:.1} s, {:.0} joins/s, 64 at once; p50 {:.0} ms, p99 {:.0} ms",
            options.agents,
            options.agents as f64 / wall,
            quantile_ms(&took, 0.5),
            quantile_ms(&took, 0.99)
        ),
    );
    let cpu = after.cpu_s - before.cpu_s;
    tell("", format_args!("aggregator {cpu:.1} s of CPU, {:.2} ms a join; RSS {} MiB", cpu * 1e3 / options.agents as f64, after.rss_kib >> 10));
    identities
}

async fn connect(options: &Options, server: &Aggregator, fleet: &Fleet, before: Taken) {
    let took = until("all are connected", || fleet.standing(0).connected == options.agents).await;
    // Whoever is connected still has to be answered.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let after = Taken::by(server.pid());
    let (cpu, bytes) = (after.cpu_s - before.cpu_s, after.rss_kib.saturating_sub(before.rss_kib) << 10);
    tell(
        "connected",
        format_args!(
            "{} in {:.1} s; aggregator {:.2} ms of CPU a connection (handshake and one question), RSS {} MiB, {} bytes a connection",
            options.agents,
            took.as_secs_f64(),
            cpu * 1e3 / options.agents as f64,
            after.rss_kib >> 10,
            bytes / options.agents as u64
        ),
    );
}

async fn steady(options: &Options, server: &Aggregator, fleet: &Fleet) {
    tokio::time::sleep(Duration::from_secs(options.every_seconds)).await;
    let (from, before, own) = (fleet.tally().now(), Taken::by(server.pid()), Taken::by(std::process::id()));
    tokio::time::sleep(Duration::from_secs(options.steady_seconds)).await;
    let (to, after, own_after) = (fleet.tally().now(), Taken::by(server.pid()), Taken::by(std::process::id()));
    let (part, seconds) = (fleet.tally().part(from, to), (to - from).as_secs_f64());
    let rate = |n: f64| n / seconds;
    tell(
        "steady",
        format_args!(
            "{seconds:.0} s: {:.0} batches/s, {:.0} samples/s; ack p50 {:.1} ms, p99 {:.1} ms, longest {:.0} ms",
            rate(part.batches as f64),
            rate((part.batches * judge::SAMPLES) as f64),
            part.quantile_ms(0.5),
            part.quantile_ms(0.99),
            part.quantile_ms(1.0)
        ),
    );
    let share = |before: Taken, after: Taken| rate(after.cpu_s - before.cpu_s) * 100.0;
    tell(
        "",
        format_args!(
            "aggregator {:.0} % of a processor, RSS {} MiB; simulated agents {:.0} %, RSS {} MiB",
            share(before, after),
            after.rss_kib >> 10,
            share(own, own_after),
            own_after.rss_kib >> 10
        ),
    );
    let Standing { waiting, most, .. } = fleet.standing(0);
    tell(
        "",
        format_args!(
            "{} new connections; waiting {waiting} batches, {most} at most at one agent; failures so far {:?}",
            part.connections.iter().sum::<u64>(),
            fleet.tally().failures()
        ),
    );
}

async fn kill(options: &Options, clock: &SharedClock, dir: &Path, server: Aggregator, fleet: &Fleet) -> Aggregator {
    let ingest = server.ingest_address();
    let (killed, killed_at) = (now(), fleet.tally().now());
    server.kill();
    tokio::time::sleep(Duration::from_secs(options.away_seconds)).await;
    let (started, started_at) = (now(), fleet.tally().now());
    let server = Aggregator::start(dir, &[("KEYVIGIL_LISTEN__INGEST", &ingest)]);
    let (accepts, since_ms) = (now() - started, clock.now_ms());
    tell("killed", format_args!("kill -9, away for {} s; accepts {:.2} s after its new start", options.away_seconds, accepts.as_secs_f64()));
    let mut most = 0;
    let back = until("steady again", || {
        let standing = fleet.standing(since_ms);
        most = most.max(standing.waiting);
        standing.back == options.agents && standing.most <= 1
    })
    .await;
    let (taken, part) = (Taken::by(server.pid()), fleet.tally().part(started_at, fleet.tally().now()));
    tell(
        "steady again",
        format_args!(
            "{:.1} s after it accepts, {:.1} s after the kill (B7: 60 s); {most} batches waited at most",
            back.as_secs_f64(),
            (now() - killed).as_secs_f64()
        ),
    );
    returns(&part);
    let away = fleet.tally().part(killed_at, started_at);
    tell("", format_args!("{} attempts while it was away; failures so far {:?}", away.refused, fleet.tally().failures()));
    tell("", format_args!("aggregator {:.1} s of CPU since its new start, RSS {} MiB, {} MiB at most", taken.cpu_s, taken.rss_kib >> 10, taken.peak_kib >> 10));
    server
}

/// When they came back. Mean: of the seconds in which nine tenths did.
fn returns(part: &Part) {
    let mut by_second = part.connections.as_slice();
    while let [seconds @ .., 0] = by_second {
        by_second = seconds;
    }
    let (peak, all) = (by_second.iter().max().copied().unwrap_or(0), by_second.iter().sum::<u64>());
    let (mut most, mut seconds) = (0, 0);
    for (at, n) in by_second.iter().enumerate() {
        most += n;
        seconds = at + 1;
        if most * 10 >= all * 9 {
            break;
        }
    }
    let mean = most as f64 / seconds.max(1) as f64;
    tell("returns each second", format_args!("{by_second:?}"));
    tell(
        "",
        format_args!(
            "{all} connections, peak {peak}, mean {mean:.0} in the {seconds} s in which nine tenths came, peak/mean {:.2} (F24: < 3); {} attempts failed",
            peak as f64 / mean,
            part.refused
        ),
    );
}
