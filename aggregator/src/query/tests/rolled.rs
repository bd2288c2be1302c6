//! Answers from roll-ups against those from the samples: whatever is asked, and however the samples came, they are the same.

use std::collections::BTreeMap;

use super::*;
use crate::store::level0::{Rows as Stored, Run};
use crate::store::series::FRESH;
use crate::store::{Keep, Policy, Rule};
use keyvigil_common::seal::MasterKey;
use proptest::test_runner::{Config, TestRunner};

/// Midnight.
const T0: i64 = 1_763_769_600_000;
const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
const NAMES: [&str; 4] = ["x.gauge", "x.other", "x.counter_total", "x.rare_total"];
const AGGREGATIONS: [&str; 10] = ["avg", "min", "max", "sum", "count", "last", "rate", "increase", "stddev", "p95"];

/// A store, and what it should hold.
struct Both {
    _dir: tempfile::TempDir,
    store: Store,
    model: BTreeMap<&'static str, BTreeMap<i64, f64>>,
}

impl Both {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), &MasterKey::generate(), T0, 64 << 20).unwrap();
        Self { _dir: dir, store, model: BTreeMap::new() }
    }

    async fn put(&mut self, name: &'static str, points: &[Point]) {
        let kind = if name.ends_with("total") { MetricType::Counter } else { MetricType::Gauge };
        let series = Series::new(name, kind, Tags::default()).unwrap();
        let rows = Stored {
            runs: vec![Run { series: FRESH, start_ms: 0, end: u32::try_from(points.len()).unwrap() }],
            times: points.iter().map(|p| p.0).collect(),
            values: points.iter().map(|p| p.1).collect(),
        };
        self.store.append(1, rows, vec![series], self.store.generation(), None).await.unwrap();
        self.model.entry(name).or_default().extend(points.iter().copied());
    }

    /// Two days of all series, in pieces, as hosts write them: with jitter, holes, resets and staleness marks.
    async fn fill(&mut self, seed: &mut Seed) {
        for day in 0..2 {
            for name in NAMES {
                let step = if name == "x.rare_total" { 40 * MINUTE } else { 50_000 };
                let (mut at, mut value, mut points) = (T0 + day * DAY + seed.below(step), 0.0, Vec::new());
                while at < T0 + (day + 1) * DAY {
                    value = if name.ends_with("total") && seed.below(300) > 0 { value + seed.below(90) as f64 } else { seed.below(5_000) as f64 / 100.0 };
                    points.push((at, if seed.below(200) == 0 { f64::NAN } else { value }));
                    at += step - 20 + seed.below(40) + if seed.below(150) == 0 { seed.below(4 * HOUR) } else { 0 };
                }
                self.put(name, &points).await;
            }
            self.store.flush().await.unwrap();
        }
    }

    /// Asks both, and holds the answers against each other; returns the store's.
    async fn compare(&self, name: &'static str, aggregation: &str, (from, to): (i64, i64), interval: Option<i64>) -> Answer {
        let aggregation: Aggregation = aggregation.parse().unwrap();
        let mut question = question(from, to, interval);
        question.selector = Selector::parse(name, []).unwrap();
        question.aggregation = Some(aggregation);
        let answer = ask(&self.store, &question).await.unwrap();
        let width = Buckets::new(&question).unwrap().width;
        let before = if aggregation.is_of_counters() { counter::reach_ms(width) } else { 0 };
        let points: Vec<Point> = self.model[name].range(from.saturating_sub(before)..=to).map(|(at, value)| (*at, *value)).collect();
        let expected = apply(aggregation.as_str(), from, to, interval, &[&points]);
        let got: Vec<Option<f64>> = answer.rows.first().map_or_else(|| vec![None; expected.len()], |row| row.points.iter().map(|p| p.1).collect());
        for (at, (got, expected)) in got.iter().zip(&expected).enumerate() {
            let same = match (got, expected) {
                (Some(a), Some(b)) => (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1.0),
                (a, b) => a == b,
            };
            assert!(same, "{aggregation} of {name} in {from}..={to} by {interval:?}: bucket {at} is {got:?}, samples give {expected:?}");
        }
        assert!(answer.exact, "{aggregation} of {name} in {from}..={to} by {interval:?}: {:?} {:?}", answer.sources, answer.unanswered);
        answer
    }

    /// Whether all of two days by the hour is read from roll-ups.
    async fn asks_roll_ups(&self) -> bool {
        let answer = self.compare("x.gauge", "avg", (T0, T0 + 2 * DAY - 1), Some(HOUR)).await;
        answer.sources.iter().all(|source| source.step_ms == HOUR)
    }

    /// All aggregations over a random range.
    async fn ask_around(&self, seed: &mut Seed) {
        let from = T0 - HOUR + seed.below(2 * DAY);
        let to = from + seed.below(2 * DAY);
        let interval = [None, Some(HOUR), Some(5 * MINUTE), Some(3 * HOUR), Some(7 * MINUTE), Some(90 * MINUTE)][seed.below(6) as usize];
        for aggregation in AGGREGATIONS {
            for name in NAMES {
                self.compare(name, aggregation, (from, to), interval).await;
            }
        }
    }
}

