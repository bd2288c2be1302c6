//! Clocks that are wrong: set far ahead and back while the host samples, at 1970 when it boots; and a host that sleeps.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use keyvigil_agent::http::Dialer;
use keyvigil_agent::rootfs::RootFs;
use keyvigil_common::client::Query;
use keyvigil_common::clock::{ManualClock, SharedClock, SystemClock};
use keyvigil_tests::harness::until;
use keyvigil_tests::oracle::SideLog;
use keyvigil_tests::process::{Aggregator, program};
use keyvigil_tests::sender;

use super::host::{Host, World};
use super::io::{agent, sampled};
use super::stage::{QUIET, judge};
use super::world::{Process, World as DiskWorld, sized};

const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;

/// Every sample of a metric of `host`, whatever its time; oldest first.
async fn samples(world: &World, host: &str, metric: &str) -> Vec<i64> {
    let query = Query {
        metric_pattern: metric.into(),
        start_time: Some("0".into()),
        end_time: Some((world.clock.now() + 30 * 365 * DAY).to_string()),
        tag: vec![format!("host:{host}")],
        ..Query::default()
    };
    let answer = world.client().query_metrics(&query).await.expect("an answer");
    let mut times: Vec<i64> = answer.series.iter().flat_map(|series| &series.points).map(|(at, _)| *at).collect();
    times.sort_unstable();
    times
}

/// No rate of any counter is below zero.
async fn rates(world: &World, host: &str) {
    let query = Query {
        metric_pattern: "*".into(),
        start_time: Some((world.clock.now() - HOUR).to_string()),
        aggregation: Some("rate".into()),
        interval: Some("1m".into()),
        tag: vec![format!("host:{host}")],
        ..Query::default()
    };
    let answer = world.client().query_metrics(&query).await.expect("an answer");
    for series in answer.series.iter().filter(|series| series.metric_type == "counter") {
        assert!(series.points.iter().all(|(_, value)| value.as_f64().is_none_or(|rate| rate >= 0.0)), "{}: {:?}", series.metric_id, series.points);
    }
}

/// A host with a clock of its own that samples and delivers, and when its first sample was.
async fn sampling(world: &World, name: &str) -> (Host, i64) {
    let mut host = world.host_of_its_own_time(name).await;
    host.run();
    world.until("it delivers", || async { host.delivered(world).await }).await;
    let first = || async { samples(world, name, "system.load.1m").await.first().copied() };
    let began_ms = world.until("a sample is there", first).await;
    (host, began_ms)
}

