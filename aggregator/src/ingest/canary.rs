//! Canaries on their way in: events that prove an agent's sight. They are kept of the agent, confirmed on the ack, and are no events to
//! anyone else: nothing of them lies in the store but the time of the last.

use keyvigil_common::canary::{CanaryPath, EVIDENCE};
use keyvigil_common::event::{Event, EventKind};
use keyvigil_common::limits::CANARY_PROOFS_MAX;
use keyvigil_common::wire::Batch;

/// A canary that was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) path: CanaryPath,
    pub(super) at_ms: i64,
    nonce: u64,
}

/// Takes the canaries out of a batch; those of a path that this version does not know are dropped.
pub(super) fn take(batch: &mut Batch, now_ms: i64) -> Vec<Seen> {
    let canaries = batch.events.extract_if(.., |event| event.kind == EventKind::Canary);
    // No clock of a host makes a proof of the future.
    canaries.filter_map(|event| Some(Seen { at_ms: event.at_ms.min(now_ms), ..read(&event)? })).collect()
}

fn read(event: &Event) -> Option<Seen> {
    let [path, nonce] = EVIDENCE.map(|wanted| event.evidence.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str()));
    Some(Seen { path: CanaryPath::from_name(path?)?, at_ms: event.at_ms, nonce: u64::from_str_radix(nonce?, 16).ok()? })
}

/// What the ack confirms: the newest, as the last are.
pub(super) fn confirmed(seen: &[Seen]) -> Vec<u64> {
    seen[seen.len().saturating_sub(CANARY_PROOFS_MAX)..].iter().map(|seen| seen.nonce).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canaries_are_taken_out_and_what_is_none_stays_or_proves_nothing() {
        let event = |kind, path: &str, nonce: &str| Event {
            kind,
            at_ms: 50,
            key_id: None,
            path: None,
            actor: None,
            message: String::new(),
            evidence: vec![("path".into(), path.into()), ("nonce".into(), nonce.into())],
        };
        let canary = |path, nonce| event(EventKind::Canary, path, nonce);
        let events = vec![canary("access", "ff"), event(EventKind::Accessed, "access", "1"), canary("dreams", "1"), canary("access", "x")];
        let mut batch = Batch { events, ..Batch::default() };
        let seen = take(&mut batch, 40);
        assert_eq!(seen, [Seen { path: CanaryPath::Access, at_ms: 40, nonce: 255 }]);
        assert_eq!(batch.events.iter().map(|event| event.kind).collect::<Vec<_>>(), [EventKind::Accessed]);
        let many: Vec<Seen> = (0..100).map(|nonce| Seen { nonce, ..seen[0] }).collect();
        assert_eq!(confirmed(&many), (36..100).collect::<Vec<_>>());
    }
}
