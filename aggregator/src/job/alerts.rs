//! The rules and the alerts of a tenant: evaluates each rule against the store, keeps what came of it, and writes state,
//! history and notifications in one transaction. What an alert is and does is decided by `alert`, purely.

mod events;
mod hosts;
mod keys;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use keyvigil_common::clock::SharedClock;
use keyvigil_common::telemetry::{Number, Registry, chain};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::alert::route::{Target, route};
use crate::alert::{self, Alert, Kind, Observation, Origin, Rule, RuleKind, State, Step, Tick, Transition};
use crate::alert::{event, expiry, finding, host};
use crate::fleet::Fleet;
use crate::index::{Selector, TenantId};
use crate::keys::Inventory;
use crate::notify::Notification;
use crate::query::{self, Question};
use crate::store::ledger::{self, Table};
use crate::store::{Store, StoreError, outbox};

/// Series that one rule may watch.
const SERIES_MAX: usize = 100_000;

/// One line of an alert's history.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HistoryRecord {
    /// Unix ms.
    pub time: i64,
    /// What happened.
    pub kind: Kind,
    /// State before.
    pub from: Option<State>,
    /// State after.
    pub to: Option<State>,
    /// Value then.
    pub value: Option<f64>,
}

/// Rules and open alerts.
#[derive(Debug)]
pub struct Alerts {
    store: Store,
    inventory: Arc<Inventory>,
    fleet: Arc<Fleet>,
    clock: SharedClock,
    tenant: TenantId,
    interval_ms: i64,
    targets: Vec<Target>,
    /// Poked when there is something to deliver.
    outbox: Arc<Notify>,
    state: Mutex<Memory>,
    /// Events that do not open, and that no rule has looked at.
    unreadable: Number,
    /// One change of alerts at a time: evaluation, acknowledgement, removal of a rule.
    changing: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Memory {
    /// Of the product and of files: what a rule of the API that is deleted gives way to.
    base: BTreeMap<String, Rule>,
    rules: BTreeMap<String, Rule>,
    /// By id; resolved ones stay until the next start, for their sequence numbers.
    alerts: BTreeMap<String, Alert>,
    /// Up to which row events were looked at.
    events_read: i64,
}

/// Everything an [`Alerts`] needs.
#[derive(Debug)]
pub struct Parts {
    /// Samples and state.
    pub store: Store,
    /// Keys.
    pub inventory: Arc<Inventory>,
    /// Hosts.
    pub fleet: Arc<Fleet>,
    /// Time.
    pub clock: SharedClock,
    /// Whose.
    pub tenant: TenantId,
    /// Between two evaluations, ms.
    pub interval_ms: i64,
    /// Channels.
    pub targets: Vec<Target>,
    /// Wakes delivery.
    pub outbox: Arc<Notify>,
    /// Rules of the product and of files.
    pub rules: Vec<Rule>,
    /// Where is counted what no rule has looked at.
    pub registry: Registry,
}

impl Alerts {
    /// Reads rules and alerts from the store; rules of the API win over files, files over shipped ones.
    ///
    /// # Errors
    /// The store's.
    pub async fn load(parts: Parts) -> Result<Self, StoreError> {
        let Parts { store, inventory, fleet, clock, tenant, interval_ms, targets, outbox, rules, registry } = parts;
        let mut memory = Memory::default();
        memory.base.extend(rules.into_iter().map(|rule| (rule.rule_id.clone(), rule)));
        memory.rules.clone_from(&memory.base);
        for (at, id, rule) in store.read(|connection, ring| ledger::all::<Rule>(connection, ring, Table::Rule)).await? {
            if at == tenant {
                memory.rules.insert(id, rule);
            }
        }
        let alerts: Vec<Alert> = store.read(move |connection, ring| outbox::alerts(connection, ring, tenant, Some(0), usize::MAX)).await?;
        memory.events_read = store.read(move |connection, _| ledger::events_read(connection, tenant)).await?;
        let read = memory.events_read;
        store.write(move |tx| tx.put_events_read(tenant, read)).await?;
        memory.alerts.extend(alerts.into_iter().map(|alert| (alert.id.clone(), alert)));
        let state = Mutex::new(memory);
        let unreadable = registry.counter("keyvigil.alerts.events_unreadable_total", "Events that do not open, and that no rule has looked at.");
        let changing = tokio::sync::Mutex::default();
        Ok(Self { store, inventory, fleet, clock, tenant, interval_ms, targets, outbox, state, unreadable, changing })
    }

    /// Poked whenever there is something to deliver.
    #[must_use]
    pub fn outbox(&self) -> Arc<Notify> {
        Arc::clone(&self.outbox)
    }

