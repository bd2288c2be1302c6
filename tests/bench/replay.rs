//! Recordings of a host for adaptive sampling: made, converted, played.
//!
//!     replay record SECONDS OUT      records this host
//!     replay convert RAW OUT         from raw copies of /proc, as text or gzip (an end that is cut off does not matter)
//!     replay table FILE              what the controller would have taken, saved and missed
//!     replay wire FILE               bytes on the wire of a sample
//!     replay held FILE               what it would do to averages to send only what changes

use std::io::BufReader;
use std::path::Path;

use keyvigil_common::clock::SystemClock;
use keyvigil_common::wire::{Batch, Column, Group, encode_batch};
use keyvigil_tests::recording::{Recording, STEP_MS};
use keyvigil_tests::replay::{held, quantile, table};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["record", seconds, out] => {
            let steps = seconds.parse::<usize>()? * 1_000 / usize::try_from(STEP_MS)?;
            write(&Recording::of_this_host(steps, &SystemClock::shared()).await, out)
        }
        ["convert", raw, out] => {
            let file = std::fs::File::open(raw)?;
            let recording = match raw.ends_with(".gz") {
                true => Recording::of_copies(BufReader::new(flate2::read::GzDecoder::new(file)))?,
                false => Recording::of_copies(BufReader::new(file))?,
            };
            write(&recording, out)
        }
        ["table", file] => say(&table(&Recording::read(Path::new(file))?)),
        ["wire", file] => say(&wire(&Recording::read(Path::new(file))?)?),
        ["held", file] => {
            let recording = Recording::read(Path::new(file))?;
            for minutes in [1, 5, 60] {
                let (sent, errors) = held(&recording, minutes * 60_000);
                let wrong = errors.iter().filter(|error| **error > 0.01).count() as f64 / errors.len().max(1) as f64;
                let of = |part| quantile(&errors, part) * 100.0;
                let line = format!("{:.1} % sent; means of gauges over {minutes} min: {:.1} % are off by more than 1 %", sent * 100.0, wrong * 100.0);
                say(&format!("{line}; p90 {:.2} %, p99 {:.2} %, at worst {:.1} %\n", of(0.9), of(0.99), of(1.0)))?;
            }
            Ok(())
        }
        _ => Err("replay record SECONDS OUT | convert RAW OUT | table FILE | wire FILE | held FILE".into()),
    }
}

#[expect(clippy::print_stdout, reason = "the answer to who typed the command")]
fn say(text: &str) -> Result<(), Box<dyn std::error::Error>> {
    print!("{text}");
    Ok(())
}

fn write(recording: &Recording, out: &str) -> Result<(), Box<dyn std::error::Error>> {
    let bytes = recording.encode()?;
    std::fs::write(out, &bytes)?;
    let values: usize = recording.columns.iter().map(Vec::len).sum();
    say(&format!(
        "{} bytes, {} series, {} times, {:.3} bytes a value\n",
        bytes.len(),
        recording.head.len(),
        recording.times.len(),
        bytes.len() as f64 / values as f64
    ))
}

/// Bytes of the frames that the agent would send at 10 s: as recorded, with values that never move, without any, and those of
/// an hour at once.
fn wire(recording: &Recording) -> Result<String, Box<dyn std::error::Error>> {
    let at: Vec<usize> = (0..recording.times.len()).filter(|at| recording.times[*at] % 10_000 == 0).collect();
    let mut out = String::new();
    type Value<'a> = &'a dyn Fn(usize, usize) -> f64;
    let moving: Value<'_> = &|column, at| recording.columns[column][at];
    let still: Value<'_> = &|column, _| recording.columns[column].last().copied().unwrap_or_default();
    for (name, value, times) in
        [("as recorded", moving, 1), ("constant", still, 1), ("as recorded, 6 scrapes a batch", moving, 6), ("constant, 6 scrapes a batch", still, 6)]
    {
        let (mut bytes, mut samples, mut batches) = (0, 0, 0);
        for some in at.chunks_exact(times).take(60) {
            let columns = (0..recording.head.len()).map(|series| Column {
                series: u32::try_from(series).unwrap_or_default(),
                start_ms: 1,
                values: some.iter().map(|at| value(series, *at)).collect(),
            });
            let group =
                Group { sensor: "all".into(), interval_ms: 10_000, times: some.iter().map(|at| recording.times[*at]).collect(), columns: columns.collect() };
            let series = recording.head.iter().map(|recorded| recorded.series.clone()).collect();
            let batch = Batch { sealed_ms: recording.times[some[0]], series, groups: vec![group], ..Batch::default() };
            (bytes, samples, batches) = (bytes + encode_batch(&batch)?.len(), samples + batch.samples(), batches + 1);
        }
        out += &format!("{name:<32}{:>8.0} bytes a batch{:>8.2} bytes a sample\n", bytes as f64 / f64::from(batches), bytes as f64 / samples as f64);
    }
    let names = Batch { series: recording.head.iter().map(|recorded| recorded.series.clone()).collect(), ..Batch::default() };
    out += &format!("the dictionary of series alone  {:>8} bytes a batch\n", encode_batch(&names)?.len());
    Ok(out)
}
