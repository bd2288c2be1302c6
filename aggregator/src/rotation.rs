//! The replacement of the CA as an operator sees it: which step comes next, which agents have followed, and who holds it
//! up, by name. A step that would lock a living agent out is refused unless it is forced. Agents learn of steps by
//! `orders`; certificates are made in `authority`.

use std::sync::Arc;

use keyvigil_common::clock::SharedClock;
use keyvigil_common::telemetry::{Number, Registry};

use crate::authority::{Authority, AuthorityError, CaFacts, Phase};
use crate::fleet::{Agent, Fleet};

/// A step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A new CA, which agents are to trust.
    Announce,
    /// The new CA signs.
    Issue,
    /// The old CA is dropped.
    Retire,
    /// A step back.
    Rollback,
}

/// An agent that has not followed yet.
#[derive(Debug, Clone)]
pub struct Waiting {
    /// Who.
    pub agent: Agent,
    /// Why it counts as such.
    pub why: &'static str,
}

/// How far the fleet is.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    /// Agents that are not revoked and could come back by themselves.
    pub living: usize,
    /// Those that trust exactly what they should now.
    pub confirmed: usize,
    /// Those whose certificate is of the CA that signs now.
    pub renewed: usize,
    /// Who holds up the next step.
    pub waiting: Vec<Waiting>,
}

/// All there is to say.
#[derive(Debug, Clone)]
pub struct Status {
    /// `stable`, `announce`, `trust` (announced, and everyone has confirmed), `issue`.
    pub phase: &'static str,
    /// Since when, Unix ms.
    pub since_ms: i64,
    /// CAs, oldest first.
    pub cas: Vec<CaFacts>,
    /// How far the fleet is.
    pub progress: Progress,
}

/// Replaces the CA.
#[derive(Debug)]
pub struct Rotation {
    authority: Arc<Authority>,
    fleet: Arc<Fleet>,
    clock: SharedClock,
    /// How long after its end a certificate can be renewed.
    grace_ms: i64,
    gauges: [Number; 4],
}

impl Rotation {
    /// For the agents of `fleet`, with their numbers in `registry`.
    #[must_use]
    pub fn new(authority: Arc<Authority>, fleet: Arc<Fleet>, clock: SharedClock, grace_ms: i64, registry: &Registry) -> Self {
        let help = "Agents by how far they have followed the replacement of the CA.";
        let gauges = ["living", "confirmed", "renewed", "waiting"].map(|state| registry.gauge_by("keyvigil.ca.agents", help, ("state", state)));
        Self { authority, fleet, clock, grace_ms, gauges }
    }

    /// How it stands.
    #[must_use]
    pub fn status(&self) -> Status {
        let (phase, since_ms) = self.authority.since();
        let progress = self.progress();
        let phase = match phase {
            Phase::Stable => "stable",
            Phase::Announce if progress.waiting.is_empty() => "trust",
            Phase::Announce => "announce",
            Phase::Issue => "issue",
        };
        Status { phase, since_ms, cas: self.authority.list(), progress }
    }

    /// What an agent that trusts what it should sends as `Sender.trusts`.
    #[must_use]
    pub fn trusts(&self) -> [u8; 32] {
        self.authority.trusts()
    }

    /// Brings the numbers up to date.
    pub fn measure(&self) {
        let Progress { living, confirmed, renewed, waiting } = self.status().progress;
        for (gauge, value) in self.gauges.iter().zip([living, confirmed, renewed, waiting.len()]) {
            gauge.set(value as u64);
        }
    }

    /// Takes a step. `force` locks out who has not followed: those agents have to join again.
    ///
    /// # Errors
    /// A step that does not come next, or whom it would lock out; files that cannot be written.
    pub fn step(&self, step: Step, force: bool) -> Result<Status, RotationError> {
        let now_ms = self.clock.now_ms();
        match step {
            Step::Announce => self.authority.announce(now_ms)?,
            Step::Issue => self.authority.issue(now_ms)?,
            Step::Retire => {
                if self.authority.phase() == Phase::Issue {
                    Self::allow(&self.progress(), force)?;
                }
                self.authority.retire(now_ms)?;
            }
            Step::Rollback => {
                if self.authority.phase() == Phase::Announce {
                    // After a step back from `issue` some may still hold what the new CA signed.
                    let issuer = self.authority.issuer();
                    let other = |by: &str| !by.is_empty() && by != issuer;
                    let holds = |agent: &Agent| shown_by(agent).is_some_and(other) || other(&agent.credentials.granted_by);
                    let waiting = self.living().into_iter().filter(holds).map(|agent| Waiting { agent, why: "holds a certificate of the new CA" }).collect();
                    Self::allow(&Progress { waiting, ..Progress::default() }, force)?;
                }
                self.authority.rollback(now_ms)?;
            }
        }
        tracing::warn!(?step, force, "a step in the replacement of the CA was taken");
        self.measure();
        Ok(self.status())
    }

    fn allow(progress: &Progress, force: bool) -> Result<(), RotationError> {
        if force || progress.waiting.is_empty() {
            return Ok(());
        }
        let names = progress.waiting.iter().map(|waiting| waiting.agent.host.clone()).collect();
        Err(RotationError::HeldUp(names))
    }

    /// Agents that could come back by themselves.
    fn living(&self) -> Vec<Agent> {
        let now_ms = self.clock.now_ms();
        let mut living: Vec<Agent> = self.fleet.all().into_iter().filter(|a| !a.revoked && a.certificate_expires_ms + self.grace_ms > now_ms).collect();
        living.sort_by(|a, b| a.host.cmp(&b.host));
        living
    }

    fn progress(&self) -> Progress {
        let (trusts, issuer, phase) = (keyvigil_common::hex(&self.authority.trusts()), self.authority.issuer(), self.authority.phase());
        let living = self.living();
        let mut progress = Progress { living: living.len(), ..Progress::default() };
        for agent in living {
            // One that has just joined was given all of it, and has not spoken yet.
            let fresh = agent.credentials.used.is_none() && agent.credentials.granted_trusts == trusts && agent.credentials.granted_by == issuer;
            let confirmed = fresh || agent.credentials.trusts.as_ref() == Some(&trusts);
            let renewed = fresh || shown_by(&agent).map_or(agent.credentials.granted_by == issuer, |by| by == issuer);
            progress.confirmed += usize::from(confirmed);
            progress.renewed += usize::from(renewed);
            let why = match (confirmed, renewed) {
                (false, _) => "has not confirmed that it trusts the new CA",
                (true, false) => "has not used a certificate of the CA that signs now",
                (true, true) => continue,
            };
            if phase == Phase::Issue || (phase == Phase::Announce && !confirmed) {
                progress.waiting.push(Waiting { agent, why });
            }
        }
        progress
    }
}

fn shown_by(agent: &Agent) -> Option<&str> {
    agent.credentials.used.as_ref().map(|used| used.issuer.as_str())
}

/// Why a step was not taken.
#[derive(Debug, thiserror::Error)]
pub enum RotationError {
    /// It would lock agents out.
    #[error("{} agents have not followed and would have to join again: {}. Bring them back, revoke them, or use --force", .0.len(), first(.0))]
    HeldUp(Vec<String>),
    /// The authority's.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
}

/// The first names; there may be thousands.
fn first(names: &[String]) -> String {
    let shown = names.iter().take(10).map(String::as_str).collect::<Vec<_>>().join(", ");
    if names.len() > 10 { format!("{shown}, ...") } else { shown }
}
