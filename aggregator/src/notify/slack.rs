//! Messages to one channel of Slack, or of what speaks its incoming webhooks. The address is a secret and stands in no error
//! and no log. Follows no redirect and reads no more of an answer than it needs. Called by the outbox job.

use std::time::Duration;

use keyvigil_common::telemetry::chain;
use reqwest::header::RETRY_AFTER;
use reqwest::{Client, Response, StatusCode, Url, redirect};

use super::wording::Wording;
use super::{Delivered, Notification, Notifier, SendError, SlackConfig};
use crate::alert::Priority;

mod blocks;

const ANSWER_BYTES_MAX: usize = 1_024;

/// An incoming webhook.
pub struct Slack {
    client: Client,
    url: Url,
    min_priority: Priority,
    dashboard_url: String,
}

impl std::fmt::Debug for Slack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Slack").field("url", &"***").field("min_priority", &self.min_priority).finish_non_exhaustive()
    }
}

impl Slack {
    /// The channel of `config`.
    ///
    /// # Errors
    /// An address that is not one, or no TLS to be had.
    pub fn new(config: &SlackConfig) -> Result<Self, String> {
        let url = Url::parse(config.webhook_url.expose().trim()).map_err(|e| format!("slack.webhook_url: is not an address: {e}"))?;
        let client = Client::builder()
            .redirect(redirect::Policy::none())
            .timeout(config.timeout.0)
            .user_agent(concat!("keyvigil/", env!("CARGO_PKG_VERSION")))
            .https_only(url.scheme() == "https")
            .build()
            .map_err(|e| format!("slack: {}", chain(&e.without_url())))?;
        Ok(Self { client, url, min_priority: config.min_priority, dashboard_url: config.dashboard_url.clone() })
    }

    pub(super) fn min_priority(&self) -> Priority {
        self.min_priority
    }
}

impl Notifier for Slack {
    fn name(&self) -> &str {
        "slack"
    }

    async fn send(&self, notification: &Notification) -> Result<Delivered, SendError> {
        let words = Wording::of(notification, &self.dashboard_url);
        let payload = blocks::payload(&words, notification);
        let failed = |e: reqwest::Error| SendError::retry(format!("Slack: {}", chain(&e.without_url())));
        let response = self.client.post(self.url.clone()).json(&payload).send().await.map_err(failed)?;
        let (status, after) = (response.status(), retry_after(&response));
        judge(status, after, &answer(response).await.map_err(failed)?)
    }
}

fn retry_after(response: &Response) -> Option<Duration> {
    response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

async fn answer(mut response: Response) -> Result<String, reqwest::Error> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        body.extend_from_slice(&chunk);
        if body.len() >= ANSWER_BYTES_MAX {
            body.truncate(ANSWER_BYTES_MAX);
            break;
        }
    }
    Ok(String::from_utf8_lossy(&body).trim().to_owned())
}

/// What an answer means. Slack refuses a message for good with a client error and a word (`invalid_payload`, `no_service`).
fn judge(status: StatusCode, after: Option<Duration>, answer: &str) -> Result<Delivered, SendError> {
    let text = format!("Slack answered {}: {}", status.as_u16(), super::wording::shorten(answer, 200));
    match status {
        StatusCode::OK if answer == "ok" => Ok(Delivered { reply: "200 ok".into() }),
        // Something else answered, such as the login page of a network.
        StatusCode::OK => Err(SendError::retry(format!("{text} (expected \"ok\")"))),
        StatusCode::TOO_MANY_REQUESTS => Err(SendError::Retry { after, text: super::clean(&text) }),
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY => Err(SendError::retry(text)),
        _ if status.is_client_error() => Err(SendError::permanent(text)),
        _ if status.is_redirection() => Err(SendError::retry(format!("{text} (redirects are not followed)"))),
        _ => Err(SendError::Retry { after, text: super::clean(&text) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ok_is_delivered_and_only_a_refusal_is_final() {
        let code = |n: u16| StatusCode::from_u16(n).unwrap();
        assert!(judge(code(200), None, "ok").is_ok());
        for (status, answer) in [(400, "invalid_payload"), (403, "action_prohibited"), (404, "no_service"), (410, "channel_is_archived")] {
            assert!(matches!(judge(code(status), None, answer), Err(SendError::Permanent(text)) if text.contains(answer)), "{status}");
        }
        for status in [200, 204, 301, 302, 408, 425, 429, 500, 502, 503] {
            assert!(matches!(judge(code(status), None, "<html>"), Err(SendError::Retry { .. })), "{status}");
        }
        let after = Some(Duration::from_secs(30));
        assert!(matches!(judge(code(429), after, "rate_limited"), Err(SendError::Retry { after: found, .. }) if found == after));
    }
}
