//! The sensor that tells whether the others see: when each path of the canary was proven last, and that it is blind where a proof is
//! missing. What it needs of the trials stands in `agent/src/canary.rs`.

use keyvigil_common::canary::CanaryPath;

use super::metric::{counter, gauge};
use super::{At, Collector, Context, MetricDef, Poke, Sink, Unit};
use crate::canary::Canary as Record;

const PROVEN: &str = "keyvigil.agent.canary_proven_timestamp_seconds";
const FAILURES: &str = "keyvigil.agent.canary_failures_total";
/// Before what could not be tried: a gap in what is proven, and no blindness.
pub(crate) const UNPROVEN: &str = "a proof of ";

const NO_HELPER: &str = "there is no helper yet that would see the canary";

pub(super) const METRICS: &[MetricDef] = &[
    gauge(PROVEN, Unit::UnixSeconds, "When the aggregator last confirmed that the canary was seen by this path, Unix s."),
    counter(FAILURES, Unit::Count, "Trials of the canary that were not seen, or could not be made, by path."),
];

/// Sensor `canary`.
#[derive(Debug)]
pub(super) struct Canary {
    record: Record,
    started_ms: i64,
}

impl Canary {
    pub(super) fn new(context: &Context) -> Self {
        Self { record: context.canary.clone(), started_ms: context.started_ms }
    }
}

impl Collector for Canary {
    fn collect(&mut self, _at: At, sink: &mut Sink) {
        self.record.look();
        for proof in self.record.proofs() {
            let Some(path) = CanaryPath::from_name(&proof.path) else { continue };
            if let Some(why) = &proof.blind {
                sink.absent(path.sight(), why);
            } else if let Some(why) = proof.gap.as_deref().or((!proof.is_expected).then_some(NO_HELPER)) {
                sink.absent(format!("{UNPROVEN}{}", path.sight()), why);
            }
            let tags = [("path", path.as_str())];
            if let Some(proven_ms) = proof.proven_ms {
                sink.gauge(PROVEN, &tags, proven_ms as f64 / 1_000.0);
            }
            if proof.is_expected {
                sink.counter(FAILURES, &tags, proof.failures as f64, Some(self.started_ms));
            }
        }
        for (path, kept) in self.record.kept() {
            sink.remember(path, Some(kept));
        }
    }

    fn restore(&mut self, remembered: Vec<(String, Vec<u8>)>) {
        self.record.restore(remembered);
    }

    fn on_change(&mut self, poke: Poke) {
        self.record.on_change(poke, true);
    }
}
