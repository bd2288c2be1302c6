//! How long what is kept: samples and the two roll-ups, each for its own time, and by rules for some series longer or shorter
//! than for all. A file in which nothing is kept any more is removed; from one that some series leave, these are taken out.
//! Before samples go, they are in their roll-ups.

use std::sync::{Arc, PoisonError};

use roaring::RoaringBitmap;
use rusqlite::Connection;

use super::compact::{strip, tidy};
use super::partition::{DAY_MS, Partitions, meta_series, put_meta_series};
use super::{Shared, Store, StoreError};
use crate::index::{Selector, SeriesId, TenantId};

/// How long samples, cells of 1 h and cells of 5 min are kept, days.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// Samples.
    pub samples: u32,
    /// Roll-ups of 1 h.
    pub hours: u32,
    /// Roll-ups of 5 min.
    pub minutes: u32,
}

/// What is kept of some series. Of several rules that mean a series the first one counts.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Whose.
    pub tenant: TenantId,
    /// Which.
    pub selector: Selector,
    /// How long.
    pub keep: Keep,
}

/// What is kept.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Of series that no rule means.
    pub default: Keep,
    /// The exceptions.
    pub rules: Vec<Rule>,
}

impl Policy {
    /// All of everything for this many days.
    #[must_use]
    pub fn days(days: u32) -> Self {
        Self { default: Keep { samples: days, hours: days, minutes: days }, rules: Vec::new() }
    }
}

/// What went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Retained {
    /// Files that were removed, by the first day in them; those of roll-ups with their name.
    pub dropped: Vec<String>,
    /// Samples and cells of series that left before the rest of their file.
    pub pruned: usize,
    /// Series that left because nothing of them is stored any more.
    pub series: usize,
}

/// Series that are kept equally long, and how long, ms.
struct Group {
    keep_ms: i64,
    /// `None` for all that no other group has.
    series: Option<RoaringBitmap>,
}

impl Store {
    /// Drops what `policy` does not keep at `now_ms`, and events that are older than samples are by default.
    ///
    /// # Errors
    /// A file that could not be read or removed.
    pub async fn retain(&self, now_ms: i64, policy: &Policy) -> Result<Retained, StoreError> {
        let before_ms = now_ms - i64::from(policy.default.samples) * DAY_MS;
        self.write(move |tx| tx.forget_events(before_ms)).await?;
        let mut retained = Retained::default();
        self.keep(policy);
        let policy = Arc::new(policy.clone());
        for at in 0..3 {
            self.retain_set(at, now_ms, &policy, &mut retained).await?;
        }
        if retained != Retained::default() {
            self.0.shared.head.cool();
            retained.series = self.forget_bare_series().await?;
        }
        Ok(retained)
    }

    /// Roll-ups that `policy` does not keep are not made any more.
    pub fn keep(&self, policy: &Policy) {
        let keeps = || std::iter::once(&policy.default).chain(policy.rules.iter().map(|rule| &rule.keep));
        let longest_ms = |days: fn(&Keep) -> u32| keeps().map(|keep| i64::from(days(keep)) * DAY_MS).max().unwrap_or(i64::MAX);
        *self.0.shared.rolled_keep_ms.lock().unwrap_or_else(PoisonError::into_inner) = [longest_ms(|keep| keep.hours), longest_ms(|keep| keep.minutes)];
    }

    /// Forgets series of which nothing is stored any more: no sample, and no cell of a roll-up. While it looks and until they
    /// are gone nothing moves from memory to blocks, so that none gets a sample unseen.
    async fn forget_bare_series(&self) -> Result<usize, StoreError> {
        let (this, runtime) = (self.clone(), tokio::runtime::Handle::current());
        let forget = move |shared: &Shared| {
            let known = shared.index.all_ids();
            let bare: Vec<SeriesId> = (known - shared.series_alive()?).into_iter().collect();
            runtime.block_on(this.forget_series(bare))
        };
        self.alone(forget).await
    }

