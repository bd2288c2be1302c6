use std::time::Duration;

use keyvigil_common::clock::{Clock, ManualClock};
use proptest::prelude::*;

use super::watch::{Delivery, Watch};
use super::*;

const INTERVAL: Duration = Duration::from_secs(120);
const STEP: Duration = Duration::from_secs(5);

/// A path, whoever sees it, and the way to an aggregator.
#[derive(Default)]
struct World {
    watch: Watch,
    now: Duration,
    next: Duration,
    nonces: u64,
    delivery: Delivery,
    waiting: Vec<u64>,
    sees: bool,
    answers: bool,
    /// Whether the aggregator says what it has taken.
    confirms: bool,
}

impl World {
    fn new() -> Self {
        let mut world = Self { sees: true, answers: true, confirms: true, ..Self::default() };
        world.watch.expect(Duration::ZERO);
        world
    }

    /// Some seconds in the life of an agent.
    fn step(&mut self) {
        self.now += STEP;
        if self.now >= self.next {
            self.next = self.now + INTERVAL - STEP;
            self.nonces += 1;
            self.watch.tried(self.nonces, 7, self.now);
            if self.sees {
                self.waiting.extend(self.watch.saw(7, self.now));
            }
        }
        if self.answers {
            self.delivery = Delivery { since: self.delivery.since.or(Some(self.now)), last: self.now };
            for nonce in std::mem::take(&mut self.waiting).into_iter().filter(|_| self.confirms) {
                self.watch.confirmed(nonce, self.now, 1);
            }
        } else {
            self.delivery.since = None;
        }
        self.watch.look(INTERVAL, self.delivery, self.now);
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.step();
        }
    }

    fn is_blind(&self) -> bool {
        self.watch.blind().is_some()
    }
}

#[test]
fn one_that_sees_nothing_is_blind_within_two_intervals_and_sees_again_with_the_next_trial() {
    let mut world = World::new();
    world.pass(4 * INTERVAL);
    assert!(!world.is_blind() && world.watch.failures == 0 && world.watch.proven_ms.is_some());
    world.sees = false;
    world.pass(INTERVAL);
    assert!(!world.is_blind(), "one trial may be lost");
    world.pass(INTERVAL + STEP);
    assert!(world.watch.blind().is_some_and(|why| why.contains("told nothing of it")), "{:?}", world.watch.blind());
    assert!(world.watch.failures >= 1);
    world.sees = true;
    world.pass(INTERVAL);
    assert!(!world.is_blind());
}

#[test]
fn an_aggregator_that_is_away_blinds_nobody_and_one_that_confirms_nothing_does() {
    let mut world = World::new();
    world.pass(2 * INTERVAL);
    world.answers = false;
    world.pass(100 * INTERVAL);
    assert!(!world.is_blind(), "what is not delivered is another matter");
    (world.answers, world.confirms) = (true, false);
    world.pass(INTERVAL);
    assert!(!world.is_blind(), "it has only just come back");
    world.pass(3 * INTERVAL);
    assert!(world.watch.blind().is_some_and(|why| why.contains("does not confirm it")), "{:?}", world.watch.blind());
    world.confirms = true;
    world.pass(INTERVAL + STEP);
    assert!(!world.is_blind());
}

#[test]
fn a_host_that_slept_or_was_started_anew_has_missed_nothing_and_one_that_was_blind_is_so_until_it_sees() {
    let mut watch = Watch::default();
    watch.restore(Some(5), Some("told before".into()), Duration::ZERO);
    watch.look(INTERVAL, Delivery::default(), STEP);
    assert_eq!((watch.blind(), watch.proven_ms, watch.is_expected()), (Some("told before"), Some(5), true), "no restart mends it");
    watch.tried(1, 7, STEP);
    assert_eq!((watch.saw(8, STEP), watch.saw(7, STEP), watch.saw(7, STEP)), (None, Some(1), None), "another's open proves nothing");
    assert_eq!(watch.blind(), None);
    // Nothing was tried for long: nothing is missed.
    watch.look(INTERVAL, Delivery { since: Some(Duration::ZERO), last: STEP }, 100 * INTERVAL);
    assert_eq!((watch.blind(), watch.failures), (None, 0));
}

