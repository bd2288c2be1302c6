//! One request of an agent and the aggregator's answer.

use bincode::{Decode, Encode};

use super::{VERSION, VERSION_BEFORE, WireError, decode_whole, encode_with_head, open_head};
use crate::canary::Canaries;
use crate::limits::{PUSH_BYTES_MAX, PUSH_DROPPED_MAX, PUSH_FRAMES_MAX, PUSH_WAITING_MAX};
use crate::sequence::Range;

/// One request of the agent: batches as they lie in its buffer, all of one epoch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Push {
    /// Random identity of what counts these numbers; made with the agent's buffer file.
    pub epoch: [u8; 16],
    /// Who sends, and what its clocks show; `None` from an agent of version 1.
    pub sender: Option<Sender>,
    /// Ranges given up for good, so that the numbers may jump.
    pub dropped: Vec<Range>,
    /// Ranges that the numbers may jump over because they come with another push: what lies before fresh batches while a
    /// backlog drains.
    pub waiting: Vec<Range>,
    /// Sequence number and frame, ascending.
    pub frames: Vec<(u64, Vec<u8>)>,
}

/// Who sends a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Sender {
    /// Random, made at each start of the agent: one that returns after another has delivered is a second living agent.
    pub instance: [u8; 16],
    /// Hash that tells this installation from a copy of it.
    pub machine: [u8; 32],
    /// Random identity of the boot.
    pub boot: [u8; 16],
    /// Time since that boot when this was sent, suspension included, ms.
    pub boot_ms: i64,
    /// The host's wall clock when this was sent, Unix ms.
    pub wall_ms: i64,
    /// SHA-256 over the CA certificates that the agent trusts (DER, in the order it was given them).
    pub trusts: [u8; 32],
    /// Parts of what it is there to watch that it cannot see now: paths of keys, sensors that do not answer. `None` before they were
    /// looked at.
    pub blind: Option<u32>,
    /// Which canaries are to be expected of it.
    pub canaries: Canaries,
}

/// Other epochs of an agent that an ack tells of.
pub const ACK_STREAMS_MAX: usize = 64;
/// Ranges of each of them.
pub const ACK_RANGES_MAX: usize = 32;

/// The aggregator's answer once everything up to `cursor`, and all of `beyond`, is on disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ack {
    /// The epoch it speaks of.
    pub epoch: [u8; 16],
    /// Last sequence number up to which all are settled.
    pub cursor: u64,
    /// What is settled after it.
    pub beyond: Vec<Range>,
    /// How the agent's other epochs stand, the newest first, at most [`ACK_STREAMS_MAX`]; `None` from an aggregator of
    /// version 1. By them an agent notices that an aggregator which was put back has lost what it acknowledged under them.
    pub others: Option<Vec<Elsewhere>>,
    /// Aggregator's wall clock, Unix ms.
    pub now_ms: i64,
    /// Over how long an agent should spread its return when the connection is lost, ms: the more agents, the longer.
    pub spread_ms: u32,
    /// Name of the [`super::Base`] that the aggregator keeps of this agent: what comes next may be told as a difference to it.
    /// `None` where it keeps none, or cannot read differences.
    pub base: Option<u64>,
    /// Orders for the agent.
    pub directives: Vec<Directive>,
}

/// How another epoch of an agent stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct Elsewhere {
    /// The epoch.
    pub epoch: [u8; 16],
    /// Last sequence number up to which all are settled.
    pub cursor: u64,
    /// What is settled after it: the first [`ACK_RANGES_MAX`] ranges.
    pub beyond: Vec<Range>,
}

/// An order that rides on an ack.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Directive {
    /// Sample these sensors (all where empty) at their shortest interval until then.
    Enhance {
        /// Names of sensors.
        sensors: Vec<String>,
        /// Unix ms.
        until_ms: i64,
    },
    /// Get a new certificate, and what to trust, within this time: a CA is being replaced.
    Renew {
        /// ms; agents spread themselves over it.
        within_ms: u32,
    },
    /// These trials of the agent's canary have come here, and are stored.
    Proven {
        /// Numbers of the trials, at most [`CANARY_PROOFS_MAX`](crate::limits::CANARY_PROOFS_MAX).
        nonces: Vec<u64>,
    },
}

#[derive(Decode)]
struct PushBefore {
    epoch: [u8; 16],
    dropped: Vec<Range>,
    frames: Vec<(u64, Vec<u8>)>,
}

#[derive(Decode)]
struct PushNow {
    epoch: [u8; 16],
    sender: Sender,
    dropped: Vec<Range>,
    waiting: Vec<Range>,
    frames: Vec<(u64, Vec<u8>)>,
}

