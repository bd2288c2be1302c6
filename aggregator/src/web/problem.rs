//! Errors as RFC 9457 problem documents.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use keyvigil_common::telemetry;
use serde_json::json;

use crate::ingest::Refusal;
use crate::ingest::intake::Rejections;
use crate::ingest::limited::Limited;
use crate::query::QueryError;
use crate::store::StoreError;

/// A limit of series is not undone in a moment.
const LIMIT_RETRY_SECONDS: u64 = 60;
/// When senders come again that found no room; a fleet that comes every second keeps the processors from what it waits for.
const BUSY_SECONDS: u64 = 4;

/// What went wrong, for the one who asked.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    detail: String,
    /// Further members of the document.
    extra: serde_json::Value,
    retry_after_seconds: Option<u64>,
}

impl Problem {
    /// A problem with one sentence of explanation.
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), extra: json!({}), retry_after_seconds: None }
    }

    /// 400.
    pub(super) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    /// 400, with the words that are known.
    pub(super) fn none_of(what: &str, given: &str, names: impl IntoIterator<Item = &'static str>) -> Self {
        Self::bad_request(format!("{what} {:?} is none of: {}", shown(given), names.into_iter().collect::<Vec<_>>().join(" ")))
    }

    /// 404.
    pub(super) fn not_found(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("{what} does not exist"))
    }

    /// 404 for a host that nobody has heard of: "none" must not be the answer for it.
    pub(super) fn no_host(host: &str) -> Self {
        Self::not_found(&format!("a host {:?}", shown(host)))
    }

    /// With a further member.
    #[must_use]
    pub(super) fn with(mut self, name: &str, value: impl Into<serde_json::Value>) -> Self {
        self.extra[name] = value.into();
        self
    }

    /// With `Retry-After`.
    #[must_use]
    pub(super) fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after_seconds = Some(seconds);
        self
    }

    /// Status, sentence and seconds after which to try again, for a protocol that tells them in its own form.
    pub(super) fn parts(self) -> (StatusCode, String, Option<u64>) {
        (self.status, self.detail, self.retry_after_seconds)
    }

    /// What did not fit, and what was not valid beside it; all else is stored.
    pub(super) fn limited(limited: &Limited, rejected: &Rejections) -> Self {
        let invalid = rejected.named.first().map(|first| format!("; {} more are not valid, the first: {first}", rejected.samples));
        let limits: Vec<_> = limited.limits.iter().map(|(limit, (max, samples))| json!({"limit": limit.name(), "max": max, "samples": samples})).collect();
        Self::new(StatusCode::TOO_MANY_REQUESTS, format!("{limited}{}", invalid.unwrap_or_default()))
            .with("rejected", limited.samples + rejected.samples)
            .with("reasons", [limited.named.as_slice(), rejected.named.as_slice()].concat())
            .with("limits", limits)
            .retry_after(LIMIT_RETRY_SECONDS)
    }

    /// Our own fault: the asker learns that it failed, the log why.
    pub(super) fn internal(error: &dyn std::error::Error) -> Self {
        tracing::error!(error = telemetry::chain(error), "request failed");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, format!("{error}; the aggregator's log says why")).retry_after(5)
    }
}

/// The beginning of what was given: an answer is not as long as somebody's question.
pub(super) fn shown(given: &str) -> String {
    given.chars().take(64).collect()
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        Problem::from(self).into_response()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut body = json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or("Error"),
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        if let (Some(body), Some(extra)) = (body.as_object_mut(), self.extra.as_object()) {
            body.extend(extra.clone());
        }
        let mut response = (self.status, Json(body)).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = self.retry_after_seconds {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::Busy => Self::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string()).retry_after(1),
            StoreError::TooMuch(_) | StoreError::Refused(_) => Self::bad_request(error.to_string()),
            StoreError::Missing(what) => Self::not_found(what),
            _ => Self::internal(&error),
        }
    }
}

impl From<QueryError> for Problem {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::Invalid(detail) => Self::bad_request(detail),
            QueryError::Store(error) => error.into(),
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let detail = refusal.to_string();
        match &refusal {
            Refusal::Malformed(_) | Refusal::Body(_) => Self::bad_request(detail),
            Refusal::Permanent { seq, .. } => Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail).with("permanent", true).with("batch", *seq),
            Refusal::TooLarge(_) => Self::new(StatusCode::PAYLOAD_TOO_LARGE, detail),
            Refusal::Forbidden(_) => Self::new(StatusCode::FORBIDDEN, detail),
            Refusal::Gap { expected, .. } => Self::new(StatusCode::CONFLICT, detail).with("code", "gap").with("expected", *expected),
            Refusal::Fork { seq, .. } => Self::new(StatusCode::CONFLICT, detail).with("code", "fork").with("batch", *seq),
            Refusal::Base => Self::new(StatusCode::CONFLICT, detail).with("code", "base"),
            Refusal::Cloned => Self::new(StatusCode::CONFLICT, detail).with("code", "cloned").retry_after(60),
            Refusal::Wait { seconds, .. } => Self::new(StatusCode::TOO_MANY_REQUESTS, detail).retry_after(*seconds),
            Refusal::Clock(_) => Self::new(StatusCode::CONFLICT, detail).with("code", "clock").retry_after(60),
            Refusal::Limit(_) => Self::new(StatusCode::TOO_MANY_REQUESTS, detail).retry_after(LIMIT_RETRY_SECONDS),
            Refusal::Busy(_) => Self::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(BUSY_SECONDS),
            Refusal::Store(StoreError::Refused(why)) => Self::bad_request(why.clone()),
            Refusal::Store(error) => Self::internal(error),
        }
    }
}
