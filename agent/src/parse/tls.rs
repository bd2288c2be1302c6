//! TLS up to 1.2 as far as it is spoken in clear: a greeting that every server of the last 25 years understands, and what it
//! answers up to its certificates. Nothing is agreed on and nothing is proved: the connection is given up after that. Newer TLS is
//! not read here. Called by the sensor of served certificates. Formats: RFC 5246, RFC 6066 (names, stapled answers), RFC 2246.

mod suites;

use keyvigil_common::limits::SERVED_CHAIN_MAX;

use suites::SUITES;
pub use suites::suite;

/// Bytes of all handshake messages; ten certificates of 4 kB and a stapled answer are half of that.
const HANDSHAKE_BYTES_MAX: usize = 128 << 10;
/// Bytes of a record beside its header: 2^14 and what encryption may add.
const RECORD_BYTES_MAX: usize = (1 << 14) + 2_048;

/// What a server answered in clear.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hello {
    /// Version it chose, `0x0303` for TLS 1.2.
    pub version: u16,
    /// Cipher suite it chose.
    pub suite: u16,
    /// Its certificates, DER, in the order sent, the leaf first.
    pub chain: Vec<Vec<u8>>,
    /// A stapled OCSP answer; empty where there was none.
    pub staple: Vec<u8>,
}

/// How far an answer has been read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reading {
    /// It goes on.
    More,
    /// All that is said in clear.
    Done(Hello),
    /// It refuses, with that alert.
    Alert(u8),
    /// This is no TLS.
    NotTls,
    /// This is TLS, and wrong.
    Broken(&'static str),
}

/// Whether `bytes` can be the beginning of a TLS record.
#[must_use]
pub fn is_record(bytes: &[u8]) -> bool {
    let length = bytes.get(3).zip(bytes.get(4)).map_or(0, |(high, low)| usize::from(*high) << 8 | usize::from(*low));
    bytes.first().is_none_or(|kind| (20..=23).contains(kind)) && bytes.get(1).is_none_or(|major| *major == 3) && length <= RECORD_BYTES_MAX
}

/// Which keys a server may prove that it has: one with two certificates for a name shows that of the kind which is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keys {
    /// Whichever it likes best.
    Any,
    /// RSA.
    Rsa,
}

/// The client's greeting for TLS 1.2 and older, `name` told where given.
#[must_use]
pub fn client_hello(name: Option<&str>, keys: Keys, random: &[u8; 32]) -> Vec<u8> {
    let mut extensions = Vec::new();
    let mut extension = |kind: u16, body: &[u8]| {
        extensions.extend(kind.to_be_bytes());
        extensions.extend(sized(2, body));
    };
    if let Some(name) = name {
        extension(0, &sized(2, &[&[0], &sized(2, name.as_bytes())[..]].concat()));
    }
    // An answer of an OCSP responder, from anyone.
    extension(5, &[1, 0, 0, 0, 0]);
    extension(10, &sized(2, &words(&[0x001d, 0x0017, 0x0018, 0x0019, 0x001e, 0x0100, 0x0101])));
    extension(11, &sized(1, &[0]));
    let schemes = [0x0403, 0x0503, 0x0603, 0x0807, 0x0808, 0x0804, 0x0805, 0x0806, 0x0809, 0x080a, 0x080b, 0x0401, 0x0501, 0x0601];
    let old = [0x0303, 0x0301, 0x0203, 0x0201, 0x0402, 0x0302, 0x0202, 0x0101];
    // The low byte of the older ones is the kind of key; 0x08 begins those that name a whole scheme.
    let is_rsa = |scheme: &u16| scheme & 0xff == 1 && scheme >> 8 != 8 || [0x0804, 0x0805, 0x0806].contains(scheme);
    let schemes: Vec<u16> = schemes.into_iter().chain(old).filter(|scheme| keys == Keys::Any || is_rsa(scheme)).collect();
    extension(13, &sized(2, &words(&schemes)));
    extension(23, &[]);
    extension(0xff01, &[0]);
    let suites: Vec<u16> = SUITES.iter().filter(|(_, name)| keys == Keys::Any || name.contains("RSA_WITH")).map(|(code, _)| *code).collect();
    let body = [&[3, 3][..], random, &[0], &sized(2, &words(&suites)), &[1, 0], &sized(2, &extensions)].concat();
    let message = [&[1][..], &sized(3, &body)].concat();
    [&[22, 3, 1][..], &sized(2, &message)].concat()
}

