//! Work on the whole store that an administrator asks for: what may be asked, what comes of it, and that only one such work
//! goes on at a time. The same for a command without an aggregator and for the API. Knows no terminal and no HTTP.

use std::sync::{Arc, Mutex, PoisonError};

use keyvigil_common::config::Period;
use serde::{Deserialize, Serialize};

use crate::store::{Cleaned, Progress, Reindexed, Step, Store, StoreError, Verified};

/// Younger than this nothing is given up without being told twice, ms.
const AGE_MIN_MS: i64 = 3_600_000;

/// What may be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// Reads all there is and says what is wrong.
    Verify,
    /// Brings all into as few bytes as it takes.
    Compact,
    /// Makes anew what follows from the rest.
    Reindex,
    /// Gives up what is old.
    Cleanup,
}

impl Task {
    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Verify => "verify",
            Self::Compact => "compact",
            Self::Reindex => "reindex",
            Self::Cleanup => "cleanup",
        }
    }
}

/// What is asked for, as the API takes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// What to do.
    pub task: Task,
    /// Of a cleanup: an age (`30d`, `12h`), a day (`2026-11-22`, its start in UTC) or an instant (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub older_than: Option<String>,
    /// Of a cleanup: changes nothing.
    #[serde(default)]
    pub dry_run: bool,
    /// Of a cleanup: an age below an hour is meant.
    #[serde(default)]
    pub yes: bool,
}

/// A request that makes sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Order {
    /// What to do.
    pub task: Task,
    before_ms: i64,
    dry_run: bool,
}

impl Request {
    /// What it means now.
    ///
    /// # Errors
    /// What is wrong with it, and how to say it right.
    pub fn order(&self, now_ms: i64) -> Result<Order, String> {
        let order = |before_ms| Order { task: self.task, before_ms, dry_run: self.dry_run };
        match (self.task, &self.older_than) {
            (Task::Cleanup, Some(text)) => {
                let before_ms = instant(text, now_ms)?;
                if before_ms > now_ms {
                    return Err(format!("older_than: {text:?} lies in the future"));
                }
                if before_ms > now_ms - AGE_MIN_MS && !self.yes && !self.dry_run {
                    return Err(format!("older_than: {text:?} is less than an hour back and perhaps a slip, of 30d for one: say yes as well if it is meant"));
                }
                Ok(order(before_ms))
            }
            (Task::Cleanup, None) => Err("older_than is missing: how old is what may go? Write 30d, 12h or 2026-11-22".into()),
            (_, None) if !self.dry_run && !self.yes => Ok(order(0)),
            (task, _) => Err(format!("{} takes neither older_than nor dry_run nor yes: these are cleanup's", task.as_str())),
        }
    }
}

/// The end of what is old enough, Unix ms. A bare number is refused: it is a slip for days more often than meant as seconds.
fn instant(text: &str, now_ms: i64) -> Result<i64, String> {
    if let Ok(age) = text.parse::<Period>()
        && text.ends_with(|last: char| last.is_ascii_alphabetic())
    {
        return Ok(now_ms.saturating_sub(age.as_ms()).max(0));
    }
    if let Ok(date) = text.parse::<jiff::civil::Date>()
        && text.len() == 10
        && let Ok(start) = date.at(0, 0, 0, 0).to_zoned(jiff::tz::TimeZone::UTC)
    {
        return Ok(start.timestamp().as_millisecond());
    }
    let fault = |_| format!("older_than: {text:?} is neither an age nor a date: write 30d, 12h, 2026-11-22 or 2026-11-22T18:00:00Z");
    text.parse::<jiff::Timestamp>().map(jiff::Timestamp::as_millisecond).map_err(fault)
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "task", rename_all = "snake_case")]
pub enum Report {
    /// What was read, and what is wrong.
    Verify(Verified),
    /// Bytes before and after.
    Compact(Compacted),
    /// What was made anew.
    Reindex(Reindexed),
    /// What went.
    Cleanup(Cleaned),
}

/// What compaction came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compacted {
    /// Samples in blocks.
    pub samples: u64,
    /// Bytes of all files before.
    pub bytes_before: u64,
    /// Bytes of all files now.
    pub bytes: u64,
}

