use super::*;
use proptest::prelude::*;

#[test]
fn a_cell_tells_what_its_samples_come_to() {
    let points = [(300_000, 4.0), (300_100, f64::NAN), (400_000, 9.0), (500_000, 1.0), (600_000, 2.0)];
    let cells = roll(&points, 300_000);
    let first = Cell { at: 300_000, count: 3.0, sum: 14.0, min: 1.0, max: 9.0, first: (300_000, 4.0), last: (500_000, 1.0), reset: 9.0 };
    assert_eq!(cells, [first, Cell::of(600_000, &points[4..]).unwrap()]);
    assert_eq!(roll(&[(0, f64::NAN)], 300_000), [], "nothing is known of a cell in which a series only ended");
}

#[test]
fn a_sum_of_decimals_is_a_decimal() {
    let sum = (0..20).map(|n| f64::from(n) * 0.1).sum::<f64>();
    assert_eq!((as_written(sum), as_written(1.0 / 3.0), as_written(f64::INFINITY)), (19.0, 1.0 / 3.0, f64::INFINITY));
    assert!(as_written(f64::NAN).is_nan());
}

proptest! {
    #[test]
    fn facets_read_one_by_one_make_the_cells_again(values in prop::collection::btree_map(0i64..5_000_000, -1_000i32..1_000, 1..80)) {
        let points: Vec<Point> = values.into_iter().map(|(at, value)| (at, f64::from(value) / 8.0)).collect();
        let cells = roll(&points, 300_000);
        let mut again = Vec::new();
        for facet in Facet::ALL {
            let (times, values): (Vec<i64>, Vec<f64>) = cells.iter().map(|cell| cell.get(facet)).unzip();
            fill(&mut again, facet, 300_000, &times, &values);
        }
        prop_assert_eq!(again, cells);
    }

    #[test]
    fn samples_that_come_in_two_parts_make_the_same_cells_but_for_what_resets_took(values in prop::collection::btree_map(0i64..5_000_000, 0i32..1_000, 2..80), every in 2usize..5) {
        let points: Vec<Point> = values.into_iter().map(|(at, value)| (at, f64::from(value))).collect();
        let part = |late: bool| points.iter().enumerate().filter(|(n, _)| (n % every == 0) == late).map(|(_, p)| *p).collect::<Vec<_>>();
        let mut cells = roll(&part(false), 300_000);
        add(&mut cells, roll(&part(true), 300_000));
        let whole = roll(&points, 300_000);
        let bare = |cells: Vec<Cell>| cells.into_iter().map(|cell| Cell { reset: 0.0, ..cell }).collect::<Vec<_>>();
        prop_assert_eq!(bare(cells), bare(whole));
    }
}
