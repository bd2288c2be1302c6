//! Mail to one recipient through the operator's mail server: one connection a mail, TLS 1.3 where TLS is asked for and never
//! less than asked. Never queues and never retries: it says whether a retry makes sense. Called by the outbox job.

use std::sync::Arc;
use std::time::Duration;

use keyvigil_common::telemetry::chain;
use lettre::Message;
use lettre::message::{Mailbox, Mailboxes};
use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{AsyncSmtpConnection, Certificate, TlsParameters, TlsVersion};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::extension::ClientId;
use lettre::transport::smtp::response::Response;
use tokio::net::TcpStream;

use super::wording::Wording;
use super::{Delivered, Notification, Notifier, SendError, SmtpConfig, TlsMode};
use crate::alert::Priority;

mod message;
mod plain;

const GOODBYE: Duration = Duration::from_secs(2);

/// A recipient of mail.
#[derive(Debug)]
pub struct Email {
    name: String,
    config: Arc<SmtpConfig>,
    from: Mailbox,
    /// The header names all, so that each sees who else knows.
    everyone: Mailboxes,
    recipient: Mailbox,
}

impl Email {
    /// A channel for each recipient.
    ///
    /// # Errors
    /// An address that is not one.
    pub fn for_each_recipient(config: &SmtpConfig) -> Result<Vec<Self>, String> {
        let address = |text: &String| text.parse::<Mailbox>().map_err(|e| format!("smtp: {text:?} is not an address: {e}"));
        let from = address(&config.from)?;
        let everyone = config.to.iter().map(address).collect::<Result<Vec<_>, _>>()?;
        let shared = Arc::new(config.clone());
        let channel = |recipient: &Mailbox| Self {
            name: format!("email:{}", recipient.email),
            config: Arc::clone(&shared),
            from: from.clone(),
            everyone: everyone.iter().cloned().collect(),
            recipient: recipient.clone(),
        };
        Ok(everyone.iter().map(channel).collect())
    }

    pub(super) fn min_priority(&self) -> Priority {
        self.config.min_priority
    }

    async fn deliver(&self, notification: &Notification) -> Result<(AsyncSmtpConnection, Delivered), SendError> {
        let words = Wording::of(notification, &self.config.dashboard_url);
        let mail = message::build(&words, notification, &self.from, &self.everyone, &self.recipient).map_err(|e| SendError::permanent(chain(&e)))?;
        let mut connection = self.connect().await?;
        let response = self.hand_over(&mut connection, &mail).await.map_err(|e| self.refused(&e))?;
        let reply = super::clean(&format!("{} {}", response.code(), response.first_line().unwrap_or_default()));
        Ok((connection, Delivered { reply }))
    }

    /// Command by command: the library's own way would wait for a goodbye before it tells of a refusal.
    async fn hand_over(&self, connection: &mut AsyncSmtpConnection, mail: &Message) -> Result<Response, Error> {
        connection.command(Mail::new(Some(self.from.email.clone()), Vec::new())).await?;
        connection.command(Rcpt::new(self.recipient.email.clone(), Vec::new())).await?;
        connection.command(Data).await?;
        connection.message(&mail.formatted()).await
    }

    /// Whatever fails before the mail itself is spoken of is the server's or the operator's, and may be put right within a day.
    async fn connect(&self) -> Result<AsyncSmtpConnection, SendError> {
        let (host, port) = (self.config.host.as_str(), self.config.effective_port());
        let failed = |what: &str, e: &dyn std::fmt::Display| SendError::retry(format!("mail server {host}:{port}: {what}: {e}"));
        let hello = if self.config.hello_name.is_empty() { ClientId::default() } else { ClientId::Domain(self.config.hello_name.clone()) };
        let mut connection = match self.config.tls {
            TlsMode::Tls => {
                let tls = self.tls().map_err(|e| failed("TLS", &e))?;
                AsyncSmtpConnection::connect_tokio1((host, port), None, &hello, Some(tls), None).await.map_err(|e| failed("cannot connect with TLS", &e))?
            }
            TlsMode::StartTls => {
                let tls = self.tls().map_err(|e| failed("TLS", &e))?;
                let tcp = TcpStream::connect((host, port)).await.map_err(|e| failed("cannot connect", &e))?;
                let plain = Box::new(plain::BeforeTls::new(tcp));
                let mut connection = AsyncSmtpConnection::connect_with_transport(plain, &hello).await.map_err(|e| failed("greeting", &e))?;
                connection.starttls(tls, &hello).await.map_err(|e| failed("STARTTLS", &e))?;
                connection
            }
            TlsMode::None => {
                let tcp = TcpStream::connect((host, port)).await.map_err(|e| failed("cannot connect", &e))?;
                if !tcp.peer_addr().is_ok_and(|peer| peer.ip().is_loopback()) {
                    return Err(failed("refused", &"smtp.tls is \"none\", and this is another host"));
                }
                AsyncSmtpConnection::connect_with_transport(Box::new(tcp), &hello).await.map_err(|e| failed("greeting", &e))?
            }
        };
        if !self.config.username.is_empty() {
            let login = Credentials::new(self.config.username.clone(), self.config.password.expose().to_owned());
            connection.auth(DEFAULT_MECHANISMS, &login).await.map_err(|e| failed("login", &e))?;
        }
        Ok(connection)
    }

    fn tls(&self) -> Result<TlsParameters, String> {
        let mut builder = TlsParameters::builder(self.config.host.clone()).set_min_tls_version(TlsVersion::Tlsv13);
        if !self.config.ca_file.is_empty() {
            let pem = std::fs::read(&self.config.ca_file).map_err(|e| format!("{}: {e}", self.config.ca_file))?;
            builder = builder.add_root_certificate(Certificate::from_pem(&pem).map_err(|e| format!("{}: {e}", self.config.ca_file))?);
        }
        builder.build().map_err(|e| chain(&e))
    }

    fn refused(&self, error: &Error) -> SendError {
        let text = format!("mail server {} does not take mail for {}: {error}", self.config.host, self.recipient.email);
        // That a login is needed (RFC 4954) says nothing about the mail.
        let login = error.status().is_some_and(|code| ["530", "534", "535", "538"].contains(&code.to_string().as_str()));
        if error.is_permanent() && !login { SendError::permanent(text) } else { SendError::retry(text) }
    }
}

impl Notifier for Email {
    fn name(&self) -> &str {
        &self.name
    }

    async fn send(&self, notification: &Notification) -> Result<Delivered, SendError> {
        let Ok(result) = tokio::time::timeout(self.config.timeout.0, self.deliver(notification)).await else {
            return Err(SendError::retry(format!("mail server {}: no answer within {}", self.config.host, self.config.timeout)));
        };
        let (mut connection, delivered) = result?;
        // The mail is taken, whether or not the server says goodbye: to send it again would be wrong.
        let _ = tokio::time::timeout(GOODBYE.min(self.config.timeout.0), connection.quit()).await;
        Ok(delivered)
    }
}
