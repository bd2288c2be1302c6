//! The agent itself: what it costs and what it holds, as samples like any other. Reads its own numbers and `/proc/self`.

use super::metric::{counter, gauge};
use super::{At, Collector, Context, MetricDef, Sink, Unit};

/// Kernel ticks a second, as `/proc/self/stat` counts.
const TICKS: f64 = 100.0;

/// What the sampler tells of its sensors (tag `sensor`) and of itself.
pub(crate) const INTERVAL: &str = "keyvigil.agent.interval_seconds";
pub(crate) const CPU: &str = "keyvigil.agent.cpu_percent";
pub(crate) const THROTTLED: &str = "keyvigil.agent.throttled";

/// What it emits, and what the sampler does.
pub(super) const METRICS: &[MetricDef] = &[
    counter("keyvigil.agent.cpu_seconds_total", Unit::Seconds, "CPU time that the agent took."),
    gauge("keyvigil.agent.resident_bytes", Unit::Bytes, "Memory that the agent holds."),
    gauge("keyvigil.agent.buffer_bytes", Unit::Bytes, "Bytes that wait to be delivered."),
    gauge("keyvigil.agent.buffer_batches", Unit::Count, "Batches that wait to be delivered."),
    gauge("keyvigil.agent.buffer_oldest_seconds", Unit::Seconds, "Age of the oldest batch that waits; 0 if none does."),
    gauge("keyvigil.agent.buffer_degraded", Unit::Count, "1 while batches are kept in memory only, since the disk takes nothing; else 0."),
    gauge(INTERVAL, Unit::Seconds, "Interval at which a sensor (sensor) is asked now; told when it changes, and every 5 minutes."),
    gauge(CPU, Unit::Percent, "Part of one core that the agent took over the last minute."),
    gauge(THROTTLED, Unit::Count, "Sensors that are asked less often, because the agent took more than its budget."),
];

/// The sensor.
#[derive(Debug)]
pub(super) struct Own {
    context: Context,
}

impl Own {
    pub(super) fn new(context: &Context) -> Self {
        Self { context: context.clone() }
    }

    fn cost(&self, sink: &mut Sink) {
        let started = Some(self.context.started_ms);
        let (seconds, bytes) = cost();
        match seconds {
            Some(seconds) => sink.counter("keyvigil.agent.cpu_seconds_total", &[], seconds, started),
            None => sink.absent("own CPU time", "/proc/self/stat cannot be read"),
        }
        match bytes {
            Some(bytes) => sink.gauge("keyvigil.agent.resident_bytes", &[], bytes as f64),
            None => sink.absent("own memory", "/proc/self/statm cannot be read"),
        }
    }
}

/// CPU time that this process took, seconds, and memory that it holds, bytes.
pub(crate) fn cost() -> (Option<f64>, Option<u64>) {
    let stat = std::fs::read_to_string("/proc/self/stat").ok();
    // The name may hold spaces; what follows it is fixed: utime and stime are fields 14 and 15.
    let ticks = stat.as_deref().and_then(|s| s.rsplit_once(") ")).map(|(_, rest)| {
        let fields: Vec<&str> = rest.split(' ').collect();
        [11, 12].iter().filter_map(|at| fields.get(*at)?.parse::<f64>().ok()).sum::<f64>()
    });
    let pages = std::fs::read_to_string("/proc/self/statm").ok().and_then(|s| s.split(' ').nth(1)?.parse::<u64>().ok());
    (ticks.map(|ticks| ticks / TICKS), pages.map(|pages| pages * rustix::param::page_size() as u64))
}

impl Collector for Own {
    fn collect(&mut self, at: At, sink: &mut Sink) {
        self.cost(sink);
        if let Some(ask) = &self.context.waiting {
            match (ask.0)() {
                Ok(waiting) => {
                    sink.gauge("keyvigil.agent.buffer_bytes", &[], waiting.bytes as f64);
                    sink.gauge("keyvigil.agent.buffer_batches", &[], waiting.batches as f64);
                    let age = waiting.oldest_ms.map_or(0, |oldest| (at.wall_ms - oldest).max(0));
                    sink.gauge("keyvigil.agent.buffer_oldest_seconds", &[], age as f64 / 1_000.0);
                    sink.gauge("keyvigil.agent.buffer_degraded", &[], f64::from(u8::from(waiting.degraded.is_some())));
                    if let Some(why) = waiting.degraded {
                        sink.absent("the disk of its buffer", why);
                    }
                }
                Err(e) => sink.absent("own buffer", e),
            }
        }
        for own in self.context.registry.all() {
            let tag: Vec<(&str, &str)> = own.tag.into_iter().collect();
            match own.metric_type {
                keyvigil_common::sample::MetricType::Counter => {
                    sink.counter(own.metric_id, &tag, own.value.get() as f64, Some(self.context.started_ms));
                }
                _ => sink.gauge(own.metric_id, &tag, own.value.get() as f64),
            }
        }
    }
}
