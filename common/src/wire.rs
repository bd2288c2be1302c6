//! The form in which batches travel and lie in buffers: an eight-byte head, then zstd over bincode. Everything is bounded
//! before it is allocated; a version that is not known is refused with its number, never guessed at.
//!
//! Frame: `KVB`, version (u8), codec (u8: 1 = zstd), three reserved zero bytes, raw length (u32 LE), compressed bytes.
//! Push: `KVP`, version (u8), bincode of [`Push`], or as a [`Difference`] to what was acknowledged: `KVD`, version (u8), name of
//! the [`Base`] (u64 LE), zstd. Ack: `KVA`, version (u8), bincode of [`Ack`].
//! bincode: `config::standard()` of 2.0.1 (little endian, variable integers) with a limit. Rules for the types: no
//! recursion, no `usize`, no maps, enums grow at their end only. Called by the agent's buffer and uplink and by `ingest`.
//!
//! Versions: 1 had no [`Sealed`], no epoch in a [`Gap`], no [`Sender`], times as they are and not as differences, no pushes as
//! differences, and pushes and acks that knew one lane. What is written is 2; an agent of version 1 is understood and answered in
//! its own.

mod batch;
mod before;
mod difference;
mod error;
mod frame;
mod push;

use bincode::error::DecodeError;
use bincode::{BorrowDecode, Decode, Encode, config};

use crate::limits::BATCH_DECODE_BYTES_MAX;

pub use batch::{Batch, Class, Column, Gap, Group, HostFacts, Sealed};
pub use difference::{Base, Difference, Opened, encode_push_after};
pub use error::WireError;
pub use frame::{Raw, claimed_bytes, decode_batch, encode_batch};
pub use push::{ACK_RANGES_MAX, ACK_STREAMS_MAX, Ack, Directive, Elsewhere, Push, Sender, decode_ack, decode_push, encode_ack, encode_push};

/// Version written by this code. Readers take this one and the one before it.
pub const VERSION: u8 = 2;
/// The version before.
const VERSION_BEFORE: u8 = 1;

fn standard() -> impl config::Config {
    config::standard().with_limit::<BATCH_DECODE_BYTES_MAX>()
}

fn encode_with_head<T: Encode>(magic: [u8; 3], version: u8, value: &T) -> Result<Vec<u8>, WireError> {
    let mut out = magic.to_vec();
    out.push(version);
    let body = bincode::encode_to_vec(value, standard()).map_err(|e| WireError::Encode(e.to_string()))?;
    out.extend_from_slice(&body);
    Ok(out)
}

/// Checks magic and version; the version, and what follows.
fn open_head(bytes: &[u8], magic: [u8; 3]) -> Result<(u8, &[u8]), WireError> {
    let Some((head, body)) = bytes.split_at_checked(4) else { return Err(WireError::Truncated) };
    if head[..3] != magic {
        return Err(WireError::Magic);
    }
    if ![VERSION, VERSION_BEFORE].contains(&head[3]) {
        return Err(WireError::Version(head[3]));
    }
    Ok((head[3], body))
}

/// A value at the front of `bytes`, and what follows it.
fn decode_front<'a, T: BorrowDecode<'a, ()>>(bytes: &'a [u8]) -> Result<(T, &'a [u8]), WireError> {
    let (value, used) = bincode::borrow_decode_from_slice(bytes, standard()).map_err(fault)?;
    Ok((value, &bytes[used..]))
}

fn fault(error: DecodeError) -> WireError {
    match error {
        DecodeError::UnexpectedEnd { .. } => WireError::Truncated,
        other => WireError::Garbled(other.to_string()),
    }
}

fn decode_whole<T: Decode<()>>(bytes: &[u8]) -> Result<T, WireError> {
    let (value, used) = bincode::decode_from_slice(bytes, standard()).map_err(fault)?;
    if used == bytes.len() { Ok(value) } else { Err(WireError::Garbled(format!("{} bytes after the end", bytes.len() - used))) }
}

#[cfg(test)]
mod tests;
