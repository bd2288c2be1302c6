//! Figures as lines and tables.

use crate::drive::Times;
use crate::payload::{CONNECTIONS, Maker, SEED, Shape};
use crate::query::Question;
use crate::server::{Kind, Settled};

/// Of one server in one round.
pub(crate) struct Figures {
    pub(crate) kind: Kind,
    pub(crate) samples: usize,
    pub(crate) times: Times,
    /// CPU seconds of the server when the last request was acknowledged.
    pub(crate) cpu: f64,
    /// The most memory until then.
    pub(crate) peak_mib: f64,
    /// CPU seconds that sending took the driver.
    pub(crate) driver_cpu: f64,
    /// CPU seconds that all others on this machine used in that time.
    pub(crate) others_cpu: f64,
    pub(crate) settled: Settled,
}

impl Figures {
    fn rate(&self) -> f64 {
        self.samples as f64 / self.times.took.as_secs_f64()
    }

    fn us_a_sample(&self, cpu: f64) -> f64 {
        cpu * 1e6 / self.samples as f64
    }

    fn bytes_a_sample(&self) -> f64 {
        self.settled.bytes as f64 / self.samples as f64
    }
}

/// Times of a server: two for each question, on one connection and on four.
pub(crate) struct Column {
    pub(crate) name: &'static str,
    pub(crate) cells: Vec<Times>,
}

pub(crate) fn payload(shape: &Shape, made: Option<&Maker>) {
    let Shape { hosts, series, steps, step_ms, .. } = shape;
    let per_request = shape.hosts_per_request * series * shape.steps_per_request;
    println!("samples             {} of {hosts} hosts x {series} series x {steps} steps, {} s apart; seed {SEED:#x}", shape.samples(), step_ms / 1_000);
    println!("requests            {per_request} samples each, {CONNECTIONS} connections; the last sample is of {} (Unix ms)", shape.end_ms);
    if let Some(made) = made {
        println!("on the wire         {:.2} bytes a sample, {} requests", made.wire_bytes as f64 / shape.samples() as f64, made.requests);
    }
}

pub(crate) fn ingest(f: &Figures) {
    println!("  ingest            {:.0} samples/s acknowledged ({:.2} s)", f.rate(), f.times.took.as_secs_f64());
    println!("  CPU of others     {:.2} s the driver, {:.2} s whatever else ran here in that time", f.driver_cpu, f.others_cpu);
    println!("  ack               p50 {:.2} ms, p99 {:.2} ms of {} requests", f.times.quantile_ms(0.5), f.times.quantile_ms(0.99), f.times.count());
    println!("  CPU               {:.2} s at the last ack, {:.3} us a sample", f.cpu, f.us_a_sample(f.cpu));
    println!("  memory            {:.0} MiB at most until the last ack", f.peak_mib);
}

pub(crate) fn settled(f: &Figures) {
    println!("  CPU, compacted    {:.2} s, {:.3} us a sample", f.settled.cpu, f.us_a_sample(f.settled.cpu));
    println!("  on disk           {:.3} bytes a sample ({} bytes in {} files: {})", f.bytes_a_sample(), f.settled.bytes, f.settled.files, f.settled.note);
}

type Measure = fn(&Figures) -> f64;

/// Keyvigil over each peer, means of all rounds.
pub(crate) fn ratios(figures: &[Figures]) {
    let mean = |kind: Kind, of: Measure| {
        let all: Vec<f64> = figures.iter().filter(|f| f.kind == kind).map(of).collect();
        (!all.is_empty()).then(|| all.iter().sum::<f64>() / all.len() as f64)
    };
    let rows: [(&str, Measure); 4] = [
        ("B1 samples/s", Figures::rate),
        ("B1 CPU us a sample, at the last ack", |f| f.us_a_sample(f.cpu)),
        ("B1 CPU us a sample, compacted", |f| f.us_a_sample(f.settled.cpu)),
        ("B3 bytes a sample", Figures::bytes_a_sample),
    ];
    println!(
        "\n{:<38}{:>16}{:>16}{:>16}{:>22}{:>22}",
        "mean of the rounds", "VictoriaMetrics", "Prometheus", "Keyvigil", "Keyvigil/Victoria", "Keyvigil/Prometheus"
    );
    for (name, of) in rows {
        let [victoria, prometheus, own] = [Kind::VictoriaMetrics, Kind::Prometheus, Kind::Keyvigil].map(|kind| mean(kind, of));
        let plain = |value: Option<f64>| value.map_or("-".into(), |v| if v >= 1e3 { format!("{v:.0}") } else { format!("{v:.3}") });
        let over = |peer: Option<f64>| own.zip(peer).map_or("-".into(), |(own, peer)| format!("{:.2}", own / peer));
        println!("{name:<38}{:>16}{:>16}{:>16}{:>22}{:>22}", plain(victoria), plain(prometheus), plain(own), over(victoria), over(prometheus));
    }
}

/// A row for each question and number of connections, a column for each server.
pub(crate) fn questions(questions: &[Question], columns: &[Column]) {
    if columns.is_empty() {
        return;
    }
    let names: String = columns.iter().map(|column| format!("{:>20}", column.name)).collect();
    println!("\n{:<30}{:>6}{names}", "B4 p50 / p99, ms", "conn.");
    for (row, (question, connections)) in questions.iter().flat_map(|q| [(q, 1), (q, 4)]).enumerate() {
        let cells: String = columns.iter().map(|column| cell(&column.cells[row])).collect();
        println!("{:<30}{connections:>6}{cells}", question.name);
    }
    println!("VictoriaMetrics is asked without the cache of its answers; \"VM, its cache\" is the same server asked again with it.");
}

fn cell(times: &Times) -> String {
    format!("{:>20}", format!("{:.2} / {:.2}", times.quantile_ms(0.5), times.quantile_ms(0.99)))
}
