//! What a maintenance command prints. Steps go to standard error: as a bar where that is a terminal, else as a line every
//! few seconds. The result goes to standard output, in words or as one JSON object.

use std::io::IsTerminal;
use std::sync::{Mutex, OnceLock, PoisonError};
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
    terminal: bool,
    /// Made when it is known how much there is.
    bar: OnceLock<ProgressBar>,
    clock: SharedClock,
    /// When the last line was printed.
    told: Mutex<Duration>,
}

impl Show {
    pub(super) fn new(task: Task, clock: SharedClock) -> Self {
        let told = Mutex::new(clock.monotonic());
        Self { task, terminal: std::io::stderr().is_terminal(), bar: OnceLock::new(), clock, told }
    }

    /// Shows how far it is.
    pub(super) fn step(&self, step: &Step) {
        let at = format!("{}, {}", step.unit, step.step);
        if self.terminal {
            let bar = self.bar.get_or_init(|| self.bar(step.total, at.clone()));
            bar.set_length(step.total);
            bar.set_message(at);
            bar.set_position(step.done);
            return;
        }
        let now = self.clock.monotonic();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_sub(*told) >= PACE {
            *told = now;
            failure(&format!("{}: {} of {} {at}", self.task.as_str(), step.done, step.total));
        }
    }

    fn bar(&self, total: u64, at: String) -> ProgressBar {
        let style = ProgressStyle::with_template("{prefix} {wide_bar} {pos}/{len} {msg} ({eta} left)").unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
        bar.with_style(style).with_prefix(self.task.as_str()).with_message(at)
    }

    /// Takes the bar away.
    pub(super) fn end(&self) {
        self.bar.get().into_iter().for_each(ProgressBar::finish_and_clear);
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

fn count(n: u64, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
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
    let (files, blocks, level0) = (count(*files, "file"), count(*blocks, "block"), count(*level0_rows, "level-0 row"));
    let (samples, records) = (count(*samples, "sample"), count(*records, "record"));
    let faults = if *faults == 0 { "no fault".to_owned() } else { count(*faults, "fault") };
    say(&format!("{files}, {blocks} of {samples}, {series} series, {level0}, {records}: {faults}"));
}

fn compacted(Compacted { samples, bytes_before, bytes }: Compacted) {
    let each = if samples > 0 { format!(", {:.2} bytes each", bytes as f64 / samples as f64) } else { String::new() };
    say(&format!("{}{each}: {bytes_before} bytes before, {bytes} now", count(samples, "sample")));
}

fn reindexed(done: &Reindexed) {
    let Reindexed { files, blocks, mended, series_added, damaged, failed } = done;
    failed.iter().for_each(|why| {
        say(&format!("not done: {why}"));
    });
    let added = if *series_added > 0 { format!(", {series_added} series found again") } else { String::new() };
    let damage = if *damaged > 0 { format!(", {} damaged", count(*damaged, "block")) } else { String::new() };
    say(&format!("{}, {}: {} mended{added}{damage}", count(*files, "file"), count(*blocks, "block"), count(*mended, "row")));
    if !failed.is_empty() || *damaged > 0 {
        say("`keyvigil-aggregator verify` says what is damaged and what to do");
    }
}

fn cleaned(done: &Cleaned) {
    let number = count(done.days.len() as u64, "day");
    let days = match (done.days.first(), done.days.last()) {
        (Some(first), Some(last)) if first != last => format!("{number} ({first} to {last})"),
        (Some(only), _) => format!("{number} ({only})"),
        _ => "no day".to_owned(),
    };
    let before = jiff::Timestamp::from_millisecond(done.before).map_or_else(|_| done.before.to_string(), |t| t.strftime("%Y-%m-%d %H:%M:%SZ").to_string());
    let (records, bytes) = (count(done.records, "record"), count(done.bytes, "byte"));
    say(&match done.dry_run {
        true => format!("would drop {days} and {records} from before {before}: {bytes}; nothing was changed"),
        false => format!("dropped {days} and {records} from before {before}: {bytes} freed"),
    });
}
