//! The queue against an aggregator that settles as the real one does, over whatever happens to either: every item appended is at
//! the end stored there, or told to be lost, and none is both.

use super::*;
use keyvigil_common::sequence::{Ranges, Standing, Verdict};
use proptest::prelude::*;
use rusqlite::ffi;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Clone)]
enum Action {
    /// Batches of some class and size, appended at once.
    Append(Class, usize, usize),
    /// A push of a lane: frames that fit, and whether the ack arrives.
    Push(Lane, usize, bool),
    /// Something of an unstored number is taken for another's.
    Fork(usize),
    /// The process ends without a word.
    Kill,
    /// It ends in order.
    Close,
    /// The disk takes nothing from now on, for a while.
    Away,
    /// A write or its sync fails.
    Suspect,
    /// The disk is full once.
    Full,
    /// Time passes.
    Wait(i64),
    SetAside,
    /// The aggregator is copied, or is that copy again.
    Backup,
    Restore,
}

fn action() -> impl Strategy<Value = Action> {
    let class = prop::sample::select(Class::KEPT.to_vec());
    let lane = prop_oneof![Just(Lane::Live), Just(Lane::Backfill)];
    prop_oneof![
        12 => (class, 1usize..400, 1usize..6).prop_map(|(c, n, k)| Action::Append(c, n, k)),
        12 => (lane, 1usize..12, prop::bool::weighted(0.8)).prop_map(|(l, n, a)| Action::Push(l, n, a)),
        1 => (0usize..9).prop_map(Action::Fork),
        2 => Just(Action::Kill),
        1 => Just(Action::Close),
        1 => Just(Action::Away),
        1 => Just(Action::Suspect),
        1 => Just(Action::Full),
        4 => (0i64..40_000).prop_map(Action::Wait),
        1 => Just(Action::SetAside),
        1 => Just(Action::Backup),
        1 => Just(Action::Restore),
    ]
}

/// What became of a push.
pub(super) enum Answer {
    Ack(u64, Vec<Range>),
    Fork(u64),
    Gap(u64),
}

/// The aggregator.
#[derive(Clone, Default)]
pub(super) struct Server {
    streams: BTreeMap<[u8; 16], Standing>,
    pub(super) stored: BTreeMap<([u8; 16], u64), Vec<u8>>,
    taken: BTreeSet<([u8; 16], u64)>,
}

impl Server {
    pub(super) fn push(&mut self, front: &Front) -> Answer {
        let dropped: Ranges = front.dropped.iter().copied().collect();
        let waiting: Ranges = front.waiting.iter().copied().collect();
        if let Some((seq, _)) = front.frames.iter().find(|(seq, _)| self.taken.contains(&(front.epoch, *seq))) {
            return Answer::Fork(*seq);
        }
        let standing = self.streams.entry(front.epoch).or_default();
        for (seq, frame) in &front.frames {
            match standing.judge(*seq, &dropped, &waiting) {
                Verdict::Apply => {
                    if let Some(before) = Range::new(standing.cursor + 1, seq - 1) {
                        dropped.shared(before).into_iter().for_each(|ids| standing.settle(ids));
                    }
                    standing.settle(range(*seq, *seq));
                    self.stored.insert((front.epoch, *seq), frame.clone());
                }
                Verdict::Repeat => assert_eq!(self.stored.get(&(front.epoch, *seq)), Some(frame), "number {seq} was given to two batches"),
                Verdict::Gap(expected) => return Answer::Gap(expected),
            }
        }
        Answer::Ack(standing.cursor, standing.beyond.as_slice().to_vec())
    }
}

struct World {
    dir: tempfile::TempDir,
    queue: Queue,
    bounds: Bounds,
    server: Server,
    backup: Option<Server>,
    restored: bool,
    now_ms: i64,
    made: u64,
    /// Items of each batch, by its frame; what it tells of; and whether an ack for it may have been lost.
    batches: BTreeMap<Vec<u8>, (u64, Vec<Gap>, bool)>,
    lost: u64,
}

