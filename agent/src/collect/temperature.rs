//! Temperatures that the hardware reports, from `/sys/class/hwmon` (Documentation/hwmon/sysfs-interface.rst). Read directly:
//! sysinfo folds sensors of equal names into one and repeats the last value of a sensor that fails. A host without such
//! hardware, as most virtual ones, has nothing to report and is not blind.

use std::io::ErrorKind;

use super::metric::gauge;
use super::{At, Collector, Context, MetricDef, Sink, Unit};
use crate::rootfs::RootFs;

const DIR: &str = "/sys/class/hwmon";
const TEMPERATURE: &str = "system.temperature.celsius";
const CRITICAL: &str = "system.temperature.critical_celsius";

pub(super) const METRICS: &[MetricDef] = &[
    gauge(TEMPERATURE, Unit::Celsius, "Temperature. Tags chip (kind of device), device, sensor (its input) and label (what it measures, where known)."),
    gauge(CRITICAL, Unit::Celsius, "Temperature above which the device is in danger, where it tells."),
];

/// Sensor `temperature`.
pub(super) struct Temperature(RootFs);

impl Temperature {
    pub(super) fn new(context: &Context) -> Self {
        Self(context.root.clone())
    }

    fn chip(&self, hwmon: &str, sink: &mut Sink) {
        let dir = format!("{DIR}/{hwmon}");
        // The device behind it keeps its name over a reboot; the number of the hwmon does not.
        let link = std::fs::read_link(self.0.path(format!("{dir}/device"))).ok();
        let device = link.as_deref().and_then(|path| path.file_name()?.to_str()).unwrap_or(hwmon);
        let text = |file: &str| self.0.read(format!("{dir}/{file}")).map(|text| text.trim().to_owned());
        let chip = text("name").unwrap_or_default();
        for file in self.0.names(&dir).unwrap_or_default() {
            let Some(sensor) = file.strip_suffix("_input").filter(|name| name.starts_with("temp")) else { continue };
            let label = text(&format!("{sensor}_label")).unwrap_or_default();
            let tags = [("chip", chip.as_str()), ("device", device), ("sensor", sensor), ("label", label.as_str())];
            match text(&file) {
                Ok(value) => match celsius(&value) {
                    Some(value) => sink.gauge(TEMPERATURE, &tags, value),
                    None => sink.absent(format!("{TEMPERATURE} {device} {sensor}"), "not a number"),
                },
                Err(e) if e.kind() == ErrorKind::NotFound => continue,
                // Such as a disk that sleeps, or an input with nothing connected.
                Err(e) => sink.absent(format!("{TEMPERATURE} {device} {sensor}"), e),
            }
            if let Some(value) = text(&format!("{sensor}_crit")).ok().and_then(|value| celsius(&value)) {
                sink.gauge(CRITICAL, &tags, value);
            }
        }
    }
}

impl Collector for Temperature {
    fn collect(&mut self, _at: At, sink: &mut Sink) {
        match self.0.names(DIR) {
            Ok(chips) => chips.iter().for_each(|hwmon| self.chip(hwmon, sink)),
            Err(e) if e.kind() == ErrorKind::NotFound => (),
            Err(e) => sink.absent(TEMPERATURE, format_args!("{DIR}: {e}")),
        }
    }
}

/// The files hold thousandths of a degree.
fn celsius(text: &str) -> Option<f64> {
    text.parse::<i32>().ok().map(|millis| f64::from(millis) / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{FakeHost, scrape};
    use super::*;

    #[test]
    fn two_disks_of_one_model_stay_two_and_a_failing_sensor_is_named() {
        let host = FakeHost::new();
        for (hwmon, value) in [("hwmon0", "41850"), ("hwmon1", "-5000")] {
            host.write(&format!("sys/class/hwmon/{hwmon}/name"), "nvme\n");
            host.write(&format!("sys/class/hwmon/{hwmon}/temp1_label"), "Composite\n");
            host.write(&format!("sys/class/hwmon/{hwmon}/temp1_input"), value);
        }
        host.write("sys/class/hwmon/hwmon0/temp1_crit", "84850\n");
        host.write("sys/class/hwmon/hwmon1/temp2_input", "N/A\n");
        let sink = scrape(&mut Temperature::new(&host.context()), 0);
        assert_eq!(sink.samples.iter().map(|s| s.value).collect::<Vec<_>>(), [41.85, 84.85, -5.0]);
        assert_eq!(sink.blind.iter().map(|(what, _)| what.as_str()).collect::<Vec<_>>(), ["system.temperature.celsius hwmon1 temp2"]);
    }
}
