//! What an OCSP answer says of one certificate. Its signature is not checked: it comes from a server of this host, and a client
//! that asks does check it. Called by the sensor of served certificates. Format: RFC 6960.

use jiff::civil::DateTime;
use keyvigil_common::hex;

use super::der::{CONTEXT_0, INTEGER, OCTET_STRING, OID, Reader, SEQUENCE, magnitude};

const ENUMERATED: u8 = 0x0a;
const GENERALIZED_TIME: u8 = 0x18;
/// `id-pkix-ocsp-basic`, 1.3.6.1.5.5.7.48.1.1.
const BASIC: [u8; 9] = [0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x01];
/// Answers about single certificates that are looked through; servers give one.
const ANSWERS_MAX: usize = 64;

/// How a certificate stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Not revoked.
    Good,
    /// Revoked: when (Unix ms), and why where that is told.
    Revoked(Option<i64>, Option<&'static str>),
    /// The responder does not know the certificate.
    Unknown,
}

/// The answer about one certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// How it stands.
    pub standing: Standing,
    /// When that was so, Unix ms.
    pub this_update_ms: Option<i64>,
    /// Until when it is to be believed, Unix ms.
    pub next_update_ms: Option<i64>,
}

/// What the answer `der` says of the certificate with that serial number (hex, as `KeyFacts` has it).
///
/// # Errors
/// Why it says nothing of it.
pub fn answer(der: &[u8], serial: &str) -> Result<Answer, String> {
    let mut response = Reader::new(der).sequence().ok_or("not an OCSP answer")?;
    match response.take(ENUMERATED) {
        Some([0]) => {}
        Some([1]) => return Err("the responder found the request malformed".into()),
        Some([2]) => return Err("the responder had an error of its own".into()),
        Some([3]) => return Err("the responder asks to try later".into()),
        Some([5]) => return Err("the responder wants a signed request".into()),
        Some([6]) => return Err("the responder refuses to answer".into()),
        _ => return Err("not an OCSP answer".into()),
    }
    let single = |body: Option<&[u8]>| -> Option<Result<Answer, String>> {
        let mut bytes = Reader::new(body?).sequence()?;
        if bytes.take(OID)? != BASIC {
            return Some(Err("an OCSP answer of a kind that is not known here".into()));
        }
        let mut data = Reader::new(bytes.take(OCTET_STRING)?).sequence()?.sequence()?;
        // Version, if it is not the first; who answers; when.
        let _ = data.take(CONTEXT_0);
        data.element()?;
        data.take(GENERALIZED_TIME)?;
        let mut all = data.sequence()?;
        for _ in 0..ANSWERS_MAX {
            let Some(body) = all.take(SEQUENCE) else { break };
            if let Some(answer) = about(Reader::new(body), serial)? {
                return Some(Ok(answer));
            }
        }
        Some(Err("the answer is about another certificate".into()))
    };
    single(response.take(CONTEXT_0)).unwrap_or_else(|| Err("an OCSP answer that does not parse".into()))
}

/// `None` where it does not parse, `Some(None)` where it is about another certificate.
fn about(mut single: Reader<'_>, serial: &str) -> Option<Option<Answer>> {
    let mut id = single.sequence()?;
    id.take(SEQUENCE)?;
    id.take(OCTET_STRING)?;
    id.take(OCTET_STRING)?;
    let number = hex(magnitude(id.take(INTEGER)?));
    let status = single.element()?;
    let this_update_ms = time_ms(single.take(GENERALIZED_TIME)?);
    let next_update_ms = single.take(CONTEXT_0).and_then(|body| time_ms(Reader::new(body).take(GENERALIZED_TIME)?));
    if number.trim_start_matches('0') != serial.trim_start_matches('0') {
        return Some(None);
    }
    let standing = match status.tag {
        0x80 => Standing::Good,
        0xa1 => {
            let mut info = Reader::new(status.body);
            let at_ms = time_ms(info.take(GENERALIZED_TIME)?);
            let reason = info.take(CONTEXT_0).and_then(|body| reason(Reader::new(body).take(ENUMERATED)?));
            Standing::Revoked(at_ms, reason)
        }
        0x82 => Standing::Unknown,
        _ => return None,
    };
    Some(Some(Answer { standing, this_update_ms, next_update_ms }))
}

