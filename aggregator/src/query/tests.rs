use super::*;
use crate::store::{Fold, Piece};
use proptest::prelude::*;

fn question(from_ms: i64, to_ms: i64, interval_ms: Option<i64>) -> Question {
    Question {
        tenant: 1,
        selector: Selector::parse("x", []).unwrap(),
        from_ms,
        to_ms,
        aggregation: None,
        interval_ms,
        group_by: None,
        limit: 10,
        urgent: false,
    }
}

fn apply(name: &str, from: i64, to: i64, interval: Option<i64>, series: &[&[Point]]) -> Vec<Option<f64>> {
    let buckets = Buckets::new(&question(from, to, interval)).unwrap();
    let (aggregation, pooled) = (name.parse::<Aggregation>().unwrap(), AtomicUsize::new(0));
    let shape = Arc::new(Shape { buckets, aggregation, from_ms: from, rows: vec![0; series.len()], grouped: true, pooled });
    // Each series by itself, as if they were read on threads of their own.
    let rows = series.iter().enumerate().map(|(at, points)| {
        let mut fold = Folding::new(Arc::clone(&shape), &[at]);
        fold.take(0, Piece::Points(points)).unwrap();
        fold.finish()
    });
    let rows = rows.reduce(|mut a, b| {
        Folding::absorb(&mut a, b);
        a
    });
    rows.unwrap().values(&shape).next().map_or_else(|| vec![None; buckets.count], |(_, values)| values)
}

#[test]
fn buckets_are_aligned_and_one_without_samples_is_none() {
    let buckets = Buckets::new(&question(65_000, 200_000, Some(60_000))).unwrap();
    assert_eq!((buckets.start(0), buckets.count), (60_000, 3));
    let points = [(65_000, 1.0), (119_999, 3.0), (180_000, 7.0)];
    assert_eq!(apply("avg", 65_000, 200_000, Some(60_000), &[&points]), [Some(2.0), None, Some(7.0)]);
    assert_eq!(apply("count", 0, 200_000, None, &[&points]), [Some(3.0)]);
}

#[test]
fn every_aggregation_gives_what_its_name_says() {
    let points: Vec<Point> = [4.0, 1.0, 3.0, 2.0, f64::NAN].into_iter().enumerate().map(|(at, v)| (at as i64 * 1_000, v)).collect();
    let expected =
        [("avg", 2.5), ("min", 1.0), ("max", 4.0), ("sum", 10.0), ("count", 4.0), ("last", 2.0), ("p50", 2.5), ("p90", 3.7), ("stddev", 1.25f64.sqrt())];
    for (name, value) in expected {
        let got = apply(name, 0, 10_000, None, &[&points])[0].unwrap();
        assert!((got - value).abs() < 1e-12, "{name}: {got} is not {value}");
    }
    assert_eq!(apply("sum", 0, 10_000, None, &[&points, &points])[0], Some(20.0), "a group pools its series");
}

#[test]
fn a_counter_that_restarts_never_goes_backwards() {
    let points = [(0, 100.0), (10_000, 110.0), (20_000, 5.0), (30_000, 10.0)];
    assert_eq!(apply("increase", 1, 30_000, None, &[&points[..]])[0].map(f64::round), Some(20.0));
    let rates = apply("rate", 0, 29_999, Some(10_000), &[&points[..]]);
    assert_eq!(rates, [Some(1.0), Some(0.5), Some(0.5)]);
}

#[test]
fn growth_over_a_hole_is_not_invented() {
    let points = [(0, 0.0), (10_000, 10.0), (3_600_000, 500.0), (3_610_000, 510.0)];
    let rates = apply("rate", 0, 3_619_999, Some(60_000), &[&points[..]]);
    assert_eq!(rates.iter().flatten().count(), 2);
    assert_eq!(rates[30], None);
    assert_eq!(apply("increase", 0, 3_619_999, None, &[&points[..]]), [Some(510.0)], "one bucket over all of it does see both ends");
}

#[test]
fn a_question_that_cannot_be_answered_says_what_to_change() {
    let error = Buckets::new(&question(0, i64::MAX / 4, Some(1_000))).unwrap_err().to_string();
    assert!(error.contains("longer interval"), "{error}");
    assert!("median".parse::<Aggregation>().unwrap_err().contains("p50"));
}

mod rolled;

proptest! {
    #[test]
    fn growth_over_all_buckets_is_the_growth_of_the_counter(steps in prop::collection::vec((1i64..90_000, 0u32..50), 2..40), width in 1_000i64..200_000) {
        let mut at = 1_000_000;
        let mut value = 0.0;
        let points: Vec<Point> = steps.iter().map(|(dt, dv)| { at += dt; value += f64::from(*dv); (at, value) }).collect();
        let (first, last) = (points[0], points[points.len() - 1]);
        let total: f64 = apply("increase", first.0, last.0, Some(width), &[&points]).into_iter().flatten().sum();
        prop_assert!((total - (last.1 - first.1)).abs() < 1e-6, "{} is not {}", total, last.1 - first.1);
        let rates = apply("rate", first.0, last.0, Some(width), &[&points]);
        prop_assert!(rates.into_iter().flatten().all(|r| r >= 0.0));
    }
}