/// Numbers that look random, and are the same for the same start.
struct Seed(u64);

impl Seed {
    fn below(&mut self, n: i64) -> i64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as i64) % n
    }
}

fn run(cases: u32, test: impl AsyncFn(Seed)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&any::<u64>(), |seed| {
        runtime.block_on(test(Seed(seed)));
        Ok(())
    });
    outcome.unwrap();
}

#[test]
fn roll_ups_answer_as_the_samples_do_before_and_after_late_data_came() {
    run(12, async |mut seed| {
        let mut both = Both::new();
        both.fill(&mut seed).await;
        both.ask_around(&mut seed).await;
        assert!(!both.asks_roll_ups().await);
        both.store.merge(T0 + 9 * DAY, T0 + 9 * DAY).await.unwrap();
        for _ in 0..4 {
            both.ask_around(&mut seed).await;
        }
        assert!(both.asks_roll_ups().await);
        // Late samples and corrections: in memory, then in blocks, then merged.
        let late: Vec<Point> = (0..40).map(|n| (T0 + n * 53 * MINUTE + 7, 1e6 + n as f64)).collect();
        let corrected: Vec<Point> = both.model["x.gauge"].iter().step_by(97).map(|(at, _)| (*at, 12.5)).collect();
        both.put("x.counter_total", &late).await;
        both.put("x.gauge", &corrected).await;
        both.ask_around(&mut seed).await;
        both.store.flush().await.unwrap();
        both.ask_around(&mut seed).await;
        both.store.merge(T0 + 9 * DAY, T0 + 9 * DAY).await.unwrap();
        both.ask_around(&mut seed).await;
        both.store.compact(&crate::store::Progress::silent()).await.unwrap();
        both.ask_around(&mut seed).await;
        both.store.merge(T0 + 9 * DAY, T0 + 9 * DAY).await.unwrap();
        both.ask_around(&mut seed).await;
        assert!(both.asks_roll_ups().await);
    });
}

