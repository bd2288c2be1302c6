//! When to send what: the two lanes in turn, so that what is fresh never waits for a backlog; as much at once as the link
//! carries in a short time; and after failures the waits, with full jitter. Pure: time and randomness are arguments.

use std::time::Duration;

use keyvigil_common::backoff::Backoff;
use keyvigil_common::limits::PUSH_FRAMES_MAX;
use keyvigil_common::wire::{Ack, Push, WireError};

use super::packer::Packer;
use crate::buffer::{Lane, Room};

const BACKOFF_FIRST: Duration = Duration::from_secs(1);
/// After an outage of any length, fresh data is there within this time.
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// Bytes of frames in one push: at first, at least, at most.
const BYTES_FIRST: usize = 256 << 10;
const BYTES_MIN: usize = 16 << 10;
const BYTES_MAX: usize = 2 << 20;
/// A restored aggregator asks for one range after another; one that asks for more in a row is not understood.
const AMENDS_MAX: u32 = 32;
/// A push that is answered sooner may grow; one that takes longer than [`SLOW`] keeps what is fresh waiting.
const QUICK: Duration = Duration::from_secs(1);
const SLOW: Duration = Duration::from_secs(5);

/// However large the fleet: a number that is not understood is not to silence an agent.
const SPREAD_MAX: Duration = Duration::from_secs(600);

/// What a failure holds up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// One lane: the other may go on.
    Lane,
    /// All: the link, or the aggregator, or this agent's standing with it.
    All,
}

/// The plan of delivery.
#[derive(Debug)]
pub struct Courier {
    lanes: [Plan; 2],
    link: Waiting,
    /// Over how long the aggregator asked to spread returns.
    spread: Duration,
    /// Answers in a row that asked for the numbers to be set right, and settled nothing.
    amends: u32,
    packer: Packer,
}

#[derive(Debug)]
struct Plan {
    room: Room,
    waiting: Waiting,
}

#[derive(Debug)]
struct Waiting {
    backoff: Backoff,
    until: Duration,
}

impl Waiting {
    fn new() -> Self {
        Self { backoff: Backoff::new(BACKOFF_FIRST, BACKOFF_MAX), until: Duration::ZERO }
    }

    fn reset(&mut self) {
        self.backoff.reset();
        self.until = Duration::ZERO;
    }
}

impl Default for Courier {
    fn default() -> Self {
        let plan = || Plan { room: Room { frames: PUSH_FRAMES_MAX, bytes: BYTES_FIRST }, waiting: Waiting::new() };
        Self { lanes: [plan(), plan()], link: Waiting::new(), spread: Duration::ZERO, amends: 0, packer: Packer::default() }
    }
}

impl Courier {
    /// Both lanes in the order in which they take turns: what is fresh goes first.
    pub const TURNS: [Lane; 2] = [Lane::Live, Lane::Backfill];

    fn plan(&mut self, lane: Lane) -> &mut Plan {
        &mut self.lanes[usize::from(lane == Lane::Backfill)]
    }

    /// What a push of that lane may hold, if it may be sent at `now`.
    pub fn may_send(&mut self, lane: Lane, now: Duration) -> Option<Room> {
        let link = self.link.until;
        let plan = self.plan(lane);
        (now >= link.max(plan.waiting.until)).then_some(plan.room)
    }

    /// When the next lane that waits may send: `None` if nothing has to wait.
    #[must_use]
    pub fn held_until(&self, now: Duration) -> Option<Duration> {
        if self.link.until > now {
            return Some(self.link.until);
        }
        self.lanes.iter().map(|plan| plan.waiting.until).filter(|until| *until > now).min()
    }

    /// The request for a push: shorter where the aggregator keeps what was acknowledged last.
    ///
    /// # Errors
    /// A push past the limits.
    pub fn pack(&mut self, push: &Push) -> Result<Vec<u8>, WireError> {
        self.packer.pack(push)
    }

    /// A push was answered with an ack after `took`.
    pub fn acked(&mut self, lane: Lane, took: Duration, ack: &Ack) {
        self.packer.acked(ack.base);
        self.spread = Duration::from_millis(u64::from(ack.spread_ms)).min(SPREAD_MAX);
        self.amends = 0;
        self.link.reset();
        let plan = self.plan(lane);
        plan.waiting.reset();
        plan.room.frames = (plan.room.frames * 2).min(PUSH_FRAMES_MAX);
        if took < QUICK {
            plan.room.bytes = (plan.room.bytes * 2).min(BYTES_MAX);
        } else if took > SLOW {
            plan.room.bytes = (plan.room.bytes / 2).max(BYTES_MIN);
        }
    }

    /// The aggregator asked for the numbers to be set right: it may be asked again at once, unless that has not helped before.
    pub fn amended(&mut self) -> bool {
        self.amends += 1;
        self.amends <= AMENDS_MAX
    }

    /// The aggregator asked for the push whole: it may have it at once, unless that has not helped before.
    pub fn whole(&mut self) -> bool {
        self.packer.forget();
        self.amended()
    }

