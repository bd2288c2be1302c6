//! Promise: whenever the power goes, what was acknowledged is there to the bit, nothing is there that was never sent, what is
//! delivered again counts once, and the store goes on.
//!
//! Stores live below a file layer that knows what was synced ([`vfs`], [`disk`]); while they work ([`work`]), crashes are taken
//! at random operations, and each is opened and checked ([`check`]). One life gives hundreds of crashes, and goes on with what
//! some of them left: recovery is killed too. `KEYVIGIL_KILLS` says how many in all, `SEED` begins as a run before; threads
//! meet as they like, so that a seed gives the same work and not quite the same crashes. What fails is kept as an image, and
//! where it lies is told.

mod check;
mod disk;
mod vfs;
mod work;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use keyvigil_common::clock::SystemClock;
use keyvigil_tests::harness::memory_dir;
use keyvigil_tests::random::Random;

use disk::Disk;
use work::{Life, Witness};

const KILLS: usize = 15_000;
/// Stores that live at a time.
const THREADS: usize = 2;
/// Times that a store dies and goes on with what that left, and steps until it does.
const DEATHS: usize = 4;
const STEPS: usize = 20;

/// What all threads count.
#[derive(Default)]
struct Count {
    kills: AtomicUsize,
    lives: AtomicUsize,
    operations: AtomicUsize,
    dir_syncs: AtomicUsize,
}

fn env(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// Lives, one after the other, till `wanted` crashes were checked.
fn lives(seed: u64, wanted: usize, dir: &Path, count: &Count) {
    let mut random = Random::new(seed);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    while count.kills.load(Ordering::Relaxed) < wanted {
        let life = count.lives.fetch_add(1, Ordering::Relaxed);
        let dir = dir.join(format!("life-{life}"));
        runtime.block_on(live(&dir, random.split(), wanted, count));
        std::fs::remove_dir_all(&dir).expect("it was ours");
    }
}

async fn live(dir: &Path, mut random: Random, wanted: usize, count: &Count) {
    let witness = Arc::new(Mutex::new(Witness::default()));
    let mut root = dir.join("store-0");
    let mut life = Life::new(&root, random.split(), Arc::clone(&witness));
    for death in 1..=DEATHS {
        let seen = Arc::clone(&witness);
        let disk = Arc::new(Disk::new(&root, random.split(), move || seen.lock().unwrap_or_else(PoisonError::into_inner).clone()));
        let attached = vfs::attach(&disk);
        let end = run(&mut life, &disk, &dir.join("image"), &mut random, wanted, count).await;
        let (operations, dir_syncs) = disk.seen();
        count.operations.fetch_add(operations, Ordering::Relaxed);
        count.dir_syncs.fetch_add(dir_syncs, Ordering::Relaxed);
        let Some(crash) = end else { return };
        root = dir.join(format!("store-{death}"));
        disk.image(&crash, random.split(), &root);
        life.die(&root, crash.witness);
        drop(attached);
    }
}

/// Work on one disk, and checks of what it would have been at crashes; one of these is what it dies of, or its end.
async fn run(life: &mut Life, disk: &Disk<Witness>, image: &Path, random: &mut Random, wanted: usize, count: &Count) -> Option<disk::Crash<Witness>> {
    let mut end = None;
    for step in 0..=random.below(STEPS) {
        life.step().await.unwrap_or_else(|e| panic!("step {step}: {e:?}"));
        for crash in disk.take() {
            if count.kills.fetch_add(1, Ordering::Relaxed) >= wanted {
                return None;
            }
            let (draw, then) = (random.split(), random.split());
            let lost = disk.image(&crash, draw.clone(), image);
            if let Err(why) = check::check(image, &life.sent, &crash.witness, then).await {
                let kept = kept(disk, &crash, draw);
                panic!("step {step}, {lost}: {why}; the image is kept in {}", kept.display());
            }
            std::fs::remove_dir_all(image).expect("it was ours");
            if end.is_none() || random.once_in(3) {
                end = Some(crash);
            }
        }
    }
    Some(end.unwrap_or_else(|| disk.crash()))
}

/// The image as it was before the check changed it.
fn kept(disk: &Disk<Witness>, crash: &disk::Crash<Witness>, draw: Random) -> PathBuf {
    let dir = tempfile::tempdir().expect("a directory").keep();
    disk.image(crash, draw, &dir);
    dir
}

#[test]
fn whenever_the_power_goes_what_was_acknowledged_is_there_and_nothing_else() {
    let seed = env("SEED").unwrap_or_else(keyvigil_common::backoff::random_u64);
    let wanted = env("KEYVIGIL_KILLS").and_then(|n| usize::try_from(n).ok()).unwrap_or(KILLS);
    println!("seed {seed}");
    let (dir, count, clock) = (memory_dir(), Count::default(), SystemClock::shared());
    let began = clock.monotonic();
    std::thread::scope(|scope| {
        for thread in 0..THREADS as u64 {
            let (dir, count) = (dir.path(), &count);
            scope.spawn(move || lives(seed.wrapping_add(thread), wanted, dir, count));
        }
    });
    let total = |number: &AtomicUsize| number.load(Ordering::Relaxed);
    let (lives, operations, dir_syncs) = (total(&count.lives), total(&count.operations), total(&count.dir_syncs));
    println!("{wanted} kills in {lives} lives of {operations} operations, {:.0} s; seed {seed}", (clock.monotonic() - began).as_secs_f64());
    assert!(operations > 0 && dir_syncs > 0, "the file layer is not looked at: the test tests nothing");
}