#[tokio::test]
async fn when_samples_are_gone_roll_ups_answer_and_what_comes_later_is_added() {
    let mut both = Both::new();
    both.fill(&mut Seed(7)).await;
    both.store.merge(T0 + 9 * DAY, T0 + 9 * DAY).await.unwrap();
    let keep = Policy { default: Keep { samples: 5, minutes: 50, hours: 500 }, rules: Vec::new() };
    let gone = both.store.retain(T0 + 8 * DAY, &keep).await.unwrap();
    assert_eq!(gone.dropped.len(), 2, "{gone:?}");
    for name in NAMES {
        for aggregation in ["avg", "min", "max", "sum", "count", "last"] {
            both.compare(name, aggregation, (T0, T0 + 2 * DAY - 1), Some(HOUR)).await;
            // Of what comes every 40 min cells of 5 min would be as many as the samples: there are none.
            if name != "x.rare_total" {
                both.compare(name, aggregation, (T0, T0 + 2 * DAY - 1), Some(5 * MINUTE)).await;
            }
        }
    }
    both.compare("x.counter_total", "increase", (T0, T0 + 2 * DAY - 1), Some(HOUR)).await;
    let mut asked = question(T0, T0 + DAY - 1, Some(HOUR));
    asked.selector = Selector::parse("x.gauge", []).unwrap();
    asked.aggregation = Some(Aggregation::P95);
    let answer = ask(&both.store, &asked).await.unwrap();
    assert_eq!((answer.exact, answer.unanswered), (false, Some((T0, T0 + DAY - 1))), "what cannot be known is said");
    // A host that was offline all the while.
    both.put("x.gauge", &[(T0 + 1, 777.0), (T0 + 2, -5.5)]).await;
    asked.aggregation = Some(Aggregation::Count);
    let expected = Some(both.model["x.gauge"].range(T0..T0 + HOUR).filter(|(_, v)| !v.is_nan()).count() as f64);
    for step in 0..4 {
        let answer = ask(&both.store, &asked).await.unwrap();
        assert_eq!((answer.rows[0].points[0].1, answer.rows[0].points.len()), (expected, 24), "step {step}");
        match step {
            0 => drop(both.store.flush().await.unwrap()),
            1 => drop(both.store.merge(T0 + 9 * DAY, T0 + 9 * DAY).await.unwrap()),
            _ => drop(both.store.retain(T0 + 8 * DAY, &keep).await.unwrap()),
        }
    }
    // It comes in pieces, with all chores in between, and none of it counts twice.
    for piece in 0..4 {
        both.put("x.gauge", &[(T0 + 5 * MINUTE + piece, 1.0)]).await;
        both.store.flush().await.unwrap();
        both.store.merge(T0 + 9 * DAY, T0 + 9 * DAY).await.unwrap();
        both.store.compact(&crate::store::Progress::silent()).await.unwrap();
        let expected = Some(both.model["x.gauge"].range(T0..T0 + HOUR).filter(|(_, v)| !v.is_nan()).count() as f64);
        let answer = ask(&both.store, &asked).await.unwrap();
        assert_eq!((answer.rows[0].points[0].1, answer.exact), (expected, false), "piece {piece}");
    }
    let gone = both.store.retain(T0 + 600 * DAY, &keep).await.unwrap();
    assert_eq!(gone.dropped.len(), 4, "a day of late samples, two days of 5 min and one file of 1 h: {gone:?}");
}

#[tokio::test]
async fn what_left_a_roll_up_is_answered_by_the_next_one_or_by_the_samples() {
    let mut both = Both::new();
    both.fill(&mut Seed(11)).await;
    both.store.merge(T0 + 9 * DAY, T0 + 9 * DAY).await.unwrap();
    let rule = |pattern: &str, keep| Rule { tenant: 1, selector: Selector::parse(pattern, []).unwrap(), keep };
    let rules = vec![
        rule("x.gauge", Keep { samples: 400, minutes: 1, hours: 1 }),
        rule("x.other", Keep { samples: 1, minutes: 400, hours: 1 }),
        rule("x.rare_total", Keep { samples: 1, minutes: 1, hours: 400 }),
    ];
    let keep = Policy { default: Keep { samples: 400, minutes: 400, hours: 400 }, rules };
    both.store.retain(T0 + 90 * DAY, &keep).await.unwrap();
    let span = (T0, T0 + 2 * DAY - 1);
    for interval in [HOUR, 90 * MINUTE, 5 * MINUTE] {
        both.compare("x.gauge", "avg", span, Some(interval)).await;
        both.compare("x.other", "avg", span, Some(interval)).await;
        both.compare("x.counter_total", "increase", span, Some(interval)).await;
    }
    both.compare("x.gauge", "p95", span, Some(HOUR)).await;
    both.compare("x.rare_total", "max", span, Some(HOUR)).await;
    let mut asked = question(span.0, span.1, Some(5 * MINUTE));
    (asked.selector, asked.aggregation) = (Selector::parse("x.rare_total", []).unwrap(), Some(Aggregation::Max));
    let answer = ask(&both.store, &asked).await.unwrap();
    assert_eq!((answer.exact, answer.unanswered), (false, Some(span)), "cells of 1 h say nothing of 5 min");
    (asked.selector, asked.aggregation, asked.interval_ms) = (Selector::parse("x.other", []).unwrap(), None, None);
    asked.to_ms = span.0 + HOUR;
    let answer = ask(&both.store, &asked).await.unwrap();
    assert_eq!((answer.exact, answer.unanswered), (false, Some((asked.from_ms, asked.to_ms))), "nor do any of the samples");
}

