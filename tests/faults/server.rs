//! The aggregator dies: in the middle of a body, before its commit, after it; with the power; and comes back as it was before.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use keyvigil_common::clock::SystemClock;
use keyvigil_tests::harness::until;
use keyvigil_tests::host::tool;
use keyvigil_tests::oracle::Stored;
use keyvigil_tests::proxy::{Flow, Weather};

use super::stage::{BULK_BYTES, HOST, Stage, drained, own};
use super::world::sized;

/// The cursor in the store at `dir`, whether or not somebody writes it; and the numbers that are settled.
fn settled(dir: &Path) -> (u64, Vec<u64>) {
    let store = rusqlite::Connection::open(dir.join("store/main.db")).expect("the store");
    let cursor = store.query_row("SELECT ifnull(max(cursor), 0) FROM stream", [], |row| row.get::<_, i64>(0)).expect("a cursor");
    let mut numbers = store.prepare("SELECT seq FROM settled ORDER BY seq").expect("the table");
    let numbers = numbers.query_map([], |row| row.get::<_, i64>(0)).expect("rows").map(|seq| seq.expect("a number").unsigned_abs());
    (cursor.unsigned_abs(), numbers.collect())
}

/// After a kill: what the cursor says is there, and no more than that.
fn agrees(dir: &Path) -> u64 {
    let (cursor, numbers) = settled(dir);
    // Of what lies long behind the cursor nothing is kept.
    let first = numbers.first().copied().unwrap_or(1);
    let prefix = numbers.iter().zip(first..).take_while(|(seq, n)| *seq == n).count() as u64;
    assert!(first == 1 || prefix >= 4_096, "{first}: what may come again is known");
    assert_eq!(cursor, first + prefix - 1, "the cursor is what is stored without a hole");
    cursor
}

#[tokio::test(flavor = "multi_thread")]
async fn f02_an_aggregator_killed_at_any_step_of_a_push_has_all_of_it_or_nothing() {
    let mut stage = Stage::bulky().await;
    let store = stage.path("aggregator");
    stage.commit(5).await;
    drained(stage.sender()).await;
    let handed = |stage: &Stage| stage.proxy.handed.load(Ordering::Relaxed);
    for round in 0..sized(2, 20) {
        // In the middle of a body.
        stage.proxy.turn(Weather { there: Flow { bytes_per_second: 100_000, ..Flow::default() }, ..Weather::default() });
        let (before, cursor) = (handed(&stage), agrees(&store));
        stage.commit(200).await;
        until("a body is on its way", || async { (handed(&stage) > before + 8_000 + round * 500).then_some(()) }).await;
        stage.kill();
        assert!(agrees(&store) >= cursor);
        stage.start();
        stage.fair();
        drained(stage.sender()).await;

        // All has arrived, and the store cannot commit it yet: somebody else holds its lock.
        let (before, cursor) = (handed(&stage), agrees(&store));
        let mut other = rusqlite::Connection::open(store.join("store/main.db")).expect("the store");
        let lock = other.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).expect("the lock");
        stage.commit(30).await;
        // The first push may hold only the first of them.
        until("a body has arrived", || async { (handed(&stage) > before + BULK_BYTES).then_some(()) }).await;
        stage.kill();
        drop(lock);
        drop(other);
        assert_eq!(agrees(&store), cursor, "nothing was committed, and nothing is there");
        stage.start();
        drained(stage.sender()).await;

        // It has committed, and nobody heard of it.
        let cursor = agrees(&store);
        stage.proxy.turn(Weather { back: Flow { cut: true, ..Flow::default() }, ..Weather::default() });
        stage.commit(30).await;
        until("it commits", || async { (settled(&store).0 > cursor).then_some(()) }).await;
        assert!(!stage.sender().is_drained(), "the sender knows nothing of it");
        stage.kill();
        assert!(agrees(&store) > cursor);
        stage.start();
        stage.fair();
        drained(stage.sender()).await;
    }
    let stored = stage.judge("F02 aggregator killed in a body, before a commit and after one").await;
    assert_eq!((stored.gaps.len(), own(stage.sender(), "rewinds_total"), own(stage.sender(), "forks_total")), (0, 0, 0));
    stage.stop_sender().await;
}

/// A file system in a file.
struct Disk {
    image: PathBuf,
    at: PathBuf,
}

impl Disk {
    fn mount(image: PathBuf, at: PathBuf) -> Self {
        std::fs::create_dir_all(&at).expect("a directory");
        tool(Path::new("/"), &format!("mount -o loop {} {}", image.display(), at.display()));
        Self { image, at }
    }

