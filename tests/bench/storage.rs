//! Storage against peers: VictoriaMetrics, Prometheus and Keyvigil, one after the other, are given the same remote-write
//! requests and asked the same questions. Prints; judges nothing but whether answers agree. `tests/bench/storage` and
//! `tests/bench/queries` fetch the peers, build and run it; `bench-storage native` is what `tests/bench/ingest` runs.
#![expect(clippy::print_stdout, clippy::disallowed_methods, reason = "a benchmark prints, and measures with the system's clock")]

mod drive;
mod ingest;
mod payload;
mod query;
mod report;
mod server;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use clap::{Args, Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

use drive::{Connection, Times};
use payload::{CONNECTIONS, Maker, Shape};
use query::{Answer, Question};
use report::{Column, Figures};
use server::{Kind, Server};

/// Times that a question is asked for one figure.
const TURNS: usize = 200;
const WARM_UP: usize = 20;

#[derive(Parser)]
#[command(about = "Storage against peers on the same samples")]
struct Cli {
    #[command(subcommand)]
    mode: Mode,
}

#[derive(Subcommand)]
enum Mode {
    /// 100 hosts x 200 series x 240 steps, 15 s apart: ingest, disk, questions over the hour.
    Storage {
        #[command(flatten)]
        servers: Servers,
        /// How often each server is measured; questions are asked in the last round.
        #[arg(long, default_value_t = 1)]
        rounds: usize,
    },
    /// 100 series a host x 1,000 steps, 10 min apart: questions over up to a week.
    Big {
        #[command(flatten)]
        servers: Servers,
        /// Samples; the number of hosts follows.
        #[arg(long, default_value_t = 100_000_000)]
        samples: usize,
    },
    /// Native ingest, as `tests/bench/ingest`.
    Native {
        /// Times eight agents.
        rounds: Option<usize>,
    },
}

#[derive(Args)]
struct Servers {
    /// Directory for what servers store; what was stored is removed after each.
    #[arg(long)]
    work: PathBuf,
    /// Program; without it, it is not measured.
    #[arg(long)]
    victoria_metrics: Option<PathBuf>,
    /// Program; without it, it is not measured.
    #[arg(long)]
    prometheus: Option<PathBuf>,
    /// Program; without it, it is not measured.
    #[arg(long)]
    keyvigil: Option<PathBuf>,
    /// Seconds that one question may be asked for one figure.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Minutes that one server may take for all.
    #[arg(long, default_value_t = 30)]
    minutes: u64,
}

impl Servers {
    fn given(&self) -> impl Iterator<Item = (Kind, &PathBuf)> {
        let programs = [(Kind::VictoriaMetrics, &self.victoria_metrics), (Kind::Prometheus, &self.prometheus), (Kind::Keyvigil, &self.keyvigil)];
        programs.into_iter().filter_map(|(kind, bin)| Some((kind, bin.as_ref()?)))
    }
}

fn main() -> ExitCode {
    let mode = Cli::parse().mode;
    if let Mode::Native { .. } = mode {
        ingest::main();
        return ExitCode::SUCCESS;
    }
    // One thread: what the driver takes, the server lacks.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut end = signal(SignalKind::terminate()).expect("a signal");
        // A server is killed where its future is dropped.
        tokio::select! {
            code = measure(mode) => code,
            _ = end.recv() => ExitCode::FAILURE,
            _ = tokio::signal::ctrl_c() => ExitCode::FAILURE,
        }
    })
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

