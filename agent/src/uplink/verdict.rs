//! What an answer of the aggregator means for delivery, and in words, with what mends it. Only an explicit `permanent` lets a
//! batch be set aside; every other refusal keeps it.

use std::time::Duration;

use hyper::StatusCode;
use keyvigil_common::wire::{self, Ack};

use super::courier::Holds;
use crate::http::Answer;

/// What to do with what was sent.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// Settled, as far as the ack says.
    Acked(Ack),
    /// From this number on the aggregator has nothing: what it acknowledged before is gone there.
    Missing(u64),
    /// Under this number it has another batch.
    Forked(u64),
    /// It does not keep any more what this differed from: the same push may come whole, at once.
    Whole,
    /// It will never take this one.
    Never {
        /// Its number.
        seq: u64,
        /// Why.
        why: String,
    },
    /// Too much at once.
    TooLarge(String),
    /// Not now.
    Refused(Refused),
}

/// A refusal after which everything is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// As the problem document calls it; `http-403` and the like where it has no name.
    pub code: String,
    /// What the aggregator said.
    pub words: String,
    /// What mends it.
    pub remedy: &'static str,
    /// When to come back, if it said so.
    pub retry_after: Option<Duration>,
    /// What has to wait.
    pub holds: Holds,
    /// Whether another certificate might be taken.
    pub of_certificate: bool,
}

impl Verdict {
    /// Reads an answer to a push of `epoch`.
    #[must_use]
    pub fn of(answer: &Answer, epoch: [u8; 16]) -> Self {
        if answer.status == StatusCode::OK {
            return match wire::decode_ack(&answer.body) {
                Ok(ack) if ack.epoch == epoch => Self::Acked(ack),
                Ok(_) => Self::refused(answer, "the ack speaks of another stream".into(), BROKEN, Holds::All),
                Err(e) => Self::refused(answer, format!("the ack is not understood: {e}"), UPGRADE, Holds::All),
            };
        }
        let (code, number) = (answer.member("code"), |name| answer.member(name).as_u64());
        let code = code.as_str().unwrap_or_default();
        let batch = number("batch");
        match (answer.status, code, batch) {
            (StatusCode::UNPROCESSABLE_ENTITY, _, Some(seq)) if answer.member("permanent") == true => Self::Never { seq, why: answer.detail() },
            (StatusCode::PAYLOAD_TOO_LARGE, ..) => Self::TooLarge(answer.detail()),
            (StatusCode::CONFLICT, "gap", _) => match number("expected") {
                Some(expected) => Self::Missing(expected),
                None => Self::refused(answer, answer.detail(), BROKEN, Holds::All),
            },
            (StatusCode::CONFLICT, "fork", Some(seq)) => Self::Forked(seq),
            (StatusCode::CONFLICT, "base", _) => Self::Whole,
            _ => {
                let (remedy, holds) = remedy(answer.status, code);
                Self::refused(answer, answer.detail(), remedy, holds)
            }
        }
    }

    fn refused(answer: &Answer, words: String, remedy: &'static str, holds: Holds) -> Self {
        let of_certificate = matches!(answer.status.as_u16(), 401 | 403);
        let code = answer.code().unwrap_or_else(|| format!("http-{}", answer.status.as_u16()));
        Self::Refused(Refused { code, words, remedy, retry_after: answer.retry_after, holds, of_certificate })
    }
}

const JOIN: &str = "make a token with `keyvigil token create` and run `keyvigil-agent join TOKEN` here; what is buffered is kept";
const UPGRADE: &str = "upgrade the older of agent and aggregator";
const BROKEN: &str = "look at the aggregator's log; something between it and this host may change answers";
const CLOCK: &str = "set the clock of this host or of the aggregator (`timedatectl set-ntp true`)";
const WAIT: &str = "nothing to do: the aggregator has much to do, and this comes later";
const SERVER: &str = "look at the aggregator: its log says what fails (`journalctl -u keyvigil-aggregator`)";
const PROXY: &str = "a proxy between this host and the aggregator limits the size of requests: let it pass 8 MiB";
const RENEW: &str = "nothing to do: the agent renews its certificate by itself";

