//! F06: the disk is full, of bytes or of names.

use keyvigil_tests::harness::until;

use crate::disks::Disk;
use crate::world::{Process, World, sized};

/// What is to stay free while the sender alone writes.
const MIN_FREE: u64 = 1 << 20;

/// Commits `count` numbers; the least that was free meanwhile.
async fn watch_free(world: &World, disk: &Disk, sender: &mut Process, count: usize) -> u64 {
    let (until_then, mut least) = (world.issued().committed.len() + count, u64::MAX);
    until("numbers are committed", || {
        assert!(sender.runs(), "the sender has ended");
        least = least.min(disk.free());
        let enough = world.issued().committed.len() >= until_then;
        async move { enough.then_some(()) }
    })
    .await;
    least
}

#[tokio::test(flavor = "multi_thread")]
async fn f06_a_full_disk_costs_what_is_declared_and_the_buffer_shrinks_again() {
    let disk = Disk::in_memory(8);
    let world = World::on("F06", &disk.at.join("state")).await;
    world.go_away();
    let mut sender = world.sender(&format!("--every-ms 0 --padding 6000 --min-free-bytes {MIN_FREE}"));
    let least = watch_free(&world, &disk, &mut sender, 4_000).await;
    assert!(least >= MIN_FREE, "{least} bytes were free, {MIN_FREE} were to stay so");
    let most = size(&world);
    for _ in 0..sized(1, 5) {
        let neighbour = disk.fill();
        watch_free(&world, &disk, &mut sender, 200).await;
        std::fs::remove_file(neighbour).expect("it was there");
        until("the disk is used again", || async { world.levels().last().is_none_or(|(_, degraded)| degraded.is_none()).then_some(()) }).await;
        watch_free(&world, &disk, &mut sender, 200).await;
    }
    sender.stop().await;
    world.come_back();
    world.settle(20).await;
    // What was acknowledged goes, and its pages, when more is stored.
    world.settle(20).await;
    let stored = world.judge("8 MiB disk, filled by itself and by a neighbour").await;
    assert!(stored.declared > 0, "nothing was given up: the test tests nothing");
    let least = least >> 10;
    let (most, now) = (most >> 10, size(&world) >> 10);
    println!("F06 free space while it alone wrote: {least} KiB at least; buffer {most} KiB full, {now} KiB drained");
    assert!(now < most / 2, "the buffer stays large: {now} KiB of {most}");
}

fn size(world: &World) -> u64 {
    let path = world.state.join("buffer.db");
    [path.clone(), path.with_extension("db-wal")].iter().filter_map(|path| path.metadata().ok()).map(|stat| stat.len()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn f06_a_disk_without_names_left_is_stood_in_for_by_memory() {
    let disk = Disk::ext4(16, &["-N", "48"]);
    let world = World::on("F06", &disk.at.join("state")).await;
    world.go_away();
    let mut sender = world.sender("--every-ms 2");
    world.commits(50, &mut sender).await;
    sender.stop().await;
    // The next one is to need a name for it.
    assert!(!world.state.join("buffer.db-wal").exists(), "an orderly end leaves no log");
    let neighbours = disk.fill_names();
    let mut sender = world.sender("--every-ms 5");
    until("it says that it works in memory", || async { world.levels().last().is_some_and(|(_, degraded)| degraded.is_some()).then_some(()) }).await;
    world.commits(100, &mut sender).await;
    std::fs::remove_dir_all(neighbours).expect("they were there");
    until("the disk is used again", || async { world.levels().last().is_some_and(|(_, degraded)| degraded.is_none()).then_some(()) }).await;
    world.commits(50, &mut sender).await;
    sender.stop().await;
    world.come_back();
    world.settle(5).await;
    let stored = world.judge("no inodes left").await;
    assert_eq!(stored.gaps, [], "memory held it all");
}
