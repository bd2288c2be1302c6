//! What the probes may cost. The kernel counts how often each is reached; one that is dear, or too much in sum, is taken away for a
//! while. What is not counted meanwhile is told, and why; it is never taken for nothing.

use std::collections::BTreeMap;

use super::functions::Role;
use super::kernel::Kernel;
use super::libraries::Libraries;
use super::message::Sight;
use super::probes::{Probe, Probes};

/// Readings after which it is judged what the probes cost since the last time.
const READINGS: u32 = 10;
/// What reaching a probe costs, ns: where the kernel carries the instruction out itself, and where it has to single-step. A probe on the
/// end of a function comes on top.
const CHEAP_NS: u64 = 1_000;
const DEAR_NS: u64 = 15_000;
const END_NS: u64 = 1_000;
/// Of a second of one processor: what a dear probe may take, and all together.
const ONE_MAX_NS: u64 = 50_000_000;
const ALL_MAX_NS: u64 = 200_000_000;
/// For how many readings a probe is away; twice as long each time that it is too dear again, an hour at most.
const AWAY: u64 = 300;
const AWAY_MAX: u64 = 3_600;

/// What a probe cost in a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cost {
    number: usize,
    library: usize,
    is_cheap: bool,
    /// It follows keys: without it what is known of them would be wrong.
    follows: bool,
    ns: u64,
}

/// A probe that is away.
#[derive(Debug, Clone, Copy)]
struct Away {
    readings: u64,
    left: u64,
    /// How often a second it was reached.
    rate: u64,
}

/// The state.
#[derive(Debug, Default)]
pub struct Budget {
    readings: u32,
    began_ns: u64,
    reached: Vec<u64>,
    away: BTreeMap<usize, Away>,
    /// How long those that came back had been away.
    back: BTreeMap<usize, u64>,
}

impl Budget {
    /// Counts a reading; where it is time, judges.
    pub fn read(&mut self, now_ns: u64, kernel: &mut Kernel, probes: &mut Probes, libraries: &Libraries) {
        self.bring_back(kernel, probes, libraries);
        self.readings += 1;
        if self.readings < READINGS {
            return;
        }
        let took_ns = now_ns.saturating_sub(std::mem::replace(&mut self.began_ns, now_ns)).max(1);
        let is_first = self.reached.is_empty();
        self.readings = 0;
        let rates: Vec<u64> = (0..probes.all().len()).map(|number| self.rate(number, kernel, took_ns)).collect();
        if is_first {
            return;
        }
        let costs: Vec<Cost> = probes.all().iter().enumerate().filter(|(_, probe)| probe.is_on()).map(|(at, probe)| cost(at, probe, rates[at])).collect();
        let gone = judge(costs);
        if let Some(dearest) = gone.iter().max_by_key(|number| rates[**number]) {
            let (symbol, library) = (probes.all()[*dearest].function.symbol, libraries.path(probes.all()[*dearest].library));
            tracing::warn!(symbol, library, rate = rates[*dearest], probes = gone.len(), "probes cost too much and are taken away for a while");
        }
        for number in gone {
            probes.pause(kernel, number);
            let readings = self.back.remove(&number).map_or(AWAY, |before| (before * 2).min(AWAY_MAX));
            self.away.insert(number, Away { readings, left: readings, rate: rates[number] });
        }
    }

    /// How often a second a probe was reached since the last judgement.
    fn rate(&mut self, number: usize, kernel: &Kernel, took_ns: u64) -> u64 {
        let reached = u32::try_from(number).map_or(0, |number| kernel.reached(number));
        if self.reached.len() <= number {
            self.reached.resize(number + 1, 0);
        }
        let before = std::mem::replace(&mut self.reached[number], reached);
        let rate = u128::from(reached.saturating_sub(before)) * 1_000_000_000 / u128::from(took_ns);
        u64::try_from(rate).unwrap_or(u64::MAX)
    }