    /// Evaluates every rule once, at the clock's time.
    ///
    /// # Errors
    /// The rules that could not be evaluated, and why; the others were.
    pub async fn evaluate(&self) -> Result<String, String> {
        let _one = self.changing.lock().await;
        let tick = Tick { now_ms: self.clock.now_ms(), interval_ms: self.interval_ms };
        let mut failed = Vec::new();
        if let Err(e) = self.close_orphans(tick.now_ms).await {
            failed.push(chain(&e));
        }
        if let Err(e) = self.look_at_events(tick).await {
            failed.push(e);
        }
        for rule in self.rules().iter().filter(|rule| rule.enabled && rule.kind != RuleKind::Event) {
            if let Err(e) = self.evaluate_rule(rule, tick).await {
                failed.push(format!("{}: {e}", rule.rule_id));
            }
        }
        if failed.is_empty() { Ok(String::new()) } else { Err(failed.join("; ")) }
    }

    /// Ends alerts that nobody evaluates any more: their rule was switched off, or is not in the configuration now.
    async fn close_orphans(&self, now_ms: i64) -> Result<(), StoreError> {
        let enabled: BTreeSet<String> = self.rules().into_iter().filter(|rule| rule.enabled).map(|rule| rule.rule_id).collect();
        let open = self.open();
        let orphans = open.iter().filter(|a| !enabled.contains(&a.rule_id));
        self.commit(orphans.map(|a| alert::close(a, "its rule is gone or switched off", now_ms)).collect(), None).await
    }

    async fn evaluate_rule(&self, rule: &Rule, tick: Tick) -> Result<(), String> {
        let befores = self.befores(rule);
        let look = || keys::Keys::look(&self.inventory, self.tenant, &self.clock);
        let seen = match rule.kind {
            RuleKind::Threshold => self.observe_samples(rule, tick.now_ms).await?,
            RuleKind::KeyExpiry => look().await?.ends(rule, &befores, tick.now_ms),
            RuleKind::Finding => look().await?.faults(rule, &befores),
            // Looked at together: see `events.rs`.
            RuleKind::Event => return Ok(()),
            RuleKind::Blind | RuleKind::Silent => host::observe(rule, &hosts::standings(&self.fleet, self.tenant, tick.now_ms)),
        };
        let steps = alert::evaluate(rule, &befores, &seen, tick);
        self.commit(steps, None).await.map_err(|e| chain(&e))
    }

    /// The alerts of a rule so far.
    fn befores(&self, rule: &Rule) -> BTreeMap<String, Alert> {
        let memory = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        memory.alerts.iter().filter(|(_, a)| a.rule_id == rule.rule_id).map(|(id, a)| (id.clone(), a.clone())).collect()
    }

    async fn observe_samples(&self, rule: &Rule, now_ms: i64) -> Result<Vec<Observation>, String> {
        let window_ms = i64::try_from(rule.window_seconds).unwrap_or(i64::MAX).saturating_mul(1_000);
        let question = Question {
            tenant: self.tenant,
            selector: selector(rule)?,
            from_ms: now_ms - window_ms + 1,
            to_ms: now_ms,
            aggregation: Some(rule.aggregation),
            interval_ms: None,
            group_by: None,
            limit: SERIES_MAX,
            urgent: true,
        };
        let answer = query::ask(&self.store, &question).await.map_err(|e| chain(&e))?;
        let seen = answer.rows.into_iter().map(|row| {
            let value = row.points.last().and_then(|(_, value)| *value);
            Observation::new(row.metric_id, row.tags, value)
        });
        Ok(seen.collect())
    }

    /// Stores what came of an evaluation: alerts, history and notifications in one transaction, and up to which row events were looked at.
    async fn commit(&self, mut steps: Vec<Step>, events_read: Option<i64>) -> Result<(), StoreError> {
        {
            // A resolved alert that stays so is not written again at each turn.
            let memory = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            steps.retain(|step| step.transition.is_some() || step.alert.as_ref() != memory.alerts.get(&step.id));
        }
        if steps.is_empty() && events_read.is_none() {
            return Ok(());
        }
        let mut notifications = Vec::new();
        for step in &mut steps {
            if let (Some(alert), Some(transition)) = (&mut step.alert, &step.transition) {
                for channel in route(&self.targets, alert, transition) {
                    notifications.push(Notification::new(alert, *transition, &channel));
                }
            }
        }
        let (tenant, now_ms, stored) = (self.tenant, self.clock.now_ms(), steps.clone());
        let sent = notifications.clone();
        self.store
            .write(move |tx| {
                for step in &stored {
                    match &step.alert {
                        Some(alert) => tx.put_alert(tenant, &step.id, alert.state != State::Resolved, now_ms, alert)?,
                        None => tx.delete_alert(tenant, &step.id)?,
                    }
                    if let Some(transition) = &step.transition {
                        tx.add_history(tenant, &step.id, transition.at_ms, &history(step, transition))?;
                    }
                }
                if let Some(last) = events_read {
                    tx.put_events_read(tenant, last)?;
                }
                for note in &sent {
                    tx.add_notification(tenant, &note.id, &note.alert.id, &note.channel, note.transition.at_ms, note)?;
                }
                Ok(())
            })
            .await?;
        self.remember(steps);
        if !notifications.is_empty() {
            self.outbox.notify_one();
        }
        Ok(())
    }

