//! Recordings of a host for adaptive sampling: made, converted, played.
//!
//!     replay record SECONDS OUT      records this host
//!     replay convert RAW OUT         from raw copies of /proc, as text or gzip (an end that is cut off does not matter)
//!     replay table FILE              what the controller would have taken, saved and missed
//!     replay wire FILE               bytes on the wire of a sample, in the first push and in those that follow it
//!     replay held FILE               what it would do to averages to send only what changes

use std::io::BufReader;
use std::path::Path;

use keyvigil_common::clock::SystemClock;
use keyvigil_tests::cost;
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
        ["wire", file] => say(&cost::table(&Recording::read(Path::new(file))?)?),
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
