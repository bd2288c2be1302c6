//! What becomes of a notification after an attempt: delivered, another attempt at a time, or failed and visible. Pure: time
//! and chance are arguments. Called by the job that drains the outbox.

use std::time::Duration;

use keyvigil_common::backoff::Backoff;

use super::{Delivered, SendError};

const FIRST: Duration = Duration::from_secs(5);
const CAP: Duration = Duration::from_secs(300);
/// Without it a lucky draw would try again at once, and again.
const LEAST: Duration = Duration::from_secs(1);
/// However long the other side asks to be left alone.
const ASKED_MAX: Duration = Duration::from_secs(3_600);
/// Who has not heard of it after a day will not be helped by hearing of it.
pub const GIVE_UP_AFTER: Duration = Duration::from_secs(86_400);

/// What to write into the row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settled {
    /// Done.
    Delivered {
        /// What the other side answered.
        reply: String,
    },
    /// Try again.
    Waiting {
        /// Not before, Unix ms.
        next_ms: i64,
        /// Why.
        error: String,
    },
    /// Given up; to be shown.
    Failed {
        /// Why.
        error: String,
    },
}

/// What the `attempts`-th attempt (the first is 1) at a notification queued at `queued_ms` has come to. `random`:
/// [`keyvigil_common::backoff::random_u64`].
#[must_use]
pub fn settle(result: Result<Delivered, SendError>, attempts: u32, queued_ms: i64, now_ms: i64, random: u64) -> Settled {
    let (after, error) = match result {
        Ok(Delivered { reply }) => return Settled::Delivered { reply },
        Err(SendError::Permanent(error)) => return Settled::Failed { error },
        Err(SendError::Retry { after, text }) => (after, text),
    };
    let end_ms = queued_ms.saturating_add(ms(GIVE_UP_AFTER));
    if now_ms >= end_ms {
        return Settled::Failed { error: format!("given up after {attempts} attempts in 24 h: {error}") };
    }
    let mut backoff = Backoff::new(FIRST, CAP);
    for _ in 1..attempts.min(31) {
        backoff.delay(0, None);
    }
    let delay = backoff.delay(random, after.map(|asked| asked.min(ASKED_MAX))).max(LEAST);
    Settled::Waiting { next_ms: now_ms.saturating_add(ms(delay)).min(end_ms), error }
}

fn ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_763_834_400_000;

    fn retry(after: Option<Duration>) -> Result<Delivered, SendError> {
        Err(SendError::Retry { after, text: "connection refused".into() })
    }

    fn wait_seconds(settled: &Settled, now_ms: i64) -> i64 {
        match settled {
            Settled::Waiting { next_ms, .. } => (next_ms - now_ms) / 1_000,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn attempts_come_less_and_less_often_up_to_every_five_minutes() {
        let waits: Vec<i64> = (1..=9).map(|n| wait_seconds(&settle(retry(None), n, NOW, NOW, u64::MAX), NOW)).collect();
        assert_eq!(waits, [5, 10, 20, 40, 80, 160, 300, 300, 300]);
        assert_eq!(wait_seconds(&settle(retry(None), 4_000_000, NOW, NOW, 0), NOW), 1, "never at once");
    }

    #[test]
    fn what_the_other_side_asks_for_is_kept_up_to_an_hour() {
        assert_eq!(wait_seconds(&settle(retry(Some(Duration::from_secs(42))), 1, NOW, NOW, 0), NOW), 42);
        assert_eq!(wait_seconds(&settle(retry(Some(Duration::from_secs(9_999_999))), 1, NOW, NOW, 0), NOW), 3_600);
    }

    #[test]
    fn after_a_day_it_has_failed_and_says_why() {
        let late = NOW + 86_400_000 - 1_000;
        assert_eq!(wait_seconds(&settle(retry(None), 300, NOW, late, u64::MAX), late), 1, "a last attempt at the end of the day");
        let settled = settle(retry(None), 301, NOW, NOW + 86_400_000, u64::MAX);
        assert_eq!(settled, Settled::Failed { error: "given up after 301 attempts in 24 h: connection refused".into() });
        let refused = settle(Err(SendError::Permanent("no such mailbox".into())), 1, NOW, NOW, 0);
        assert_eq!(refused, Settled::Failed { error: "no such mailbox".into() });
    }
}
