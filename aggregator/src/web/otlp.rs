//! `POST /otlp/v1/metrics`: OTLP over HTTP. Answers and errors are in the form of the request, as the protocol wants them.

use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use keyvigil_common::limits::OTLP_BYTES_MAX;
use serde_json::json;
use tokio::sync::OwnedSemaphorePermit;

use super::App;
use super::problem::Problem;
use super::remote::{Raw, announced};
use crate::ingest::intake::Rejections;
use crate::ingest::otlp::Form;

const TAKEN: &str = "this takes Content-Type application/x-protobuf or application/json, with Content-Encoding gzip or none";

/// How a request is written, and room for its body: decided before a byte of it is read.
pub(super) struct Announced {
    form: Form,
    gzip: bool,
    _room: OwnedSemaphorePermit,
}

impl FromRequestParts<App> for Announced {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Response> {
        let (form, gzip) = form(&parts.headers).map_err(IntoResponse::into_response)?;
        let room = app.ingest.room(announced(&parts.headers, OTLP_BYTES_MAX)).map_err(|refusal| status(form, refusal.into()))?;
        Ok(Self { form, gzip, _room: room })
    }
}

fn form(headers: &HeaderMap) -> Result<(Form, bool), Problem> {
    let text = |name| headers.get(name).map_or("", |v| v.to_str().unwrap_or("?")).trim().to_ascii_lowercase();
    let refuse = |what: &str, given: &str| Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, format!("{what} is {given:?}: {TAKEN}")));
    let (kind, encoding) = (text(header::CONTENT_TYPE), text(header::CONTENT_ENCODING));
    let form = match kind.split(';').next().unwrap_or_default().trim() {
        "application/x-protobuf" => Form::Protobuf,
        "application/json" => Form::Json,
        _ => return refuse("Content-Type", &kind),
    };
    match encoding.as_str() {
        "" | "identity" => Ok((form, false)),
        "gzip" => Ok((form, true)),
        _ => refuse("Content-Encoding", &encoding),
    }
}

/// Takes a request.
pub(super) async fn metrics(State(app): State<App>, request: Announced, body: Result<Raw, Problem>) -> Response {
    let body = match body {
        Ok(Raw(body)) => body,
        Err(problem) => return status(request.form, problem),
    };
    match app.ingest.otlp(app.tenant, request.form, request.gzip, &body).await {
        Ok((rejected, limited)) if !limited.is_empty() => status(request.form, Problem::limited(&limited, &rejected)),
        Ok((rejected, _)) => answer(request.form, StatusCode::OK, success(request.form, &rejected)),
        Err(refusal) => status(request.form, refusal.into()),
    }
}

/// An `ExportMetricsServiceResponse`: empty where all was taken.
fn success(form: Form, rejected: &Rejections) -> Vec<u8> {
    let count = rejected.samples;
    let why = rejected.named.join("; ");
    match form {
        Form::Json if count == 0 => b"{}".to_vec(),
        Form::Json => json!({"partialSuccess": {"rejectedDataPoints": count.to_string(), "errorMessage": why}}).to_string().into_bytes(),
        Form::Protobuf if count == 0 => Vec::new(),
        Form::Protobuf => {
            let mut partial = number(1, count as u64);
            partial.extend(block(2, why.as_bytes()));
            block(1, &partial)
        }
    }
}

/// An error as `google.rpc.Status`.
fn status(form: Form, problem: Problem) -> Response {
    let (status, detail, retry_after) = problem.parts();
    let code = match status {
        StatusCode::TOO_MANY_REQUESTS | StatusCode::PAYLOAD_TOO_LARGE => 8,
        StatusCode::SERVICE_UNAVAILABLE => 14,
        status if status.is_client_error() => 3,
        _ => 13,
    };
    let body = match form {
        Form::Json => json!({"code": code, "message": detail, "details": []}).to_string().into_bytes(),
        Form::Protobuf => [number(1, code), block(2, detail.as_bytes())].concat(),
    };
    let mut response = answer(form, status, body);
    if let Some(seconds) = retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

fn answer(form: Form, status: StatusCode, body: Vec<u8>) -> Response {
    let kind = match form {
        Form::Protobuf => "application/x-protobuf",
        Form::Json => "application/json",
    };
    (status, [(header::CONTENT_TYPE, HeaderValue::from_static(kind))], body).into_response()
}

fn varint(mut n: u64, out: &mut Vec<u8>) {
    while n >= 0x80 {
        out.push((n as u8) | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

fn number(field: u8, n: u64) -> Vec<u8> {
    let mut out = vec![field << 3];
    varint(n, &mut out);
    out
}

fn block(field: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![field << 3 | 2];
    varint(bytes.len() as u64, &mut out);
    out.extend_from_slice(bytes);
    out
}