    fn remember(&self, steps: Vec<Step>) {
        let mut memory = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for step in steps {
            match step.alert {
                Some(alert) => memory.alerts.insert(step.id, alert),
                None => memory.alerts.remove(&step.id),
            };
        }
    }

    /// All rules.
    #[must_use]
    pub fn rules(&self) -> Vec<Rule> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).rules.values().cloned().collect()
    }

    /// Alerts that are not resolved.
    #[must_use]
    pub fn open(&self) -> Vec<Alert> {
        let memory = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        memory.alerts.values().filter(|a| a.state != State::Resolved).cloned().collect()
    }

    /// Alerts of all states.
    #[must_use]
    pub fn all(&self) -> Vec<Alert> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).alerts.values().cloned().collect()
    }

    /// One alert.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<Alert> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).alerts.get(id).cloned()
    }

    /// Says that somebody takes care of an alert.
    ///
    /// # Errors
    /// No such alert, one that does not fire, nobody named; the store's.
    pub async fn acknowledge(&self, id: &str, by: &str, note: Option<&str>) -> Result<Alert, StoreError> {
        let _one = self.changing.lock().await;
        let before = self.get(id).ok_or_else(|| StoreError::Missing("this alert".into()))?;
        let step = alert::acknowledge(&before, by, note, self.clock.now_ms()).map_err(|e| StoreError::Refused(e.to_string()))?;
        self.commit(vec![step], None).await?;
        self.get(id).ok_or_else(|| StoreError::Missing("this alert".into()))
    }

    /// Adds or replaces a rule. Alerts of a rule that was changed end; the new one decides anew.
    ///
    /// # Errors
    /// All that is wrong with it; the store's.
    pub async fn put_rule(&self, mut rule: Rule) -> Result<Rule, StoreError> {
        rule.origin = Origin::Api;
        rule.check().map_err(|faults| StoreError::Refused(faults.join("; ")))?;
        selector(&rule).map_err(StoreError::Refused)?;
        let _one = self.changing.lock().await;
        let (tenant, stored) = (self.tenant, rule.clone());
        self.store.write(move |tx| tx.put(Table::Rule, tenant, &stored.rule_id, &stored)).await?;
        let before = self.state.lock().unwrap_or_else(PoisonError::into_inner).rules.insert(rule.rule_id.clone(), rule.clone());
        if before.is_some_and(|before| before != rule) {
            self.close_alerts(&rule.rule_id, "the rule was changed").await?;
        }
        Ok(rule)
    }

    /// Removes a rule of the API and ends its alerts. One that stood in place of a shipped one, or of one in a file, gives way
    /// to that.
    ///
    /// # Errors
    /// No such rule, or one that is not of the API; the store's.
    pub async fn delete_rule(&self, id: &str) -> Result<(), StoreError> {
        let _one = self.changing.lock().await;
        let known = self.rules().into_iter().find(|rule| rule.rule_id == id).ok_or_else(|| StoreError::Missing("this rule".into()))?;
        if known.origin != Origin::Api {
            return Err(StoreError::Refused("a shipped rule, or one of a file, cannot be deleted: set `enabled` to false".into()));
        }
        let (tenant, owned) = (self.tenant, id.to_owned());
        self.store.write(move |tx| tx.delete(Table::Rule, tenant, &owned)).await?;
        {
            let mut memory = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            match memory.base.get(id).cloned() {
                Some(base) => memory.rules.insert(id.to_owned(), base),
                None => memory.rules.remove(id),
            };
        }
        self.close_alerts(id, "the rule was removed").await
    }

    async fn close_alerts(&self, rule_id: &str, why: &str) -> Result<(), StoreError> {
        let now_ms = self.clock.now_ms();
        let steps = self.open().iter().filter(|a| a.rule_id == rule_id).map(|a| alert::close(a, why, now_ms)).collect();
        self.commit(steps, None).await
    }
}

/// The series that a threshold rule looks at.
///
/// # Errors
/// A pattern or tag that is not one.
pub fn selector(rule: &Rule) -> Result<Selector, String> {
    let tags: Vec<String> = rule.tags.iter().map(|(name, value)| format!("{name}:{value}")).collect();
    let pattern = match rule.kind {
        RuleKind::Threshold => &rule.metric_pattern,
        RuleKind::KeyExpiry => expiry::METRIC_ID,
        RuleKind::Finding => finding::METRIC_ID,
        RuleKind::Event => event::METRIC_ID,
        RuleKind::Blind => host::BLIND,
        RuleKind::Silent => host::SILENT,
    };
    Selector::parse(pattern, tags.iter().map(String::as_str))
}

fn history(step: &Step, transition: &Transition) -> HistoryRecord {
    let value = step.alert.as_ref().and_then(|a| a.value);
    HistoryRecord { time: transition.at_ms, kind: transition.kind, from: transition.from, to: transition.to, value }
}
