//! A server for tests that takes incoming webhooks as Slack does: it checks each message against Slack's published limits
//! (`rules.rs`) and can be told to answer otherwise. Ends with its handle.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;

mod rules;

pub use rules::check;

/// How the server answers one request.
#[derive(Debug, Clone)]
pub enum Answer {
    /// As Slack would: `ok`, or what is wrong with the message.
    Honest,
    /// With this status, these header lines and this body.
    Status(u16, &'static str, &'static str),
    /// With this status and a body that never ends, at some 1 MB a time.
    Endless(u16),
    /// Not at all, with the connection open.
    Hang,
}

#[derive(Debug, Default)]
struct Seen {
    messages: Vec<Value>,
    paths: Vec<String>,
    /// Connections that wait in vain.
    hung: Vec<TcpStream>,
    over: bool,
}

/// The server.
#[derive(Debug)]
pub struct SlackServer {
    port: u16,
    seen: Arc<Mutex<Seen>>,
}

impl SlackServer {
    /// Starts one that gives `answers` in order, and honest ones from then on.
    #[must_use]
    pub fn start(answers: Vec<Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (shared, mut answers) = (Arc::clone(&seen), answers.into_iter());
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if lock(&shared).over {
                    return;
                }
                // The other side may go at any time; a test sees that by what is missing.
                let _ = serve(stream, &shared, || answers.next().unwrap_or(Answer::Honest));
            }
        });
        Self { port, seen }
    }

    /// Address of a webhook; its path is a secret.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/services/T000/B000/S3CR3TPATH", self.port)
    }

    /// All messages so far, refused ones too.
    #[must_use]
    pub fn messages(&self) -> Vec<Value> {
        lock(&self.seen).messages.clone()
    }

    /// Paths that were asked for.
    #[must_use]
    pub fn paths(&self) -> Vec<String> {
        lock(&self.seen).paths.clone()
    }
}

impl Drop for SlackServer {
    fn drop(&mut self) {
        lock(&self.seen).over = true;
        // Wakes the thread.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(mut stream: TcpStream, seen: &Mutex<Seen>, answer: impl FnOnce() -> Answer) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let (mut first, mut length, mut json) = (String::new(), 0u64, false);
    reader.read_line(&mut first)?;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let line = line.trim().to_ascii_lowercase();
        match line.split_once(':') {
            Some(("content-length", value)) => length = value.trim().parse().unwrap_or(0),
            Some(("content-type", value)) => json = value.trim().starts_with("application/json"),
            Some(_) => {}
            None => break,
        }
    }
    let mut body = Vec::new();
    reader.take(length).read_to_end(&mut body)?;
    let message = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let verdict = if json && first.starts_with("POST ") { check(&message, body.len()) } else { Err("invalid_payload: not JSON by POST".to_owned()) };
    {
        let mut seen = lock(seen);
        seen.paths.push(first.split(' ').nth(1).unwrap_or_default().to_owned());
        seen.messages.push(message);
    }
    match (answer(), verdict) {
        (Answer::Honest, Ok(())) => respond(&mut stream, 200, "", "ok"),
        (Answer::Honest, Err(fault)) => respond(&mut stream, 400, "", &fault),
        (Answer::Status(status, headers, body), _) => respond(&mut stream, status, headers, body),
        (Answer::Endless(status), _) => endless(&mut stream, status),
        (Answer::Hang, _) => {
            lock(seen).hung.push(stream);
            Ok(())
        }
    }
}

fn respond(stream: &mut TcpStream, status: u16, headers: &str, body: &str) -> std::io::Result<()> {
    write!(stream, "HTTP/1.1 {status} Answer\r\nContent-Length: {}\r\nConnection: close\r\n{headers}\r\n{body}", body.len())
}

fn endless(stream: &mut TcpStream, status: u16) -> std::io::Result<()> {
    write!(stream, "HTTP/1.1 {status} Answer\r\nConnection: close\r\n\r\n")?;
    let block = vec![b'x'; 1 << 20];
    loop {
        stream.write_all(&block)?;
    }
}