impl World {
    fn new(bounds: Bounds) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let queue = open(dir.path(), bounds);
        Self { dir, queue, bounds, server: Server::default(), backup: None, restored: false, now_ms: T0, made: 0, batches: BTreeMap::new(), lost: 0 }
    }

    fn append(&mut self, class: Class, bytes: usize, count: usize) {
        let mut news = Vec::new();
        let (told, gaps): (Vec<i64>, Vec<Gap>) = self.queue.gaps(self.now_ms).unwrap().into_iter().unzip();
        let telling = (!told.is_empty()).then_some((Class::Alert, 20, told, gaps));
        for (class, bytes, told, gaps) in (0..count).map(|_| (class, bytes, vec![], vec![])).chain(telling) {
            self.made += 1;
            // No two sums of these are the same by chance.
            let items = u64::from_le_bytes(keyvigil_common::sha256(&self.made.to_le_bytes())[..8].try_into().unwrap()) >> 20;
            let mut frame = self.made.to_le_bytes().to_vec();
            frame.resize(8 + bytes, 7);
            self.batches.insert(frame.clone(), (items, gaps, false));
            news.push(New { class, items, at_ms: self.now_ms, frame, told });
        }
        self.queue.append(news, vec![], vec![], self.now_ms).unwrap();
    }

    fn push(&mut self, lane: Lane, frames: usize, acked: bool) -> bool {
        let Some(front) = self.queue.front(lane, Room { frames, bytes: 4_000 }, self.now_ms).unwrap() else { return false };
        match self.server.push(&front) {
            Answer::Fork(seq) => self.queue.forked(front.epoch, seq, self.now_ms).unwrap(),
            Answer::Gap(expected) => {
                assert!(self.restored, "number {expected} is missing and was not declared");
                self.queue.missing(front.epoch, expected, self.now_ms).unwrap();
            }
            Answer::Ack(cursor, beyond) if acked => {
                self.queue.acked(front.epoch, cursor, beyond, self.now_ms).unwrap();
                let others = self.server.streams.iter().filter(|(epoch, _)| **epoch != front.epoch).map(|(epoch, standing)| Elsewhere {
                    epoch: *epoch,
                    cursor: standing.cursor,
                    beyond: standing.beyond.as_slice().iter().take(keyvigil_common::wire::ACK_RANGES_MAX).copied().collect(),
                });
                self.queue.elsewhere(front.epoch, others.collect(), self.now_ms).unwrap();
            }
            // A later ack may speak of them, if it comes in time.
            Answer::Ack(..) => front.frames.iter().for_each(|(_, frame)| self.batches.get_mut(frame).unwrap().2 = true),
        }
        true
    }

    fn act(&mut self, action: &Action) {
        match action {
            Action::Append(class, bytes, count) => self.append(*class, *bytes, *count),
            Action::Push(lane, frames, acked) => {
                self.push(*lane, *frames, *acked);
            }
            Action::Fork(ahead) => {
                let level = self.queue.level();
                let known = self.server.stored.range((level.epoch, 0)..=(level.epoch, u64::MAX)).next_back().map_or(0, |((_, seq), _)| *seq);
                self.server.taken.insert((level.epoch, known + 1 + *ahead as u64));
            }
            Action::Kill | Action::Close if self.queue.level().degraded.is_some() => {}
            Action::Kill | Action::Close => {
                if matches!(action, Action::Close) {
                    self.queue.close(self.now_ms).unwrap();
                }
                if matches!(action, Action::Kill) || self.queue.level().degraded.is_some() {
                    // What was acknowledged and not stored will be sent again.
                    self.unsaved_acks();
                }
                self.queue = Queue::open(place(self.dir.path()), key(self.dir.path()), self.bounds, self.now_ms).unwrap();
            }
            Action::Away if self.queue.level().degraded.is_none() => self.queue.file.connection.pragma_update(None, "query_only", true).unwrap(),
            Action::Suspect if self.queue.level().degraded.is_none() => {
                let e = BufferError::Sqlite(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_IOERR_FSYNC), None));
                self.queue.recover(e, true, self.now_ms).unwrap();
            }
            Action::Full if self.queue.level().degraded.is_none() => {
                let e = BufferError::Sqlite(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_FULL), None));
                self.queue.recover(e, true, self.now_ms).unwrap();
            }
            Action::Away | Action::Suspect | Action::Full => {}
            Action::Backup => self.backup = Some(self.server.clone()),
            Action::Restore => {
                let level = self.queue.level();
                // An epoch that nothing is sent of any more is never spoken of again.
                let one = self.server.streams.keys().all(|epoch| *epoch == level.epoch) && level.degraded.is_none();
                if let Some(backup) = self.backup.clone().filter(|_| one) {
                    (self.server, self.restored) = (backup, true);
                    self.queue.file.connection.pragma_update(None, "query_only", false).unwrap();
                    self.append(Class::Security, 1, 1);
                    for _ in 0..300 {
                        if !(self.push(Lane::Live, 50, true) | self.push(Lane::Backfill, 50, true)) {
                            break;
                        }
                    }
                }
            }
            Action::Wait(ms) => self.now_ms += ms,
            Action::SetAside => {
                let one = self.queue.front(Lane::Live, Room { frames: 1, bytes: 1 }, self.now_ms).unwrap();
                if let Some(front) = one {
                    let seq = front.frames[0].0;
                    if !self.server.stored.contains_key(&(front.epoch, seq)) {
                        self.queue.set_aside(front.epoch, seq, "refused for good".into(), self.now_ms).unwrap();
                    }
                }
            }
        }
    }

    fn unsaved_acks(&mut self) {
        for frame in self.server.stored.values() {
            self.batches.get_mut(frame).unwrap().2 = true;
        }
    }

    /// Faults are over: everything is delivered, gaps as well.
    fn drain(&mut self) {
        self.queue.file.connection.pragma_update(None, "query_only", false).unwrap();
        self.now_ms += 400_000;
        for _ in 0..2_000 {
            self.now_ms += 1;
            let pushed = self.push(Lane::Live, 50, true) | self.push(Lane::Backfill, 50, true);
            if !pushed && self.queue.gaps(self.now_ms).unwrap().is_empty() {
                break;
            }
            if !pushed {
                self.append(Class::Alert, 1, 0);
            }
        }
        let level = self.queue.level();
        assert_eq!((level.batches, level.degraded), (0, None));
    }

    fn check(&mut self) {
        let stored: BTreeSet<&Vec<u8>> = self.server.stored.values().collect();
        let mut gaps = stored.iter().flat_map(|frame| &self.batches[*frame].1);
        if self.restored && gaps.any(|gap| gap.cause.starts_with("acknowledged before")) {
            // How much was in what nobody has any more is not known.
            return;
        }
        let mut told: BTreeMap<([u8; 16], u64), u64> = BTreeMap::new();
        for gap in stored.iter().flat_map(|frame| &self.batches[*frame].1) {
            let items = told.entry((gap.epoch.unwrap(), gap.range.first)).or_default();
            *items = gap.items.max(*items);
        }
        let all: u64 = self.batches.values().map(|b| b.0).sum();
        let kept: u64 = stored.iter().map(|frame| self.batches[*frame].0).sum();
        let lost: u64 = told.values().sum();
        // Stored, and given up by an agent that did not hear of it.
        let twice = (kept + lost).checked_sub(all).expect("something is neither stored nor told to be lost");
        let unheard = || stored.iter().map(|frame| &self.batches[*frame]).filter(|b| b.2);
        // A loss that was told by one of them is told again, and by another name if its numbers were forked since.
        let unheard: Vec<u64> = unheard().map(|b| b.0).chain(unheard().flat_map(|b| &b.1).map(|gap| gap.items)).collect();
        assert!(sums_to(&unheard, twice), "told to be lost, and stored");
        self.lost += lost;
    }
}

