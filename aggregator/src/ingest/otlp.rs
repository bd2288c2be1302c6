//! OTLP metrics (`POST /otlp/v1/metrics`), protobuf or JSON, plain or gzip. JSON is turned into protobuf first, so that both
//! mean the same. Data points that cannot be stored are counted and named. Called by `web` and nobody else.

mod attributes;
mod json;
mod points;

use std::io::Read;

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use keyvigil_common::limits::{OTLP_JSON_BYTES_MAX, OTLP_RAW_BYTES_MAX};
use keyvigil_common::wire::WireError;
use tokio::sync::OwnedSemaphorePermit;

use super::intake::{Rejections, Taken};
use super::limited::Limited;
use super::sink::Sink;
use super::{Ingest, Refusal};
use crate::index::TenantId;

/// Memory that a JSON document takes for each of its bytes while it is turned into protobuf.
const JSON_BYTES_PER_RAW: usize = 16;
/// Bytes that are decompressed before room is taken for the next.
const STEP: usize = 1 << 20;

/// How a request is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `application/x-protobuf`.
    Protobuf,
    /// `application/json`.
    Json,
}

impl Form {
    fn bytes_max(self) -> usize {
        match self {
            Self::Protobuf => OTLP_RAW_BYTES_MAX,
            Self::Json => OTLP_JSON_BYTES_MAX,
        }
    }
}

impl Ingest {
    /// Stores the data points of a request; returns those that are not valid and those that do not fit, counted, and the first
    /// of them named.
    ///
    /// # Errors
    /// A body that is not what it says, no room, or a store that cannot write: then nothing of it is stored.
    pub async fn otlp(&self, tenant: TenantId, form: Form, gzip: bool, body: &Bytes) -> Result<(Rejections, Limited), Refusal> {
        let result = self.try_otlp(tenant, form, gzip, body).await;
        self.note("OTLP", result)
    }

    async fn try_otlp(&self, tenant: TenantId, form: Form, gzip: bool, body: &Bytes) -> Result<(Rejections, Limited), Refusal> {
        // What it takes in time, as plain protobuf: gzip makes a tenth of it, and JSON is that much slower.
        let weight = [gzip, form == Form::Json].into_iter().filter(|is| *is).fold(body.len(), |bytes, _| bytes.saturating_mul(10));
        let body = body.clone();
        let work = move |this: &Self| match gzip {
            true => this.inflate(&body, form.bytes_max()).and_then(|(raw, _room)| this.read_otlp(tenant, form, &raw)),
            false => this.read_otlp(tenant, form, &body),
        };
        let mut taken = self.decoded(weight, work).await?;
        let rejected = std::mem::take(&mut taken.rejected);
        let limited = self.store(taken).await?.limited;
        Ok((rejected, limited))
    }

    /// A gzip body, decompressed as far as there is room.
    fn inflate(&self, body: &[u8], max: usize) -> Result<(Vec<u8>, OwnedSemaphorePermit), Refusal> {
        let mut stream = MultiGzDecoder::new(body);
        let (mut raw, mut room) = (Vec::new(), self.room(0)?);
        loop {
            // What a vector grows by is up to as much again.
            room.merge(self.room(2 * STEP)?);
            let read = stream.by_ref().take(STEP as u64).read_to_end(&mut raw);
            if read.map_err(|e| Refusal::Body(format!("the body is not gzip: {e}")))? == 0 {
                return Ok((raw, room));
            }
            if raw.len() > max {
                return Err(Refusal::TooLarge(WireError::TooLarge { bytes: raw.len(), max }));
            }
        }
    }

    fn read_otlp(&self, tenant: TenantId, form: Form, raw: &[u8]) -> Result<Taken, Refusal> {
        if raw.len() > form.bytes_max() {
            return Err(Refusal::TooLarge(WireError::TooLarge { bytes: raw.len(), max: form.bytes_max() }));
        }
        let named = |fault: Refusal| match fault {
            Refusal::Body(fault) => Refusal::Body(format!("the body is not an ExportMetricsServiceRequest: {fault}")),
            other => other,
        };
        match form {
            Form::Protobuf => self.points(tenant, raw).map_err(named),
            Form::Json => {
                let _room = self.room(raw.len() * JSON_BYTES_PER_RAW)?;
                let raw = json::to_protobuf(raw).map_err(|fault| named(Refusal::Body(fault)))?;
                self.points(tenant, &raw).map_err(named)
            }
        }
    }

    fn points(&self, tenant: TenantId, raw: &[u8]) -> Result<Taken, Refusal> {
        let mut sink = Sink::new(self, tenant);
        points::decode(raw, &mut sink)?;
        Ok(sink.finish().0)
    }
}

#[cfg(test)]
mod tests;
