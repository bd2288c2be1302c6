//! The state machine of one alert: pending, firing, acknowledged, resolved. Time counts towards a rule's duration, and
//! towards the end of an alert, only between two observations that belong together: a restart, a silent agent or a stepped
//! clock neither fires nor resolves anything. Pure; called by `evaluate` and by the API.

use keyvigil_common::key::clamp_text;
use keyvigil_common::sample::Tags;

use super::choice::{Comparison, Priority, State};
use super::rule::Rule;
use super::sentence;
use super::{Alert, Kind, Memory, Observation, Step, Tick, Transition};

/// A pending alert that had no data for longer begins anew or is forgotten; nobody was told of it.
const FORGET_MS: i64 = 3_600_000;
const WHO_CHARS_MAX: usize = 100;

/// Why an alert cannot be acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It does not fire.
    #[error("the alert is {0}: only a firing alert can be acknowledged")]
    NotFiring(State),
    /// Nobody.
    #[error("by: is missing: write who takes care of it")]
    NoName,
}

struct Verdict {
    hit: bool,
    priority: Priority,
    rank: u8,
    threshold: f64,
    comparison: Comparison,
}

/// What `seen` makes of the alert `before`. A series that was not in the result at all is an observation without a value.
#[must_use]
pub fn step(rule: &Rule, before: Option<&Alert>, seen: &Observation, tick: Tick) -> Step {
    let id = before.map_or_else(|| seen.alert_id(rule), |alert| alert.id.clone());
    let (alert, kind) = match (verdict(rule, seen), before) {
        (Some(verdict), _) if verdict.hit => {
            let (alert, kind) = hit(rule, &id, before, seen, &verdict, tick);
            (Some(alert), kind)
        }
        (_, None) => (None, None),
        (_, Some(alert)) if alert.state == State::Resolved => (Some(alert.clone()), None),
        (Some(_), Some(alert)) => clear(rule, alert, seen, tick),
        (None, Some(alert)) => missing(alert, tick),
    };
    finish(id, before.map(|b| b.state), alert, kind, tick.now_ms)
}

/// Says that `by` takes care of a firing alert. Again by someone else: the later one has it.
///
/// # Errors
/// The alert does not fire, or nobody is named.
pub fn acknowledge(alert: &Alert, by: &str, note: Option<&str>, now_ms: i64) -> Result<Step, Refused> {
    if !alert.state.is_active() {
        return Err(Refused::NotFiring(alert.state));
    }
    let mut who: String = by.trim().chars().take(WHO_CHARS_MAX).collect();
    clamp_text(&mut who);
    if who.is_empty() {
        return Err(Refused::NoName);
    }
    let note = note.map(str::trim).filter(|text| !text.is_empty()).map(|text| {
        let mut text = text.to_owned();
        clamp_text(&mut text);
        text
    });
    let after = Alert { state: State::Acknowledged, acknowledged_at: Some(now_ms), acknowledged_by: Some(who), note, ..alert.clone() };
    Ok(finish(alert.id.clone(), Some(alert.state), Some(after), Some(Kind::Acknowledged), now_ms))
}

/// Ends an alert by decision and not by what was seen: its rule was removed, changed away or switched off, or its host was
/// taken out of service. `why` becomes the summary.
#[must_use]
pub fn close(alert: &Alert, why: &str, now_ms: i64) -> Step {
    let (after, kind) = match alert.state {
        State::Resolved => (Some(alert.clone()), None),
        State::Pending => withdraw(alert, now_ms),
        State::Firing | State::Acknowledged => {
            let mut after = Alert { state: State::Resolved, resolved_at: Some(now_ms), last_evaluated: now_ms, stale: false, ..alert.clone() };
            why.clone_into(&mut after.summary);
            (Some(after), Some(Kind::Resolved))
        }
    };
    finish(alert.id.clone(), Some(alert.state), after, kind, now_ms)
}

/// Whether the condition of `rule` holds for `seen`.
pub(super) fn holds(rule: &Rule, seen: &Observation) -> bool {
    verdict(rule, seen).is_some_and(|verdict| verdict.hit)
}

fn verdict(rule: &Rule, seen: &Observation) -> Option<Verdict> {
    if let Some(judged) = &seen.judged {
        let (priority, rank, threshold, comparison) = (judged.priority.min(rule.priority), judged.rank, judged.threshold, judged.comparison);
        return Some(Verdict { hit: judged.hit, priority, rank, threshold, comparison });
    }
    let value = seen.value.filter(|v| !v.is_nan())?;
    let threshold = rule.threshold_value?;
    let hit = rule.comparison.holds(value, threshold);
    Some(Verdict { hit, priority: rule.priority, rank: rule.priority as u8, threshold, comparison: rule.comparison })
}

