//! Sockets in use and what TCP and UDP counted, from `/proc/net/sockstat`, `sockstat6` and `snmp`.

use super::boot::Boot;
use super::metric::{counter, gauge};
use super::{At, Collector, Context, MetricDef, Sink, Unit};
use crate::parse::procfs::net::{snmp, sockstat};
use crate::rootfs::RootFs;

const TCP_IN_USE: &str = "system.tcp.sockets";
const UDP_IN_USE: &str = "system.udp.sockets";
const ESTABLISHED: &str = "system.tcp.established";

pub(super) const METRICS: &[MetricDef] = &[
    gauge("system.sockets.used", Unit::Count, "Sockets of all kinds that are open."),
    gauge(TCP_IN_USE, Unit::Count, "TCP sockets in use, listening ones included, by family (ipv4, ipv6)."),
    gauge(UDP_IN_USE, Unit::Count, "UDP sockets in use, by family."),
    gauge("system.tcp.orphans", Unit::Count, "TCP sockets that no process holds any more."),
    gauge("system.tcp.time_wait", Unit::Count, "TCP connections in TIME_WAIT."),
    gauge("system.tcp.memory_pages", Unit::Count, "Pages of memory that TCP's buffers take."),
    gauge("system.udp.memory_pages", Unit::Count, "Pages of memory that UDP's buffers take."),
    gauge(ESTABLISHED, Unit::Count, "TCP connections that are established or wait to be closed by their process."),
    counter("system.tcp.active_opens_total", Unit::Count, "TCP connections that this host began."),
    counter("system.tcp.passive_opens_total", Unit::Count, "TCP connections that this host accepted."),
    counter("system.tcp.failed_opens_total", Unit::Count, "TCP connections that failed before they were established."),
    counter("system.tcp.resets_received_total", Unit::Count, "Established TCP connections that were reset."),
    counter("system.tcp.resets_sent_total", Unit::Count, "TCP resets that this host sent."),
    counter("system.tcp.segments_received_total", Unit::Count, "TCP segments that came in."),
    counter("system.tcp.segments_sent_total", Unit::Count, "TCP segments that went out."),
    counter("system.tcp.segments_retransmitted_total", Unit::Count, "TCP segments that were sent again."),
    counter("system.tcp.segments_damaged_total", Unit::Count, "TCP segments that came in damaged."),
    counter("system.udp.received_total", Unit::Count, "UDP datagrams that were delivered."),
    counter("system.udp.sent_total", Unit::Count, "UDP datagrams that went out."),
    counter("system.udp.errors_total", Unit::Count, "UDP datagrams that could not be delivered for other reasons than a closed port."),
    counter("system.udp.no_port_total", Unit::Count, "UDP datagrams for a port on which nobody listens."),
    counter("system.udp.receive_buffer_errors_total", Unit::Count, "UDP datagrams that were dropped for want of buffer space."),
];

/// Protocol and name in `sockstat`, the metric, and its tag `family`.
const SOCKETS: &[(&str, &str, &str, &str)] = &[
    ("sockets", "used", "system.sockets.used", ""),
    ("TCP", "inuse", TCP_IN_USE, "ipv4"),
    ("TCP", "orphan", "system.tcp.orphans", ""),
    ("TCP", "tw", "system.tcp.time_wait", ""),
    ("TCP", "mem", "system.tcp.memory_pages", ""),
    ("UDP", "inuse", UDP_IN_USE, "ipv4"),
    ("UDP", "mem", "system.udp.memory_pages", ""),
    ("TCP6", "inuse", TCP_IN_USE, "ipv6"),
    ("UDP6", "inuse", UDP_IN_USE, "ipv6"),
];

/// Protocol and name in `snmp`, and the metric: counters since boot.
const COUNTERS: &[(&str, &str, &str)] = &[
    ("Tcp", "ActiveOpens", "system.tcp.active_opens_total"),
    ("Tcp", "PassiveOpens", "system.tcp.passive_opens_total"),
    ("Tcp", "AttemptFails", "system.tcp.failed_opens_total"),
    ("Tcp", "EstabResets", "system.tcp.resets_received_total"),
    ("Tcp", "OutRsts", "system.tcp.resets_sent_total"),
    ("Tcp", "InSegs", "system.tcp.segments_received_total"),
    ("Tcp", "OutSegs", "system.tcp.segments_sent_total"),
    ("Tcp", "RetransSegs", "system.tcp.segments_retransmitted_total"),
    ("Tcp", "InErrs", "system.tcp.segments_damaged_total"),
    ("Udp", "InDatagrams", "system.udp.received_total"),
    ("Udp", "OutDatagrams", "system.udp.sent_total"),
    ("Udp", "InErrors", "system.udp.errors_total"),
    ("Udp", "NoPorts", "system.udp.no_port_total"),
    ("Udp", "RcvbufErrors", "system.udp.receive_buffer_errors_total"),
];

/// Sensor `sockets`.
pub(super) struct Sockets {
    root: RootFs,
    boot: Boot,
}

impl Sockets {
    pub(super) fn new(context: &Context) -> Self {
        Self { root: context.root.clone(), boot: Boot::new(&context.root) }
    }

    fn protocols(&mut self, at_ms: i64, sink: &mut Sink) {
        let Some(text) = sink.read(&self.root, "/proc/net/snmp", ESTABLISHED) else { return };
        let start_ms = self.boot.ms(at_ms);
        for (protocol, name, value) in snmp(&text) {
            if (protocol, name) == ("Tcp", "CurrEstab") {
                sink.gauge(ESTABLISHED, &[], value as f64);
            } else if let Some((_, _, metric)) = COUNTERS.iter().find(|(p, n, _)| (*p, *n) == (protocol, name)) {
                sink.counter(metric, &[], value as f64, start_ms);
            }
        }
    }
}

impl Collector for Sockets {
    fn collect(&mut self, at: At, sink: &mut Sink) {
        let mut text = sink.read(&self.root, "/proc/net/sockstat", "system.sockets").unwrap_or_default();
        // Missing where IPv6 is switched off.
        text.push_str(&self.root.read("/proc/net/sockstat6").unwrap_or_default());
        for (protocol, name, value) in sockstat(&text) {
            if let Some((_, _, metric, family)) = SOCKETS.iter().find(|(p, n, ..)| (*p, *n) == (protocol, name)) {
                sink.gauge(metric, &[("family", family)], value as f64);
            }
        }
        self.protocols(at.wall_ms, sink);
    }
}