#[tokio::test]
async fn what_would_go_at_once_is_not_rolled_up_again_and_again() {
    let mut both = Both::new();
    both.fill(&mut Seed(5)).await;
    let keep = Policy { default: Keep { samples: 400, minutes: 3, hours: 400 }, rules: Vec::new() };
    both.store.keep(&keep);
    for _ in 0..2 {
        both.store.merge(T0 + 90 * DAY, T0 + 90 * DAY).await.unwrap();
        assert_eq!(both.store.retain(T0 + 90 * DAY, &keep).await.unwrap(), crate::store::Retained::default());
    }
    assert!(both.asks_roll_ups().await);
    both.compare("x.gauge", "avg", (T0, T0 + 2 * DAY - 1), Some(5 * MINUTE)).await;
}

#[tokio::test]
async fn some_series_are_kept_longer_or_shorter_than_the_rest() {
    let mut both = Both::new();
    both.fill(&mut Seed(3)).await;
    both.store.merge(T0 + 9 * DAY, T0 + 9 * DAY).await.unwrap();
    let rule = |pattern: &str, samples| Rule { tenant: 1, selector: Selector::parse(pattern, []).unwrap(), keep: Keep { samples, minutes: 50, hours: 500 } };
    let keep = Policy { default: Keep { samples: 5, minutes: 50, hours: 500 }, rules: vec![rule("x.gauge", 2), rule("x.rare_total", 30)] };
    let count = async |both: &Both, name: &'static str| {
        let mut asked = question(T0, T0 + 2 * DAY, None);
        asked.selector = Selector::parse(name, []).unwrap();
        ask(&both.store, &asked).await.unwrap().samples_read
    };
    let all = |both: &Both, name: &str| both.model[name].len();
    both.store.retain(T0 + 4 * DAY, &keep).await.unwrap();
    assert_eq!((count(&both, "x.gauge").await, count(&both, "x.other").await), (0, all(&both, "x.other")));
    both.compare("x.gauge", "avg", (T0, T0 + 2 * DAY - 1), Some(HOUR)).await;
    both.compare("x.other", "p95", (T0, T0 + 2 * DAY - 1), Some(HOUR)).await;
    both.store.retain(T0 + 8 * DAY, &keep).await.unwrap();
    assert_eq!((count(&both, "x.other").await, count(&both, "x.rare_total").await), (0, all(&both, "x.rare_total")));
    both.compare("x.rare_total", "p95", (T0, T0 + 2 * DAY - 1), Some(HOUR)).await;
    both.compare("x.counter_total", "increase", (T0, T0 + 2 * DAY - 1), Some(HOUR)).await;
    assert_eq!(both.store.retain(T0 + 8 * DAY, &keep).await.unwrap(), crate::store::Retained::default(), "a second time there is nothing to do");
}