/// Whether some of these sum to that. The sums are of numbers that are spread far, so that few need to be tried.
fn sums_to(numbers: &[u64], sum: u64) -> bool {
    let mut sums = BTreeSet::from([0u64]);
    for number in numbers {
        if sums.contains(&sum) || sums.len() > 200_000 {
            break;
        }
        sums.extend(sums.clone().into_iter().map(|s| s + number).filter(|s| *s <= sum));
    }
    sums.contains(&sum) || sums.len() > 200_000
}

fn run(bounds: Bounds, actions: &[Action]) {
    let mut world = World::new(bounds);
    for action in actions {
        world.act(action);
    }
    world.drain();
    world.check();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn every_item_is_stored_or_told_to_be_lost(actions in prop::collection::vec(action(), 1..60), bytes in prop::sample::select(vec![2_000u64, 12_000, 1 << 30])) {
        run(Bounds { bytes, age_ms: 1 << 40, min_free_bytes: 1 }, &actions);
    }
}

#[test]
fn an_aggregator_that_was_put_back_can_say_what_it_lacks_though_a_backlog_drains() {
    let one = || Action::Append(Class::Security, 1, 1);
    let actions = [
        one(),
        one(),
        Action::Push(Lane::Live, 1, false),
        one(),
        one(),
        Action::Push(Lane::Backfill, 1, false),
        Action::Backup,
        Action::Push(Lane::Live, 2, true),
        Action::Restore,
    ];
    run(Bounds { bytes: 2_000, age_ms: 1 << 40, min_free_bytes: 1 }, &actions);
}

#[test]
fn an_aggregator_that_was_put_back_says_what_it_lacks_of_an_epoch_that_a_fork_has_ended() {
    let actions = [Action::Fork(2), Action::Backup, Action::Restore, Action::Wait(0), Action::Restore, Action::Restore];
    run(Bounds { bytes: 2_000, age_ms: 1 << 40, min_free_bytes: 1 }, &actions);
}

#[test]
fn a_loss_that_was_told_and_is_told_again_after_a_fork_counts_twice_at_most() {
    let push = |lane, frames, acked| Action::Push(lane, frames, acked);
    let actions = [
        Action::Append(Class::Security, 81, 4),
        Action::Fork(0),
        Action::Append(Class::Alert, 341, 2),
        Action::Append(Class::Alert, 209, 3),
        Action::Away,
        Action::Append(Class::Alert, 1, 1),
        Action::Append(Class::Security, 1, 5),
        push(Lane::Live, 4, true),
        push(Lane::Backfill, 2, false),
        Action::Wait(10_000),
        Action::Append(Class::Security, 241, 5),
        push(Lane::Live, 1, false),
    ];
    run(Bounds { bytes: 2_000, age_ms: 1 << 40, min_free_bytes: 1 }, &actions);
}
