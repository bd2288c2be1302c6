//! Parameters of a request: from the query string, a form, or a JSON object. Unknown ones are refused by name.

use std::str::FromStr;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use serde_json::Value;

use super::problem::{Problem, shown};
use crate::query::time;

/// What a request's path names: a key, a host, an alert.
pub(super) struct Named(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let name = axum::extract::Path::<String>::from_request_parts(parts, state).await;
        name.map(|name| Self(name.0)).map_err(|e| Problem::new(e.status(), format!("the path names nothing: {}", e.body_text())))
    }
}

/// Names and values, in order.
#[derive(Debug, Default)]
pub(super) struct Params(Vec<(String, String)>);

impl Params {
    pub(super) fn from_query(text: &str) -> Result<Self, Problem> {
        let pairs: Vec<(String, String)> = axum::extract::Query::try_from_uri(&format!("/?{text}").parse().map_err(|_| bad("the query string is not valid"))?)
            .map_err(|e| bad(&e.to_string()))?
            .0;
        Ok(Self(pairs))
    }

    pub(super) fn extend_from_body(&mut self, headers: &HeaderMap, body: &[u8]) -> Result<(), Problem> {
        let form = headers.get(header::CONTENT_TYPE).is_some_and(|v| v.as_bytes().starts_with(b"application/x-www-form-urlencoded"));
        if form {
            let text = std::str::from_utf8(body).map_err(|_| bad("the form is not UTF-8"))?;
            self.0.extend(Self::from_query(text)?.0);
            return Ok(());
        }
        let object: serde_json::Map<String, Value> = serde_json::from_slice(body).map_err(|e| bad(&format!("the body is not a JSON object: {e}")))?;
        for (name, value) in object {
            match value {
                Value::Null => {}
                Value::Array(items) => self.0.extend(items.iter().map(|item| (name.clone(), text(item)))),
                other => self.0.push((name, text(&other))),
            }
        }
        Ok(())
    }

    /// Refuses names that are not in `known`.
    pub(super) fn only(&self, known: &[&str]) -> Result<(), Problem> {
        let Some((name, _)) = self.0.iter().find(|(name, _)| !known.contains(&name.as_str())) else { return Ok(()) };
        let name = shown(name);
        Err(bad(&match known {
            [] => format!("parameter {name:?} is not known here, where there are none"),
            _ => format!("parameter {name:?} is not known here; known are: {}", known.join(" ")),
        }))
    }

    /// Refuses one that can have only one value and has two: of two wishes none is dropped unheard.
    pub(super) fn once(&self, names: &[&str]) -> Result<(), Problem> {
        match names.iter().find(|name| self.0.iter().filter(|(n, v)| n == *name && !v.is_empty()).count() > 1) {
            Some(name) => Err(bad(&format!("parameter {name} stands here more than once, and takes one value"))),
            None => Ok(()),
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().rfind(|(n, v)| n == name && !v.is_empty()).map(|(_, v)| v.as_str())
    }

    pub(super) fn required(&self, name: &str) -> Result<&str, Problem> {
        self.get(name).ok_or_else(|| bad(&format!("parameter {name} is missing")))
    }

    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(n, v)| n == name && !v.is_empty()).map(|(_, v)| v.as_str())
    }

    /// Values of a comma-separated list.
    pub(super) fn list(&self, name: &str) -> Vec<String> {
        self.all(name).flat_map(|v| v.split(',')).map(|v| v.trim().to_owned()).filter(|v| !v.is_empty()).collect()
    }

    pub(super) fn parse<T: FromStr<Err = String>>(&self, name: &str) -> Result<Option<T>, Problem> {
        self.get(name).map(|text| text.parse().map_err(|e: String| bad(&format!("{name}: {e}")))).transpose()
    }

    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>, Problem> {
        match self.get(name) {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(_) => Err(bad(&format!("{name} must be true or false"))),
        }
    }

    /// An instant: RFC 3339, Unix ms, or a length of time before or after `now_ms`.
    pub(super) fn instant(&self, name: &str, now_ms: i64) -> Result<Option<i64>, Problem> {
        let parse = |text| time::parse(text, now_ms).map_err(|e| bad(&format!("{name}: {e}")));
        self.get(name).map(parse).transpose()
    }

    pub(super) fn number(&self, name: &str, default: usize, max: usize) -> Result<usize, Problem> {
        match self.get(name).map(str::parse) {
            None => Ok(default),
            Some(Ok(n)) if (1..=max).contains(&n) => Ok(n),
            Some(_) => Err(bad(&format!("{name} must be a whole number from 1 to {max}"))),
        }
    }
}

/// Of a route that takes no parameters.
#[derive(Debug)]
pub(super) struct NoParams;

impl<S: Sync> FromRequestParts<S> for NoParams {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Params::from_query(parts.uri.query().unwrap_or_default())?.only(&[]).map(|()| Self)
    }
}

fn bad(detail: &str) -> Problem {
    Problem::bad_request(detail)
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
