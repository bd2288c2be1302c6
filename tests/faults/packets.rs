//! F11, F12: what networks do to packets. Two network namespaces and a link between them that loses packets, doubles and swaps
//! them, and lets only small ones through; the kernel's own TCP has to cope, and the sender with what TCP makes of it.

use std::time::Duration;

use keyvigil_tests::harness::until;
use keyvigil_tests::packets::{Packets, Way};
use serde_json::Value;

use crate::world::{Process, World, sized};

const FAIR: Way = Way { loss: 0, twice: 0, swap: 0, late: 0 };

async fn ends(sender: &mut Process) {
    until("all is delivered", || {
        let ended = !sender.runs();
        async move { ended.then_some(()) }
    })
    .await;
}

fn number(said: &Value, path: &str) -> u64 {
    said.pointer(path).and_then(Value::as_u64).unwrap_or_else(|| panic!("{path} in {said}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn f11_packets_of_600_bytes_carry_large_batches() {
    let world = World::plain("F11").await;
    let mut link = Packets::to(&world.aggregator.ingest_address(), 600);
    let count = sized(40, 1_000);
    let mut sender = world.sender_under(&link.inside, &format!("--via {} --every-ms 5 --padding 5000 --count {count} --drain", link.address));
    ends(&mut sender).await;
    let said = link.turn(FAIR, FAIR);
    let [largest, packets] = ["/there/largest", "/there/packets"].map(|path| number(&said, path));
    assert!(largest <= 600 && packets > count, "{said}");
    let stored = world.judge(&format!("MTU 600, {packets} packets there, the largest of {largest} bytes")).await;
    assert_eq!((stored.gaps.len(), number(&said, "/connections")), (0, 1), "one connection carries it all");
}

#[tokio::test(flavor = "multi_thread")]
async fn f11_nothing_that_the_aggregator_says_comes_back_for_a_while() {
    let world = World::plain("F11").await;
    let mut link = Packets::to(&world.aggregator.ingest_address(), 1_500);
    let mut sender = world.sender_under(&link.inside, &format!("--via {} --every-ms 20", link.address));
    world.commits(20, &mut sender).await;
    let client = world.aggregator.client();
    let cursor = || async { client.hosts().await.ok()?["hosts"][0]["cursor"].as_u64() };
    until("it delivers", || async { cursor().await.filter(|cursor| *cursor > 5) }).await;
    let gone = Way { loss: 100, ..FAIR };
    link.turn(FAIR, gone);
    // Larger than what TCP alone says.
    until("an answer is lost", || std::future::ready((number(&link.turn(FAIR, gone), "/back/largest_lost") > 150).then_some(()))).await;
    let before = cursor().await.expect("it was heard of");
    // In full: until the request is given up, and others after it.
    world.commits(100, &mut sender).await;
    tokio::time::sleep(Duration::from_secs(sized(0, 100))).await;
    let said = link.turn(FAIR, FAIR);
    let lost = number(&said, "/back/lost");
    world.commits(10, &mut sender).await;
    until("it delivers again", || async { cursor().await.filter(|cursor| *cursor > before) }).await;
    sender.stop().await;
    let mut sender = world.sender("--count 1 --drain");
    ends(&mut sender).await;
    let stored = world.judge(&format!("only what the aggregator says is lost, {lost} packets, {} connections", number(&said, "/connections"))).await;
    assert_eq!(stored.gaps, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn f12_a_fifth_of_the_packets_lost_others_twice_or_swapped() {
    let world = World::plain("F12").await;
    let mut link = Packets::to(&world.aggregator.ingest_address(), 1_500);
    let bad = Way { loss: 20, twice: 10, swap: 25, late: 10 };
    link.turn(bad, bad);
    let count = sized(60, 2_000);
    let mut sender = world.sender_under(&link.inside, &format!("--via {} --every-ms 30 --padding 2000 --count {count} --drain", link.address));
    world.commits(usize::try_from(count).expect("small") - 1, &mut sender).await;
    ends(&mut sender).await;
    let said = link.turn(FAIR, FAIR);
    let [packets, lost, twice, swapped] =
        ["packets", "lost", "twice", "swapped"].map(|what| ["there", "back"].map(|way| number(&said, &format!("/{way}/{what}"))).iter().sum::<u64>());
    let connections = number(&said, "/connections");
    // A fifth in the mean; of a hundred packets hardly ever so few.
    assert!(lost * 20 > packets && twice > 0 && swapped > 0, "{said}");
    // Handshakes take several seconds here, and some are given up; a storm would be one for each push.
    assert!(connections <= 6 + count / 50, "a storm of connections: {said}");
    let stored = world.judge(&format!("{lost} packets lost (a fifth), {twice} twice, {swapped} swapped, {connections} connections")).await;
    assert_eq!(stored.gaps, []);
}
