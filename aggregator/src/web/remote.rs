//! `POST /prometheus/api/v1/write`: what a request claims to be, room for it, and the answer in the words of its protocol.

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use keyvigil_common::limits::REMOTE_WRITE_BYTES_MAX;
use tokio::sync::OwnedSemaphorePermit;

use super::App;
use super::problem::Problem;
use crate::ingest::intake::Rejections;
use crate::ingest::remote::{Version, Written};

const TAKEN: &str = "this takes Content-Type application/x-protobuf (remote write 1.0) or \
    application/x-protobuf;proto=io.prometheus.write.v2.Request (2.0) with Content-Encoding snappy (block format)";
/// What a sender of 2.0 counts, as we do.
const COUNTS: [&str; 3] =
    ["x-prometheus-remote-write-samples-written", "x-prometheus-remote-write-histograms-written", "x-prometheus-remote-write-exemplars-written"];

/// A request whose headers are fine, and room for its body: decided before a byte of it is read.
pub(super) struct Announced {
    version: Version,
    _room: OwnedSemaphorePermit,
}

impl FromRequestParts<App> for Announced {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let version = version(&parts.headers)?;
        let room = app.ingest.room(announced(&parts.headers, REMOTE_WRITE_BYTES_MAX))?;
        Ok(Self { version, _room: room })
    }
}

/// Bytes that a request will have, at most `max`; more is refused while it is read.
pub(super) fn announced(headers: &HeaderMap, max: usize) -> usize {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok());
    length.unwrap_or(max).min(max)
}

/// A body as it is, within its route's limit.
pub(super) struct Raw(pub(super) Bytes);

impl FromRequest<App> for Raw {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        Bytes::from_request(request, app).await.map(Self).map_err(|e| Problem::new(e.status(), e.body_text()))
    }
}

/// Takes a request.
pub(super) async fn write(State(app): State<App>, request: Announced, Raw(body): Raw) -> Response {
    let (mut answer, written) = match app.ingest.remote_write(app.tenant, request.version, &body).await {
        Ok(result) if !result.limited.is_empty() => (Problem::limited(&result.limited, &result.rejected).into_response(), result.written),
        Ok(result) if result.rejected.samples == 0 => (StatusCode::NO_CONTENT.into_response(), result.written),
        Ok(result) => (partial(&result.rejected).into_response(), result.written),
        Err(refusal) => (Problem::from(refusal).into_response(), Written::default()),
    };
    if request.version == Version::V2 {
        for (name, count) in COUNTS.into_iter().zip([written.samples, written.histograms, 0]) {
            answer.headers_mut().insert(HeaderName::from_static(name), count.into());
        }
    }
    answer
}

/// What was not valid; the rest is on disk, and sending it all again would help nobody.
fn partial(rejected: &Rejections) -> Problem {
    let first = rejected.named.first().map_or("", String::as_str);
    let detail = format!("{} samples were not stored, the others were; the first: {first}", rejected.samples);
    Problem::bad_request(detail).with("rejected", rejected.samples).with("reasons", rejected.named.as_slice())
}

fn version(headers: &HeaderMap) -> Result<Version, Problem> {
    let text = |name| headers.get(name).map(|v| v.to_str().unwrap_or_default());
    let refuse = |what: &str, given: Option<&str>| {
        let given = given.map_or_else(|| "none".to_owned(), |given| format!("{given:?}"));
        Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, format!("{what} is {given}: {TAKEN}")))
    };
    let encoding = text(header::CONTENT_ENCODING);
    if !encoding.is_some_and(|given| given.trim().eq_ignore_ascii_case("snappy")) {
        return refuse("Content-Encoding", encoding);
    }
    let given = text(header::CONTENT_TYPE);
    let named = message(given.unwrap_or_default());
    let known = [Version::V1, Version::V2].into_iter().find(|version| named == Some(version.message()));
    known.map_or_else(|| refuse("Content-Type", given), Ok)
}

/// The message that a content type names; the protocol's first one where it names none.
fn message(content_type: &str) -> Option<&str> {
    let mut parts = content_type.split(';').map(str::trim);
    if !parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("application/x-protobuf")) {
        return None;
    }
    let proto = parts.filter_map(|part| part.split_once('=')).find(|(name, _)| name.trim().eq_ignore_ascii_case("proto"));
    Some(proto.map_or(Version::V1.message(), |(_, value)| value.trim().trim_matches('"')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_type_names_its_message() {
        let v1 = Some("prometheus.WriteRequest");
        for (given, expected) in [
            ("application/x-protobuf", v1),
            ("Application/X-Protobuf; charset=utf-8", v1),
            ("application/x-protobuf;proto=prometheus.WriteRequest", v1),
            ("application/x-protobuf ; proto=\"io.prometheus.write.v2.Request\"", Some("io.prometheus.write.v2.Request")),
            ("application/x-protobuf;proto=other", Some("other")),
            ("application/json", None),
            ("", None),
        ] {
            assert_eq!(message(given), expected, "{given}");
        }
    }
}
