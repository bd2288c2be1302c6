//! The sections `[smtp]` and `[slack]` of the aggregator's configuration. A section without its address is off. Checks all
//! at once and without a network; the CA file is the one file it looks for.

use std::net::IpAddr;

use keyvigil_common::config::{Period, Secret};
use lettre::message::Mailbox;
use serde::{Deserialize, Serialize};

use crate::alert::Priority;

const TIMEOUT_MAX_MS: i64 = 120_000;

/// How the way to the mail server is protected. TLS is 1.3, and never optional where it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TlsMode {
    /// Begins plain and is upgraded before anything is said; port 587.
    StartTls,
    /// TLS from the first byte; port 465.
    Tls,
    /// None: for a mail server on this host only; port 25.
    None,
}

/// `[smtp]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SmtpConfig {
    /// Mail server. Empty: no mail is sent.
    pub host: String,
    /// Its port; 0: the usual one of `tls`.
    pub port: u16,
    /// Empty: no login.
    pub username: String,
    /// Its password.
    pub password: Secret,
    /// Sender, `Keyvigil <keyvigil@example.org>`.
    pub from: String,
    /// Recipients.
    pub to: Vec<String>,
    /// `starttls`, `tls` or `none`.
    pub tls: TlsMode,
    /// PEM file with CA certificates that are trusted beside those of the system. Read for each mail, so that it may change.
    pub ca_file: String,
    /// Whom the server sees greeting; empty: the name of this host.
    pub hello_name: String,
    /// Alerts that matter less are not sent.
    pub min_priority: Priority,
    /// Address of the dashboard, for links.
    pub dashboard_url: String,
    /// For one whole mail.
    pub timeout: Period,
}

impl Default for SmtpConfig {
    fn default() -> Self {
        Self {
            host: String::new(),
            port: 0,
            username: String::new(),
            password: Secret::default(),
            from: String::new(),
            to: Vec::new(),
            tls: TlsMode::StartTls,
            ca_file: String::new(),
            hello_name: String::new(),
            min_priority: Priority::Info,
            dashboard_url: String::new(),
            timeout: Period::seconds(30),
        }
    }
}

impl SmtpConfig {
    /// Whether mail is sent.
    #[must_use]
    pub fn is_on(&self) -> bool {
        !self.host.is_empty()
    }

    /// The port to connect to.
    #[must_use]
    pub fn effective_port(&self) -> u16 {
        match (self.port, self.tls) {
            (0, TlsMode::StartTls) => 587,
            (0, TlsMode::Tls) => 465,
            (0, TlsMode::None) => 25,
            (port, _) => port,
        }
    }

    /// All that is wrong with it.
    #[must_use]
    pub fn check(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if !self.is_on() {
            return faults;
        }
        if self.host.chars().any(|c| c.is_control() || c.is_whitespace() || c == '/' || c == '@') {
            faults.push(format!("smtp.host: {:?} is not the name of a host: write it without scheme, port and spaces", self.host));
        }
        if self.hello_name.chars().any(|c| !(c.is_ascii_alphanumeric() || ".-_".contains(c))) {
            faults.push(format!("smtp.hello_name: {:?} is not the name of a host", self.hello_name));
        }
        check_address("smtp.from", &self.from, &mut faults);
        if self.to.is_empty() {
            faults.push("smtp.to: is missing: write who is to hear of alerts".into());
        }
        self.to.iter().for_each(|to| check_address("smtp.to", to, &mut faults));
        if self.tls == TlsMode::None && !is_loopback(&self.host) {
            faults.push(format!("smtp.tls: \"none\" is for a mail server on this host, and {:?} is another: write \"starttls\" or \"tls\"", self.host));
        }
        if self.username.is_empty() != self.password.is_empty() {
            faults.push("smtp.username: a login has a username and a password: write both or neither".into());
        }
        if !self.ca_file.is_empty()
            && let Err(e) = std::fs::metadata(&self.ca_file)
        {
            faults.push(format!("smtp.ca_file: {}: {e}", self.ca_file));
        }
        check_common("smtp", &self.dashboard_url, self.timeout, &mut faults);
        faults
    }
}

/// `[slack]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SlackConfig {
    /// Address of an incoming webhook, which is a secret: who has it can write. Empty: nothing is sent.
    pub webhook_url: Secret,
    /// Alerts that matter less are not sent.
    pub min_priority: Priority,
    /// Address of the dashboard, for links.
    pub dashboard_url: String,
    /// For one whole request.
    pub timeout: Period,
}

