//! How TLS is begun in protocols that begin without it. Says no more than is needed to be told to go ahead. Called by the probe.

use super::handshake::Outcome;
use super::wire::{Hush, Wire};
use crate::parse::greeting::{self, Dialect};
use std::time::Duration;

/// Lines of one answer.
const LINES_MAX: usize = 200;

/// Begins TLS.
///
/// # Errors
/// Why it does not come to that.
pub(super) fn begin(wire: &mut Wire, dialect: Dialect, name: Option<&str>) -> Result<(), Outcome> {
    let told = match dialect {
        Dialect::Smtp => smtp(wire),
        Dialect::Ftp => coded(wire).and_then(|_| ftp(wire)),
        Dialect::Nntp => asked(wire, "STARTTLS\r\n", |line| line.starts_with("382"), |_| false),
        Dialect::Imap => asked(wire, "a STARTTLS\r\n", |line| line.starts_with("a OK"), |line| line.starts_with('*')),
        Dialect::Pop3 => asked(wire, "STLS\r\n", |line| line.starts_with("+OK"), |_| false),
        Dialect::Sieve => sieve(wire),
        Dialect::Mysql => mysql(wire),
        Dialect::Postgres => postgres(wire),
        Dialect::Ldap => ldap(wire),
        Dialect::Xmpp => xmpp(wire, name.unwrap_or("localhost")),
    };
    let what = format!("{dialect:?}").to_lowercase();
    match told {
        Ok(true) => Ok(()),
        Ok(false) => Err(Outcome::NotTls(format!("speaks {what} without TLS"))),
        Err(hush) => Err(Outcome::Silent(format!("{} when asked for TLS in {what}", hush.words()))),
    }
}

/// After the greeting: asks, passes over what `is_aside`, and whether the answer agrees.
fn asked(wire: &mut Wire, ask: &str, agrees: impl Fn(&str) -> bool, is_aside: impl Fn(&str) -> bool) -> Result<bool, Hush> {
    wire.line()?;
    wire.say(ask.as_bytes())?;
    for _ in 0..LINES_MAX {
        let line = wire.line()?;
        if !is_aside(&line) {
            return Ok(agrees(&line));
        }
    }
    Err(Hush::Endless)
}

/// An answer of SMTP or FTP, which may have several lines: `250-PIPELINING`, `250 STARTTLS`.
fn coded(wire: &mut Wire) -> Result<Vec<String>, Hush> {
    let mut lines = Vec::new();
    for _ in 0..LINES_MAX {
        let line = wire.line()?;
        let goes_on = line.as_bytes().get(3) == Some(&b'-') || !line.as_bytes().first().is_some_and(u8::is_ascii_digit);
        lines.push(line);
        if !goes_on {
            return Ok(lines);
        }
    }
    Err(Hush::Endless)
}

fn begins(lines: &[String], code: &str) -> bool {
    lines.last().is_some_and(|line| line.starts_with(code))
}

fn smtp(wire: &mut Wire) -> Result<bool, Hush> {
    coded(wire)?;
    wire.say(b"EHLO localhost\r\n")?;
    let features = coded(wire)?;
    if !begins(&features, "250") {
        // File transfer greets in the same way.
        return ftp(wire);
    }
    if !features.iter().any(|line| line.get(4..).is_some_and(|feature| feature.trim().eq_ignore_ascii_case("STARTTLS"))) {
        return Ok(false);
    }
    wire.say(b"STARTTLS\r\n")?;
    Ok(begins(&coded(wire)?, "220"))
}

fn ftp(wire: &mut Wire) -> Result<bool, Hush> {
    wire.say(b"AUTH TLS\r\n")?;
    Ok(begins(&coded(wire)?, "234"))
}

fn sieve(wire: &mut Wire) -> Result<bool, Hush> {
    let ok = |wire: &mut Wire| {
        for _ in 0..LINES_MAX {
            let line = wire.line()?.to_ascii_uppercase();
            if ["OK", "NO", "BYE"].iter().any(|word| line.starts_with(word)) {
                return Ok(line.starts_with("OK"));
            }
        }
        Err(Hush::Endless)
    };
    if !ok(wire)? {
        return Ok(false);
    }
    wire.say(b"STARTTLS\r\n")?;
    ok(wire)
}

fn mysql(wire: &mut Wire) -> Result<bool, Hush> {
    let offers = loop {
        match greeting::mysql_offers_tls(&wire.inbox) {
            Some(offers) => break offers,
            None => wire.hear(Duration::MAX)?,
        }
    };
    wire.take();
    if offers {
        wire.say(&greeting::mysql_asks_tls())?;
    }
    Ok(offers)
}

fn postgres(wire: &mut Wire) -> Result<bool, Hush> {
    wire.say(&greeting::POSTGRES_ASKS_TLS)?;
    while wire.inbox.is_empty() {
        wire.hear(Duration::MAX)?;
    }
    Ok(wire.take() == b"S")
}

