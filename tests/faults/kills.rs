//! F01: the sender is killed again and again, at any instant.

use std::time::Duration;

use keyvigil_tests::random::Random;

use crate::world::{World, seed, sized};

#[tokio::test(flavor = "multi_thread")]
async fn f01_a_sender_that_is_killed_again_and_again_loses_and_doubles_nothing() {
    let mut random = Random::new(seed("F01"));
    let world = World::plain("F01").await;
    let kills = sized(30, 1_000);
    for kill in 0..kills {
        let mut sender = world.sender("--every-ms 2");
        if kill % 3 == 0 {
            world.commits(1 + random.below(20), &mut sender).await;
        } else {
            // Not a wait for something: the instant itself is what is tried, and it may be one of the start.
            tokio::time::sleep(Duration::from_millis(random.below(200) as u64)).await;
        }
        sender.kill();
    }
    world.settle(5).await;
    let stored = world.judge(&format!("sender killed {kills} times")).await;
    assert_eq!(stored.gaps, [], "nothing was given up");
}
