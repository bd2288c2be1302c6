//! What happened since rules last looked. It is looked at as soon as it is stored: whoever opened a key that is not theirs is told of
//! within seconds. Each event is looked at once, over restarts too.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use keyvigil_common::telemetry::chain;

use super::Alerts;
use crate::alert::event::{self, Happened};
use crate::alert::{self, Rule, RuleKind, Tick};
use crate::keys::EventRecord;
use crate::store::ledger::{self, Stored, Through};

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
            let (happened, Through { last, unreadable }) = self.happened(&rules, before).await?;
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
            if unreadable > 0 {
                tracing::error!(after = before, through = last, unreadable, "events do not open: no rule has looked at them. Run `keyvigil-aggregator verify`");
                self.unreadable.add(unreadable);
            }
            if happened.len() < EVENTS_MAX {
                return Ok(());
            }
        }
    }

    /// What is new of the kinds that `rules` look at, and how far that is.
    async fn happened(&self, rules: &[Rule], after: i64) -> Result<(Vec<EventRecord>, Through), String> {
        let mut kinds: Vec<&str> = rules.iter().flat_map(|rule| &rule.events).map(|kind| kind.as_str()).collect();
        kinds.sort_unstable();
        kinds.dedup();
        let tenant = self.tenant;
        let read = move |connection: &rusqlite::Connection, ring: &keyvigil_common::seal::KeyRing| {
            let mut happened = Vec::new();
            let through = ledger::events_after(connection, ring, tenant, &kinds, after, |stored: Stored<EventRecord>| {
                happened.push(stored.record);
                happened.len() < EVENTS_MAX
            })?;
            Ok((happened, through))
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use keyvigil_common::clock::ManualClock;
    use keyvigil_common::event::EventKind;
    use keyvigil_common::seal::MasterKey;
    use keyvigil_common::telemetry::Registry;

    use super::*;
    use crate::job::alerts::Parts;
    use crate::store::Store;

    const NOW: i64 = 1_795_000_000_000;
    const TENANT: u32 = 1;

    fn violation(host: &str) -> EventRecord {
        EventRecord {
            kind: EventKind::PolicyViolation,
            at_ms: NOW,
            host: host.into(),
            key: Some("k".repeat(64)),
            path: None,
            actor: None,
            message: "who may not".into(),
            evidence: [("policy".to_owned(), "unauthorized access".to_owned())].into(),
        }
    }

    #[tokio::test]
    async fn an_event_that_does_not_open_is_counted_and_those_behind_it_alert() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), &MasterKey::generate(), NOW, 512 << 20).unwrap();
        let registry = Registry::default();
        let parts = Parts {
            store: store.clone(),
            inventory: Arc::default(),
            fleet: Arc::default(),
            clock: ManualClock::at(NOW),
            tenant: TENANT,
            interval_ms: 15_000,
            targets: Vec::new(),
            outbox: Arc::default(),
            rules: alert::shipped(),
            registry: registry.clone(),
        };
        let alerts = Alerts::load(parts).await.unwrap();
        for host in ["web", "db"] {
            store.write(move |tx| tx.add_event(TENANT, NOW, EventKind::PolicyViolation.as_str(), &violation(host))).await.unwrap();
        }
        let file = rusqlite::Connection::open(dir.path().join("main.db")).unwrap();
        file.execute("UPDATE event SET body = zeroblob(200) WHERE id = (SELECT min(id) FROM event)", []).unwrap();
        alerts.evaluate_events().await.unwrap();
        let open: Vec<String> = alerts.state.lock().unwrap().alerts.values().map(|alert| alert.tags.get("host").unwrap_or_default().to_owned()).collect();
        assert_eq!(open, ["db"]);
        let passed_over = registry.all().into_iter().find(|own| own.metric_id == "keyvigil.alerts.events_unreadable_total").unwrap();
        assert_eq!(passed_over.value.get(), 1);
        alerts.evaluate_events().await.unwrap();
        assert_eq!(passed_over.value.get(), 1, "each once");
    }
}
