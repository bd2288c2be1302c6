//! What samples cost on the wire: the pushes that an agent would send for a recording, one a batch, each acknowledged before
//! the next. Bytes are those of the request's body; HTTP and TLS come on top, for each push about the same.

use keyvigil_common::wire::{self, Base, Batch, Column, Group, Push, Sealed, Sender, WireError, encode_batch};

use crate::recording::Recording;
use crate::replay::looks;

/// Shortest interval of all that is recorded, ms.
const SHORTEST_MS: i64 = 10_000;

/// What a run of pushes cost.
#[derive(Debug, Clone, Default)]
pub struct Cost {
    /// What was sent.
    pub name: &'static str,
    /// Pushes.
    pub pushes: usize,
    /// Samples of the first push, and its bytes.
    pub first: (usize, usize),
    /// The same of all that followed.
    pub following: (usize, usize),
    /// Bytes that these would take whole.
    pub whole: usize,
}

impl Cost {
    /// Bytes of a sample in the pushes after the first.
    #[must_use]
    pub fn following_per_sample(&self) -> f64 {
        self.following.1 as f64 / self.following.0.max(1) as f64
    }
}

/// What of a recording is sent.
#[derive(Debug, Clone, Copy)]
struct Plan {
    name: &'static str,
    /// Each series keeps its last value.
    still: bool,
    /// When the controller would look, or else always.
    adaptive: bool,
    scrapes: usize,
}

const PLANS: [Plan; 6] = [
    Plan { name: "constant", still: true, adaptive: false, scrapes: 1 },
    Plan { name: "as recorded", still: false, adaptive: false, scrapes: 1 },
    Plan { name: "constant, adaptive looks", still: true, adaptive: true, scrapes: 1 },
    Plan { name: "as recorded, adaptive looks", still: false, adaptive: true, scrapes: 1 },
    Plan { name: "constant, 6 scrapes a batch", still: true, adaptive: false, scrapes: 6 },
    Plan { name: "as recorded, 6 scrapes a batch", still: false, adaptive: false, scrapes: 6 },
];

/// What a recording costs: constant and moving, looked at always and adaptively.
///
/// # Errors
/// Never in practice: a host's batch fits.
pub fn costs(recording: &Recording) -> Result<Vec<Cost>, WireError> {
    let adaptive = looks(recording);
    let always: Vec<usize> = (0..recording.times.len()).filter(|at| recording.times[*at] % SHORTEST_MS == 0).collect();
    let fixed: Vec<_> = adaptive.iter().map(|(columns, _)| (columns.clone(), always.clone())).collect();
    PLANS.iter().map(|plan| run(recording, *plan, if plan.adaptive { &adaptive } else { &fixed }, &always)).collect()
}

fn run(recording: &Recording, plan: Plan, looks: &[(Vec<usize>, Vec<usize>)], always: &[usize]) -> Result<Cost, WireError> {
    let (mut cost, mut base) = (Cost { name: plan.name, ..Cost::default() }, None::<Base>);
    for (seq, scrapes) in always.chunks_exact(plan.scrapes).enumerate() {
        let batch = batch(recording, plan, looks, scrapes);
        if batch.samples() == 0 {
            continue;
        }
        let (frame, wall_ms) = (encode_batch(&batch)?, batch.sealed_ms + 2 + seq as i64 * 31 % 17);
        let whole = frame.len();
        let boot_ms = wall_ms % 1_000_000_000;
        let sender = Sender {
            instance: [1; 16],
            machine: [2; 32],
            boot: [3; 16],
            boot_ms,
            wall_ms,
            trusts: [4; 32],
            blind: Some(0),
            canaries: keyvigil_common::canary::Canaries::default(),
        };
        let push = Push { epoch: [7; 16], sender: Some(sender), frames: vec![(seq as u64 + 1, frame)], ..Push::default() };
        let (body, next) = wire::encode_push_after(&push, base.as_ref())?;
        let part = if base.is_none() { &mut cost.first } else { &mut cost.following };
        *part = (part.0 + batch.samples(), part.1 + body.len());
        (cost.pushes, cost.whole) = (cost.pushes + 1, cost.whole + whole);
        base = next;
    }
    Ok(cost)
}

/// A group for each sensor that looks, as the sampler seals them: a moment after the looks, and each look a little later than the
/// one before it.
fn batch(recording: &Recording, plan: Plan, looks: &[(Vec<usize>, Vec<usize>)], scrapes: &[usize]) -> Batch {
    let last = scrapes.last().map_or(0, |at| recording.times[*at]);
    let sealed_ms = last + 40 + last / SHORTEST_MS * 7_919 % 23;
    let sealed = Some(Sealed { boot: [3; 16], boot_ms: sealed_ms % 1_000_000_000 });
    let mut batch = Batch { sealed_ms, sealed, ..Batch::default() };
    for (columns, looks) in looks {
        let some: Vec<usize> = scrapes.iter().copied().filter(|at| looks.binary_search(at).is_ok()).collect();
        if some.is_empty() {
            continue;
        }
        let series = u32::try_from(batch.series.len()).unwrap_or_default();
        let value = |column: usize, at: usize| recording.columns[column][if plan.still { recording.times.len() - 1 } else { at }];
        batch.series.extend(columns.iter().map(|column| recording.head[*column].series.clone()));
        let column = |(place, column): (u32, &usize)| Column { series: place, start_ms: 1, values: some.iter().map(|at| value(*column, *at)).collect() };
        let late = |at: &usize| recording.times[*at] + batch.groups.len() as i64 + recording.times[*at] / SHORTEST_MS % 3;
        let times = some.iter().map(late).collect();
        let sensor = recording.head[columns[0]].sensor.clone();
        batch.groups.push(Group { sensor, interval_ms: 10_000, times, columns: (series..).zip(columns).map(column).collect() });
    }
    batch
}

/// The table of what a recording costs.
///
/// # Errors
/// Never in practice.
pub fn table(recording: &Recording) -> Result<String, WireError> {
    let mut out = "bytes a sample                     pushes  samples a push   batches whole   first push   the following   bytes a push of these\n".to_owned();
    for cost in costs(recording)? {
        let samples = cost.first.0 + cost.following.0;
        let of = |(samples, bytes): (usize, usize)| bytes as f64 / samples.max(1) as f64;
        out += &format!(
            "{:<33}{:>8}{:>16.0}{:>16.2}{:>13.2}{:>16.2}{:>24.0}\n",
            cost.name,
            cost.pushes,
            samples as f64 / cost.pushes.max(1) as f64,
            cost.whole as f64 / samples.max(1) as f64,
            of(cost.first),
            of(cost.following),
            cost.following.1 as f64 / (cost.pushes - 1).max(1) as f64,
        );
    }
    let names = Batch { series: recording.head.iter().map(|recorded| recorded.series.clone()).collect(), ..Batch::default() };
    Ok(out + &format!("the names of the series alone: {} bytes of a batch that is whole\n", encode_batch(&names)?.len()))
}
