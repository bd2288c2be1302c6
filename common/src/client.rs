//! The HTTP API as Rust verbs, for the CLI, the tests and other programs. One method a call; answers are the API's own
//! JSON where nothing here needs their parts. Plain HTTP to loopback, TLS elsewhere.
//!
//! ```no_run
//! # async fn example() -> Result<(), keyvigil_common::client::ClientError> {
//! use keyvigil_common::client::{Client, Query};
//!
//! let client = Client::new("http://127.0.0.1:8080", Some("kva_..."))?;
//! client.collect_metric("app.queue.depth", 3.0, &[("host", "web-1")]).await?;
//! let answer = client.query_metrics(&Query { metric_pattern: "app.**".into(), ..Query::default() }).await?;
//! for series in answer.series {
//!     println!("{} {:?}", series.metric_id, series.points.last());
//! }
//! # Ok(())
//! # }
//! ```

mod keys;

use std::collections::BTreeMap;
use std::time::Duration;

pub use reqwest::Method;
use reqwest::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::config::Secret;

const TIMEOUT: Duration = Duration::from_secs(60);
/// Of a fleet's whole inventory, over a slow line.
const DOWNLOAD_TIMEOUT: Duration = Duration::from_secs(600);

/// A client of one aggregator.
#[derive(Debug, Clone)]
pub struct Client {
    base: String,
    token: Option<Secret>,
    http: reqwest::Client,
}

/// A question about samples; fields as in the API, absent where `None` or empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Query {
    /// Glob over the dotted name, or `re:` and an expression.
    pub metric_pattern: String,
    /// Start: RFC 3339, Unix ms, `-1h`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_time: Option<String>,
    /// End.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_time: Option<String>,
    /// `avg`, `rate`, `p99`, ...
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aggregation: Option<String>,
    /// Width of a bucket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<String>,
    /// Tag filters, `name:value`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tag: Vec<String>,
    /// Tags to group by, comma-separated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_by: Option<String>,
    /// Series at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// The answer to a [`Query`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QueryAnswer {
    /// Series, ordered by name and tags.
    pub series: Vec<QuerySeries>,
    /// There were more series than the limit.
    pub truncated: bool,
}

/// One series of an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QuerySeries {
    /// Name.
    pub metric_id: String,
    /// `counter`, `gauge`, `histogram`.
    pub metric_type: String,
    /// Tags.
    pub tags: BTreeMap<String, String>,
    /// Unix ms and value; a bucket without samples, or a value that is no number, is `null`.
    pub points: Vec<(i64, Value)>,
}

impl Client {
    /// A client of the aggregator at `base` (`http://127.0.0.1:8080`), with a token where one is needed.
    ///
    /// # Errors
    /// A `base` that is no address, or TLS that cannot be set up.
    pub fn new(base: &str, token: Option<&str>) -> Result<Self, ClientError> {
        Self::build(base, token, reqwest::Client::builder())
    }

    /// The same, where the aggregator's certificate is of a CA that this system does not know: its own, for one
    /// (`pki/ca.pem` in its directory). `ca` is one or more certificates in PEM.
    ///
    /// # Errors
    /// As [`Client::new`]; a CA that is not PEM.
    pub fn with_ca(base: &str, token: Option<&str>, ca: &[u8]) -> Result<Self, ClientError> {
        let certificates = reqwest::Certificate::from_pem_bundle(ca).map_err(|e| ClientError::Authority(crate::telemetry::chain(&e)))?;
        if certificates.is_empty() {
            return Err(ClientError::Authority("there is no certificate in it".into()));
        }
        Self::build(base, token, reqwest::Client::builder().tls_certs_merge(certificates))
    }

