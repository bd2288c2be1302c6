//! The aggregator's own numbers, as samples like any other: rules and charts see them too.

use std::convert::Infallible;

use keyvigil_common::sample::{MetricType, Series, Tags};
use keyvigil_common::telemetry::Registry;

use super::intake::Taken;
use super::{Ingest, Refusal};
use crate::index::TenantId;

impl Ingest {
    /// Stores the numbers of `registry` as they are now, tagged with the aggregator's `host`; its counters began at `started_ms`.
    ///
    /// # Errors
    /// The store's, or series that do not fit: the others are stored.
    pub async fn push_own(&self, tenant: TenantId, registry: &Registry, host: &str, started_ms: i64) -> Result<(), Refusal> {
        let taken = self.own(tenant, registry, host, started_ms);
        let limited = self.store(taken).await?.limited;
        if limited.is_empty() { Ok(()) } else { Err(Refusal::Limit(limited.to_string())) }
    }

    fn own(&self, tenant: TenantId, registry: &Registry, host: &str, started_ms: i64) -> Taken {
        let now_ms = self.clock.now_ms();
        let mut intake = self.begin(tenant);
        for own in registry.all() {
            let make = || {
                let pairs = own.tag.into_iter().chain([("component", "aggregator"), ("host", host)]);
                Tags::new(pairs).and_then(|tags| Series::new(own.metric_id, own.metric_type, tags)).map_err(|e| e.to_string())
            };
            let labels = format!("own\0{}\0{host}\0{:?}", own.metric_id, own.tag);
            let start_ms = if own.metric_type == MetricType::Counter { started_ms } else { 0 };
            let sample = std::iter::once(Ok::<_, Infallible>((now_ms, own.value.get() as f64)));
            let Ok(()) = intake.column(labels.as_bytes(), start_ms, make, sample);
        }
        intake.finish()
    }
}