/// What mends a refusal.
#[must_use]
pub fn remedy_of(answer: &Answer) -> &'static str {
    remedy(answer.status, answer.member("code").as_str().unwrap_or_default()).0
}

/// What mends a refusal, and what it holds up.
fn remedy(status: StatusCode, code: &str) -> (&'static str, Holds) {
    match (status.as_u16(), code) {
        (_, "clock") => (CLOCK, Holds::Lane),
        (_, "expired") => (RENEW, Holds::All),
        (_, "cloned" | "revoked" | "unknown") | (401 | 403, _) => (JOIN, Holds::All),
        (429, _) => (WAIT, Holds::Lane),
        (503, _) => (WAIT, Holds::All),
        (400 | 415, _) => (UPGRADE, Holds::All),
        (413, _) => (PROXY, Holds::Lane),
        (500.., _) => (SERVER, Holds::All),
        _ => (BROKEN, Holds::All),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn answer(status: u16, body: &str) -> Answer {
        Answer { status: StatusCode::from_u16(status).unwrap(), body: Bytes::copy_from_slice(body.as_bytes()), retry_after: Some(Duration::from_secs(7)) }
    }

    #[test]
    fn only_an_explicit_permanent_lets_a_batch_be_set_aside() {
        let of = |status, body: &str| Verdict::of(&answer(status, body), [1; 16]);
        assert!(matches!(of(422, r#"{"permanent":true,"batch":7,"detail":"x"}"#), Verdict::Never { seq: 7, .. }));
        for status in (300..600).filter(|status| *status != 413) {
            for body in ["", "{}", "<html>", r#"{"batch":7}"#, r#"{"permanent":false,"batch":7}"#, r#"{"permanent":"true","batch":7}"#, r#"{"permanent":true}"#]
            {
                assert!(matches!(of(status, body), Verdict::Refused(_)), "{status} {body}");
            }
            if status != 422 {
                assert!(matches!(of(status, r#"{"permanent":true,"batch":7}"#), Verdict::Refused(_)), "{status}");
            }
        }
    }

    #[test]
    fn an_ack_counts_only_if_it_is_one_of_this_stream() {
        let ack = Ack { epoch: [1; 16], cursor: 5, others: Some(Vec::new()), ..Ack::default() };
        let body = wire::encode_ack(&ack, wire::VERSION).unwrap();
        let said = Answer { status: StatusCode::OK, body: body.into(), retry_after: None };
        assert_eq!(Verdict::of(&said, [1; 16]), Verdict::Acked(ack));
        assert!(matches!(Verdict::of(&said, [2; 16]), Verdict::Refused(_)));
        assert!(matches!(Verdict::of(&answer(200, "OK"), [1; 16]), Verdict::Refused(_)), "a login page of a proxy");
        assert!(matches!(Verdict::of(&answer(204, ""), [1; 16]), Verdict::Refused(_)));
    }

    #[test]
    fn each_refusal_says_what_mends_it_and_holds_up_no_more_than_it_must() {
        let of = |status, body: &str| match Verdict::of(&answer(status, body), [1; 16]) {
            Verdict::Refused(Refused { remedy, holds, retry_after, .. }) => (remedy, holds, retry_after),
            other => panic!("{other:?}"),
        };
        let after = Some(Duration::from_secs(7));
        assert_eq!(of(409, r#"{"code":"clock"}"#), (CLOCK, Holds::Lane, after));
        assert_eq!(of(409, r#"{"code":"cloned"}"#), (JOIN, Holds::All, after));
        assert_eq!(of(429, "{}"), (WAIT, Holds::Lane, after));
        assert_eq!(of(503, "{}"), (WAIT, Holds::All, after));
        assert_eq!(of(403, r#"{"code":"expired"}"#), (RENEW, Holds::All, after));
        assert_eq!(of(401, "<html>"), (JOIN, Holds::All, after));
    }
}