async fn measure(mode: Mode) -> ExitCode {
    let (servers, rounds, shape, questions) = match mode {
        Mode::Storage { servers, rounds } => (servers, rounds, Shape::hour(now_ms()), query::HOUR_OF_DATA),
        Mode::Big { servers, samples } => (servers, 1, Shape::week(samples, now_ms()), query::WEEK_OF_DATA),
        Mode::Native { .. } => return ExitCode::SUCCESS,
    };
    let mut run = Run { servers, shape, questions, prepared: None, reference: Vec::new(), columns: Vec::new(), good: true };
    if !shape.by_window {
        let mut maker = Maker::new(shape);
        run.prepared = Some(maker.rest());
        report::payload(&shape, Some(&maker));
    } else {
        report::payload(&shape, None);
    }
    let mut figures = Vec::new();
    for round in 1..=rounds {
        for (kind, bin) in run.servers.given().map(|(kind, bin)| (kind, bin.clone())).collect::<Vec<_>>() {
            println!("\n{} (round {round} of {rounds})", kind.name());
            let dir = run.servers.work.join(format!("{}-{round}", kind.name()));
            let most = Duration::from_secs(run.servers.minutes * 60);
            let outcome = tokio::time::timeout(most, run.one(kind, &bin, &dir, round == rounds)).await;
            match outcome.unwrap_or_else(|_| Err(format!("not done after {} min", most.as_secs() / 60))) {
                Ok(of_this) => figures.push(of_this),
                Err(e) => {
                    println!("  FAILED: {e}");
                    run.good = false;
                }
            }
            let _ = std::fs::remove_dir_all(&dir);
        }
    }
    report::ratios(&figures);
    report::questions(questions, &run.columns);
    if run.good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

struct Run {
    servers: Servers,
    shape: Shape,
    questions: &'static [Question],
    /// All requests; `None` where they are made, and sent, some steps at a time.
    prepared: Option<Vec<Vec<Bytes>>>,
    /// The first server's answers, and its name.
    reference: Vec<(&'static str, Answer)>,
    columns: Vec<Column>,
    /// Nothing failed and no answers differed.
    good: bool,
}

impl Run {
    async fn one(&mut self, kind: Kind, bin: &std::path::Path, dir: &std::path::Path, ask: bool) -> Result<Figures, String> {
        let server = Server::start(kind, bin, dir).await?;
        let mut figures = self.load(&server).await?;
        report::ingest(&figures);
        let (server, settled) = server.settle().await?;
        figures.settled = settled;
        report::settled(&figures);
        self.count(&server).await?;
        if ask {
            self.check(&server).await?;
            self.time(&server, false, kind.name()).await?;
            if kind == Kind::VictoriaMetrics {
                self.time(&server, true, "VM, its cache").await?;
            }
            println!("  memory            {:.0} MiB at most after the questions", server.peak_mib());
        }
        server.stop().await?;
        Ok(figures)
    }

    /// Sends everything. Where requests are made in between, that time is not counted.
    async fn load(&self, server: &Server) -> Result<Figures, String> {
        let mut connections = Vec::new();
        for _ in 0..CONNECTIONS {
            connections.push(Connection::open(&server.endpoint).await?);
        }
        let (path, mut times, mut driver_cpu, mut all_cpu) = (server.kind.write_path(), Times::default(), 0.0, 0.0);
        let started = server.cpu();
        let mut maker = Maker::new(self.shape);
        let mut prepared = self.prepared.clone();
        while let Some(queues) = if self.prepared.is_some() { prepared.take() } else { maker.next_window() } {
            let before = (server::own_cpu(), server::machine_cpu());
            times.add(drive::write(&mut connections, path, queues).await?);
            driver_cpu += server::own_cpu() - before.0;
            all_cpu += server::machine_cpu() - before.1;
        }
        let (cpu, peak_mib) = (server.cpu(), server.peak_mib());
        let others_cpu = (all_cpu - driver_cpu - (cpu - started)).max(0.0);
        Ok(Figures { kind: server.kind, samples: self.shape.samples(), times, cpu, peak_mib, driver_cpu, others_cpu, settled: server::Settled::default() })
    }

    /// Whether what was acknowledged is there.
    async fn count(&mut self, server: &Server) -> Result<(), String> {
        let mut connection = Connection::open(&server.endpoint).await?;
        let mut stored = 0.0;
        for path in query::counts(server.kind, &self.shape) {
            stored += query::sum(server.kind, &connection.get(&path).await?)?;
        }
        self.good &= stored == self.shape.samples() as f64;
        let word = if stored == self.shape.samples() as f64 { "all" } else { "MISMATCH: not all" };
        println!("  stored            {word} samples are found: {stored} of {}", self.shape.samples());
        Ok(())
    }

    /// Whether this server's answers are those of the first; three turns of each question.
    async fn check(&mut self, server: &Server) -> Result<(), String> {
        let mut connection = Connection::open(&server.endpoint).await?;
        let first = self.reference.is_empty();
        for (at, question) in self.questions.iter().enumerate() {
            for turn in 0..3 {
                let path = question.path(server.kind, false, &self.shape, turn);
                let answer = question.read(server.kind, &connection.get(&path).await?).map_err(|e| format!("{}: {e}", question.name))?;
                if first {
                    self.reference.push((server.kind.name(), answer));
                    continue;
                }
                let (name, reference) = &self.reference[at * 3 + turn];
                match question.compare(reference, &answer) {
                    Ok(said) if turn == 0 => println!("  agrees            with {name}: {}: {said}", question.name),
                    Ok(_) => {}
                    Err(said) => {
                        println!("  MISMATCH with {name}: {}, turn {turn}: {said}", question.name);
                        self.good = false;
                    }
                }
            }
        }
        Ok(())
    }

    /// Each question on one connection, then on four.
    async fn time(&mut self, server: &Server, cached: bool, name: &'static str) -> Result<(), String> {
        let most = Duration::from_secs(self.servers.seconds);
        let mut column = Column { name, cells: Vec::new() };
        for question in self.questions {
            let paths: Vec<String> = (0..TURNS).map(|turn| question.path(server.kind, cached, &self.shape, turn)).collect();
            drive::read(&server.endpoint, 1, &paths[..WARM_UP], most).await.map_err(|e| format!("{}: {e}", question.name))?;
            for connections in [1, 4] {
                column.cells.push(drive::read(&server.endpoint, connections, &paths, most).await.map_err(|e| format!("{}: {e}", question.name))?);
            }
        }
        self.columns.push(column);
        Ok(())
    }
}