/// Everything has arrived, near the aggregator's time, and in no file of another year.
async fn is_near(world: &World, host: &Host, name: &str, began_ms: i64) -> usize {
    world.until("all of it arrives", || async { host.delivered(world).await }).await;
    let times = samples(world, name, "system.load.1m").await;
    let (from, to) = (began_ms - 60_000, world.clock.now() + 60_000);
    let relative: Vec<_> = times.iter().map(|at| (at - began_ms) / 1_000).collect();
    assert!(times.iter().all(|at| (from..to).contains(at)), "{name}: not all within {} s: {relative:?}", (to - began_ms) / 1_000);
    let days = world.harness.running().endpoints.dir.join("store/days");
    let now = world.clock.now();
    for entry in std::fs::read_dir(days).expect("a directory") {
        let day = entry.expect("an entry").file_name().to_string_lossy().into_owned();
        // 2025-11-22 is the clock's first day.
        assert!(day.starts_with("2025-11") || day.starts_with("2025-12"), "{day} at {now}");
    }
    times.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn f15_a_clock_that_is_set_while_the_host_samples_moves_no_sample() {
    let steps =
        [("hour-ahead", HOUR), ("hour-behind", -HOUR), ("day-ahead", DAY), ("day-behind", -DAY), ("year-ahead", 400 * DAY), ("years-behind", -20 * 365 * DAY)];
    let rounds = sized(10, 100);
    for (name, step) in steps {
        let world = World::start(|_| {}).await;
        let (mut host, began_ms) = sampling(&world, name).await;
        let (before, at_ms) = (host.last_seq(), world.clock.now());
        host.clock.step(step);
        world.until("it goes on sampling", || async { (host.last_seq() >= before + rounds).then_some(()) }).await;
        let took_ms = world.clock.now() - at_ms;
        assert!(took_ms <= 15_000 * rounds.cast_signed(), "cadence is not the wall clock's: {took_ms} ms");
        if step.abs() == HOUR {
            // The certificate is good by that clock too: it delivers, and that is told.
            world.until("it delivers", || async { host.delivered(&world).await }).await;
            let hosts = world.client().hosts().await.expect("hosts");
            let offset = hosts["hosts"][0]["clock_offset_ms"].as_i64().expect("it is told");
            assert!((offset + step).abs() < 60_000, "{offset} for {step}");
        }
        host.clock.step(-step);
        let count = is_near(&world, &host, name, began_ms).await;
        rates(&world, name).await;
        let gaps = world.gaps().await;
        let gaps = gaps.as_array().expect("a list");
        // Beyond the age that a buffer keeps, what waits may be given up by a clock that says so; it is told then.
        assert!(gaps.iter().all(|gap| step > 7 * DAY && gap["cause"] == "too old"), "{name}: {gaps:?}");
        let told = world.client().events(&[("kind", "clock_wrong"), ("host", name)]).await.expect("events");
        let told = told["events"].as_array().map_or(0, Vec::len);
        assert!(told <= 1 && (step.abs() != HOUR || told == 1), "told once: {told}");
        println!(
            "F15 clock set by {} h and back: {count} samples of one metric, all near the aggregator's time, told {told} times, {} batches declared too old",
            step / HOUR,
            gaps.len()
        );
        host.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f15_a_clock_that_is_slewed_over_a_leap_second_or_repeats_it_moves_no_sample_and_accuses_nobody() {
    let rounds = sized(40, 1_000);
    // A second spread over many, to either side; and one that comes twice.
    for (name, smear, step) in [("smeared", 1_000 / rounds.cast_signed(), 0), ("slower", -1_000 / rounds.cast_signed(), 0), ("repeated", 0, -1_000)] {
        let world = World::start(|_| {}).await;
        let (mut host, began_ms) = sampling(&world, name).await;
        let before = host.last_seq();
        host.clock.step(step);
        let slewed = || async {
            host.clock.step(smear);
            (host.last_seq() >= before + rounds).then_some(())
        };
        world.until("it goes on sampling", slewed).await;
        let count = is_near(&world, &host, name, began_ms).await;
        rates(&world, name).await;
        assert_eq!(world.gaps().await, serde_json::json!([]));
        let told = world.client().events(&[("kind", "clock_wrong"), ("host", name)]).await.expect("events");
        assert_eq!(told["events"].as_array().map_or(0, Vec::len), 0, "a second is no wrong clock");
        println!("F15 leap second, {name}: {count} samples of one metric, all near the aggregator's time, nobody accused");
        host.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f15_in_a_time_namespace_whose_boot_was_ten_days_earlier_all_is_as_elsewhere() {
    let world = DiskWorld::plain("F15").await;
    let config = agent(&world, &world.beside("agent")).await;
    let days = 10 * 86_400;
    let words = format!(
        "unshare --time --boottime {days} --monotonic {days} --fork --kill-child {} --config {config} run --stop-with-stdin",
        program("keyvigil-agent").display()
    );
    let began_ms = SystemClock::shared().now_ms();
    let inside = Process::start(&words.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
    let wanted = usize::try_from(sized(30, 300)).expect("small");
    let times = until("samples (unshare --time needs root)", || async { Some(sampled(&world).await).filter(|times| times.len() > wanted) }).await;
    assert!(times.iter().all(|at| (began_ms - 1_000..began_ms + 600_000).contains(at)), "at their time: {times:?} from {began_ms} on");
    let longest = times.windows(2).map(|pair| pair[1] - pair[0]).max().expect("several");
    assert!((1..1_000).contains(&longest), "and in step: {longest} ms");
    println!("F15 boot time and monotonic clock ten days ahead: {} samples at their time, longest hole {longest} ms", times.len());
    inside.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f16_a_host_that_boots_at_1970_is_put_to_its_time_once_its_clock_is_set() {
    let world = World::start(|_| {}).await;
    let mut host = world.host_of_its_own_time("dawn").await;
    let began_ms = world.clock.now();
    host.clock.step(-began_ms + 60_000);
    host.link.cut();
    host.run();
    world.until("something waits", || async { (host.waiting() >= sized(10, 200)).then_some(()) }).await;
    host.link.mend();
    let waits = host.waiting();
    world.until("the link is there, the time is not", || async { host.trouble() }).await;
    host.clock.step(began_ms - 60_000);
    let count = is_near(&world, &host, "dawn", began_ms).await;
    assert!(count as u64 >= waits / 4, "what was sampled at 1970 is among them");
    assert_eq!(world.gaps().await, serde_json::json!([]));
    world.until("all is well", || async { host.trouble().is_none().then_some(()) }).await;
    println!("F16 boot at 1970: {waits} batches waited, {count} samples of one metric at their time, 0 declared lost");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f16_a_host_that_cannot_join_at_1970_says_so_and_can_once_its_clock_is_set() {
    let world = World::start(|_| {}).await;
    let (clock, dir) = (ManualClock::at(60_000), world.harness.dir("early"));
    let shared: SharedClock = clock.clone();
    let join = async || {
        let token = world.token().await.parse().expect("a token");
        keyvigil_agent::enroll::join(&token, &dir, &RootFs::new(&dir), "early", &Dialer::tcp(), &shared)
            .await
            .map_err(|e| keyvigil_common::telemetry::chain(&e))
    };
    let refused = join().await.expect_err("the aggregator's certificate is not valid yet by that clock");
    assert!(refused.contains("not valid yet"), "{refused}");
    clock.step_wall_ms(world.clock.now() - 60_000);
    join().await.expect("it joins");
    println!("F16 enrolment at 1970: refused in words, possible once the clock is set");
}

/// A sender in a process of its own.
fn spawn(dir: &std::path::Path, log: &std::path::Path, base_ms: i64, drain: bool) -> Child {
    let mut command = Command::new(program("fault-sender"));
    command.arg("--dir").arg(dir).arg("--log").arg(log).args(["--base-ms", &base_ms.to_string(), "--every-ms", "5"]);
    if drain {
        command.args(["--drain", "--count", "1"]);
    }
    command.stdin(Stdio::piped()).spawn().expect("it starts")
}

#[tokio::test(flavor = "multi_thread")]
async fn f15_a_host_that_sleeps_in_the_middle_of_its_work_goes_on_where_it_was() {
    let dir = tempfile::tempdir().expect("a directory");
    let aggregator = Aggregator::start(&dir.path().join("aggregator"), QUIET);
    let (agent, log) = (dir.path().join("agent"), dir.path().join("log"));
    sender::join(&aggregator.client(), &agent, "sleeper").await;
    let base_ms = SystemClock::shared().now_ms() - HOUR;
    let mut child = spawn(&agent, &log, base_ms, false);
    let pid = rustix::process::Pid::from_child(&child);
    let committed = || SideLog::read(&log).committed.len();
    for _ in 0..3 {
        let before = committed();
        until("it works", || async { (committed() > before + 100).then_some(()) }).await;
        rustix::process::kill_process(pid, rustix::process::Signal::STOP).expect("it is ours");
        tokio::time::sleep(Duration::from_secs(sized(2, 150))).await;
        rustix::process::kill_process(pid, rustix::process::Signal::CONT).expect("it is ours");
    }
    let before = committed();
    until("it works again", || async { (committed() > before + 100).then_some(()) }).await;
    drop(child.stdin.take());
    assert!(child.wait().expect("it ended").success());
    let mut last = spawn(&agent, &log, base_ms, true);
    let ended = until("all is delivered", || std::future::ready(last.try_wait().expect("it is ours"))).await;
    assert!(ended.success());
    let stored = judge("F15 host asleep", &aggregator.client(), "sleeper", base_ms, &SideLog::read(&log)).await;
    assert_eq!(stored.gaps, []);
}
