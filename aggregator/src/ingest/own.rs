//! The aggregator's own numbers, as samples like any other: rules and charts see them too.

use keyvigil_common::sample::{MetricType, Series, Tags};
use keyvigil_common::telemetry::Registry;
use keyvigil_common::wire::{self, Batch, Column, Group};

use super::Ingest;
use crate::index::TenantId;
use crate::store::StoreError;

impl Ingest {
    /// Stores the numbers of `registry` as they are now, tagged with the aggregator's `host`; its counters began at `started_ms`.
    ///
    /// # Errors
    /// The store's.
    pub async fn push_own(&self, tenant: TenantId, registry: &Registry, host: &str, started_ms: i64) -> Result<(), StoreError> {
        let now_ms = self.clock.now_ms();
        let mut batch = Batch { sealed_ms: now_ms, ..Batch::default() };
        let mut columns = Vec::new();
        for own in registry.all() {
            let pairs = own.tag.into_iter().chain([("component", "aggregator"), ("host", host)]);
            let Ok(series) = Tags::new(pairs).and_then(|tags| Series::new(own.metric_id, own.metric_type, tags)) else { continue };
            let start_ms = if own.metric_type == MetricType::Counter { started_ms } else { 0 };
            columns.push(Column { series: u32::try_from(batch.series.len()).unwrap_or(u32::MAX), start_ms, values: vec![own.value.get() as f64] });
            batch.series.push(series);
        }
        batch.groups.push(Group { sensor: "own".into(), interval_ms: 10_000, times: vec![now_ms], columns });
        let frame = wire::encode_batch(&batch)?;
        self.store.write(move |tx| tx.append(tenant, None, &batch, &frame)).await
    }
}