/// `bytes` behind their length, which takes `width` bytes.
fn sized(width: usize, bytes: &[u8]) -> Vec<u8> {
    let length = bytes.len().to_be_bytes();
    [&length[length.len() - width..], bytes].concat()
}

fn words(words: &[u16]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

/// Reads all that a server has answered so far.
#[must_use]
pub fn read(mut bytes: &[u8]) -> Reading {
    let mut said = Vec::new();
    while let [kind, major, _, high, low, rest @ ..] = bytes {
        let length = usize::from(*high) << 8 | usize::from(*low);
        if !(20..=23).contains(kind) || *major != 3 || length > RECORD_BYTES_MAX {
            return if said.is_empty() { Reading::NotTls } else { Reading::Broken("a record that is none") };
        }
        let Some(body) = rest.get(..length) else { break };
        bytes = &rest[length..];
        match (kind, body) {
            // A warning, that it does not know the name for one, does not end it.
            (21, [1, code]) if *code != 0 => {}
            (21, [_, code]) => return Reading::Alert(*code),
            (22, body) => said.extend_from_slice(body),
            _ => return Reading::Broken("a record that does not belong there"),
        }
        if said.len() > HANDSHAKE_BYTES_MAX {
            return Reading::Broken("a handshake without an end");
        }
        match messages(&said) {
            Reading::More => {}
            other => return other,
        }
    }
    if said.is_empty() && !is_record(bytes) { Reading::NotTls } else { Reading::More }
}

fn messages(mut said: &[u8]) -> Reading {
    let mut hello = Hello::default();
    while let [kind, high, middle, low, rest @ ..] = said {
        let length = usize::from(*high) << 16 | usize::from(*middle) << 8 | usize::from(*low);
        if length > HANDSHAKE_BYTES_MAX {
            return Reading::Broken("a message without an end");
        }
        let Some(body) = rest.get(..length) else { break };
        said = &rest[length..];
        let read = match kind {
            2 => server_hello(body, &mut hello),
            _ if hello.version == 0 => None,
            11 => certificates(body, &mut hello),
            22 => staple(body, &mut hello),
            14 => return Reading::Done(hello),
            _ => Some(()),
        };
        if read.is_none() {
            return Reading::Broken("a message that does not parse");
        }
    }
    Reading::More
}

fn server_hello(body: &[u8], hello: &mut Hello) -> Option<()> {
    let word = |at: usize| Some(u16::from_be_bytes([*body.get(at)?, *body.get(at + 1)?]));
    let session = usize::from(*body.get(34)?);
    (hello.version, hello.suite) = (word(0).filter(|version| *version != 0)?, word(35 + session)?);
    Some(())
}

fn certificates(body: &[u8], hello: &mut Hello) -> Option<()> {
    let mut list = split(body, 3)?.0;
    while !list.is_empty() {
        let (certificate, rest) = split(list, 3)?;
        if hello.chain.len() <= SERVED_CHAIN_MAX {
            hello.chain.push(certificate.to_vec());
        }
        list = rest;
    }
    Some(())
}

fn staple(body: &[u8], hello: &mut Hello) -> Option<()> {
    hello.staple = split(body.strip_prefix(&[1])?, 3)?.0.to_vec();
    Some(())
}

/// What stands behind a length of `width` bytes, and the rest.
fn split(bytes: &[u8], width: usize) -> Option<(&[u8], &[u8])> {
    let length = bytes.get(..width)?.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
    bytes[width..].split_at_checked(length)
}

/// Name of a version, `TLSv1.2`.
#[must_use]
pub fn version(code: u16) -> String {
    match code {
        0x0300 => "SSLv3".into(),
        0x0301..=0x0304 => format!("TLSv1.{}", code - 0x0301),
        _ => format!("0x{code:04x}"),
    }
}

/// Name of an alert as the specifications have it.
#[must_use]
pub fn alert(code: u8) -> String {
    let name = match code {
        0 => "close_notify",
        10 => "unexpected_message",
        20 => "bad_record_mac",
        40 => "handshake_failure",
        42 => "bad_certificate",
        47 => "illegal_parameter",
        48 => "unknown_ca",
        49 => "access_denied",
        50 => "decode_error",
        70 => "protocol_version",
        71 => "insufficient_security",
        80 => "internal_error",
        86 => "inappropriate_fallback",
        109 => "missing_extension",
        112 => "unrecognized_name",
        116 => "certificate_required",
        120 => "no_application_protocol",
        _ => return format!("alert {code}"),
    };
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(kind: u8, body: &[u8]) -> Vec<u8> {
        [&[kind, 3, 1][..], &sized(2, body)].concat()
    }

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        [&[kind][..], &sized(3, body)].concat()
    }

    /// An answer in TLS 1.0 with two certificates and a stapled answer.
    fn answer() -> Vec<u8> {
        let hello = message(2, &[&[3, 1][..], &[7; 32], &[4, 1, 2, 3, 4], &[0xc0, 0x13, 0]].concat());
        let chain = message(11, &sized(3, &[sized(3, b"leaf"), sized(3, b"ca")].concat()));
        let staple = message(22, &[&[1][..], &sized(3, b"good")].concat());
        [hello, chain, staple, message(12, &[1, 2, 3]), message(14, &[])].concat()
    }

    fn done() -> Reading {
        Reading::Done(Hello { version: 0x0301, suite: 0xc013, chain: vec![b"leaf".to_vec(), b"ca".to_vec()], staple: b"good".to_vec() })
    }

    #[test]
    fn an_answer_is_read_however_it_is_cut_into_records() {
        for size in [1, 3, 50, 16_000] {
            let records: Vec<u8> = answer().chunks(size).flat_map(|chunk| record(22, chunk)).collect();
            assert_eq!(read(&records), done(), "records of {size}");
            for end in 0..records.len() {
                assert_eq!(read(&records[..end]), Reading::More, "{end} of records of {size}");
            }
        }
        let warned = [record(21, &[1, 112]), record(22, &answer())].concat();
        assert_eq!(read(&warned), done());
        assert_eq!((version(0x0301), suite(0xc013)), ("TLSv1.0".into(), "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA".into()));
    }

    #[test]
    fn refusals_and_other_protocols_are_told_apart() {
        assert_eq!(read(&record(21, &[2, 40])), Reading::Alert(40));
        assert_eq!(read(b"HTTP/1.1 400 Bad Request\r\n"), Reading::NotTls);
        assert_eq!(read(b"-ERR\r\n"), Reading::NotTls);
        assert_eq!(read(&[]), Reading::More);
        assert!(matches!(read(&record(22, &message(11, &[0, 0, 0]))), Reading::Broken(_)), "certificates before a hello");
    }

    #[test]
    fn an_endless_handshake_is_given_up() {
        let endless: Vec<u8> = std::iter::repeat_with(|| record(22, &message(12, &[0; 16_000]))).take(12).flatten().collect();
        let begun = [record(22, &message(2, &[&[3, 3][..], &[7; 32], &[0, 0, 5, 0]].concat())), endless].concat();
        assert_eq!(read(&begun), Reading::Broken("a handshake without an end"));
        assert_eq!(read(&record(22, &[12, 0xff, 0xff, 0xff])), Reading::Broken("a message without an end"));
    }

    #[test]
    fn what_we_ask_with_is_a_record_of_its_stated_length() {
        let asked = client_hello(Some("www.example.org"), Keys::Any, &[9; 32]);
        assert!(is_record(&asked));
        assert_eq!(usize::from(asked[3]) << 8 | usize::from(asked[4]), asked.len() - 5);
        assert!(asked.windows(15).any(|part| part == b"www.example.org"));
        assert!(!client_hello(None, Keys::Any, &[9; 32]).windows(2).any(|part| part == b"ww"));
    }

    proptest! {
        #[test]
        fn no_input_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = (read(&bytes), read(&record(22, &bytes)), read(&record(22, &message(11, &bytes))));
        }

        #[test]
        fn no_damage_to_an_answer_panics(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut bytes = record(22, &answer());
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = read(&bytes);
        }
    }
}