    fn make(image: PathBuf, at: PathBuf) -> Self {
        std::fs::File::create(&image).and_then(|file| file.set_len(96 << 20)).expect("a file");
        tool(Path::new("/"), &format!("mkfs.ext4 -q -F {}", image.display()));
        Self::mount(image, at)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("--lazy").arg(&self.at).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f04_a_power_cut_of_the_aggregator_takes_nothing_that_was_acknowledged() {
    if !rustix::process::geteuid().is_root() {
        panic!("this experiment needs root, mount(8) and mkfs.ext4(8): it mounts the file system of which the power is cut");
    }
    let mut stage = Stage::hasty().await;
    stage.kill();
    let mut disk = Disk::make(stage.path("disk-0"), stage.path("mounted-0"));
    tool(Path::new("/"), &format!("cp -a {}/. {}/store", stage.path("aggregator").display(), disk.at.display()));
    tool(Path::new("/"), &format!("sync -f {}", disk.at.display()));
    let seed = keyvigil_common::backoff::random_u64();
    println!("seed {seed}");
    let random = keyvigil_tests::link::Link::new(seed, "");
    let cuts = sized(3, 200);
    for cut in 1..=cuts {
        stage.start_on(&disk.at.join("store"));
        // Some of it is acknowledged when the power fails, some is on its way.
        let enough = stage.issued.committed.len() as u64 + random.random() % 120;
        for _ in 0..40 {
            stage.commit(5).await;
            let level = stage.sender().buffer.level();
            if level.last_seq - level.batches > enough {
                break;
            }
        }
        let waiting = stage.sender().buffer.level().batches;
        let acknowledged = stage.issued.committed.len() as u64 - waiting;
        stage.aggregator().kill_now();
        // At once: what was not synced is not in the file.
        let copy = stage.path(&format!("disk-{cut}"));
        std::fs::copy(&disk.image, &copy).expect("a copy");
        stage.kill();
        drop(std::mem::replace(&mut disk, Disk::mount(copy, stage.path(&format!("mounted-{cut}")))));
        let stored = {
            let (cursor, numbers) = settled(&disk.at.join("store"));
            assert_eq!(cursor, agrees(&disk.at.join("store")));
            cursor + numbers.iter().filter(|seq| **seq > cursor).count() as u64
        };
        assert!(stored >= acknowledged, "{acknowledged} were acknowledged, {stored} are there after cut {cut}");
        let _ = std::fs::remove_file(stage.path(&format!("disk-{}", cut - 1)));
    }
    stage.start_on(&disk.at.join("store"));
    let stored = stage.judge(&format!("F04 {cuts} power cuts of the aggregator")).await;
    assert_eq!((stored.gaps.len(), own(stage.sender(), "rewinds_total")), (0, 0), "it lacked nothing that it had acknowledged");
    stage.stop_sender().await;
    stage.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn f45_an_aggregator_put_back_to_a_copy_gets_again_what_is_held_and_the_rest_is_declared() {
    for (id, bytes) in [("F45 aggregator restored, all in the replay window", 1 << 30), ("F45 aggregator restored, some older than the window", 300_000)] {
        let mut stage = Stage::with(SystemClock::shared(), |options| options.bounds.bytes = bytes).await;
        let (store, backup) = (stage.path("aggregator"), stage.path("backup"));
        stage.commit(40).await;
        drained(stage.sender()).await;
        stage.kill();
        tool(Path::new("/"), &format!("cp -a {} {}", store.display(), backup.display()));
        stage.start();
        stage.commit(sized(300, 3_000)).await;
        drained(stage.sender()).await;
        stage.kill();
        std::fs::remove_dir_all(&store).expect("gone");
        std::fs::rename(&backup, &store).expect("restored");
        stage.start();
        stage.commit(5).await;
        drained(stage.sender()).await;
        // What is lost is told by the next batch.
        stage.commit(2).await;
        let stored = stage.judge(id).await;
        assert!(own(stage.sender(), "rewinds_total") > 0, "it noticed");
        let all = stage.issued.committed.len();
        if bytes == 1 << 30 {
            assert_eq!((stored.samples.len(), stored.gaps.len()), (all, 0), "everything came again");
        } else {
            let missing: Vec<u64> = stage.issued.committed.difference(&stored.samples).copied().collect();
            assert!(!missing.is_empty() && missing.len() < all - 47, "some were older than the window: {}", missing.len());
            declared(&stage, &missing).await;
        }
        stage.stop_sender().await;
    }
}

/// Each of `missing` lies in a range that was declared, and nothing that is stored does.
async fn declared(stage: &Stage, missing: &[u64]) {
    let gaps = stage.client().gaps(&[]).await.expect("gaps");
    let gaps = gaps["gaps"].as_array().cloned().unwrap_or_default();
    let number = |gap: &serde_json::Value, name: &str| gap[name].as_u64().unwrap_or(0);
    let covered: std::collections::BTreeSet<u64> = gaps.iter().flat_map(|gap| number(gap, "first_seq")..=number(gap, "last_seq")).collect();
    assert_eq!(covered.into_iter().collect::<Vec<_>>(), missing, "{gaps:?}");
    let stored = Stored::ask(&stage.client(), HOST, stage.base_ms).await.expect("an answer");
    assert!(missing.iter().all(|n| !stored.samples.contains(n)));
}
