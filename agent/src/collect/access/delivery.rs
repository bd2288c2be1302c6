//! What came from the helper and is kept: nothing is taken twice, nothing is confirmed before it lies on the agent's disk, and what never
//! came is told. Used by both sensors that listen to the helper, each for its own messages.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use keyvigil_common::event::{Event, EventKind};

use super::link::{Lane, Link, Standing};
use crate::collect::Sink;

/// Where it is remembered.
const HAVE: &str = "have";
/// How old what is remembered of the time may be, ms.
const STALE_MS: i64 = 60_000;

/// How far it came.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct Have {
    /// Name of the helper.
    helper: u64,
    /// Its last message that was taken.
    seq: u64,
    /// Name of the helper that was heard last; nothing may have come from it yet.
    heard: u64,
    /// When, Unix ms.
    at_ms: i64,
    /// What it had lost by then.
    lost: u64,
}

/// What one sensor has of the helper's messages.
#[derive(Debug)]
pub(in crate::collect) struct Delivery {
    lane: Lane,
    have: Have,
    remembered: Have,
    lost: u64,
    /// How many messages nothing could be made of since that was told, by why.
    untold: BTreeMap<&'static str, u64>,
}

impl Delivery {
    pub(in crate::collect) fn new(lane: Lane) -> Self {
        Self { lane, have: Have::default(), remembered: Have::default(), lost: 0, untold: BTreeMap::new() }
    }

    /// Whether this message is new; it is taken then.
    pub(in crate::collect) fn takes(&mut self, helper: u64, seq: u64) -> bool {
        if self.have.helper == helper && seq <= self.have.seq {
            return false;
        }
        (self.have.helper, self.have.seq) = (helper, seq);
        true
    }

    /// Notes how the helper stands, before its messages are taken: what is lost of them comes as events. `lost` is what it lost since its
    /// start of the messages of this sensor.
    pub(in crate::collect) fn follow(&mut self, standing: &Standing, lost: u64, what: &str, now_ms: i64, sink: &mut Sink) {
        if standing.sight.is_err() {
            return;
        }
        let before = self.have;
        if before.heard != standing.helper {
            (self.have.heard, self.have.lost) = (standing.helper, 0);
            if before.heard != 0 {
                let message = format!("{what} are unknown from when the helper was last heard until it was heard again");
                let span = [("from_ms", before.at_ms), ("until_ms", now_ms)].map(|(name, ms)| (name.to_owned(), ms.to_string()));
                sink.event(data_lost(message, [vec![reason("the helper was started anew")], span.to_vec()].concat(), now_ms));
            }
        }
        if let Some(more) = lost.checked_sub(self.have.lost).filter(|more| *more > 0) {
            self.lost += more;
            let evidence = vec![reason("the kernel had no room for them, or no agent listened for long"), ("count".to_owned(), more.to_string())];
            sink.event(data_lost(format!("{more} {what} could not be told"), evidence, now_ms));
        }
        (self.have.at_ms, self.have.lost) = (now_ms, lost);
    }

    /// Makes of a new message what `tell` makes of it. What that cannot make anything of is lost and counted, all `count` of it, and told
    /// with [`own_up`](Self::own_up); so is one over which it fails, which is a fault of ours, and takes no other with it.
    pub(in crate::collect) fn tell(&mut self, count: u64, sink: &mut Sink, tell: impl FnOnce(&mut Sink) -> Result<(), &'static str>) {
        let told = (sink.events.len(), sink.remember.len());
        let done = catch_unwind(AssertUnwindSafe(|| tell(&mut *sink)));
        if let Err(why) = done.unwrap_or(Err("the agent failed over it; its log says how")) {
            sink.events.truncate(told.0);
            sink.remember.truncate(told.1);
            self.lost = self.lost.saturating_add(count);
            let untold = self.untold.entry(why).or_default();
            *untold = untold.saturating_add(count);
        }
    }

    /// Tells what nothing could be made of in this look: together, as anybody can cause as many as they like.
    pub(in crate::collect) fn own_up(&mut self, what: &str, now_ms: i64, sink: &mut Sink) {
        for (why, count) in std::mem::take(&mut self.untold) {
            let evidence = vec![reason(why), ("count".to_owned(), count.to_string())];
            sink.event(data_lost(format!("{count} {what} could not be told"), evidence, now_ms));
        }
    }

    /// How many were lost since the agent began.
    pub(in crate::collect) fn lost(&self) -> u64 {
        self.lost
    }

    /// Remembers how far it came, and has that confirmed to the helper once it lies on disk with what was made of it.
    pub(in crate::collect) fn remember(&mut self, link: &Link, sink: &mut Sink) {
        let Have { helper, seq, at_ms, .. } = self.have;
        let is_as_before = self.have == Have { at_ms, ..self.remembered };
        if !is_as_before || at_ms - self.remembered.at_ms >= STALE_MS {
            self.remembered = self.have;
            sink.remember(HAVE, serde_json::to_vec(&self.have).ok());
        }
        if link.is_waiting(self.lane) {
            let (link, lane) = (link.clone(), self.lane);
            sink.when_kept(move || link.kept(lane, (helper, seq)));
        }
    }