fn hit(rule: &Rule, id: &str, before: Option<&Alert>, seen: &Observation, verdict: &Verdict, tick: Tick) -> (Alert, Option<Kind>) {
    let known = before.filter(|alert| alert.state != State::Resolved);
    let mut alert = known.cloned().unwrap_or_else(|| episode(rule, id, before, verdict, tick));
    let mut kind = known.is_none().then_some(Kind::Pending);
    let gap = tick.now_ms.saturating_sub(alert.memory.last_data).max(0);
    if alert.state == State::Pending {
        if gap > FORGET_MS {
            alert.since = tick.now_ms;
            alert.memory.held_ms = 0;
        } else {
            alert.memory.held_ms += counted(gap, tick);
        }
        if alert.memory.held_ms >= ms(rule.duration_seconds) {
            alert.state = State::Firing;
            (alert.fired_at, alert.resolved_at) = (Some(tick.now_ms), None);
            kind = Some(Kind::Fired);
        }
    } else if verdict.rank > alert.memory.rank {
        alert.state = State::Firing;
        (alert.acknowledged_at, alert.acknowledged_by) = (None, None);
        kind = Some(Kind::Escalated);
    }
    rule.title().clone_into(&mut alert.name);
    alert.runbook.clone_from(&rule.runbook);
    (alert.priority, alert.threshold, alert.comparison) = (verdict.priority, verdict.threshold, verdict.comparison);
    (alert.memory.rank, alert.memory.clear_ms) = (verdict.rank, None);
    look(&mut alert, seen, tick);
    alert.summary = sentence::holding(rule, &alert, seen);
    (alert, kind)
}

/// The beginning of an alert, or of its next episode: what it was told to whom before does not count any more.
fn episode(rule: &Rule, id: &str, earlier: Option<&Alert>, verdict: &Verdict, tick: Tick) -> Alert {
    Alert {
        id: id.to_owned(),
        rule_id: rule.rule_id.clone(),
        name: String::new(),
        priority: verdict.priority,
        state: State::Pending,
        value: None,
        threshold: verdict.threshold,
        comparison: verdict.comparison,
        metric_id: String::new(),
        tags: Tags::default(),
        since: tick.now_ms,
        fired_at: earlier.and_then(|alert| alert.fired_at),
        resolved_at: earlier.and_then(|alert| alert.resolved_at),
        acknowledged_at: None,
        acknowledged_by: None,
        note: None,
        last_evaluated: tick.now_ms,
        stale: false,
        summary: String::new(),
        runbook: None,
        memory: Memory { seq: earlier.map_or(0, |alert| alert.memory.seq), last_data: tick.now_ms, ..Memory::default() },
    }
}

fn clear(rule: &Rule, before: &Alert, seen: &Observation, tick: Tick) -> (Option<Alert>, Option<Kind>) {
    if before.state == State::Pending {
        return withdraw(before, tick.now_ms);
    }
    let mut alert = before.clone();
    let gap = tick.now_ms.saturating_sub(alert.memory.last_data).max(0);
    let clear_ms = alert.memory.clear_ms.map_or(0, |so_far| so_far + counted(gap, tick));
    alert.memory.clear_ms = Some(clear_ms);
    look(&mut alert, seen, tick);
    if clear_ms < ms(rule.keep_firing_seconds) {
        alert.summary = sentence::clearing(rule, &alert, seen);
        return (Some(alert), None);
    }
    alert.state = State::Resolved;
    alert.resolved_at = Some(tick.now_ms);
    alert.summary = sentence::resolved(rule, &alert, seen);
    (Some(alert), Some(Kind::Resolved))
}

fn missing(before: &Alert, tick: Tick) -> (Option<Alert>, Option<Kind>) {
    if before.state == State::Pending && tick.now_ms.saturating_sub(before.memory.last_data) > FORGET_MS {
        return withdraw(before, tick.now_ms);
    }
    (Some(Alert { stale: true, last_evaluated: tick.now_ms, ..before.clone() }), None)
}

/// A pending alert goes as it came; what remains is its last episode, if it had one.
fn withdraw(before: &Alert, now_ms: i64) -> (Option<Alert>, Option<Kind>) {
    let earlier = before.fired_at.filter(|_| before.resolved_at.is_some()).map(|fired_at| Alert {
        state: State::Resolved,
        since: fired_at,
        stale: false,
        last_evaluated: now_ms,
        summary: format!("{} held again, but not long enough to fire", before.name),
        ..before.clone()
    });
    (earlier, Some(Kind::Withdrawn))
}

fn look(alert: &mut Alert, seen: &Observation, tick: Tick) {
    alert.value = seen.value.filter(|v| v.is_finite());
    alert.metric_id.clone_from(&seen.metric_id);
    alert.tags.clone_from(&seen.tags);
    (alert.stale, alert.last_evaluated, alert.memory.last_data) = (false, tick.now_ms, tick.now_ms);
    if let Some((at_ms, by)) = &seen.event {
        alert.memory.event_ms = *at_ms;
        alert.memory.by.clone_from(by);
    }
}

/// How much of a gap between two observations counts: all of it, unless nobody looked in between.
fn counted(gap_ms: i64, tick: Tick) -> i64 {
    let unbroken = tick.interval_ms.max(0).saturating_mul(2).saturating_add(60_000);
    if gap_ms <= unbroken { gap_ms } else { 0 }
}

fn ms(seconds: u64) -> i64 {
    i64::try_from(seconds.saturating_mul(1_000)).unwrap_or(i64::MAX)
}

fn finish(id: String, from: Option<State>, mut alert: Option<Alert>, kind: Option<Kind>, at_ms: i64) -> Step {
    if let (Some(alert), Some(_)) = (alert.as_mut(), kind) {
        alert.memory.seq += 1;
    }
    let transition = kind.map(|kind| Transition { kind, from, to: alert.as_ref().map(|a| a.state), at_ms });
    Step { id, alert, transition }
}
