//! Logs to standard error, and the process's own numbers. A number lives in the struct of the thing it measures; the
//! [`Registry`] only knows their names, so that `/metrics` and the agent's own batch can read them.

use std::error::Error;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt;

use crate::sample::MetricType;

/// Starts logging at `level` (`error` to `trace`, `off`), as text or one JSON object a line. Control characters of what is
/// logged are escaped by the formatter. A second call does nothing.
///
/// # Errors
/// A level that is not one.
pub fn start_logs(level: &str, json: bool) -> Result<(), String> {
    let filter: LevelFilter = level.parse().map_err(|_| format!("log level {level:?} is not one of error, warn, info, debug, trace, off"))?;
    let builder = fmt().with_max_level(filter).with_writer(std::io::stderr).with_target(false);
    let builder = builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()));
    let _ = match (json, std::env::var_os("JOURNAL_STREAM").is_some()) {
        (true, _) => builder.json().try_init(),
        // The journal has the time of each line itself.
        (false, true) => builder.without_time().try_init(),
        (false, false) => builder.try_init(),
    };
    Ok(())
}

/// The error and everything below it in one line: `what failed: why: why that`.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut out = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        if !out.contains(&text) {
            let _ = write!(out, ": {text}");
        }
        next = cause.source();
    }
    out
}

/// A number of this process, shared with who measures it.
#[derive(Debug, Clone, Default)]
pub struct Number(Arc<AtomicU64>);

impl Number {
    /// Counts one.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Counts `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Sets a gauge.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Current value.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Name and meaning of an own number.
#[derive(Debug, Clone)]
pub struct Described {
    /// Dotted name.
    pub metric_id: &'static str,
    /// Counter or gauge.
    pub metric_type: MetricType,
    /// One sentence.
    pub help: &'static str,
    /// Extra tag, where one name has several values.
    pub tag: Option<(&'static str, &'static str)>,
    /// The number.
    pub value: Number,
}

/// All own numbers of the process.
#[derive(Debug, Clone, Default)]
pub struct Registry(Arc<Mutex<Vec<Described>>>);

impl Registry {
    /// Registers a counter.
    #[must_use]
    pub fn counter(&self, metric_id: &'static str, help: &'static str) -> Number {
        self.register(metric_id, MetricType::Counter, help, None)
    }

    /// Registers a gauge.
    #[must_use]
    pub fn gauge(&self, metric_id: &'static str, help: &'static str) -> Number {
        self.register(metric_id, MetricType::Gauge, help, None)
    }

    /// Registers one value of a counter that a tag splits.
    #[must_use]
    pub fn counter_by(&self, metric_id: &'static str, help: &'static str, tag: (&'static str, &'static str)) -> Number {
        self.register(metric_id, MetricType::Counter, help, Some(tag))
    }

    /// Registers one value of a gauge that a tag splits.
    #[must_use]
    pub fn gauge_by(&self, metric_id: &'static str, help: &'static str, tag: (&'static str, &'static str)) -> Number {
        self.register(metric_id, MetricType::Gauge, help, Some(tag))
    }

    fn register(&self, metric_id: &'static str, metric_type: MetricType, help: &'static str, tag: Option<(&'static str, &'static str)>) -> Number {
        let value = Number::default();
        let described = Described { metric_id, metric_type, help, tag, value: value.clone() };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(described);
        value
    }

    /// All numbers as they are now.
    #[must_use]
    pub fn all(&self) -> Vec<Described> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