    fn build(base: &str, token: Option<&str>, builder: reqwest::ClientBuilder) -> Result<Self, ClientError> {
        let address = |reason: String| ClientError::Address(base.to_owned(), reason);
        let url = reqwest::Url::parse(base).map_err(|e| address(e.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(address(format!("{:?} is neither http nor https", url.scheme())));
        }
        let built = builder.redirect(reqwest::redirect::Policy::none()).no_proxy().build();
        let http = built.map_err(|e| address(crate::telemetry::chain(&e)))?;
        Ok(Self { base: base.trim_end_matches('/').to_owned(), token: token.map(Secret::from), http })
    }

    /// Sends one request to `path` (below `/api/v1`) and returns its JSON.
    ///
    /// # Errors
    /// As every other method.
    pub async fn call(&self, method: Method, path: &str, query: &[(&str, &str)], body: Option<&Value>) -> Result<Value, ClientError> {
        let response = self.send(method, path, query, body, TIMEOUT).await?;
        let text = response.text().await.map_err(|e| self.broken(e))?;
        Ok(serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    /// Reads a long answer as it comes.
    async fn download(&self, path: &str, query: &[(&str, &str)], mut take: impl FnMut(&[u8]) -> std::io::Result<()>) -> Result<(), ClientError> {
        let mut response = self.send(Method::GET, path, query, None, DOWNLOAD_TIMEOUT).await?;
        while let Some(piece) = response.chunk().await.map_err(|e| self.broken(e))? {
            take(&piece).map_err(|e| ClientError::Written(e.to_string()))?;
        }
        Ok(())
    }

    /// Sends one request; an answer that is not a success is an error.
    async fn send(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&Value>,
        patience: Duration,
    ) -> Result<reqwest::Response, ClientError> {
        let mut url = reqwest::Url::parse(&format!("{}/api/v1{path}", self.base)).map_err(|e| ClientError::Unreachable(self.base.clone(), e.to_string()))?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let mut request = self.http.request(method, url).timeout(patience);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.expose());
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.map_err(|e| self.broken(e))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let text = response.text().await.map_err(|e| self.broken(e))?;
        let value: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
        let detail = value["detail"].as_str().map_or_else(|| text.chars().take(300).collect(), str::to_owned);
        Err(ClientError::Refused { status, detail, problem: value })
    }

    fn broken(&self, error: reqwest::Error) -> ClientError {
        ClientError::Unreachable(self.base.clone(), crate::telemetry::chain(&error.without_url()))
    }

    async fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Value, ClientError> {
        self.call(Method::GET, path, query, None).await
    }

    /// How the aggregator is.
    ///
    /// # Errors
    /// Not reachable, or refused.
    pub async fn status(&self) -> Result<Value, ClientError> {
        self.get("/status", &[]).await
    }

    /// Stores one value of a gauge, now.
    ///
    /// # Errors
    /// Not reachable, refused, or a name or tag that is not valid.
    pub async fn collect_metric(&self, metric_id: &str, value: f64, tags: &[(&str, &str)]) -> Result<(), ClientError> {
        let tags: BTreeMap<&str, &str> = tags.iter().copied().collect();
        let body = json!({"metrics": [{"metric_id": metric_id, "value": value, "tags": tags}]});
        let answer = self.call(Method::POST, "/metrics", &[], Some(&body)).await?;
        match answer["rejected"][0]["reason"].as_str() {
            Some(reason) => Err(ClientError::Refused { status: StatusCode::BAD_REQUEST, detail: reason.to_owned(), problem: Value::Null }),
            None => Ok(()),
        }
    }

    /// Samples, or buckets where the query has an aggregation.
    ///
    /// # Errors
    /// Not reachable, or a query that is not valid.
    pub async fn query_metrics(&self, query: &Query) -> Result<QueryAnswer, ClientError> {
        let body = serde_json::to_value(query).unwrap_or_default();
        let answer = self.call(Method::POST, "/query", &[], Some(&body)).await?;
        serde_json::from_value(answer).map_err(|e| ClientError::Answer(e.to_string()))
    }

    /// One value for each bucket of `interval` over the last `range` (`1h`).
    ///
    /// # Errors
    /// As [`Client::query_metrics`].
    pub async fn query_aggregated(&self, metric_pattern: &str, aggregation: &str, interval: &str, range: &str) -> Result<QueryAnswer, ClientError> {
        let own = |text: &str| Some(text.to_owned());
        let query = Query {
            metric_pattern: metric_pattern.to_owned(),
            start_time: Some(format!("-{range}")),
            aggregation: own(aggregation),
            interval: own(interval),
            ..Query::default()
        };
        self.query_metrics(&query).await
    }

    /// Events, newest first; filters as in the API.
    ///
    /// # Errors
    /// Not reachable, or a filter that is not valid.
    pub async fn events(&self, filters: &[(&str, &str)]) -> Result<Value, ClientError> {
        self.get("/events", filters).await
    }

    /// All hosts.
    ///
    /// # Errors
    /// Not reachable.
    pub async fn hosts(&self) -> Result<Value, ClientError> {
        self.get("/hosts", &[]).await
    }

    /// Declared losses; filters `host`, `class`, `limit`, `cursor`.
    ///
    /// # Errors
    /// Not reachable, or a filter that is not valid.
    pub async fn gaps(&self, filters: &[(&str, &str)]) -> Result<Value, ClientError> {
        self.get("/gaps", filters).await
    }

    /// Alerts; filters as in the API.
    ///
    /// # Errors
    /// Not reachable, or a filter that is not valid.
    pub async fn alerts(&self, filters: &[(&str, &str)]) -> Result<Value, ClientError> {
        self.get("/alerts", filters).await
    }

    /// Says that `by` takes care of an alert.
    ///
    /// # Errors
    /// Not reachable, not allowed, or an alert that does not fire.
    pub async fn acknowledge(&self, id: &str, by: &str, note: Option<&str>) -> Result<Value, ClientError> {
        self.call(Method::PUT, &format!("/alerts/{id}/acknowledge"), &[], Some(&json!({"by": by, "note": note}))).await
    }

    /// Adds an alert rule.
    ///
    /// # Errors
    /// Not reachable, not allowed, or a rule that is not valid: all that is wrong with it.
    pub async fn add_rule(&self, rule: &Value) -> Result<Value, ClientError> {
        self.call(Method::POST, "/alerts/rules", &[], Some(rule)).await
    }

    /// Enrolled agents.
    ///
    /// # Errors
    /// Not reachable.
    pub async fn agents(&self) -> Result<Value, ClientError> {
        self.get("/agents", &[]).await
    }

    /// Revokes a join token by its id.
    ///
    /// # Errors
    /// Not reachable, not allowed, or not there.
    pub async fn revoke_token(&self, id: &str) -> Result<Value, ClientError> {
        self.call(Method::DELETE, &format!("/enroll-tokens/{}", segment(id)), &[], None).await
    }

    /// Revokes an agent, by id or host name.
    ///
    /// # Errors
    /// Not reachable, not allowed, or not there.
    pub async fn revoke_agent(&self, wanted: &str) -> Result<Value, ClientError> {
        self.call(Method::POST, &format!("/agents/{}/revoke", segment(wanted)), &[], None).await
    }

    /// Takes a host out that is gone for good, with its keys.
    ///
    /// # Errors
    /// Not reachable, not allowed, not there, or it still delivers.
    pub async fn remove_host(&self, host: &str) -> Result<Value, ClientError> {
        self.call(Method::DELETE, &format!("/hosts/{}", segment(host)), &[], None).await
    }

    /// Has a host sample closely for some minutes: the sensors that are named, or all.
    ///
    /// # Errors
    /// Not reachable, not allowed, or not there.
    pub async fn enhance(&self, host: &str, minutes: u32, sensors: &[&str]) -> Result<Value, ClientError> {
        let body = json!({"minutes": minutes, "sensors": sensors});
        self.call(Method::POST, &format!("/hosts/{}/enhance", segment(host)), &[], Some(&body)).await
    }

    /// Ends that early.
    ///
    /// # Errors
    /// Not reachable, not allowed, or not there.
    pub async fn end_enhance(&self, host: &str) -> Result<Value, ClientError> {
        self.call(Method::DELETE, &format!("/hosts/{}/enhance", segment(host)), &[], None).await
    }

    /// How the CA and its replacement stand.
    ///
    /// # Errors
    /// Not reachable.
    pub async fn ca(&self) -> Result<Value, ClientError> {
        self.get("/ca", &[]).await
    }

    /// Takes a step in the replacement of the CA: `announce`, `issue`, `retire`, `rollback`.
    ///
    /// # Errors
    /// Not reachable, not allowed, or a step that cannot be taken now: why, and who holds it up.
    pub async fn ca_step(&self, step: &str, force: bool) -> Result<Value, ClientError> {
        self.call(Method::POST, &format!("/ca/{}", segment(step)), &[], Some(&json!({"force": force}))).await
    }

    /// Makes a join token that lives `ttl` (`1h`).
    ///
    /// # Errors
    /// Not reachable, or not allowed.
    pub async fn create_token(&self, uses: u32, ttl: &str) -> Result<Value, ClientError> {
        self.call(Method::POST, "/enroll-tokens", &[], Some(&json!({"uses": uses, "ttl": ttl}))).await
    }
}

/// Text as a part of a path.
fn segment(text: &str) -> String {
    text.bytes().map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Not an address.
    #[error("{0:?} is not the address of an aggregator: {1}. It looks like http://127.0.0.1:8080")]
    Address(String, String),
    /// Not a CA.
    #[error("the CA file is not usable: {0}")]
    Authority(String),
    /// No answer.
    #[error("cannot reach the aggregator at {0}: {1}")]
    Unreachable(String, String),
    /// It said no.
    #[error("{status}: {detail}")]
    Refused {
        /// HTTP status.
        status: StatusCode,
        /// Why, in its words.
        detail: String,
        /// The document that says so (RFC 9457), where it is one.
        problem: Value,
    },
    /// What came could not be passed on.
    #[error("cannot write the answer: {0}")]
    Written(String),
    /// It said something else.
    #[error("the aggregator's answer is not understood: {0}")]
    Answer(String),
}