#[derive(Encode, Decode)]
struct AckBefore {
    epoch: [u8; 16],
    cursor: u64,
    now_ms: i64,
    directives: Vec<Directive>,
}

#[derive(Encode, Decode)]
struct AckNow {
    epoch: [u8; 16],
    cursor: u64,
    beyond: Vec<Range>,
    others: Vec<Elsewhere>,
    now_ms: i64,
    spread_ms: u32,
    base: Option<u64>,
    directives: Vec<Directive>,
}

impl Push {
    /// The version it is written in, and in which it must be answered.
    #[must_use]
    pub fn version(&self) -> u8 {
        if self.sender.is_some() { VERSION } else { VERSION_BEFORE }
    }

    pub(super) fn check(self) -> Result<Self, WireError> {
        if self.frames.len() > PUSH_FRAMES_MAX || self.dropped.len() > PUSH_DROPPED_MAX || self.waiting.len() > PUSH_WAITING_MAX {
            return Err(WireError::TooMany);
        }
        if self.frames.is_empty() || self.frames[0].0 == 0 || self.frames.windows(2).any(|w| w[0].0 >= w[1].0) {
            return Err(WireError::Shape("frames that are not numbered upwards from 1"));
        }
        let numbers = self.frames.iter().map(|(seq, _)| Range { first: *seq, last: *seq });
        if numbers.chain(self.dropped.iter().chain(&self.waiting).copied()).any(|range| !range.is_of_numbers()) {
            return Err(WireError::Shape("a range of numbers that begins at 0, ends before it begins, or lies beyond 2^63"));
        }
        Ok(self)
    }
}

/// Encodes a push.
///
/// # Errors
/// A push past the limits.
pub fn encode_push(push: &Push) -> Result<Vec<u8>, WireError> {
    let Push { epoch, sender, dropped, waiting, frames } = push;
    let out = match sender {
        Some(sender) => encode_with_head(*b"KVP", VERSION, &(epoch, sender, dropped, waiting, frames))?,
        None => encode_with_head(*b"KVP", VERSION_BEFORE, &(epoch, dropped, frames))?,
    };
    if out.len() > PUSH_BYTES_MAX {
        return Err(WireError::TooLarge { bytes: out.len(), max: PUSH_BYTES_MAX });
    }
    Ok(out)
}

/// Decodes a push; its frames stay sealed until [`super::decode_batch`].
///
/// # Errors
/// As [`super::decode_batch`].
pub fn decode_push(bytes: &[u8]) -> Result<Push, WireError> {
    if bytes.len() > PUSH_BYTES_MAX {
        return Err(WireError::TooLarge { bytes: bytes.len(), max: PUSH_BYTES_MAX });
    }
    let (version, body) = open_head(bytes, *b"KVP")?;
    let push = if version == VERSION_BEFORE {
        let PushBefore { epoch, dropped, frames } = decode_whole(body)?;
        Push { epoch, sender: None, dropped, waiting: Vec::new(), frames }
    } else {
        let PushNow { epoch, sender, dropped, waiting, frames } = decode_whole(body)?;
        Push { epoch, sender: Some(sender), dropped, waiting, frames }
    };
    push.check()
}

/// Encodes an ack for a push of that version; an agent of version 1 is told what it can understand.
///
/// # Errors
/// Never in practice; the encoder's error type is passed on.
pub fn encode_ack(ack: &Ack, version: u8) -> Result<Vec<u8>, WireError> {
    let Ack { epoch, cursor, beyond, others, now_ms, spread_ms, base, mut directives } = ack.clone();
    if version == VERSION_BEFORE {
        directives.retain(|directive| matches!(directive, Directive::Enhance { .. }));
        return encode_with_head(*b"KVA", VERSION_BEFORE, &AckBefore { epoch, cursor, now_ms, directives });
    }
    encode_with_head(*b"KVA", VERSION, &AckNow { epoch, cursor, beyond, others: others.unwrap_or_default(), now_ms, spread_ms, base, directives })
}

/// Decodes an ack.
///
/// # Errors
/// As [`super::decode_batch`].
pub fn decode_ack(bytes: &[u8]) -> Result<Ack, WireError> {
    let (version, body) = open_head(bytes, *b"KVA")?;
    if version == VERSION_BEFORE {
        let AckBefore { epoch, cursor, now_ms, directives } = decode_whole(body)?;
        return Ok(Ack { epoch, cursor, beyond: Vec::new(), others: None, now_ms, spread_ms: 0, base: None, directives });
    }
    let AckNow { epoch, cursor, beyond, others, now_ms, spread_ms, base, directives } = decode_whole(body)?;
    Ok(Ack { epoch, cursor, beyond, others: Some(others), now_ms, spread_ms, base, directives })
}