    fn bring_back(&mut self, kernel: &mut Kernel, probes: &mut Probes, libraries: &Libraries) {
        self.away.values_mut().for_each(|away| away.left = away.left.saturating_sub(1));
        let due: Vec<(usize, u64)> = self.away.iter().filter(|(_, away)| away.left == 0).map(|(number, away)| (*number, away.readings)).collect();
        for (number, readings) in due {
            self.away.remove(&number);
            let Some(probe) = probes.all().get(number) else { continue };
            let Some((_, file)) = libraries.since(probe.library) else { continue };
            if follows(probe) {
                // Keys came and went unseen meanwhile.
                kernel.forget_keys();
            }
            match probes.resume(kernel, number, file) {
                Ok(()) => drop(self.back.insert(number, readings)),
                Err(e) => {
                    tracing::warn!(error = %e, "a probe cannot be put back; it is tried again");
                    self.away.insert(number, Away { readings, left: readings, rate: 0 });
                }
            }
        }
    }

    /// What is not counted for now.
    #[must_use]
    pub fn sight(&self, probes: &Probes, libraries: &Libraries) -> Vec<Sight> {
        let mut libraries_away: BTreeMap<usize, Vec<(&Away, &str)>> = BTreeMap::new();
        for (number, away) in &self.away {
            let Some(probe) = probes.all().get(*number).filter(|probe| !probe.is_on() && libraries.since(probe.library).is_some()) else { continue };
            libraries_away.entry(probe.library).or_default().push((away, probe.function.symbol));
        }
        let sight = |(library, gone): (usize, Vec<(&Away, &str)>)| {
            let (rate, dearest) = gone.iter().map(|(away, symbol)| (away.rate, *symbol)).max().unwrap_or_default();
            let others = gone.len() - 1;
            let with = if others == 0 {
                String::new()
            } else {
                format!(", nor are {others} others of the library that would be guesswork without it, or cost too much too")
            };
            let minutes = gone.iter().map(|(away, _)| away.readings / 60).max().unwrap_or_default();
            let reason =
                format!("{dearest} was reached {rate} times a second, which costs more than the probes may; it is not counted for {minutes} min{with}");
            Sight { what: format!("calls of {}", libraries.path(library)), accuracy: "none".to_owned(), reason }
        };
        libraries_away.into_iter().map(sight).collect()
    }
}

fn follows(probe: &Probe) -> bool {
    matches!(probe.function.role, Role::Returns | Role::Fills | Role::Passes | Role::Frees)
}

fn cost(number: usize, probe: &Probe, rate: u64) -> Cost {
    let each = if probe.is_cheap { CHEAP_NS } else { DEAR_NS } + if probe.is_bracketed() { END_NS } else { 0 };
    Cost { number, library: probe.library, is_cheap: probe.is_cheap, follows: follows(probe), ns: rate.saturating_mul(each) }
}

/// Which probes are to go: each dear one that is reached too often, then the dearest until the rest is within bounds. Where one that
/// follows keys has to go, all of its library do: what they would tell of keys would be a guess.
fn judge(mut costs: Vec<Cost>) -> Vec<usize> {
    let mut gone = Vec::new();
    costs.sort_by_key(|cost| (std::cmp::Reverse(cost.ns), cost.number));
    loop {
        let all: u64 = costs.iter().fold(0, |sum, cost| sum.saturating_add(cost.ns));
        let is_too_dear = |cost: &&Cost| !cost.is_cheap && cost.ns > ONE_MAX_NS;
        let next = costs.iter().find(is_too_dear).or_else(|| costs.first().filter(|_| all > ALL_MAX_NS)).copied();
        let Some(next) = next else { return gone };
        costs.retain(|cost| {
            let goes = cost.number == next.number || next.follows && cost.library == next.library;
            if goes {
                gone.push(cost.number);
            }
            !goes
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(number: usize, library: usize, is_cheap: bool, follows: bool, ms: u64) -> Cost {
        Cost { number, library, is_cheap, follows, ns: ms * 1_000_000 }
    }

    #[test]
    fn what_costs_too_much_goes_and_no_more_than_that() {
        assert_eq!(judge(vec![row(0, 0, true, false, 150), row(1, 0, false, false, 49)]), [0_usize; 0], "within bounds");
        assert_eq!(judge(vec![row(0, 0, true, false, 100), row(1, 0, false, false, 51)]), [1], "a dear one, though the sum is small");
        assert_eq!(judge(vec![row(0, 0, true, false, 90), row(1, 0, true, false, 100), row(2, 1, true, false, 80)]), [1], "the dearest of too many");
        let keys = vec![row(0, 0, true, false, 10), row(1, 0, true, true, 250), row(2, 1, true, false, 80)];
        assert_eq!(judge(keys), [1, 0], "nothing is told of keys that are not followed");
    }
}