#[test]
fn what_cannot_be_tried_for_want_of_a_program_is_a_gap_and_what_fails_is_blindness() {
    let mut watch = Watch::default();
    watch.expect(Duration::ZERO);
    watch.set_gap(Some("no openssl".into()), Duration::ZERO);
    watch.look(INTERVAL, Delivery::default(), 10 * INTERVAL);
    assert!(!watch.is_expected() && watch.blind().is_none());
    watch.set_gap(None, 10 * INTERVAL);
    watch.failed("no child", 10 * INTERVAL);
    watch.look(INTERVAL, Delivery::default(), 11 * INTERVAL);
    assert_eq!(watch.blind(), None);
    watch.failed("no child", 11 * INTERVAL);
    watch.look(INTERVAL, Delivery::default(), 12 * INTERVAL);
    assert!(watch.blind().is_some_and(|why| why.contains("cannot be tried: no child")));
    assert_eq!(watch.failures, 2);
}

#[test]
fn what_came_back_is_told_and_kept_over_a_restart() {
    let clock = ManualClock::at(1_763_836_800_000);
    let config = CanaryConfig { interval: Period(INTERVAL), program: None };
    let make = || Canary::new(&config, Some("/state/canary".into()), CanaryPath::ALL, Arc::<ManualClock>::clone(&clock) as SharedClock);
    let canary = make();
    assert_eq!(canary.canaries().paths().count(), 0, "a host without a helper promises nothing");
    canary.expect(CanaryPath::Access);
    canary.with(CanaryPath::Access, |watch| watch.tried(255, 7, clock.monotonic()));
    assert!(canary.saw(CanaryPath::Operations, 7, 0).is_none());
    let event = canary.saw(CanaryPath::Access, 7, 0).unwrap();
    assert_eq!(event.evidence, [("path", "access"), ("nonce", "ff")].map(|(name, value)| (name.to_owned(), value.to_owned())));
    assert_eq!(canary.proofs()[0].proven_ms, None, "only what comes back is proven");
    canary.acked(&[255]);
    assert_eq!(canary.proofs()[0].proven_ms, Some(1_763_836_800_000));
    let again = make();
    again.restore(canary.kept().into_iter().map(|(path, kept)| (path.to_owned(), kept)).collect());
    assert_eq!(again.proofs()[0].proven_ms, Some(1_763_836_800_000));
    assert_eq!(again.canaries().paths().collect::<Vec<_>>(), [CanaryPath::Access]);
    assert!(again.is_its("/state/canary/canary.key") && !again.is_its("/state/canary.key"));
}

proptest! {
    #[test]
    fn over_any_schedule_blindness_follows_the_sensor_and_never_the_aggregator(schedule in prop::collection::vec((any::<bool>(), any::<bool>(), 1u32..60), 1..60)) {
        let mut world = World::new();
        let mut unseen_since: Option<Duration> = None;
        for (sees, answers, steps) in schedule {
            (world.sees, world.answers) = (sees, answers);
            unseen_since = if sees { None } else { unseen_since.or(Some(world.now)) };
            let began = world.now;
            for _ in 0..steps {
                world.step();
                // Until the first trial after it sees again, it cannot know.
                if sees && world.now >= began + INTERVAL {
                    prop_assert!(!world.is_blind(), "{:?}", world.watch.blind());
                }
                if unseen_since.is_some_and(|since| world.now > since + 2 * INTERVAL + STEP) {
                    prop_assert!(world.is_blind(), "since {unseen_since:?}, now {:?}", world.now);
                }
            }
        }
    }
}
