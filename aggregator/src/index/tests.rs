mod model;
mod scale;

use super::*;
use keyvigil_common::sample::{MetricType, Tags};

fn names(index: &Index, pattern: &str, tags: &[&str]) -> Vec<String> {
    let selector = Selector::parse(pattern, tags.iter().copied()).unwrap();
    index.select(1, &selector, 100).iter().map(|(_, s)| s.to_string()).collect()
}

fn index() -> Index {
    let index = Index::default();
    let all = [("system.cpu.usage_total", "a"), ("system.cpu.usage_total", "b"), ("system.memory.usage_percent", "a"), ("system.disk.io.total", "a")];
    for (id, (name, host)) in (1..).zip(all) {
        index.insert(1, id, Series::new(name, MetricType::Gauge, Tags::new([("host", host)]).unwrap()).unwrap());
    }
    index.insert(2, 99, Series::new("system.cpu.usage_total", MetricType::Gauge, Tags::default()).unwrap());
    index
}

#[test]
fn a_star_stays_within_one_part_and_two_do_not() {
    let index = index();
    assert_eq!(names(&index, "system.*.usage_*", &[]).len(), 3);
    assert_eq!(names(&index, "system.*", &[]).len(), 0);
    assert_eq!(names(&index, "system.**", &[]).len(), 4);
    assert_eq!(names(&index, "system.{cpu,disk}.**", &["host:a"]).len(), 2);
    assert_eq!(names(&index, "re:system\\.(cpu|memory)\\..*", &[]).len(), 3);
}

#[test]
fn tags_match_exactly_negated_or_by_expression() {
    let index = index();
    assert_eq!(names(&index, "system.cpu.usage_total", &["host:b"]), [r#"system.cpu.usage_total{host="b"}"#]);
    assert_eq!(names(&index, "system.cpu.usage_total", &["host:!b"]), [r#"system.cpu.usage_total{host="a"}"#]);
    assert_eq!(names(&index, "system.cpu.usage_total", &["host:~[ab]"]).len(), 2);
    assert_eq!(names(&index, "system.cpu.usage_total", &["rack:!x"]).len(), 2, "a missing tag is an empty one");
}

#[test]
fn another_tenants_series_are_not_there() {
    let selector = Selector::parse("system.cpu.usage_total", []).unwrap();
    assert_eq!(index().select(2, &selector, 10).len(), 1);
    assert_eq!(index().select(3, &selector, 10).len(), 0);
}

#[test]
fn a_pattern_that_is_not_one_says_why() {
    for (pattern, word) in [("", "1 to"), ("a{b", "not closed"), ("re:(", "unclosed")] {
        let error = Selector::parse(pattern, []).unwrap_err();
        assert!(error.contains(word), "{pattern}: {error}");
    }
    assert!(Selector::parse("a", ["nocolon"]).unwrap_err().contains("name:value"));
    assert!(Selector::parse("re:(a{1000}){1000}", []).is_err(), "an expression that would take much memory");
}

#[test]
fn what_is_removed_is_gone_and_its_id_stays_unused() {
    let index = index();
    let series = index.get(2).unwrap();
    assert_eq!((index.id(1, &series), index.id(2, &series)), (Some(2), None));
    assert_eq!(index.remove([2, 2, 77]), 1);
    assert_eq!((index.id(1, &series), index.get(2), index.len(), index.per_tenant_len(1)), (None, None, 4, 3));
    assert_eq!(names(&index, "system.cpu.usage_total", &[]), [r#"system.cpu.usage_total{host="a"}"#]);
    assert_eq!(index.label_values(1, "host", &Selector::all()), ["a".into()]);
    index.insert(1, 100, &*series);
    assert_eq!((index.id(1, &series), names(&index, "**", &["host:b"]).len()), (Some(100), 1));
}

#[test]
fn what_is_there_already_stays_as_it_is() {
    let index = index();
    let series = index.get(1).unwrap();
    index.insert(1, 50, &*series);
    index.insert(1, 1, Series::new("other", MetricType::Gauge, Tags::default()).unwrap());
    assert_eq!((index.len(), index.id(1, &series), index.get(50)), (5, Some(1), None));
    let counter = Series { metric_type: MetricType::Counter, ..(*series).clone() };
    index.insert(1, 51, &counter);
    assert_eq!((index.id(1, &counter), index.get(51).as_deref()), (Some(51), Some(&counter)), "the type makes another series");
}

#[test]
fn labels_are_those_of_what_is_meant() {
    let index = index();
    let cpu = Selector::parse("system.cpu.**", []).unwrap();
    assert_eq!(index.label_names(1, &cpu), ["host".into()]);
    assert_eq!(index.label_names(2, &cpu), []);
    assert_eq!(index.label_values(1, "host", &cpu), ["a".into(), "b".into()]);
    assert_eq!(index.label_values(1, "rack", &cpu), []);
    let on_b = Selector::parse("**", ["host:b"]).unwrap();
    assert_eq!(index.metric_names(1, &on_b), ["system.cpu.usage_total".into()]);
    assert_eq!((index.count(1, &on_b), index.count(1, &Selector::all()), index.count(9, &cpu)), (1, 4, 0));
}

#[test]
fn an_empty_value_is_a_missing_tag() {
    let index = index();
    let mut tags = Tags::default();
    tags.set("host", "");
    index.insert(1, 60, Series { metric_id: "bare".into(), metric_type: MetricType::Gauge, tags });
    assert_eq!(names(&index, "**", &["host:"]), [r#"bare{host=""}"#]);
    assert_eq!(names(&index, "bare", &["host:!"]).len(), 0);
    assert_eq!(names(&index, "**", &["host:~.*"]).len(), 5);
}

#[test]
fn of_too_many_the_first_in_order_are_returned() {
    let index = Index::default();
    let series = |n: u32| Series::new(format!("m{}", n % 3), MetricType::Gauge, Tags::new([("n", format!("{n:04}"))]).unwrap()).unwrap();
    index.insert_many(1, (1..1_000).rev().map(|n| (n, series(n))));
    let all: Vec<String> = index.select(1, &Selector::all(), 5_000).iter().map(|(_, s)| s.to_string()).collect();
    assert!(all.is_sorted() && all.len() == 999);
    for limit in [0, 1, 332, 333, 334, 700, 998, 999] {
        let some: Vec<String> = index.select(1, &Selector::all(), limit).iter().map(|(_, s)| s.to_string()).collect();
        assert_eq!(some, all[..(limit + 1).min(999)], "limit {limit}");
    }
}
