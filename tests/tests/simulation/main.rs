//! Promise: whatever happens to agent, aggregator, their disks, their clocks and what lies between, what was committed is in the
//! end stored once or declared lost, and fresh data flows again by itself.
//!
//! One process, no sockets, no tasks of its own: the agent's queue and courier, and the aggregator's door and store, are moved
//! step by step by one sequence of random numbers ([`world`]). Files lie below the layer of the crash tests, which loses what
//! was not synced, is full, or fails. The same worlds each time; `KEYVIGIL_SEEDS=n` lives n that
//! nobody has seen, `SEED=n` repeats one.

mod agent;
mod aggregator;
#[path = "../kills/disk.rs"]
#[expect(dead_code, reason = "the crash tests need more of it")]
mod disk;
mod judge;
#[path = "../kills/vfs.rs"]
mod vfs;
mod work;
mod world;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use keyvigil_common::clock::SystemClock;
use keyvigil_tests::harness::memory_dir;

use judge::Tally;

const SEEDS: u64 = 2_000;
/// Worlds at a time.
const THREADS: u64 = 2;

fn env(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

#[test]
fn whatever_happens_what_was_committed_is_stored_once_or_declared_and_data_flows_again() {
    keyvigil_common::tls::install_provider();
    let only = env("SEED");
    let asked = env("KEYVIGIL_SEEDS");
    // The same worlds for each change, so that what fails was made by it; new ones for who asks for a number of them.
    let first = only.unwrap_or_else(|| asked.map_or(1, |_| keyvigil_common::backoff::random_u64()));
    let seeds = only.map_or(asked.unwrap_or(SEEDS), |_| 1);
    println!("{seeds} worlds from seed {first}");
    let (dir, next, clock, tally) = (memory_dir(), AtomicU64::new(0), SystemClock::shared(), Mutex::new(Tally::default()));
    let (began, failed) = (clock.monotonic(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..THREADS.min(seeds) {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    if at >= seeds || failed.load(Ordering::Relaxed) {
                        return;
                    }
                    let seed = first.wrapping_add(at);
                    let place = dir.path().join(format!("world-{at}"));
                    let done = runtime.block_on(world::live(seed, &place, only.is_some()));
                    failed.fetch_or(done.is_err(), Ordering::Relaxed);
                    let lived = done.unwrap_or_else(|why| panic!("SEED={seed}: {why}"));
                    tally.lock().expect("no world failed").add(&lived);
                    std::fs::remove_dir_all(&place).expect("it was ours");
                }
            });
        }
    });
    let tally = tally.into_inner().expect("no world failed");
    println!("{tally}, {:.0} s", (clock.monotonic() - began).as_secs_f64());
    assert!(only.is_some() || tally.is_telling(), "too little happened: the test tests nothing: {tally}");
}
