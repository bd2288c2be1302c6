//! What `benches/` measures of the insides, and nobody else may lean on.

use crate::ingest::Ingest;
use crate::ingest::remote::Version;
pub use crate::store::measured::{Packed, pack, unpack};

/// Decodes a remote-write 1.0 body (snappy) up to what the store takes; returns its samples.
#[must_use]
pub fn decode_remote_write(ingest: &Ingest, body: &[u8]) -> usize {
    ingest.decode(1, Version::V1, body).map_or(0, |(taken, _)| taken.samples())
}