    /// File by file, so that a flush waits for one of them at most.
    async fn retain_set(&self, at: usize, now_ms: i64, policy: &Arc<Policy>, retained: &mut Retained) -> Result<(), StoreError> {
        for part in self.0.shared.sets()[at].parts() {
            let policy = Arc::clone(policy);
            // Who is in which group is asked anew for each file: series come while this goes on.
            let groups = move |shared: &Shared| shared.groups(&policy, |keep| [keep.samples, keep.hours, keep.minutes][at]);
            let done = self.alone(move |shared| shared.retain_part(at, part, now_ms, &groups(shared))).await?;
            retained.dropped.extend(done.dropped);
            retained.pruned += done.pruned;
        }
        Ok(())
    }
}

impl Shared {
    /// Samples, roll-ups of 1 h, roll-ups of 5 min.
    pub(super) fn sets(&self) -> [&Partitions; 3] {
        let [hours, minutes] = &self.rolled;
        [&self.partitions, hours, minutes]
    }

    fn groups(&self, policy: &Policy, days: impl Fn(&Keep) -> u32) -> Vec<Group> {
        let keep_ms = |keep: &Keep| i64::from(days(keep)) * DAY_MS;
        let mut groups = vec![Group { keep_ms: keep_ms(&policy.default), series: None }];
        let mut taken = RoaringBitmap::new();
        for rule in &policy.rules {
            let series = self.index.ids(rule.tenant, &rule.selector) - &taken;
            taken |= &series;
            groups.push(Group { keep_ms: keep_ms(&rule.keep), series: Some(series) });
        }
        groups
    }

    /// Removes a file, or the series in it that are not kept as long as others.
    fn retain_part(&self, at: usize, part: i64, now_ms: i64, groups: &[Group]) -> Result<Retained, StoreError> {
        let set = self.sets()[at];
        let ended_ms = set.first_day(part + 1) * DAY_MS;
        let (over, kept): (Vec<&Group>, Vec<&Group>) = groups.iter().partition(|group| ended_ms <= now_ms - group.keep_ms);
        if over.is_empty() || !set.pool.has(part) {
            return Ok(Retained::default());
        }
        let there = set.reading(part, |reading| meta_series(reading.connection, "series"))?.unwrap_or_default();
        let of = |groups: &[&Group]| groups.iter().filter_map(|group| group.series.as_ref()).fold(RoaringBitmap::new(), |all, series| all | series);
        // The default group is what the others leave.
        let default_is_over = over.iter().any(|group| group.series.is_none());
        let gone = if default_is_over { &there - of(&kept) } else { &there & of(&over) };
        if gone.is_empty() && !kept.is_empty() {
            return Ok(Retained::default());
        }
        if at == 0 {
            self.roll_up(part, now_ms)?;
        }
        if kept.is_empty() || gone.len() == there.len() {
            let label = set.label(part);
            set.remove(part)?;
            self.changed();
            return Ok(Retained { dropped: vec![label], ..Retained::default() });
        }
        let mut connection = set.writer(part)?;
        let tx = connection.transaction()?;
        let pruned = self.prune(&tx, set, part, &gone)?;
        put_meta_series(&tx, "series", &(there - &gone))?;
        put_meta_series(&tx, "pruned", &(meta_series(&tx, "pruned")? | gone))?;
        tx.commit()?;
        tidy(&connection, i64::from(i32::MAX));
        self.changed();
        Ok(Retained { pruned, ..Retained::default() })
    }

    fn prune(&self, tx: &Connection, set: &Partitions, part: i64, gone: &RoaringBitmap) -> Result<usize, StoreError> {
        let blocks: Vec<i64> = tx.prepare("SELECT id FROM block")?.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
        blocks.into_iter().map(|id| strip(&self.ring, tx, (set.kind, part, id), gone)).sum()
    }

    /// The series that have samples anywhere.
    fn series_alive(&self) -> Result<RoaringBitmap, StoreError> {
        let mut alive = self.head.series();
        for set in self.sets() {
            for part in set.parts() {
                alive |= set.reading(part, |reading| meta_series(reading.connection, "series"))?.unwrap_or_default();
            }
        }
        Ok(alive)
    }
}
