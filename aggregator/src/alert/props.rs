//! What must hold for every sequence of observations: an alert never fires before its duration was seen, and missing data
//! never ends one. Tests only.

use keyvigil_common::sample::Tags;
use proptest::prelude::*;

use super::{Alert, Kind, Observation, Rule, State, Tick, acknowledge, step};

#[derive(Debug, Clone, Copy)]
enum Seen {
    Above,
    Below,
    Missing,
    NotANumber,
    Acknowledge,
}

fn rule(duration_seconds: u64, keep_firing_seconds: u64) -> Rule {
    Rule { rule_id: "r".into(), metric_pattern: "m".into(), threshold_value: Some(90.0), duration_seconds, keep_firing_seconds, ..Rule::default() }
}

fn seen() -> impl Strategy<Value = (Seen, i64)> {
    let what = prop_oneof![4 => Just(Seen::Above), 2 => Just(Seen::Below), 2 => Just(Seen::Missing), 1 => Just(Seen::NotANumber), 1 => Just(Seen::Acknowledge)];
    // Regular evaluations, a late one, a restart, a long outage, and a clock that is set back.
    let gap = prop_oneof![8 => Just(15_000i64), 2 => 1_000..90_000i64, 1 => 90_000..4_000_000i64, 1 => -100_000..0i64];
    (what, gap)
}

proptest! {
    #[test]
    fn nothing_fires_early_and_silence_resolves_nothing(
        steps in prop::collection::vec(seen(), 1..80), duration in 0u64..400, keep in 0u64..200,
    ) {
        let rule = rule(duration, keep);
        let mut now_ms = 1_763_834_400_000i64;
        let mut before: Option<Alert> = None;
        // What the oracle knows: time with the condition seen to hold, without the gaps in which nobody looked.
        let (mut held, mut clear, mut last): (Option<i64>, Option<i64>, i64) = (None, None, now_ms);
        for (what, gap) in steps {
            now_ms += gap;
            if let Seen::Acknowledge = what {
                if let Some(Ok(step)) = before.as_ref().map(|alert| acknowledge(alert, "ana", None, now_ms)) {
                    before = step.alert;
                }
                continue;
            }
            let value = match what { Seen::Above => Some(95.0), Seen::Below => Some(1.0), Seen::NotANumber => Some(f64::NAN), _ => None };
            let observation = Observation::new("m", Tags::default(), value);
            let after = step(&rule, before.as_ref(), &observation, Tick { now_ms, interval_ms: 15_000 });
            let passed = if (0..=90_000).contains(&(now_ms - last)) { now_ms - last } else { 0 };
            match what {
                Seen::Above => { held = Some(held.map_or(0, |h| h + passed)); clear = None; last = now_ms; }
                Seen::Below => { clear = Some(clear.map_or(0, |c| c + passed)); held = None; last = now_ms; }
                _ => {}
            }
            let kind = after.transition.map(|t| t.kind);
            match kind {
                Some(Kind::Fired) => prop_assert!(held.is_some_and(|h| h >= duration as i64 * 1_000), "fired after {held:?} ms"),
                Some(Kind::Resolved) => {
                    prop_assert!(matches!(what, Seen::Below), "resolved by {what:?}");
                    prop_assert!(clear.is_some_and(|c| c >= keep as i64 * 1_000), "resolved after {clear:?} ms");
                }
                _ => {}
            }
            let active = |alert: &Option<Alert>| alert.as_ref().is_some_and(|a| a.state.is_active());
            if active(&before) && !matches!(what, Seen::Below) {
                prop_assert!(active(&after.alert), "{what:?} ended an active alert");
                let unseen = matches!(what, Seen::Missing | Seen::NotANumber);
                prop_assert_eq!(after.alert.as_ref().map(|a| a.stale), Some(unseen));
                prop_assert!(!unseen || kind.is_none(), "nothing is known, so nothing changes");
            }
            let seq = |alert: &Option<Alert>| alert.as_ref().map_or(0, |a| a.memory.seq);
            if before.is_some() && after.alert.is_some() {
                prop_assert_eq!(seq(&after.alert) - seq(&before), u64::from(kind.is_some()));
            }
            prop_assert!(after.alert.as_ref().is_none_or(|a| a.state != State::Pending || duration > 0));
            before = after.alert;
        }
    }
}
