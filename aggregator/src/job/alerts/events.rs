//! What happened since rules last looked. It is looked at as soon as it is stored: whoever opened a key that is not theirs is told of
//! within seconds. Each event is looked at once, over restarts too.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use keyvigil_common::telemetry::chain;

use super::Alerts;
use crate::alert::event::{self, Happened};
use crate::alert::{self, Rule, RuleKind, Tick};
use crate::keys::EventRecord;
use crate::store::ledger::{self, Stored};

/// Events that are looked at together.
const EVENTS_MAX: usize = 5_000;

impl Alerts {
    /// Evaluates the rules about events, at the clock's time.
    ///
    /// # Errors
    /// The store's.
    pub async fn evaluate_events(&self) -> Result<String, String> {
        let _one = self.changing.lock().await;
        let tick = Tick { now_ms: self.clock.now_ms(), interval_ms: self.interval_ms };
        self.look_at_events(tick).await.map(|()| String::new())
    }

    /// As above, where the caller sees to it that nothing else changes alerts meanwhile.
    pub(super) async fn look_at_events(&self, tick: Tick) -> Result<(), String> {
        let rules: Vec<Rule> = self.rules().into_iter().filter(|rule| rule.enabled && rule.kind == RuleKind::Event).collect();
        loop {
            let before = self.state.lock().unwrap_or_else(PoisonError::into_inner).events_read;
            let (happened, last) = self.happened(&rules, before).await?;
            let mut steps = Vec::new();
            for rule in &rules {
                let concerned = happened.iter().filter(|record| event::concerns(rule, record.kind, &record.evidence));
                let befores = self.befores(rule);
                let seen = event::observe(rule, &concerned.map(as_happened).collect::<Vec<_>>(), &befores, tick.now_ms);
                steps.extend(alert::evaluate(rule, &befores, &seen, tick));
            }
            // Stored though nothing came of it: a rule that is made later tells nothing of what was before it.
            self.commit(steps, Some(last).filter(|last| *last != before)).await.map_err(|e| chain(&e))?;
            self.state.lock().unwrap_or_else(PoisonError::into_inner).events_read = last;
            if happened.len() < EVENTS_MAX {
                return Ok(());
            }
        }
    }

    /// What is new of the kinds that `rules` look at, and the last row there is.
    async fn happened(&self, rules: &[Rule], after: i64) -> Result<(Vec<EventRecord>, i64), String> {
        let mut kinds: Vec<&str> = rules.iter().flat_map(|rule| &rule.events).map(|kind| kind.as_str()).collect();
        kinds.sort_unstable();
        kinds.dedup();
        let tenant = self.tenant;
        let read = move |connection: &rusqlite::Connection, ring: &keyvigil_common::seal::KeyRing| {
            let mut happened = Vec::new();
            let last = ledger::events_after(connection, ring, tenant, &kinds, after, |stored: Stored<EventRecord>| {
                happened.push(stored.record);
                happened.len() < EVENTS_MAX
            })?;
            Ok((happened, last))
        };
        self.store.read(read).await.map_err(|e| chain(&e))
    }
}

fn as_happened(record: &EventRecord) -> Happened {
    let told = |evidence: &BTreeMap<String, String>, name: &str| evidence.get(name).cloned().unwrap_or_default();
    let exe = record.actor.as_ref().and_then(|actor| actor.exe.clone());
    let uid = record.actor.as_ref().and_then(|actor| actor.uid).map(|uid| uid.to_string());
    Happened {
        host: record.host.clone(),
        key: record.key.clone().unwrap_or_default(),
        path: record.path.clone().unwrap_or_default(),
        exe: exe.unwrap_or_else(|| told(&record.evidence, "process")),
        user: record.evidence.get("user").cloned().or(uid).unwrap_or_default(),
        message: record.message.clone(),
        times: record.evidence.get("times").and_then(|times| times.parse().ok()).unwrap_or(1),
    }
}
