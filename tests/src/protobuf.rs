//! Protobuf as a test writes it, field by field; and requests that carry it to the API.

use keyvigil_common::client::Query;
use reqwest::Response;

use crate::harness::Harness;

fn varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push((n as u8) | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// A number.
#[must_use]
pub fn number(field: u64, n: u64) -> Vec<u8> {
    let mut out = Vec::new();
    varint(&mut out, field << 3);
    varint(&mut out, n);
    out
}

/// A 64-bit word.
#[must_use]
pub fn word(field: u64, n: u64) -> Vec<u8> {
    let mut out = Vec::new();
    varint(&mut out, field << 3 | 1);
    out.extend(n.to_le_bytes());
    out
}

/// A floating-point number.
#[must_use]
pub fn double(field: u64, value: f64) -> Vec<u8> {
    word(field, value.to_bits())
}

/// A text, or the fields of a message.
#[must_use]
pub fn bytes(field: u64, content: impl AsRef<[u8]>) -> Vec<u8> {
    let mut out = Vec::new();
    varint(&mut out, field << 3 | 2);
    varint(&mut out, content.as_ref().len() as u64);
    out.extend_from_slice(content.as_ref());
    out
}

/// Numbers in one field.
#[must_use]
pub fn packed(field: u64, numbers: &[u64]) -> Vec<u8> {
    let mut out = Vec::new();
    numbers.iter().for_each(|n| varint(&mut out, *n));
    bytes(field, out)
}

/// A signed number as the `sint` types have it.
#[must_use]
pub fn zigzag(n: i64) -> u64 {
    ((n << 1) ^ (n >> 63)).cast_unsigned()
}

impl Harness {
    /// Posts `body` to `path` of the API with these headers, the admin token among them.
    ///
    /// # Panics
    /// Where there is no answer.
    pub async fn post(&self, path: &str, headers: &[(&str, &str)], body: impl Into<reqwest::Body>) -> Response {
        let at = &self.running().endpoints;
        let mut request = reqwest::Client::new().post(format!("{}{path}", at.url)).bearer_auth(&at.admin_token);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(body).send().await.expect("an answer")
    }

    /// Posts `raw` as remote write does; status, header and body of the answer are the caller's.
    ///
    /// # Panics
    /// Where there is no answer.
    pub async fn remote_write(&self, content_type: &str, raw: &[u8]) -> Response {
        let body = snap::raw::Encoder::new().compress_vec(raw).expect("it is not too long");
        self.post("/prometheus/api/v1/write", &[("content-type", content_type), ("content-encoding", "snappy")], body).await
    }

    /// Series that match `pattern` and their samples of the last hour: `counter name{tag="x"}` and time and value of each.
    ///
    /// # Panics
    /// Where the query is refused.
    pub async fn samples(&self, pattern: &str) -> Vec<(String, Vec<(i64, serde_json::Value)>)> {
        let answer = self.client().query_metrics(&Query { metric_pattern: pattern.into(), ..Query::default() }).await.expect("an answer");
        let named = answer.series.into_iter().map(|series| {
            let tags: Vec<String> = series.tags.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
            (format!("{} {}{{{}}}", series.metric_type, series.metric_id, tags.join(",")), series.points)
        });
        named.collect()
    }
}
