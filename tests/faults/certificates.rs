//! Certificates and those who refuse them, while numbers are committed: the CA is replaced, an agent is revoked in the middle of
//! a push. What `certs` shows of single steps is judged here as a whole.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use keyvigil_agent::buffer::{Buffer, New};
use keyvigil_common::wire::{Class, encode_batch};
use keyvigil_tests::harness::until;
use keyvigil_tests::oracle::{ITEMS, Issued, batch};
use keyvigil_tests::proxy::{Flow, Weather};
use keyvigil_tests::sender;
use tokio::task::JoinSet;

use super::host::World;
use super::stage::{HOST, Stage, drained, judge};
use super::world::sized;

/// Commits numbers to the buffer of an agent whose sensors work as well.
struct Load {
    issued: Arc<Mutex<Issued>>,
    over: Arc<AtomicBool>,
    work: JoinSet<()>,
}

impl Load {
    fn on(buffer: Buffer, base_ms: i64, at_ms: impl Fn() -> i64 + Send + 'static) -> Self {
        let (issued, over) = (Arc::<Mutex<Issued>>::default(), Arc::<AtomicBool>::default());
        let (done, stop) = (Arc::clone(&issued), Arc::clone(&over));
        let mut work = JoinSet::new();
        work.spawn(async move {
            for n in 1.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let frame = encode_batch(&batch(n, base_ms)).expect("it fits");
                let new = New { class: Class::Sample, items: ITEMS, at_ms: at_ms(), frame, told: Vec::new() };
                done.lock().expect("whole").attempted.insert(n);
                buffer.append(vec![new], Vec::new(), Vec::new(), at_ms()).await.expect("committed");
                done.lock().expect("whole").committed.insert(n);
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        Self { issued, over, work }
    }

    async fn end(mut self) -> Issued {
        self.over.store(true, Ordering::Relaxed);
        self.work.join_next().await.expect("it was begun").expect("it ended");
        self.issued.lock().expect("whole").clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f18_a_ca_is_replaced_under_load_and_nothing_is_lost_or_doubled() {
    let mut world = World::start(|_| {}).await;
    let mut host = world.host("loaded").await;
    host.run();
    let (base_ms, clock) = (world.clock.now() - 3_600_000, world.clock.clone());
    let load = Load::on(host.buffer().expect("it runs"), base_ms, move || clock.now());
    world.until("it delivers", || async { host.delivered(&world).await.or(Some(0)).filter(|_| host.last_seq() > 20) }).await;
    let count = |ca: &serde_json::Value, name: &str| ca["agents"][name].as_u64().unwrap_or(0);
    for round in 0..sized(1, 5) {
        let old = host.identity().ca;
        world.client().ca_step("announce", false).await.expect("announced");
        world.until("it confirms", || async { world.ca().await.filter(|ca| count(ca, "confirmed") == 1) }).await;
        if round % 2 == 0 {
            world.restart(&[&host]).await;
        }
        world.client().ca_step("issue", false).await.expect("issued");
        world.until("it renews", || async { world.ca().await.filter(|ca| count(ca, "renewed") == 1) }).await;
        world.client().ca_step("retire", false).await.expect("retired");
        world.until("the old one is gone", || async { (!host.identity().ca.contains(old.trim())).then_some(()) }).await;
    }
    let issued = load.end().await;
    world.until("all of it arrives", || async { host.delivered(&world).await }).await;
    let stored = judge("F18 CA replaced under load", &world.client(), "loaded", base_ms, &issued).await;
    assert_eq!(stored.gaps, []);
    assert!(host.trouble().is_none());
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f18_an_agent_revoked_in_the_middle_of_a_push_keeps_what_it_held_and_brings_it_when_it_has_joined_again() {
    let mut stage = Stage::bulky().await;
    stage.commit(20).await;
    drained(stage.sender()).await;
    stage.proxy.turn(Weather { there: Flow { bytes_per_second: 30_000, ..Flow::default() }, ..Weather::default() });
    let before = stage.proxy.handed.load(Ordering::Relaxed);
    stage.commit(150).await;
    until("a body is on its way", || async { (stage.proxy.handed.load(Ordering::Relaxed) > before + 8_000).then_some(()) }).await;
    stage.client().revoke_agent(HOST).await.expect("revoked");
    let trouble = until("it is refused", || async { stage.sender().board.read().trouble.filter(|trouble| trouble.words.contains("revoked")) }).await;
    assert!(trouble.remedy.contains("keyvigil-agent join"), "{trouble:?}");
    let waits = stage.sender().buffer.level().batches;
    assert!(waits > 0, "what was on its way is kept");
    stage.fair();
    stage.stop_sender().await;
    sender::join(&stage.client(), &stage.path("agent"), HOST).await;
    stage.start_sender();
    stage.commit(5).await;
    let stored = stage.judge(&format!("F18 revoked during a push, {waits} kept")).await;
    assert_eq!(stored.gaps, []);
    stage.stop_sender().await;
}
