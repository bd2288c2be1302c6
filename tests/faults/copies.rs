//! The state of an agent is there twice: its directory was copied to another machine, or put back to what it was.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use keyvigil_agent::buffer::{Buffer, Lane, Place, Room};
use keyvigil_common::clock::{SharedClock, SystemClock};
use keyvigil_common::seal::MasterKey;
use keyvigil_common::wire::decode_batch;
use keyvigil_tests::harness::until;
use keyvigil_tests::host::tool;
use keyvigil_tests::link::Hasty;
use keyvigil_tests::oracle::{Issued, Stored};
use keyvigil_tests::sender::{Options, Sender};
use serde_json::Value;

use super::stage::{HOST, Stage, commit, drained, own};
use super::world::sized;

/// Numbers of a copy begin here.
const OTHERS: u64 = 100_000;

/// The numbers that wait in a directory, all of one epoch.
async fn buffered(dir: &Path, base_ms: i64) -> BTreeSet<u64> {
    let (master, clock) = (MasterKey::load_or_create(&dir.join("buffer.key")).expect("a key"), SystemClock::shared());
    let options = Options::of(dir, base_ms);
    let place = Place { path: dir.join("buffer.db"), vfs: None, origin: "looked at".into(), clock: Arc::clone(&clock) };
    let buffer = Buffer::open(place, master, options.bounds, clock.now_ms()).expect("a buffer");
    let all = Room { frames: usize::MAX, bytes: usize::MAX };
    let front = buffer.front(Lane::Live, all, clock.now_ms()).await.expect("it opens");
    let frames = front.map(|front| front.frames).unwrap_or_default();
    assert_eq!(frames.len() as u64, buffer.level().batches, "all that waits is looked at");
    let numbers = frames.iter().flat_map(|(_, frame)| decode_batch(frame).expect("valid").events).map(|event| event.message);
    numbers.map(|text| text.trim_start_matches("oracle ").parse().expect("a number")).collect()
}

/// Events of that kind.
async fn told(stage: &Stage, kind: &str) -> Vec<Value> {
    let page = stage.client().events(&[("kind", kind)]).await.expect("events");
    page["events"].as_array().cloned().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn f40_a_copy_of_a_running_agent_counts_for_itself_and_is_kept_out_and_nothing_is_lost_of_either() {
    let mut stage = Stage::hasty().await;
    stage.commit(50).await;
    drained(stage.sender()).await;
    let (original, copy) = (stage.path("agent"), stage.path("copy"));
    // As a machine is cloned: while it writes, with something that waits.
    stage.kill();
    stage.commit(10).await;
    tool(Path::new("/"), &format!("cp -a {} {}", original.display(), copy.display()));
    stage.start();
    drained(stage.sender()).await;
    let clock: SharedClock = Arc::new(Hasty(SystemClock::shared()));
    let way = super::stage::Wire::to(&stage.proxy.address.to_string());
    let twin = Sender::start(Options { clock, dialer: way.dialer(), ..Options::of(&copy, stage.base_ms) });
    assert_ne!(twin.buffer.level().epoch, stage.sender().buffer.level().epoch, "the copy counts for itself");
    let cloned = || twin.board.read().trouble.filter(|trouble| trouble.code == "cloned");
    let (mut n, mut others) = (OTHERS, Issued::default());
    while cloned().is_none() {
        // Both deliver, in turns.
        n += 1;
        assert!(n < OTHERS + 100, "the copy was not found");
        commit(&twin, &mut others, n).await;
        until("the copy delivers, or is kept out", || async { (twin.is_drained() || cloned().is_some()).then_some(()) }).await;
        stage.commit(1).await;
        drained(stage.sender()).await;
    }
    let trouble = cloned().expect("it is told");
    assert!(trouble.remedy.contains("keyvigil-agent join"), "{trouble:?}");
    for _ in 0..sized(5, 50) {
        n += 1;
        commit(&twin, &mut others, n).await;
    }
    twin.stop().await;
    let events = told(&stage, "identity_cloned").await;
    assert_eq!(events.len(), 1, "{events:?}");
    let kept = buffered(&copy, stage.base_ms).await;
    assert!(kept.len() as u64 >= sized(5, 50), "what the copy holds stays with it: {kept:?}");
    let stored = Stored::ask(&stage.client(), HOST, stage.base_ms).await.expect("an answer");
    assert!(kept.is_disjoint(&stored.samples), "what waits is not stored: {kept:?}");
    let both = |own: &BTreeSet<u64>, others: &BTreeSet<u64>| own.union(others).copied().collect::<BTreeSet<u64>>();
    let committed = both(&stage.issued.committed, &others.committed).difference(&kept).copied().collect();
    let judged = Issued { attempted: both(&stage.issued.attempted, &others.attempted), committed };
    println!("F40 cloned host, {} kept by the copy: {}", kept.len(), stored.judge(&judged).expect("nothing is lost or doubled"));
    stage.stop_sender().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f40_an_agent_put_back_to_an_earlier_state_is_noticed_and_nothing_of_either_life_is_dropped() {
    for round in 0..sized(2, 20) {
        let mut stage = Stage::hasty().await;
        let (agent, snapshot) = (stage.path("agent"), stage.path("snapshot"));
        stage.commit(30 + round).await;
        drained(stage.sender()).await;
        // Something waits when the snapshot is taken, and is delivered by the first life.
        stage.kill();
        stage.commit(10).await;
        // It is known that a file was in use when it was taken; of one that had been closed only the aggregator can tell.
        let running = round % 2 == 0;
        if !running {
            stage.stop_sender().await;
        }
        tool(Path::new("/"), &format!("cp -a {} {}", agent.display(), snapshot.display()));
        if !running {
            stage.start_sender();
        }
        stage.start();
        stage.commit(40).await;
        drained(stage.sender()).await;
        let first = stage.sender().buffer.level().epoch;
        stage.stop_sender().await;
        assert!(!agent.join("buffer.db-wal").exists(), "its files are closed");
        // As a machine is put back: the files are where they were, with what they held then.
        for entry in std::fs::read_dir(&snapshot).expect("the snapshot") {
            let entry = entry.expect("an entry");
            std::fs::copy(entry.path(), agent.join(entry.file_name())).expect("put back");
        }
        stage.start_sender();
        assert_eq!(stage.sender().buffer.level().epoch == first, !running, "one that was in use counts anew at once");
        // The second life has more to say than the first had, and all of it is new.
        stage.commit(60).await;
        let stored = stage.judge("F40 host put back to a snapshot").await;
        assert_ne!(stage.sender().buffer.level().epoch, first, "it counts anew");
        assert_eq!(own(stage.sender(), "forks_total") > 0, !running, "the other when another batch was there");
        assert_eq!(stored.gaps, []);
        stage.stop_sender().await;
    }
}
