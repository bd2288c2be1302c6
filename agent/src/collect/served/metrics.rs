//! The numbers of the sensor: what was counted since the agent started, and gauges of what is served now. Called by the sensor.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::ports::Port;
use crate::collect::keystore::tag;
use crate::collect::metric::{counter, gauge};
use crate::collect::{MetricDef, Sink, Unit};

const PORTS: &str = "crypto.served.ports";
const UP: &str = "crypto.served.up";
const NOT_AFTER: &str = "crypto.served.not_after_timestamp_seconds";
const STALE: &str = "crypto.served.stale";
const ERRORS: &str = "crypto.served.errors_total";
const CONNECTIONS: &str = "crypto.served.connections_total";

pub(in crate::collect) const METRICS: &[MetricDef] = &[
    gauge(PORTS, Unit::Count, "Listening ports of the host, by what they speak (tls, plain, unknown); without those that are left out."),
    gauge(UP, Unit::Flag, "Whether a port with TLS showed a certificate when it was last asked."),
    gauge(
        NOT_AFTER,
        Unit::UnixSeconds,
        "When the certificate ends that a port serves, by address and by name; no name for what is served to those who ask for none.",
    ),
    gauge(STALE, Unit::Count, "Certificates that are served though their file holds another by now: renewed on disk, not reloaded."),
    counter(ERRORS, Unit::Count, "Times that a port with TLS showed no certificate, by reason."),
    counter(CONNECTIONS, Unit::Count, "Connections that were made to ports of this host to see what they serve."),
];

/// Why a port showed nothing.
pub(super) const REASONS: [&str; 5] = ["unreachable", "silent", "refused", "not_tls", "corrupt"];

/// What was counted since the agent started.
#[derive(Debug, Default)]
pub(super) struct Totals {
    pub(super) connections: u64,
    errors: BTreeMap<&'static str, u64>,
}

impl Totals {
    pub(super) fn error(&mut self, reason: &'static str) {
        *self.errors.entry(reason).or_default() += 1;
    }

    /// All totals, also those at zero, so that the first increment shows.
    pub(super) fn write(&self, started_ms: i64, sink: &mut Sink) {
        sink.counter(CONNECTIONS, &[], self.connections as f64, Some(started_ms));
        for reason in REASONS {
            let count = self.errors.get(reason).copied().unwrap_or(0);
            sink.counter(ERRORS, &[("reason", reason)], count as f64, Some(started_ms));
        }
    }
}

/// What is served now.
pub(super) fn write(ports: &BTreeMap<SocketAddr, Port>, sink: &mut Sink) {
    let (mut counts, mut stale) = (BTreeMap::from([("tls", 0_u32), ("plain", 0), ("unknown", 0)]), 0_u32);
    for (address, port) in ports.iter().filter(|(_, port)| port.missing.is_none()) {
        let speaks = if port.is_tls() {
            "tls"
        } else if port.plain.as_ref().is_some_and(|plain| plain.is_sure) {
            "plain"
        } else {
            "unknown"
        };
        *counts.entry(speaks).or_default() += 1;
        if !port.is_tls() {
            continue;
        }
        let address = address.to_string();
        sink.gauge(UP, &[("address", &address)], if port.trouble.is_none() { 1.0 } else { 0.0 });
        for (name, service) in &port.services {
            stale += u32::from(service.stale.as_ref().is_some_and(|stale| stale.told));
            if let Some(end) = service.facts.not_after_ms {
                sink.gauge(NOT_AFTER, &[("address", &address), ("name", &tag(name))], end as f64 / 1_000.0);
            }
        }
    }
    for (speaks, count) in counts {
        sink.gauge(PORTS, &[("speaks", speaks)], f64::from(count));
    }
    sink.gauge(STALE, &[], f64::from(stale));
}
