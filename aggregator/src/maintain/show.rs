//! What a maintenance command prints. Steps go to standard error: as a bar where that is a terminal, else as a line every
//! few seconds. The result goes to standard output, in words or as one JSON object.

use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use keyvigil_common::clock::SharedClock;
use keyvigil_common::process::say;

use crate::cli::Output;
use crate::store::{Cleaned, Reindexed, Step, Verified};
use crate::upkeep::{Compacted, Report, Task};

/// Between two lines.
const PACE: Duration = Duration::from_secs(5);

/// How far the work is, for who waits.
pub(super) struct Show {
    task: Task,
    bar: Option<ProgressBar>,
    clock: SharedClock,
    /// When the last line was printed.
    told: Mutex<Duration>,
}

impl Show {
    pub(super) fn new(task: Task, _output: Output, clock: SharedClock) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{prefix} {wide_bar} {pos}/{len} {msg} ({eta} left)").unwrap_or_else(|_| ProgressStyle::default_bar());
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            bar.set_style(style);
            bar.set_prefix(task.as_str());
            bar
        });
        let told = Mutex::new(clock.monotonic());
        Self { task, bar, clock, told }
    }

    /// Shows how far it is.
    pub(super) fn step(&self, step: &Step) {
        if let Some(bar) = &self.bar {
            bar.set_length(step.total);
            bar.set_position(step.done);
            bar.set_message(format!("{}, {}", step.unit, step.step));
            return;
        }
        let now = self.clock.monotonic();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_sub(*told) >= PACE {
            *told = now;
            failure(&format!("{}: {} of {} {}, at {}", self.task.as_str(), step.done, step.total, step.unit, step.step));
        }
    }

    /// Takes the bar away.
    pub(super) fn end(&self) {
        self.bar.iter().for_each(ProgressBar::finish_and_clear);
    }
}

/// Prints a line to standard error.
#[expect(clippy::print_stderr, reason = "the answer to who typed the command")]
pub(super) fn failure(text: &str) {
    eprintln!("{text}");
}

/// Prints what became of it.
pub(super) fn result(report: &Report, output: Output) {
    if output == Output::Json {
        say(&serde_json::to_string(report).unwrap_or_default());
        return;
    }
    match report {
        Report::Verify(found) => verified(found),
        Report::Compact(done) => compacted(*done),
        Report::Reindex(done) => reindexed(done),
        Report::Cleanup(done) => cleaned(done),
    }
}

fn verified(found: &Verified) {
    for fault in &found.first_faults {
        let place = [("table", &fault.table), ("row", &fault.row)].into_iter().filter(|(_, name)| !name.is_empty());
        let place: String = place.map(|(kind, name)| format!(", {kind} {name}")).collect();
        say(&format!("{}{place}: {}\n    {}", fault.file, fault.what, fault.advice));
    }
    let more = found.faults - found.first_faults.len() as u64;
    if more > 0 {
        say(&format!("and {more} more"));
    }
    let Verified { files, blocks, samples, series, level0_rows, records, faults, .. } = found;
    let faults = if *faults == 0 { "no fault".to_owned() } else { format!("{faults} faults") };
    say(&format!("{files} files, {blocks} blocks, {samples} samples in them, {series} series, {level0_rows} level-0 rows, {records} records: {faults}"));
}

fn compacted(Compacted { samples, bytes_before, bytes }: Compacted) {
    say(&format!("{samples} samples, {:.2} bytes each: {bytes_before} bytes before, {bytes} now", bytes as f64 / samples.max(1) as f64));
}

fn reindexed(done: &Reindexed) {
    let Reindexed { files, blocks, mended, series_added, damaged, failed } = done;
    failed.iter().for_each(|why| {
        say(&format!("not done: {why}"));
    });
    let added = if *series_added > 0 { format!(", {series_added} series found again") } else { String::new() };
    say(&format!("{files} files, {blocks} blocks: {mended} rows mended{added}, {damaged} blocks do not open"));
    if !failed.is_empty() || *damaged > 0 {
        say("`keyvigil-aggregator verify` says what is damaged and what to do");
    }
}

fn cleaned(done: &Cleaned) {
    let days = match (done.days.first(), done.days.last()) {
        (Some(first), Some(last)) if first != last => format!("{} days ({first} to {last})", done.days.len()),
        (Some(only), _) => format!("1 day ({only})"),
        _ => "no day".to_owned(),
    };
    let before = jiff::Timestamp::from_millisecond(done.before).map_or_else(|_| done.before.to_string(), |t| t.strftime("%Y-%m-%d %H:%M:%SZ").to_string());
    let Cleaned { records, bytes, .. } = done;
    say(&match done.dry_run {
        true => format!("would drop {days} and {records} records from before {before}: {bytes} bytes; nothing was changed"),
        false => format!("dropped {days} and {records} records from before {before}: {bytes} bytes freed"),
    });
}
