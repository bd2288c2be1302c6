//! What both versions say of labels: a name, names sorted, each once. Only what was not seen before is checked.

use std::fmt::Write as _;

use keyvigil_common::sample::{MetricType, Series, Tags};

/// Label that holds the name of the metric.
const NAME: &str = "__name__";
/// Bytes of a series in a reason.
const SHOWN_MAX: usize = 300;

/// The series of `labels`; `metric_type` decides by name and labels.
pub(super) fn series(labels: &[(&str, &str)], metric_type: impl Fn(&str, bool) -> MetricType) -> Result<Series, String> {
    let refuse = |why: String| Err(format!("{}: {why}", shown(labels)));
    if labels.iter().any(|(name, _)| name.is_empty()) {
        return refuse("a label without a name".into());
    }
    if let Some(pair) = labels.windows(2).find(|pair| pair[0].0 >= pair[1].0) {
        let (before, name) = (pair[0].0, pair[1].0);
        let why = if before == name { format!("label {name:?} comes twice") } else { format!("labels must be sorted: {name:?} stands behind {before:?}") };
        return refuse(why);
    }
    let Some((_, id)) = labels.iter().find(|(name, value)| *name == NAME && !value.is_empty()) else {
        return refuse(format!("no label {NAME}"));
    };
    let has_le = labels.iter().any(|(name, _)| *name == "le");
    let tags = Tags::new(labels.iter().filter(|(name, _)| *name != NAME).copied());
    tags.and_then(|tags| Series::new(*id, metric_type(id, has_le), tags)).or_else(|e| refuse(e.to_string()))
}

/// What a series means by its name alone. A guess, but one that the naming of Prometheus is made for: remote write 1.0 sends
/// types apart from samples, at another time, or not at all.
pub(super) fn guess(name: &str, has_le: bool) -> MetricType {
    if name.ends_with("_total") || name.ends_with("_count") {
        MetricType::Counter
    } else if has_le && name.ends_with("_bucket") {
        MetricType::Histogram
    } else {
        MetricType::Gauge
    }
}

fn shown(labels: &[(&str, &str)]) -> String {
    let id = labels.iter().find(|(name, _)| *name == NAME).map_or("", |(_, value)| value);
    let mut out = format!("{id}{{");
    for (at, (name, value)) in labels.iter().filter(|(name, _)| *name != NAME).enumerate() {
        let _ = write!(out, "{}{}={value:?}", if at == 0 { "" } else { "," }, name.escape_debug());
    }
    out.push('}');
    if let Some((at, _)) = out.char_indices().nth(SHOWN_MAX) {
        out.truncate(at);
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_become_a_series_or_a_reason_that_names_it() {
        let made = series(&[("__name__", "http_requests_total"), ("code", "200"), ("empty", "")], guess).unwrap();
        assert_eq!((made.to_string().as_str(), made.metric_type), (r#"http_requests_total{code="200"}"#, MetricType::Counter));
        for (labels, reason) in [
            (&[("a", "1")][..], r#"{a="1"}: no label __name__"#),
            (&[("__name__", ""), ("a", "1")], r#"{a="1"}: no label __name__"#),
            (&[("__name__", "up"), ("b", "1"), ("a", "2")], r#"up{b="1",a="2"}: labels must be sorted: "a" stands behind "b""#),
            (&[("__name__", "up"), ("b", "1"), ("b", "2")], r#"up{b="1",b="2"}: label "b" comes twice"#),
            (&[("", "x"), ("__name__", "up")], r#"up{="x"}: a label without a name"#),
            (&[], "{}: no label __name__"),
        ] {
            assert_eq!(series(labels, guess), Err(reason.to_owned()));
        }
        let long = "x".repeat(5_000);
        let reason = series(&[("__name__", "up"), ("a", &long)], guess).unwrap_err();
        assert!(reason.len() < 400 && reason.contains("…: value of tag \"a\""), "{reason}");
    }

    #[test]
    fn a_name_tells_what_a_value_means() {
        let cases = [("a_total", false), ("a_count", false), ("a_bucket", true), ("a_bucket", false), ("a_sum", false), ("up", true)];
        use MetricType::{Counter, Gauge, Histogram};
        assert_eq!(cases.map(|(name, le)| guess(name, le)), [Counter, Counter, Histogram, Gauge, Gauge, Gauge]);
    }
}
