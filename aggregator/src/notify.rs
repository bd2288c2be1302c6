//! Tells people what became of an alert: the channels that are configured, what is sent, and what became of sending it.
//! Never decides who hears of what (`alert::route`), never keeps a queue and never sleeps: the job that drains the outbox
//! calls [`Notifier::send`] and asks [`settle`] what to write into the row.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::future::Future;
use std::time::Duration;

use crate::alert::route::Target;
use crate::alert::{Alert, Comparison, Kind, Memory, Priority, State, Transition};

pub mod config;
pub mod email;
mod retry;
pub mod slack;
mod wording;

pub use config::{SlackConfig, SmtpConfig, TlsMode};
pub use email::Email;
pub use retry::{GIVE_UP_AFTER, Settled, settle};
pub use slack::Slack;

/// One transition for one channel: a row of the outbox.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Notification {
    /// Idempotency key: the same transition of the same alert for the same channel always has the same.
    pub id: String,
    /// Name of the channel.
    pub channel: String,
    /// What happened.
    pub transition: Transition,
    /// The alert as it was then.
    pub alert: Alert,
}

impl Notification {
    /// What `channel` is to hear of `transition`, after which `alert` is as given.
    #[must_use]
    pub fn new(alert: &Alert, transition: Transition, channel: &str) -> Self {
        let id = format!("{}/{}/{}/{}/{channel}", alert.rule_id, alert.id, alert.since, alert.memory.seq);
        Self { id, channel: channel.to_owned(), transition, alert: alert.clone() }
    }

    /// A message by which an operator sees whether `channel` works.
    #[must_use]
    pub fn test(channel: &str, now_ms: i64) -> Self {
        let alert = Alert {
            id: "0".repeat(16),
            rule_id: "test".into(),
            name: "Test message".into(),
            priority: Priority::Info,
            state: State::Firing,
            value: None,
            threshold: 0.0,
            comparison: Comparison::Above,
            metric_id: String::new(),
            tags: keyvigil_common::sample::Tags::default(),
            since: now_ms,
            fired_at: Some(now_ms),
            resolved_at: None,
            acknowledged_at: None,
            acknowledged_by: None,
            note: None,
            last_evaluated: now_ms,
            stale: false,
            summary: "this channel works; nothing is wrong".into(),
            runbook: None,
            memory: Memory::default(),
        };
        Self::new(&alert, Transition { kind: Kind::Test, from: None, to: None, at_ms: now_ms }, channel)
    }
}

/// The other side has taken the message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivered {
    /// What it answered, for the record.
    pub reply: String,
}

/// The other side has not, or it is not known that it has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// It will never take this message.
    #[error("{0}")]
    Permanent(String),
    /// It may later.
    #[error("{text}")]
    Retry {
        /// Not before.
        after: Option<Duration>,
        /// What was tried and what happened; holds no secret.
        text: String,
    },
}

impl SendError {
    fn retry(text: impl fmt::Display) -> Self {
        Self::Retry { after: None, text: clean(&text.to_string()) }
    }

    fn permanent(text: impl fmt::Display) -> Self {
        Self::Permanent(clean(&text.to_string()))
    }
}

/// Sends to one place.
pub trait Notifier {
    /// Its name: `email:ops@example.org`, `slack`.
    fn name(&self) -> &str;

    /// Tries once. Ends within the channel's timeout; the same notification may come again.
    fn send(&self, notification: &Notification) -> impl Future<Output = Result<Delivered, SendError>> + Send;
}

/// The kinds of channel there are.
#[derive(Debug)]
pub enum Channel {
    /// One recipient of mail.
    Email(Email),
    /// One channel of Slack.
    Slack(Slack),
}

impl Channel {
    /// Name and least priority, for [`crate::alert::route::route`].
    #[must_use]
    pub fn target(&self) -> Target {
        let min_priority = match self {
            Self::Email(email) => email.min_priority(),
            Self::Slack(slack) => slack.min_priority(),
        };
        Target { channel: self.name().to_owned(), min_priority }
    }

    /// The section of the configuration that it comes from: `email`, `slack`.
    #[must_use]
    pub fn receiver(&self) -> &'static str {
        match self {
            Self::Email(_) => "email",
            Self::Slack(_) => "slack",
        }
    }
}

impl Notifier for Channel {
    fn name(&self) -> &str {
        match self {
            Self::Email(email) => email.name(),
            Self::Slack(slack) => slack.name(),
        }
    }

    async fn send(&self, notification: &Notification) -> Result<Delivered, SendError> {
        match self {
            Self::Email(email) => email.send(notification).await,
            Self::Slack(slack) => slack.send(notification).await,
        }
    }
}

/// The channels that are configured: one for each recipient of mail, so that a mailbox that refuses holds up no other.
///
/// # Errors
/// All that is wrong with the configuration, a line each.
pub fn channels(smtp: &SmtpConfig, slack: &SlackConfig) -> Result<Vec<Channel>, Vec<String>> {
    let mut faults = smtp.check();
    faults.extend(slack.check());
    let mut out = Vec::new();
    if faults.is_empty() && smtp.is_on() {
        match Email::for_each_recipient(smtp) {
            Ok(all) => out.extend(all.into_iter().map(Channel::Email)),
            Err(fault) => faults.push(fault),
        }
    }
    if faults.is_empty() && slack.is_on() {
        match Slack::new(slack) {
            Ok(slack) => out.push(Channel::Slack(slack)),
            Err(fault) => faults.push(fault),
        }
    }
    if faults.is_empty() { Ok(out) } else { Err(faults) }
}

/// What another machine said, fit for a log, a row and a page.
fn clean(text: &str) -> String {
    const CHARS_MAX: usize = 500;
    text.chars().take(CHARS_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect()
}
