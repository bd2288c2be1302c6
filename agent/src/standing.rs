//! How delivery stands, for those who ask: the last ack, what holds it up in words and with what mends it. Written by the
//! uplink and the renewer, read by the control socket.

use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::buffer::Lane;

/// What is known now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Standing {
    /// When the last ack came, Unix ms.
    pub last_ack_ms: Option<i64>,
    /// How far this host's clock is behind the aggregator's by the last ack, ms.
    pub clock_offset_ms: Option<i64>,
    /// What holds delivery up.
    pub trouble: Option<Trouble>,
    /// What holds up the backlog, which has a lane of its own.
    pub backlog: Option<Trouble>,
    /// What holds the renewal of the certificate up.
    pub renewal: Option<Trouble>,
    /// The name under which this host was joined again while the agent runs under another.
    pub rejoined: Option<String>,
}

impl Standing {
    fn trouble_of(&mut self, lane: Lane) -> &mut Option<Trouble> {
        match lane {
            Lane::Live => &mut self.trouble,
            Lane::Backfill => &mut self.backlog,
        }
    }
}

/// Something that fails again and again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// When it began, Unix ms.
    pub since_ms: i64,
    /// When it was seen last, Unix ms.
    pub at_ms: i64,
    /// How often in a row.
    pub times: u32,
    /// What it is, as problem documents and other tools call it: `revoked`, `clock`, `unreachable`, ...
    pub code: String,
    /// What happens.
    pub words: String,
    /// What mends it.
    pub remedy: String,
}

/// The shared record.
#[derive(Debug, Clone, Default)]
pub struct Board(Arc<Mutex<Standing>>);

impl Board {
    /// A copy of it.
    #[must_use]
    pub fn read(&self) -> Standing {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// An ack came; the aggregator's clock showed `server_ms`.
    pub fn acked(&self, now_ms: i64, server_ms: i64) {
        let mut standing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        standing.last_ack_ms = Some(now_ms);
        standing.clock_offset_ms = Some(server_ms.saturating_sub(now_ms));
    }

    /// A lane delivered what it had, or has nothing.
    pub fn well(&self, lane: Lane) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).trouble_of(lane) = None;
    }

    /// The host was joined again under that name, or is what it was; whether that is news.
    pub fn rejoined(&self, host: Option<String>) -> bool {
        let mut standing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let news = standing.rejoined != host;
        standing.rejoined = host;
        news
    }

    /// A lane failed.
    pub fn failed(&self, lane: Lane, now_ms: i64, code: &str, words: String, remedy: &str) {
        note(self.0.lock().unwrap_or_else(PoisonError::into_inner).trouble_of(lane), now_ms, code, words, remedy);
    }

    /// Renewal failed, or went well.
    pub fn renewal(&self, now_ms: i64, failure: Option<(String, &str)>) {
        let mut standing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match failure {
            Some((words, remedy)) => note(&mut standing.renewal, now_ms, "renewal", words, remedy),
            None => standing.renewal = None,
        }
    }
}

fn note(trouble: &mut Option<Trouble>, now_ms: i64, code: &str, words: String, remedy: &str) {
    // Another trouble is a new one.
    let before = trouble.take().filter(|before| before.code == code);
    let (since_ms, times) = before.map_or((now_ms, 0), |before| (before.since_ms, before.times));
    *trouble = Some(Trouble { since_ms, at_ms: now_ms, times: times.saturating_add(1), code: code.to_owned(), words, remedy: remedy.to_owned() });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trouble_is_counted_from_its_beginning_and_ends_when_its_lane_delivers() {
        let board = Board::default();
        board.failed(Lane::Live, 5, "clock", "another".into(), "do nothing");
        board.failed(Lane::Live, 10, "busy", "no".into(), "do this");
        board.failed(Lane::Backfill, 12, "too-large", "no".into(), "let it pass");
        board.failed(Lane::Live, 30, "busy", "no again".into(), "do that");
        let trouble = board.read().trouble.unwrap();
        assert_eq!((trouble.since_ms, trouble.at_ms, trouble.times, trouble.words.as_str(), trouble.remedy.as_str()), (10, 30, 2, "no again", "do that"));
        board.acked(50, 47);
        board.well(Lane::Live);
        board.failed(Lane::Backfill, 60, "too-large", "no".into(), "let it pass");
        let standing = board.read();
        assert_eq!((standing.last_ack_ms, standing.clock_offset_ms, &standing.trouble), (Some(50), Some(-3), &None));
        assert_eq!(standing.backlog.map(|backlog| (backlog.since_ms, backlog.times)), Some((12, 2)), "an ack of the other lane does not end it");
    }
}
