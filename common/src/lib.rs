//! What the agent, the aggregator and the tools must agree on: the nouns (sample, key, event, batch, ack), their form on
//! the wire, and the few mechanisms both ends share. Code enters here only when two crates use it. Nothing here does I/O
//! beyond reading the configuration files and key files it is pointed at.

pub mod backoff;
pub mod canary;
#[cfg(feature = "client")]
pub mod client;
pub mod clock;
pub mod config;
pub mod crl;
pub mod der;
pub mod event;
pub mod finding;
pub mod key;
pub mod limits;
pub mod process;
pub mod revocation;
pub mod sample;
pub mod seal;
pub mod sequence;
pub mod stop;
pub mod telemetry;
pub mod tls;
pub mod token;
pub mod wire;
pub mod x509;

/// Lower-case hexadecimal form of `bytes`.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 2);
    for b in bytes {
        for nibble in [b >> 4, b & 15] {
            out.push(char::from_digit(u32::from(nibble), 16).unwrap_or('0'));
        }
    }
    out
}

/// Reverse of [`hex`]; `None` on an odd length or a character that is not a hexadecimal digit.
#[must_use]
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    text.as_bytes()
        .chunks(2)
        .map(|pair| {
            let hi = char::from(pair[0]).to_digit(16)?;
            let lo = char::from(pair[1]).to_digit(16)?;
            u8::try_from(hi * 16 + lo).ok()
        })
        .collect()
}

/// SHA-256 of `bytes`.
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0u8; 32];
    out.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref());
    out
}

/// `N` bytes from the operating system's random source.
///
/// # Panics
/// Where the system has no random source: nothing of this product may run without one.
#[must_use]
pub fn random<const N: usize>() -> [u8; N] {
    let mut out = [0u8; N];
    #[expect(clippy::expect_used, reason = "no secret may be made without a random source")]
    aws_lc_rs::rand::fill(&mut out).expect("the operating system's random source failed");
    out
}
