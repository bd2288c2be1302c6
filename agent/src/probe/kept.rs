//! What was told and is not known to lie on the agent's disk: kept for an agent that is away or starts again, as far as there is room.
//! What had no room is counted, by what it was, once no agent can have it any more.

use std::collections::VecDeque;

use super::message::{Tell, What};
use super::told::is_same;

/// Messages that are kept, and given up ones that are counted one by one.
const KEPT_MAX: usize = 8_192;

/// Of one message or several: opens, and operations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Deeds {
    pub(super) opens: u64,
    pub(super) operations: u64,
}

impl Deeds {
    fn of(what: &What) -> Self {
        match what {
            What::Opened(opened) => Self { opens: opened.more.saturating_add(1), operations: 0 },
            What::Used(used) => Self { opens: 0, operations: used.count },
            _ => Self::default(),
        }
    }

    fn add(&mut self, other: Self) {
        self.opens = self.opens.saturating_add(other.opens);
        self.operations = self.operations.saturating_add(other.operations);
    }
}

/// The messages.
#[derive(Debug, Default)]
pub(super) struct Kept {
    tells: VecDeque<Tell>,
    /// Number of the latest.
    seq: u64,
    /// Confirmed by an agent.
    confirmed: u64,
    /// Sent to the agent that listens.
    sent: u64,
    /// Those that had no room, by number; the first may stand for many before it.
    dropped: VecDeque<(u64, Deeds)>,
    given_up: Deeds,
}

impl Kept {
    pub(super) fn keep(&mut self, what: What) {
        if let (What::Opened(opened), Some(Tell { seq, what: What::Opened(last) })) = (&what, self.tells.back_mut())
            && *seq > self.sent
            && is_same(opened, last)
        {
            last.more += 1;
            return;
        }
        self.seq += 1;
        if self.tells.len() >= KEPT_MAX {
            self.tells.pop_front().into_iter().for_each(|tell| self.drop_one(&tell));
        }
        self.tells.push_back(Tell { seq: self.seq, what });
    }

    fn drop_one(&mut self, tell: &Tell) {
        if self.dropped.len() >= KEPT_MAX
            && let Some((_, first)) = self.dropped.pop_front()
            && let Some((_, next)) = self.dropped.front_mut()
        {
            next.add(first);
        }
        self.dropped.push_back((tell.seq, Deeds::of(&tell.what)));
    }

    /// An agent listens from now on that has all up to that number.
    pub(super) fn begin(&mut self, have: u64) {
        self.sent = have.min(self.seq).max(self.confirmed);
    }

    /// What the agent that listens was not sent yet; it is now. What it lacks and nobody kept is given up by that: once, however often an
    /// agent comes back without it.
    pub(super) fn unsent(&mut self) -> impl Iterator<Item = &Tell> {
        let sent = self.sent;
        // What was sent may yet turn out not to have been kept.
        let first = self.dropped.partition_point(|(seq, _)| *seq <= sent);
        self.dropped.drain(first..).for_each(|(_, deeds)| self.given_up.add(deeds));
        let skip = self.tells.partition_point(|tell| tell.seq <= sent);
        self.sent = self.seq;
        self.tells.iter().skip(skip)
    }

    /// Forgets what the agent keeps itself; no more than it was sent.
    pub(super) fn had(&mut self, seq: u64) {
        let seq = seq.min(self.sent);
        self.confirmed = self.confirmed.max(seq);
        let skip = self.tells.partition_point(|tell| tell.seq <= seq);
        self.tells.drain(..skip);
        let skip = self.dropped.partition_point(|(dropped, _)| *dropped <= seq);
        self.dropped.drain(..skip);
    }

    /// What was given up since the start.
    pub(super) fn given_up(&self) -> Deeds {
        self.given_up
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::message::{Opened, Used};

    fn opened(file: usize) -> What {
        What::Opened(Opened { file: u32::try_from(file).unwrap(), ..Opened::default() })
    }

    #[test]
    fn what_was_given_up_is_counted_once_however_often_an_agent_comes_back() {
        let mut kept = Kept::default();
        let told = |kept: &mut Kept, have| {
            kept.begin(have);
            (kept.unsent().count(), kept.given_up().opens)
        };
        (0..KEPT_MAX + 5).for_each(|n| kept.keep(opened(n)));
        assert_eq!([told(&mut kept, 0), told(&mut kept, 0)], [(KEPT_MAX, 5), (KEPT_MAX, 5)]);
        kept.keep(opened(0));
        assert_eq!(told(&mut kept, 0), (KEPT_MAX, 6), "one more had to go meanwhile");
        kept.keep(opened(1));
        assert_eq!(told(&mut kept, 7), (KEPT_MAX, 6), "this agent has what had to go");
        assert_eq!(told(&mut kept, 0), (KEPT_MAX, 7), "this one does not: it ended before it was kept");
    }

    #[test]
    fn opens_and_operations_are_given_up_as_what_they_are_and_as_many() {
        let mut kept = Kept::default();
        for n in 0..10 {
            kept.keep(What::Used(Used { count: 7, ..Used::default() }));
            (0..3).for_each(|_| kept.keep(opened(n)));
        }
        (0..3 * KEPT_MAX).for_each(|n| kept.keep(What::Used(Used { at_ns: n as u64, count: 1, ..Used::default() })));
        kept.begin(0);
        assert_eq!(kept.unsent().count(), KEPT_MAX);
        assert_eq!(kept.given_up(), Deeds { opens: 30, operations: 70 + 2 * KEPT_MAX as u64 });
    }
}
