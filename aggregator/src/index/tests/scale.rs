//! Many series: what they take, and that all of them are found.

use keyvigil_common::sample::{MetricType, Series, Tags};

use crate::index::{Index, Selector, SeriesId};

const HOSTS: u32 = 1_000;

/// Series of a fleet: `per_host` of each host, with six tags that others have as well.
fn fleet(count: u32) -> impl Iterator<Item = (SeriesId, Series)> {
    let per_host = count / HOSTS;
    (0..count).map(move |n| {
        let (host, of_host) = (n / per_host, n % per_host);
        let tags = Tags::new([
            ("host", format!("web-{host:04}.example.org")),
            ("env", ["production", "staging"][(host % 2) as usize].to_owned()),
            ("region", format!("region-{}", host % 7)),
            ("rack", format!("r{:03}", host % 100)),
            ("job", "node".to_owned()),
            ("device", format!("dev{}", of_host % 20)),
        ]);
        (n + 1, Series::new(format!("system.metric_{:03}.total", of_host / 20), MetricType::Counter, tags.unwrap()).unwrap())
    })
}

#[test]
fn two_hundred_thousand_series_are_found_by_each_way() {
    let index = Index::default();
    index.insert_many(1, fleet(200_000));
    assert_eq!((index.len(), index.per_tenant_len(1)), (200_000, 200_000));
    for (id, series) in fleet(200_000).step_by(997) {
        assert_eq!((index.id(1, &series), index.get(id).as_deref()), (Some(id), Some(&series)));
    }
    let count = |pattern: &str, tags: &[&str]| {
        let selector = Selector::parse(pattern, tags.iter().copied()).unwrap();
        let found = index.select(1, &selector, 200_000);
        assert!(found.is_sorted_by(|a, b| a.1 < b.1), "{pattern} {tags:?}");
        assert_eq!(index.count(1, &selector), found.len() as u64);
        found.len()
    };
    assert_eq!(count("system.metric_003.total", &["device:dev7"]), 1_000);
    assert_eq!(count("system.metric_003.total", &["device:dev7", "host:~web-00.*"]), 100);
    assert_eq!(count("system.metric_00*.total", &["host:web-0042.example.org"]), 200);
    assert_eq!(count("**", &["env:staging", "rack:!~r00.*", "device:~dev[0-4]"]), 22_500);
    assert_eq!(count("**", &["absent:!x"]), 200_000);
    assert_eq!(index.label_values(1, "host", &Selector::parse("**", ["rack:r042"]).unwrap()).len(), 10);
}

#[test]
fn a_series_takes_a_quarter_of_a_kilobyte_at_most_and_gives_it_back() {
    let index = Index::default();
    let empty = index.memory_bytes();
    // Just after everything doubled: the most that a series ever takes.
    index.insert_many(1, fleet(70_000));
    let full = index.memory_bytes();
    println!("{} bytes a series", full / 70_000);
    assert!(full / 70_000 <= 250, "{} bytes a series", full / 70_000);
    index.remove(1..=35_000);
    let half = index.memory_bytes();
    assert!(half < full * 4 / 5, "{half} of {full}");
    index.remove(35_001..=70_000);
    let none = index.memory_bytes();
    assert!(none < empty + 4_096, "{none}, {empty} at first");
    index.insert_many(1, fleet(1_000));
    assert_eq!(index.count(1, &Selector::all()), 1_000);
}
