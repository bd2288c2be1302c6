mod away;
mod damage;
mod doubt;
mod keep;
mod lanes;
mod log;
mod model;

use super::*;
use keyvigil_common::clock::ManualClock;
use keyvigil_common::seal::OVERHEAD_BYTES;

const WIDE: Bounds = Bounds { bytes: 1 << 30, age_ms: 1 << 40, min_free_bytes: 1 };
const ROOMY: Room = Room { frames: 256, bytes: 2 << 20 };
/// Some instant after clocks are taken for set.
const T0: i64 = 1_700_000_000_000;

fn place(dir: &Path) -> Place {
    Place { path: dir.join("buffer.db"), vfs: None, origin: "this machine".into(), clock: ManualClock::at(T0) }
}

fn key(dir: &Path) -> MasterKey {
    MasterKey::load_or_create(&dir.join("buffer.key")).unwrap()
}

fn open(dir: &Path, bounds: Bounds) -> Queue {
    Queue::open(place(dir), key(dir), bounds, T0).unwrap()
}

fn new(class: Class, bytes: usize, at_ms: i64) -> New {
    New { class, items: 10, at_ms, frame: vec![u8::try_from(at_ms % 251).unwrap(); bytes], told: Vec::new() }
}

/// Stores one batch for each of these instants.
fn fill(queue: &mut Queue, class: Class, bytes: usize, at: impl IntoIterator<Item = i64>) {
    for at in at {
        queue.append(vec![new(class, bytes, at)], vec![], vec![], at).unwrap();
    }
}

/// Gives up a batch of the first epoch that waits.
fn give_up(queue: &mut Queue, id: u64, cause: &str, now_ms: i64) {
    queue.file.write(now_ms, |work| work.give_up(id, cause)).unwrap();
}

fn seqs(front: &Front) -> Vec<u64> {
    front.frames.iter().map(|f| f.0).collect()
}

fn live(queue: &mut Queue, now_ms: i64) -> Front {
    queue.front(Lane::Live, ROOMY, now_ms).unwrap().expect("something waits")
}

/// First and last number, items and cause of each gap that is not told.
fn untold(queue: &mut Queue) -> Vec<(u64, u64, u64, String)> {
    queue.gaps(T0).unwrap().into_iter().map(|(_, g)| (g.range.first, g.range.last, g.items, g.cause)).collect()
}

fn range(first: u64, last: u64) -> Range {
    Range { first, last }
}
