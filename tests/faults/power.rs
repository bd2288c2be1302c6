//! F03: the power of the sender's host is cut. The disk is ext4 in a file; what lies in that file when the sender is killed is
//! all that the next one finds, so what was not synced is gone.

use keyvigil_tests::random::Random;

use crate::disks::Disk;
use crate::world::{World, seed, sized};

#[tokio::test(flavor = "multi_thread")]
async fn f03_what_was_committed_is_there_after_the_power_was_cut() {
    let mut random = Random::new(seed("F03"));
    let mut disk = Disk::ext4(64, &[]);
    let world = World::on("F03", &disk.at.join("state")).await;
    let cuts = sized(5, 200);
    for cut in 0..cuts {
        // Half of the time the buffer alone has what was committed.
        if random.once_in(2) {
            world.go_away();
        } else {
            world.come_back();
        }
        let mut sender = world.sender(&format!("--every-ms {}", random.below(4)));
        world.commits(20 + random.below(100), &mut sender).await;
        let before = world.issued().committed.len();
        sender.kill();
        disk.cut_power();
        assert!(before > 0, "cut {cut} tests nothing");
    }
    world.come_back();
    world.settle(5).await;
    let stored = world.judge(&format!("power cut {cuts} times")).await;
    assert_eq!(stored.gaps, [], "nothing was given up");
}
