//! Bodies of requests: one in JSON, or the problem that it is none, told as every other error is; and one of an agent, read
//! at the pace of its link.

use std::time::Duration;

use axum::RequestExt;
use axum::body::{Bytes, HttpBody};
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use http_body_util::{BodyExt, LengthLimitError};
use keyvigil_common::limits::PUSH_BYTES_MAX;
use keyvigil_common::telemetry::chain;
use serde::de::DeserializeOwned;

use super::App;
use super::problem::Problem;

/// The body as `T`.
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let bytes = Bytes::from_request(request, state).await.map_err(|e| Problem::new(e.status(), e.body_text()))?;
        parse(&bytes).map(Self)
    }
}

/// The body as `T`; where there is none, `T` as it is by default.
pub(super) struct OrDefault<T>(pub(super) T);

impl<T: DeserializeOwned + Default, S: Send + Sync> FromRequest<S> for OrDefault<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let bytes = Bytes::from_request(request, state).await.map_err(|e| Problem::new(e.status(), e.body_text()))?;
        if bytes.is_empty() {
            return Ok(Self(T::default()));
        }
        parse(&bytes).map(Self)
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(bytes).map_err(|e| Problem::bad_request(format!("the body is not what this expects: {e}")))
}

/// A body that comes at a bearable pace: a slow link may take its time, one that dribbles is closed.
pub(super) struct Paced(pub(super) Bytes);

/// Slower than this, after the first seconds, a sender is given up.
const BYTES_PER_SECOND_MIN: u64 = 1 << 10;
const PATIENCE: Duration = Duration::from_secs(10);

impl FromRequest<App> for Paced {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        let (clock, began) = (&app.clock, app.clock.monotonic());
        let slow = || Problem::new(StatusCode::REQUEST_TIMEOUT, "the body came too slowly: less than 1 KiB a second");
        let mut body = request.into_limited_body();
        let mut bytes = Vec::with_capacity(usize::try_from(body.size_hint().lower()).unwrap_or(0).min(PUSH_BYTES_MAX));
        loop {
            let until = began + PATIENCE + Duration::from_secs(bytes.len() as u64 / BYTES_PER_SECOND_MIN);
            let left = until.saturating_sub(clock.monotonic());
            let frame = tokio::select! {
                frame = body.frame() => frame,
                () = clock.sleep(left) => return Err(slow()),
            };
            match frame {
                None => return Ok(Self(bytes.into())),
                Some(Ok(frame)) => bytes.extend_from_slice(frame.data_ref().map_or(&[], |data| &data[..])),
                Some(Err(e)) => {
                    let large = std::error::Error::source(&e).and_then(|cause| cause.downcast_ref::<LengthLimitError>()).is_some();
                    let status = if large { StatusCode::PAYLOAD_TOO_LARGE } else { StatusCode::BAD_REQUEST };
                    return Err(Problem::new(status, format!("the body cannot be read: {}", chain(&e))));
                }
            }
        }
    }
}