    /// Takes back what was remembered. Where the agent looked before that could be read, the later counts.
    pub(in crate::collect) fn restore(&mut self, remembered: &[(String, Vec<u8>)], link: &Link) {
        let have = remembered.iter().find(|(key, _)| key == HAVE).and_then(|(_, value)| serde_json::from_slice::<Have>(value).ok());
        if let Some(have) = have
            && self.have == Have::default()
        {
            (self.have, self.remembered) = (have, have);
            link.resume((have.heard, if have.heard == have.helper { have.seq } else { 0 }));
        }
    }
}

/// The kernel had no room to tell all opens.
pub(super) fn unknown_opens(at_ms: i64) -> Event {
    data_lost("some opens of key files could not be told".to_owned(), vec![reason("inotify's queue was full")], at_ms)
}

fn reason(why: &str) -> (String, String) {
    ("reason".to_owned(), why.to_owned())
}

fn data_lost(message: String, evidence: Vec<(String, String)>, at_ms: i64) -> Event {
    Event { kind: EventKind::DataLost, at_ms, key_id: None, path: None, actor: None, message, evidence }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::At;
    use crate::probe::message::Sight;

    fn standing(helper: u64) -> Standing {
        Standing { sight: Ok(Vec::<Sight>::new()), lost: (0, 0), helper }
    }

    fn sink() -> Sink {
        Sink::new("h", At { wall_ms: 1, monotonic: std::time::Duration::ZERO })
    }

    #[test]
    fn a_message_is_taken_once_over_a_restart_of_the_agent_and_another_helper_begins_anew() {
        let (link, mut sink) = (Link::new("/nonexistent"), sink());
        let mut first = Delivery::new(Lane::Opens);
        first.follow(&standing(7), 0, "opens", 1_000, &mut sink);
        assert!(first.takes(7, 1) && first.takes(7, 2) && !first.takes(7, 2));
        first.remember(&link, &mut sink);
        let remembered: Vec<(String, Vec<u8>)> = sink.remember.drain(..).map(|(key, value)| (key, value.unwrap())).collect();
        let mut second = Delivery::new(Lane::Opens);
        second.restore(&remembered, &link);
        second.follow(&standing(7), 0, "opens", 2_000, &mut sink);
        assert!(!second.takes(7, 1) && !second.takes(7, 2) && second.takes(7, 3));
        assert!(sink.events.is_empty(), "the helper kept what came meanwhile: {:?}", sink.events);
        second.follow(&standing(9), 0, "opens", 5_000, &mut sink);
        assert!(second.takes(9, 1), "another helper counts from one");
        let told = &sink.events[0];
        assert_eq!((told.kind, sink.events.len()), (EventKind::DataLost, 1));
        assert!(told.evidence.contains(&("from_ms".into(), "2000".into())) && told.evidence.contains(&("until_ms".into(), "5000".into())), "{told:?}");
    }

    #[test]
    fn a_message_over_which_the_agent_fails_is_counted_and_takes_no_other_with_it() {
        let (mut delivery, mut sink) = (Delivery::new(Lane::Opens), sink());
        for (seq, count) in [(1, 1), (2, 40), (3, 1), (4, 2)] {
            assert!(delivery.takes(7, seq));
            delivery.tell(count, &mut sink, |sink| {
                sink.event(data_lost(format!("message {seq}"), Vec::new(), 1));
                assert!(seq != 2, "a fault that is expected here");
                if seq > 2 { Err("nobody knows it") } else { Ok(()) }
            });
        }
        delivery.own_up("opens", 1, &mut sink);
        delivery.own_up("opens", 1, &mut sink);
        let told: Vec<&str> = sink.events.iter().map(|event| event.message.as_str()).collect();
        assert_eq!((told, delivery.lost()), (vec!["message 1", "3 opens could not be told", "40 opens could not be told"], 43));
        assert!(!delivery.takes(7, 2), "it is not asked for again, to fail over it once more");
    }

    #[test]
    fn what_was_lost_is_told_once_and_counted_over_helpers() {
        let (mut delivery, mut sink) = (Delivery::new(Lane::Opens), sink());
        for (helper, lost) in [(1, 0), (1, 5), (1, 5), (1, 7), (2, 3)] {
            delivery.follow(&standing(helper), lost, "opens", 1, &mut sink);
        }
        assert_eq!(delivery.lost(), 10);
        let counts: Vec<&str> = sink.events.iter().flat_map(|e| &e.evidence).filter(|(name, _)| name == "count").map(|(_, count)| count.as_str()).collect();
        assert_eq!(counts, ["5", "2", "3"]);
    }
}