/// `CRLReason` of RFC 5280.
fn reason(code: &[u8]) -> Option<&'static str> {
    Some(match code {
        [0] => "unspecified",
        [1] => "keyCompromise",
        [2] => "cACompromise",
        [3] => "affiliationChanged",
        [4] => "superseded",
        [5] => "cessationOfOperation",
        [6] => "certificateHold",
        [8] => "removeFromCRL",
        [9] => "privilegeWithdrawn",
        [10] => "aACompromise",
        _ => return None,
    })
}

/// `20260131120000Z`, with or without a fraction.
fn time_ms(text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let digits = text.get(..14).filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))?;
    let number = |range: std::ops::Range<usize>| digits.get(range)?.parse::<i8>().ok();
    let year = digits.get(..4)?.parse().ok()?;
    let time = DateTime::new(year, number(4..6)?, number(6..8)?, number(8..10)?, number(10..12)?, number(12..14)?.min(59), 0).ok()?;
    Some(time.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_millisecond())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::Workshop;
    use proptest::prelude::*;

    /// A CA's answer about a certificate, made by `openssl ocsp`; with the certificate's serial.
    fn answered(line: &str) -> (Vec<u8>, String) {
        let shop = Workshop::new();
        shop.certificate("ca.pem", "ca.key", "ca", 30);
        shop.ec_key("leaf.key");
        shop.openssl("req -new -key leaf.key -subj /CN=leaf -out leaf.csr");
        shop.openssl("x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -set_serial 0x1a2b3c -days 9 -out leaf.pem");
        shop.write("index.txt", line);
        shop.openssl("ocsp -index index.txt -CA ca.pem -rsigner ca.pem -rkey ca.key -issuer ca.pem -cert leaf.pem -ndays 3 -respout answer.der");
        (shop.read("answer.der"), "1a2b3c".into())
    }

    #[test]
    fn an_answer_says_good_revoked_with_time_and_reason_or_unknown() {
        let (der, serial) = answered("V\t301231235959Z\t\t1A2B3C\tunknown\t/CN=leaf\n");
        let good = answer(&der, &serial).unwrap();
        assert_eq!(good.standing, Standing::Good);
        assert_eq!(good.next_update_ms.unwrap() - good.this_update_ms.unwrap(), 3 * 86_400_000);
        assert_eq!(answer(&der, "1a2b3d"), Err("the answer is about another certificate".into()));
        let (der, serial) = answered("R\t301231235959Z\t260131120000Z,keyCompromise\t1A2B3C\tunknown\t/CN=leaf\n");
        assert_eq!(answer(&der, &serial).unwrap().standing, Standing::Revoked(Some(1_769_860_800_000), Some("keyCompromise")));
        let (der, serial) = answered("");
        assert_eq!(answer(&der, &serial).unwrap().standing, Standing::Unknown);
        assert_eq!(answer(&[0x30, 3, 0x0a, 1, 3], "00"), Err("the responder asks to try later".into()));
    }

    #[test]
    fn no_damage_to_an_answer_makes_it_panic() {
        let (der, serial) = answered("R\t301231235959Z\t260131120000Z,keyCompromise\t1A2B3C\tunknown\t/CN=leaf\n");
        for at in 0..der.len().min(400) {
            for byte in [0, 0x7f, 0xff, der[at] ^ 1] {
                let mut hurt = der.clone();
                hurt[at] = byte;
                let _ = answer(&hurt, &serial);
            }
            assert!(answer(&der[..at], &serial).is_err());
        }
    }

    proptest! {
        #[test]
        fn no_input_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = (answer(&bytes, "01"), time_ms(&bytes));
        }
    }
}
