//! `keyvigil-agent top`: what each sensor does and what it costs, what waits and what is delivered, again every two seconds on a
//! terminal, once elsewhere.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use keyvigil_common::clock::SharedClock;
use keyvigil_common::process::say;

use crate::control::{self, Report};
use crate::status::{Line, size, span};

const AGAIN: Duration = Duration::from_secs(2);

/// Shows the agent that works in `dir`.
pub async fn show(dir: &Path, clock: &SharedClock, once: bool, json: bool) -> ExitCode {
    let mut before: Option<Report> = None;
    let again = !once && !json && std::io::stdout().is_terminal();
    loop {
        let report = match control::ask(dir) {
            Ok(Some(report)) => report,
            Ok(None) => {
                say(&format!("no agent runs in {}: `systemctl start keyvigil-agent`, or `keyvigil-agent run`", dir.display()));
                return ExitCode::from(3);
            }
            Err(e) => {
                say(&format!("the agent in {} cannot be asked: {e}\n-> {}", dir.display(), e.remedy()));
                return ExitCode::from(e.code());
            }
        };
        if json {
            return say(&serde_json::to_string_pretty(&report).unwrap_or_default());
        }
        let text = page(&report, before.as_ref());
        if !again {
            return say(text.trim_end());
        }
        // Home, the page, and away with what was below it: no flicker.
        let mut out = std::io::stdout();
        let lines = text.replace('\n', "\x1b[K\n");
        if write!(out, "\x1b[H{lines}\x1b[J").and_then(|()| out.flush()).is_err() {
            return ExitCode::SUCCESS;
        }
        before = Some(report);
        clock.sleep(AGAIN).await;
    }
}

fn page(report: &Report, before: Option<&Report>) -> String {
    let mut out = String::new();
    let cpu = before.filter(|b| report.now_ms > b.now_ms).map_or_else(
        || percent(report.cpu_seconds, Some(0.0), report.now_ms - report.started_ms),
        |b| percent(report.cpu_seconds, b.cpu_seconds, report.now_ms - b.now_ms),
    );
    let waiting = &report.buffer;
    let _ = writeln!(out, "{} -> {}   up {}", report.host, report.aggregator, span(report.now_ms - report.started_ms));
    let memory = report.resident_bytes.map_or("unknown".to_owned(), size);
    let _ = writeln!(out, "cpu {cpu} of one core   memory {memory}");
    let last = report.standing.last_ack_ms.map_or("none yet".to_owned(), |at| format!("{} ago", span(report.now_ms - at)));
    let _ = writeln!(out, "buffer {} batches, {} of {}   last ack {last}", waiting.batches, size(waiting.bytes), size(waiting.bytes_max));
    for (name, text, remedy) in crate::status::running(report).iter().filter_map(Line::trouble) {
        let _ = writeln!(out, "{name}: {text}\n  -> {remedy}");
    }
    for proof in &report.canary {
        let proven = proof.proven_ms.map_or("not yet".to_owned(), |at| format!("{} ago", span(report.now_ms - at)));
        let _ = writeln!(
            out,
            "canary {:<10} proven {proven}, {} trials failed{}",
            proof.path,
            proof.failures,
            proof.gap.as_ref().map_or(String::new(), |why| format!(": {why}"))
        );
    }
    if report.given_up > 0 {
        let _ = writeln!(out, "losses: {} batches were given up since the start", report.given_up);
    }
    let _ = writeln!(out, "\n{:<12} {:>9} {:>9} {:>9} {:>9}  blind", "SENSOR", "EVERY", "TOOK", "SAMPLES", "AGO");
    let mut sensors: Vec<_> = report.sensors.iter().collect();
    sensors.sort_by(|a, b| (b.took_ms / b.interval_ms.max(1) as f64).total_cmp(&(a.took_ms / a.interval_ms.max(1) as f64)));
    for sensor in sensors {
        let ago = sensor.answered_ms.map_or("-".to_owned(), |at| span(report.now_ms - at));
        let blind = sensor.blind.iter().map(|(what, _)| what.as_str()).collect::<Vec<_>>().join(", ");
        let every = span(i64::try_from(sensor.interval_ms).unwrap_or(i64::MAX));
        let _ = writeln!(out, "{:<12} {every:>9} {:>6.1} ms {:>9} {ago:>9}  {blind}", sensor.name, sensor.took_ms, sensor.samples);
    }
    out
}

fn percent(now: Option<f64>, before: Option<f64>, ms: i64) -> String {
    match (now.zip(before), ms) {
        (Some((now, before)), 1..) => format!("{:.2} %", (now - before) * 100_000.0 / ms as f64),
        _ => "an unknown part".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Sensor;

    #[test]
    fn the_sensor_that_costs_most_is_first_and_cpu_is_that_of_the_last_moments() {
        let sensor = |name: &str, took_ms: f64, interval_ms: u64| Sensor { name: name.into(), took_ms, interval_ms, ..Sensor::default() };
        let before = Report { now_ms: 10_000, cpu_seconds: Some(5.0), ..Report::default() };
        let report =
            Report { now_ms: 12_000, cpu_seconds: Some(5.1), sensors: vec![sensor("rare", 50.0, 60_000), sensor("dear", 20.0, 10_000)], ..Report::default() };
        let page = page(&report, Some(&before));
        assert!(page.contains("cpu 5.00 % of one core"), "{page}");
        assert!(super::page(&Report::default(), None).contains("cpu an unknown part of one core   memory unknown"));
        assert!(page.find("dear").unwrap() < page.find("rare").unwrap(), "{page}");
    }
}
