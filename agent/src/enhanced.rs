//! The aggregator's order to look closely: which sensors, and until when by this host's clock.

/// What is to be sampled at its shortest interval.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Enhanced {
    /// Names of sensors; all where empty.
    pub sensors: Vec<String>,
    /// Unix ms.
    pub until_ms: i64,
}

impl Enhanced {
    /// Whether it holds for a sensor at `now_ms`.
    #[must_use]
    pub fn holds(&self, sensor: &str, now_ms: i64) -> bool {
        self.until_ms > now_ms && (self.sensors.is_empty() || self.sensors.iter().any(|name| name == sensor))
    }

    /// Whether `other` asks for the same, give or take a second: its end comes by the aggregator's clock with each ack.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        self.sensors == other.sensors && (self.until_ms - other.until_ms).abs() < 1_000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_for_the_sensors_it_names_and_for_all_where_it_names_none() {
        let some = Enhanced { sensors: vec!["cpu".into()], until_ms: 1_000 };
        assert!(some.holds("cpu", 999) && !some.holds("cpu", 1_000) && !some.holds("memory", 0));
        let all = Enhanced { sensors: Vec::new(), until_ms: 1_000 };
        assert!(all.holds("memory", 0) && !Enhanced::default().holds("memory", 0));
        assert!(all.is_like(&Enhanced { until_ms: 1_400, ..all.clone() }) && !all.is_like(&some));
    }
}
