//! Why bytes are not taken, in words that say which side to upgrade or what to send less of.

use super::VERSION;
use crate::sample::SampleError;

/// Why bytes were not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Not ours.
    #[error("these bytes are not a Keyvigil frame: the first three bytes are wrong")]
    Magic,
    /// Another version.
    #[error("wire version {0}; this side speaks version {VERSION}: upgrade the older of agent and aggregator")]
    Version(u8),
    /// Another compression.
    #[error("compression {0} is not known; this side knows 1 (zstd): upgrade the older of agent and aggregator")]
    Codec(u8),
    /// Cut short.
    #[error("the frame ends too early: it was cut on its way or on disk")]
    Truncated,
    /// Past a size limit.
    #[error("{bytes} bytes; at most {max} are taken: send smaller batches")]
    TooLarge {
        /// Size found or claimed.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// Past a count limit.
    #[error("more series, samples or records than one batch may hold: send smaller batches")]
    TooMany,
    /// Bytes that do not decode.
    #[error("the frame does not decode: {0}")]
    Garbled(String),
    /// Decoded, but impossible.
    #[error("the frame decodes but holds {0}")]
    Shape(&'static str),
    /// A series or tag that is not valid.
    #[error("a series is not valid: {0}")]
    Series(#[from] SampleError),
    /// Could not be encoded.
    #[error("cannot encode: {0}")]
    Encode(String),
}