    /// A push was too much at once: a smaller one may go now. `false` if it cannot be smaller.
    pub fn too_large(&mut self, lane: Lane) -> bool {
        let room = &mut self.plan(lane).room;
        let smaller = room.frames > 1;
        *room = Room { frames: (room.frames / 2).max(1), bytes: (room.bytes / 2).max(BYTES_MIN) };
        smaller
    }

    /// A push failed at `now`, or was refused; the aggregator may have asked for a time. Returns how long to wait.
    pub fn failed(&mut self, lane: Lane, holds: Holds, asked: Option<Duration>, now: Duration, random: u64) -> Duration {
        let waiting = match holds {
            Holds::Lane => &mut self.plan(lane).waiting,
            Holds::All => &mut self.link,
        };
        let delay = waiting.backoff.delay(random, asked);
        waiting.until = now + delay;
        delay
    }

    /// The connection was lost at `now`: all agents may have lost it in this moment. Returns how long to wait.
    pub fn cut_off(&mut self, lane: Lane, was_connected: bool, now: Duration, random: u64) -> Duration {
        // What became of the push is not known, and who will answer next neither.
        self.packer.forget();
        let room = &mut self.plan(lane).room;
        room.bytes = (room.bytes / 2).max(BYTES_MIN);
        let spread = if was_connected { self.spread.mul_f64(random as f64 / u64::MAX as f64) } else { Duration::ZERO };
        let delay = self.link.backoff.delay(random, None).max(spread);
        self.link.until = now + delay;
        delay
    }

    /// Failures since the last success, of what holds up all.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.link.backoff.failures().max(self.lanes.iter().map(|plan| plan.waiting.backoff.failures()).max().unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// An ack that asks to spread returns over so many seconds.
    fn ack(spread: u32) -> Ack {
        Ack { spread_ms: spread * 1_000, ..Ack::default() }
    }

    #[test]
    fn a_backlog_that_is_told_to_wait_does_not_hold_up_what_is_fresh() {
        let mut courier = Courier::default();
        courier.failed(Lane::Backfill, Holds::Lane, Some(s(5)), s(100), 0);
        assert!(courier.may_send(Lane::Live, s(100)).is_some());
        assert!(courier.may_send(Lane::Backfill, s(104)).is_none());
        assert_eq!(courier.held_until(s(100)), Some(s(105)));
        assert!(courier.may_send(Lane::Backfill, s(105)).is_some());
        courier.failed(Lane::Live, Holds::All, Some(s(60)), s(200), 0);
        assert!(Courier::TURNS.iter().all(|lane| courier.may_send(*lane, s(259)).is_none()));
    }

    #[test]
    fn a_push_grows_on_a_quick_link_and_shrinks_on_a_slow_one() {
        let mut courier = Courier::default();
        for _ in 0..9 {
            courier.acked(Lane::Live, Duration::from_millis(20), &ack(0));
        }
        assert_eq!(courier.may_send(Lane::Live, s(0)).unwrap().bytes, BYTES_MAX);
        assert_eq!(courier.may_send(Lane::Backfill, s(0)).unwrap().bytes, BYTES_FIRST, "each lane by itself");
        for _ in 0..20 {
            courier.acked(Lane::Live, s(9), &ack(0));
        }
        assert_eq!(courier.may_send(Lane::Live, s(0)).unwrap().bytes, BYTES_MIN);
    }

    #[test]
    fn a_fleet_that_lost_its_aggregator_returns_spread_out_and_nobody_waits_longer_than_the_most() {
        let mut courier = Courier::default();
        courier.acked(Lane::Live, s(0), &ack(20));
        let waits: Vec<u64> = (0..=10u64)
            .map(|n| {
                courier.acked(Lane::Live, s(0), &ack(20));
                courier.cut_off(Lane::Live, true, s(0), u64::MAX / 10 * n).as_secs()
            })
            .collect();
        assert!(waits[0] == 0 && waits[5] >= 9 && waits[10] >= 19, "{waits:?}");
        let again: Vec<u64> = (0..9).map(|_| courier.cut_off(Lane::Live, false, s(0), u64::MAX).as_secs()).collect();
        assert_eq!(again.iter().max(), Some(&BACKOFF_MAX.as_secs()));
        courier.acked(Lane::Live, s(0), &Ack { spread_ms: u32::MAX, ..Ack::default() });
        assert_eq!(courier.cut_off(Lane::Live, true, s(0), u64::MAX), SPREAD_MAX, "not for weeks");
    }

    #[test]
    fn numbers_that_cannot_be_set_right_are_not_tried_without_a_pause() {
        let mut courier = Courier::default();
        assert_eq!((0..100).filter(|_| courier.amended()).count(), AMENDS_MAX as usize);
        courier.acked(Lane::Live, s(0), &ack(0));
        assert!(courier.amended());
    }

    #[test]
    fn a_push_that_is_too_large_is_halved_down_to_one_batch() {
        let mut courier = Courier::default();
        let halves = std::iter::from_fn(|| courier.too_large(Lane::Live).then_some(())).count();
        assert_eq!((halves, courier.may_send(Lane::Live, s(0)).unwrap().frames), (8, 1));
    }
}
