//! Prometheus remote write (`POST /prometheus/api/v1/write`): snappy, then protobuf, read where it lies. Series that are not
//! valid are named, the others stored. Called by `web` and nobody else.

mod labels;
mod native;
mod v1;
mod v2;

use std::cell::RefCell;

use bytes::Bytes;
use keyvigil_common::limits::REMOTE_WRITE_RAW_BYTES_MAX;
use keyvigil_common::wire::WireError;

use super::intake::{Rejections, Taken};
use super::limited::Limited;
use super::sink::Sink;
pub use super::sink::Written;
use super::{Ingest, Refusal};
use crate::index::TenantId;

/// Snappy's best is a copy of 64 bytes for 3: what claims more is no body but a claim.
const SNAPPY_RATIO_MAX: usize = 22;
/// A decompression buffer above this is given back, not kept for the thread's next request.
const KEPT_BYTES_MAX: usize = 4 << 20;

thread_local! {
    static RAW: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Which message a request holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// `prometheus.WriteRequest`.
    V1,
    /// `io.prometheus.write.v2.Request`.
    V2,
}

impl Version {
    /// Name of the message, as content types and errors have it.
    #[must_use]
    pub fn message(self) -> &'static str {
        match self {
            Self::V1 => "prometheus.WriteRequest",
            Self::V2 => "io.prometheus.write.v2.Request",
        }
    }
}

/// What became of a request.
#[derive(Debug)]
pub struct RemoteWrite {
    /// What is on disk now.
    pub written: Written,
    /// What is not valid.
    pub rejected: Rejections,
    /// What did not fit.
    pub limited: Limited,
}

pub(crate) type Decoded = (Taken, Written);

impl Ingest {
    /// Stores what a request brings; what is not valid or does not fit is named.
    ///
    /// # Errors
    /// A body that is not what it says, no room, or a store that cannot write: then nothing of it is stored.
    pub async fn remote_write(&self, tenant: TenantId, version: Version, body: &Bytes) -> Result<RemoteWrite, Refusal> {
        let result = self.try_remote_write(tenant, version, body).await;
        self.note("remote write", result)
    }

    async fn try_remote_write(&self, tenant: TenantId, version: Version, body: &Bytes) -> Result<RemoteWrite, Refusal> {
        let (length, body) = (snap::raw::decompress_len(body).unwrap_or(0), body.clone());
        let (mut taken, written) = self.decoded(length, move |this| this.decode(tenant, version, &body)).await?;
        let rejected = std::mem::take(&mut taken.rejected);
        let histograms = std::mem::take(&mut taken.histograms);
        let stored = self.store(taken).await?;
        Ok(RemoteWrite { written: written.without(&stored.runs, &histograms), rejected, limited: stored.limited })
    }

    pub(crate) fn decode(&self, tenant: TenantId, version: Version, body: &[u8]) -> Result<Decoded, Refusal> {
        let broken = |e: &dyn std::fmt::Display| Refusal::Body(format!("the body is not in snappy's block format: {e}"));
        let length = snap::raw::decompress_len(body).map_err(|e| broken(&e))?;
        if length > REMOTE_WRITE_RAW_BYTES_MAX {
            return Err(Refusal::TooLarge(WireError::TooLarge { bytes: length, max: REMOTE_WRITE_RAW_BYTES_MAX }));
        }
        if length > body.len().saturating_mul(SNAPPY_RATIO_MAX) {
            return Err(broken(&format_args!("{} bytes claim to become {length}", body.len())));
        }
        let _room = self.room(length)?;
        RAW.with_borrow_mut(|raw| {
            if raw.len() < length {
                raw.resize(length, 0);
            }
            let decoded = match snap::raw::Decoder::new().decompress(body, &mut raw[..length]) {
                Ok(length) => self.decode_raw(tenant, version, &raw[..length]),
                Err(e) => Err(broken(&e)),
            };
            if raw.capacity() > KEPT_BYTES_MAX {
                *raw = Vec::new();
            }
            decoded
        })
    }

    fn decode_raw(&self, tenant: TenantId, version: Version, raw: &[u8]) -> Result<Decoded, Refusal> {
        let mut sink = Sink::new(self, tenant);
        let decoded = match version {
            Version::V1 => v1::decode(raw, &mut sink),
            Version::V2 => v2::decode(raw, &mut sink),
        };
        match decoded {
            Ok(()) => Ok(sink.finish()),
            Err(Refusal::Body(fault)) => Err(Refusal::Body(format!("the body is not a {}: {fault}", version.message()))),
            Err(other) => Err(other),
        }
    }
}

#[cfg(test)]
mod tests;