impl Report {
    /// Whether all is well.
    #[must_use]
    pub fn is_good(&self) -> bool {
        match self {
            Self::Verify(found) => found.faults == 0,
            Self::Reindex(done) => done.damaged == 0 && done.failed.is_empty(),
            Self::Compact(_) | Self::Cleanup(_) => true,
        }
    }
}

/// A line of the API's answer: steps, and last what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// How far it is.
    Progress {
        /// What is done.
        task: Task,
        /// How far.
        #[serde(flatten)]
        step: Step,
    },
    /// What became of it.
    Result(Report),
    /// Why it failed.
    Fault(String),
}

/// Does it.
///
/// # Errors
/// The store's; [`StoreError::Gone`] where nobody waited for the end.
pub async fn run(store: &Store, order: Order, progress: &Progress) -> Result<Report, StoreError> {
    Ok(match order.task {
        Task::Verify => Report::Verify(store.verify(progress).await?),
        Task::Reindex => Report::Reindex(store.reindex(progress).await?),
        Task::Cleanup => Report::Cleanup(store.cleanup(order.before_ms, order.dry_run, progress).await?),
        Task::Compact => {
            let bytes_before = store.size().await?.bytes;
            store.compact(progress).await?;
            let size = store.size().await?;
            Report::Compact(Compacted { samples: size.block_samples, bytes_before, bytes: size.bytes })
        }
    })
}

/// Where such work is taken on: one at a time.
#[derive(Debug, Clone, Default)]
pub struct Desk(Arc<Mutex<Option<Task>>>);

impl Desk {
    /// Takes a task on, until its turn is dropped.
    ///
    /// # Errors
    /// The task that is at work.
    pub fn take(&self, task: Task) -> Result<Turn, Task> {
        let mut at_work = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match *at_work {
            Some(other) => Err(other),
            None => {
                *at_work = Some(task);
                Ok(Turn(self.clone()))
            }
        }
    }
}

/// A task's turn.
#[derive(Debug)]
pub struct Turn(Desk);

impl Drop for Turn {
    fn drop(&mut self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_763_838_000_000;

    fn cleanup(older_than: &str) -> Request {
        Request { task: Task::Cleanup, older_than: Some(older_than.into()), dry_run: false, yes: false }
    }

    #[test]
    fn ages_and_dates_say_where_the_old_ends_and_slips_are_refused() {
        let cases = [("30d", NOW - 30 * 86_400_000), ("12h", NOW - 43_200_000), ("2025-11-22", 1_763_769_600_000), ("2025-11-22T00:00:00Z", 1_763_769_600_000)];
        for (text, before_ms) in cases {
            assert_eq!(cleanup(text).order(NOW).map(|order| order.before_ms), Ok(before_ms), "{text}");
        }
        for (text, words) in [("30", "neither"), ("", "neither"), ("next week", "neither"), ("2999-01-01", "future"), ("59m", "say yes"), ("0s", "say yes")] {
            let fault = cleanup(text).order(NOW).unwrap_err();
            assert!(fault.contains(words), "{text}: {fault}");
        }
        assert!(Request { yes: true, ..cleanup("59m") }.order(NOW).is_ok());
        assert!(Request { dry_run: true, ..cleanup("59m") }.order(NOW).is_ok());
        assert!(Request { task: Task::Verify, ..cleanup("30d") }.order(NOW).is_err());
        assert!(Request { older_than: None, ..cleanup("") }.order(NOW).is_err());
    }

    #[test]
    fn one_task_at_a_time_and_the_next_when_its_turn_is_over() {
        let desk = Desk::default();
        let turn = desk.take(Task::Verify).unwrap();
        assert_eq!(desk.clone().take(Task::Compact).unwrap_err(), Task::Verify);
        drop(turn);
        assert!(desk.take(Task::Compact).is_ok());
    }

    #[test]
    fn lines_read_as_they_were_written() {
        let step = Step { step: "main.db".into(), done: 3, total: 9, unit: "records".into() };
        let lines = [Line::Progress { task: Task::Verify, step }, Line::Result(Report::Compact(Compacted::default())), Line::Fault("why".into())];
        for line in lines {
            let text = serde_json::to_string(&line).unwrap();
            assert_eq!(serde_json::from_str::<Line>(&text).unwrap(), line, "{text}");
        }
    }
}
