//! Network interfaces of the agent's network namespace: what passed through them, from `/proc/net/dev`, and whether they are
//! up, from `/sys/class/net`.

use std::io::ErrorKind;

use super::births::Births;
use super::metric::{counter, gauge};
use super::{At, Collector, Context, MetricDef, Sink, Unit};
use crate::parse::procfs::net::{Flow, Interface, interfaces};
use crate::rootfs::RootFs;

const BYTES_SENT: &str = "system.network.bytes_sent";
const BYTES_RECV: &str = "system.network.bytes_recv";
const ERRORS: &str = "system.network.errors";
const PACKETS: &str = "system.network.packets_total";
const DROPS: &str = "system.network.drops_total";
const UP: &str = "system.network.up";
const SPEED: &str = "system.network.speed_bytes_per_second";

pub(super) const METRICS: &[MetricDef] = &[
    counter(BYTES_SENT, Unit::Bytes, "Bytes that went out."),
    counter(BYTES_RECV, Unit::Bytes, "Bytes that came in."),
    counter(ERRORS, Unit::Count, "Packets that were damaged, by direction (recv, sent)."),
    counter(PACKETS, Unit::Count, "Packets, by direction."),
    counter(DROPS, Unit::Count, "Packets for which there was no room or no use, by direction."),
    gauge(UP, Unit::Flag, "Whether the interface can carry packets."),
    gauge(SPEED, Unit::BytesPerSecond, "Speed of the link, where the interface has one."),
];

/// A link's speed is given in megabits a second.
const BYTES_PER_MEGABIT: f64 = 125_000.0;

/// Sensor `network`.
pub(super) struct Network {
    root: RootFs,
    births: Births,
}

impl Network {
    pub(super) fn new(context: &Context) -> Self {
        Self { root: context.root.clone(), births: Births::default() }
    }

    fn counters(&mut self, interface: &Interface<'_>, sink: &mut Sink) {
        let Interface { name, recv, sent } = *interface;
        let level = [recv.bytes, recv.packets, sent.bytes, sent.packets].into_iter().fold(0_u64, u64::saturating_add);
        let start_ms = self.births.start_ms(name, level);
        sink.counter(BYTES_SENT, &[("interface", name)], sent.bytes as f64, start_ms);
        sink.counter(BYTES_RECV, &[("interface", name)], recv.bytes as f64, start_ms);
        for (direction, Flow { packets, errors, drops, .. }) in [("recv", recv), ("sent", sent)] {
            let tags = [("interface", name), ("direction", direction)];
            for (metric, value) in [(ERRORS, errors), (PACKETS, packets), (DROPS, drops)] {
                sink.counter(metric, &tags, value as f64, start_ms);
            }
        }
    }

    fn link(&self, name: &str, sink: &mut Sink) {
        match self.root.read(format!("/sys/class/net/{name}/operstate")) {
            Ok(state) => match self.is_up(name, state.trim()) {
                Some(up) => sink.gauge(UP, &[("interface", name)], f64::from(u8::from(up))),
                None => sink.absent(format!("{UP} {name}"), "neither its state nor its carrier is known"),
            },
            // It went away since /proc/net/dev was read.
            Err(e) if e.kind() == ErrorKind::NotFound => return,
            Err(e) => sink.absent(format!("{UP} {name}"), e),
        }
        // Interfaces without a link, and links that are down, refuse to tell or say -1.
        let speed = self.root.read(format!("/sys/class/net/{name}/speed")).ok().and_then(|text| text.trim().parse::<u32>().ok());
        if let Some(megabits) = speed.filter(|speed| *speed > 0 && *speed < u32::MAX) {
            sink.gauge(SPEED, &[("interface", name)], f64::from(megabits) * BYTES_PER_MEGABIT);
        }
    }

    /// `lo`, tunnels and some drivers never learn their state; their carrier tells. It is only readable while the interface
    /// is switched on.
    fn is_up(&self, name: &str, state: &str) -> Option<bool> {
        if state != "unknown" {
            return Some(state == "up");
        }
        match self.root.read(format!("/sys/class/net/{name}/carrier")) {
            Ok(carrier) => Some(carrier.trim() == "1"),
            Err(e) if e.kind() == ErrorKind::InvalidInput => Some(false),
            Err(_) => None,
        }
    }
}

impl Collector for Network {
    fn collect(&mut self, at: At, sink: &mut Sink) {
        let Some(text) = sink.read(&self.root, "/proc/net/dev", "system.network") else { return };
        for interface in interfaces(&text) {
            self.counters(&interface, sink);
            self.link(interface.name, sink);
        }
        self.births.scraped(at.wall_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{FakeHost, at, scrape};
    use super::*;

    fn dev(rows: &[(&str, u64)]) -> String {
        rows.iter().map(|(name, bytes)| format!(" {name}: {bytes} 1 0 0 0 0 0 0 {bytes} 1 0 0 0 0 0 0\n")).collect()
    }

    #[test]
    fn an_interface_that_is_made_again_starts_a_new_counter() {
        let host = FakeHost::new();
        let mut network = Network::new(&host.context());
        let mut start_of = |n, name: &str, rows: &[(&str, u64)]| {
            host.write("proc/net/dev", &dev(rows));
            let sink = scrape(&mut network, n);
            let sample = sink.samples.iter().find(|s| s.series.metric_id == BYTES_RECV && s.series.tags.get("interface") == Some(name));
            sample.unwrap().start_ms
        };
        assert_eq!(start_of(0, "eth0", &[("eth0", 900)]), None);
        assert_eq!(start_of(1, "wg0", &[("eth0", 950), ("wg0", 10)]), Some(at(0).wall_ms));
        assert_eq!(start_of(2, "eth0", &[("eth0", 3), ("wg0", 10)]), Some(at(1).wall_ms));
    }

    #[test]
    fn an_unknown_state_is_decided_by_the_carrier_and_else_left_open() {
        let host = FakeHost::new();
        host.write("proc/net/dev", &dev(&[("lo", 1), ("tun0", 1), ("eth0", 1), ("odd", 1), ("gone", 1)]));
        for (path, text) in [("lo/operstate", "unknown"), ("lo/carrier", "1"), ("tun0/operstate", "unknown"), ("tun0/carrier", "0")] {
            host.write(&format!("sys/class/net/{path}"), text);
        }
        host.write("sys/class/net/eth0/operstate", "down");
        host.write("sys/class/net/eth0/speed", "-1");
        host.write("sys/class/net/odd/operstate", "unknown");
        let sink = scrape(&mut Network::new(&host.context()), 0);
        let up = sink.samples.iter().filter(|s| s.series.metric_id == UP).map(|s| (s.series.tags.get("interface").unwrap(), s.value));
        assert_eq!(up.collect::<Vec<_>>(), [("lo", 1.0), ("tun0", 0.0), ("eth0", 0.0)]);
        assert_eq!(sink.blind.len(), 1, "{:?}", sink.blind);
        assert!(sink.samples.iter().all(|s| s.series.metric_id != SPEED));
    }
}
