//! F43: few file handles. Nobody turns in circles, and all goes on when there are some again.

use std::net::TcpStream;
use std::time::Duration;

use keyvigil_tests::harness::until;
use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::world::{World, cpu_ticks, sized};

const HANDLES: u64 = 64;

#[tokio::test(flavor = "multi_thread")]
async fn f43_with_few_handles_and_many_connections_nobody_turns_in_circles() {
    let world = World::plain("F43").await;
    let aggregator = world.aggregator.pid();
    let few = Rlimit { current: Some(HANDLES), maximum: Some(HANDLES) };
    let pid = Pid::from_raw(i32::try_from(aggregator).expect("a process"));
    prlimit(pid, Resource::Nofile, few).expect("its limit");
    let limited = format!("prlimit --nofile={HANDLES}:{HANDLES}");
    let mut sender = world.sender_under(&limited, "--every-ms 10");
    world.commits(50, &mut sender).await;
    sender.kill();
    // More than it has handles for.
    let address = world.aggregator.ingest_address();
    let held: Vec<TcpStream> = (0..200).map_while(|_| TcpStream::connect(&address).ok()).collect();
    until("it has no handle left", || async {
        let open = std::fs::read_dir(format!("/proc/{aggregator}/fd")).map_or(0, Iterator::count);
        (open as u64 >= HANDLES - 1).then_some(())
    })
    .await;
    let mut sender = world.sender_under(&limited, "--every-ms 10");
    world.commits(50, &mut sender).await;
    let before = [cpu_ticks(aggregator), cpu_ticks(sender.pid())];
    let seconds = sized(3, 30);
    // Not a wait for something: what it does in this time is measured.
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let ticks = [cpu_ticks(aggregator) - before[0], cpu_ticks(sender.pid()) - before[1]];
    let share = ticks.map(|ticks| ticks / seconds);
    println!("F43 {} connections, {HANDLES} handles: aggregator {}% of a core, sender {}% (debug build)", held.len(), share[0], share[1]);
    assert!(share.iter().all(|share| *share < 50), "a busy loop: {share:?}% of a core");
    drop(held);
    let said = |what: &str| std::fs::read_to_string(world.beside("aggregator.log")).expect("its log").matches(what).count();
    until("it says that this is over", || std::future::ready((said("accepts connections again") > 0).then_some(()))).await;
    let failures = world.aggregator.metric("keyvigil_listen_accept_failures_total").await;
    assert!(failures > 10.0, "each attempt is counted: {failures}");
    assert_eq!((said("cannot accept"), said("accepts connections again")), (1, 1), "told once at its beginning and once at its end");
    world.commits(50, &mut sender).await;
    sender.stop().await;
    world.settle(5).await;
    let stored = world.judge("64 handles").await;
    assert_eq!(stored.gaps, [], "nothing was given up");
}