impl Default for SlackConfig {
    fn default() -> Self {
        Self { webhook_url: Secret::default(), min_priority: Priority::Info, dashboard_url: String::new(), timeout: Period::seconds(10) }
    }
}

impl SlackConfig {
    /// Whether messages are sent.
    #[must_use]
    pub fn is_on(&self) -> bool {
        !self.webhook_url.is_empty()
    }

    /// All that is wrong with it. The address itself is never repeated.
    #[must_use]
    pub fn check(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if !self.is_on() {
            return faults;
        }
        match reqwest::Url::parse(self.webhook_url.expose().trim()) {
            Err(e) => faults.push(format!("slack.webhook_url: is not an address: {e}")),
            Ok(url) => {
                let local = url.scheme() == "http" && url.host_str().is_some_and(is_loopback);
                if url.scheme() != "https" && !local {
                    faults.push("slack.webhook_url: must begin with https://".into());
                }
                if !url.username().is_empty() || url.password().is_some() {
                    faults.push("slack.webhook_url: must not hold a username or password".into());
                }
            }
        }
        check_common("slack", &self.dashboard_url, self.timeout, &mut faults);
        faults
    }
}

fn check_address(key: &str, text: &str, faults: &mut Vec<String>) {
    match text.parse::<Mailbox>() {
        Err(e) => faults.push(format!("{key}: {text:?} is not an address ({e}): write ops@example.org")),
        // Few servers take others (RFC 6531).
        Ok(mailbox) if !mailbox.email.to_string().is_ascii() => faults.push(format!("{key}: {text:?}: write the address in ASCII")),
        Ok(_) => {}
    }
}

fn check_common(section: &str, dashboard_url: &str, timeout: Period, faults: &mut Vec<String>) {
    let known = dashboard_url.is_empty() || reqwest::Url::parse(dashboard_url).is_ok_and(|url| ["http", "https"].contains(&url.scheme()));
    if !known || dashboard_url.chars().any(|c| c.is_control() || c.is_whitespace()) || dashboard_url.len() > 1_024 {
        faults.push(format!("{section}.dashboard_url: write an address that begins with https:// or http://"));
    }
    if !(1..=TIMEOUT_MAX_MS).contains(&timeout.as_ms()) {
        faults.push(format!("{section}.timeout: write a length of time up to 2m"));
    }
}

/// Whether `host` can only mean this host.
fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_configured_is_off_and_has_no_faults() {
        assert!(SmtpConfig::default().check().is_empty() && SlackConfig::default().check().is_empty());
        assert!(!SmtpConfig::default().is_on() && !SlackConfig::default().is_on());
    }

    #[test]
    fn mail_goes_unprotected_to_this_host_only() {
        let config = |host: &str| SmtpConfig {
            host: host.into(),
            from: "a@example.org".into(),
            to: vec!["b@example.org".into()],
            tls: TlsMode::None,
            ..SmtpConfig::default()
        };
        for host in ["localhost", "127.0.0.1", "::1"] {
            assert_eq!(config(host).check(), Vec::<String>::new(), "{host}");
        }
        for host in ["mail.example.org", "10.0.0.1", "localhost.example.org"] {
            assert!(config(host).check().iter().any(|fault| fault.starts_with("smtp.tls: ")), "{host}");
        }
    }

    #[test]
    fn all_faults_are_told_at_once_and_the_webhook_address_in_none_of_them() {
        let smtp = SmtpConfig {
            host: "https://mail.example.org".into(),
            from: "nobody".into(),
            to: vec!["x@y\r\nBcc: z".into()],
            username: "u".into(),
            ca_file: "/does/not/exist".into(),
            dashboard_url: "javascript:x".into(),
            hello_name: "a\r\nMAIL".into(),
            timeout: Period::seconds(0),
            ..SmtpConfig::default()
        };
        assert_eq!(smtp.check().len(), 8, "{:#?}", smtp.check());
        let slack = SlackConfig { webhook_url: "http://hooks.example.org/services/T0SECRET".into(), ..SlackConfig::default() };
        assert_eq!(slack.check(), ["slack.webhook_url: must begin with https://"]);
        assert!(!format!("{slack:?} {}", serde_json::to_string(&slack).unwrap()).contains("SECRET"));
    }
}