fn ldap(wire: &mut Wire) -> Result<bool, Hush> {
    wire.say(greeting::LDAP_ASKS_TLS)?;
    loop {
        wire.hear(Duration::MAX)?;
        if let Some(agrees) = greeting::ldap_agrees(&wire.inbox) {
            wire.take();
            return Ok(agrees);
        }
        if wire.inbox.first() != Some(&0x30) {
            return Ok(false);
        }
    }
}

fn xmpp(wire: &mut Wire, domain: &str) -> Result<bool, Hush> {
    let stream = format!("<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' to='{domain}' version='1.0'>");
    wire.say(stream.as_bytes())?;
    let has = |wire: &Wire, text: &str| wire.inbox.windows(text.len()).any(|part| part == text.as_bytes());
    while !has(wire, "</stream:features>") {
        if has(wire, "</stream:stream>") || wire.inbox.first().is_some_and(|first| *first != b'<') {
            return Ok(false);
        }
        wire.hear(Duration::MAX)?;
    }
    if !has(wire, "urn:ietf:params:xml:ns:xmpp-tls") {
        return Ok(false);
    }
    wire.take();
    wire.say(b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")?;
    while !has(wire, ">") {
        wire.hear(Duration::MAX)?;
    }
    let agrees = has(wire, "<proceed");
    wire.take();
    Ok(agrees)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use keyvigil_common::clock::SystemClock;

    /// What comes of it where the server hears, and then says, these; all that it said beyond is left unread.
    fn told(dialect: Dialect, talk: Vec<(Vec<u8>, Vec<u8>)>) -> Result<(), String> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let mut stream = listener.accept().unwrap().0;
            for (hear, say) in talk {
                let mut heard = vec![0; hear.len()];
                stream.read_exact(&mut heard).unwrap();
                assert_eq!(heard, hear, "{}", String::from_utf8_lossy(&heard));
                stream.write_all(&say).unwrap();
            }
        });
        let mut wire = Wire::connect(to, &SystemClock::shared(), Duration::from_secs(20)).unwrap();
        let told = begin(&mut wire, dialect, Some("chat.example.org")).map_err(|outcome| match outcome {
            Outcome::NotTls(why) | Outcome::Silent(why) => why,
            other => panic!("{other:?}"),
        });
        drop(wire);
        server.join().unwrap();
        told
    }

    fn mysql(capabilities: u8) -> Vec<u8> {
        let mut packet = b"\x4a\x00\x00\x00\x0a8.0.36\x00".to_vec();
        packet.extend([1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0xff, capabilities]);
        packet.resize(4 + 0x4a, 0);
        packet
    }

    #[test]
    fn protocols_of_bytes_agree_on_tls_or_say_that_they_have_none() {
        let ssl = greeting::POSTGRES_ASKS_TLS.to_vec();
        assert_eq!(told(Dialect::Postgres, vec![(ssl.clone(), b"S".to_vec())]), Ok(()));
        assert_eq!(told(Dialect::Postgres, vec![(ssl.clone(), b"N".to_vec())]), Err("speaks postgres without TLS".into()));
        assert_eq!(told(Dialect::Postgres, vec![(ssl, Vec::new())]), Err("closes the connection when asked for TLS in postgres".into()));
        assert_eq!(told(Dialect::Mysql, vec![(Vec::new(), mysql(0xff)), (greeting::mysql_asks_tls(), Vec::new())]), Ok(()));
        assert_eq!(told(Dialect::Mysql, vec![(Vec::new(), mysql(0xf7))]), Err("speaks mysql without TLS".into()));
        let ldap = |code| b"\x30\x0c\x02\x01\x01\x78\x07\x0a\x01".iter().copied().chain([code, 4, 0, 4, 0]).collect::<Vec<u8>>();
        assert_eq!(told(Dialect::Ldap, vec![(greeting::LDAP_ASKS_TLS.to_vec(), ldap(0))]), Ok(()));
        assert!(told(Dialect::Ldap, vec![(greeting::LDAP_ASKS_TLS.to_vec(), ldap(2))]).is_err());
    }

    #[test]
    fn a_chat_server_is_asked_for_the_name_that_is_wanted() {
        let stream = "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' to='chat.example.org' version='1.0'>";
        let features = |what: &str| format!("<?xml version='1.0'?><stream:stream id='1'><stream:features>{what}</stream:features>").into_bytes();
        let starttls = "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";
        let proceed = b"<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>".to_vec();
        let talk = vec![(stream.into(), features(starttls)), (starttls.into(), proceed)];
        assert_eq!(told(Dialect::Xmpp, talk), Ok(()));
        assert_eq!(told(Dialect::Xmpp, vec![(stream.into(), features("<bind/>"))]), Err("speaks xmpp without TLS".into()));
    }

    #[test]
    fn a_line_or_an_answer_without_an_end_is_given_up() {
        assert!(told(Dialect::Imap, vec![(Vec::new(), vec![b'x'; 20_000])]).is_err());
        assert!(told(Dialect::Smtp, vec![(Vec::new(), b"220-more\r\n".repeat(1_000))]).is_err_and(|why| why.contains("without an end")));
    }
}
