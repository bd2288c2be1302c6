//! What a server says of itself before, or after, it is asked for TLS: which protocol it speaks, and whether it agrees. Called by
//! the sensor of served certificates. Formats: RFC 3207 (SMTP), 4217 (FTP), 2595 (IMAP, POP3), 4642 (NNTP), 5804 (Sieve), 4511
//! (LDAP), 6120 (XMPP); PostgreSQL's and MySQL's own documentation.

use super::der::{INTEGER, Reader};

/// A protocol in which TLS begins by agreement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    /// Mail is handed in.
    Smtp,
    /// File transfer.
    Ftp,
    /// Mail is read.
    Imap,
    /// Mail is fetched.
    Pop3,
    /// News.
    Nntp,
    /// Mail filters.
    Sieve,
    /// MySQL and MariaDB.
    Mysql,
    /// PostgreSQL and what speaks like it.
    Postgres,
    /// Directories.
    Ldap,
    /// Messages.
    Xmpp,
}

impl Dialect {
    /// Whether the server speaks before it is asked.
    #[must_use]
    pub fn speaks_first(self) -> bool {
        !matches!(self, Self::Postgres | Self::Ldap | Self::Xmpp)
    }
}

/// What a server that speaks first speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Greeting {
    /// Too little to tell.
    More,
    /// One of those that may begin TLS.
    Known(Dialect),
    /// Something else, in words.
    Other(String),
}

/// Reads the first bytes of a server that speaks first. `port` decides where two protocols greet alike.
#[must_use]
pub fn greeting(bytes: &[u8], port: u16) -> Greeting {
    // A packet's length and number, then the version of the protocol.
    if let [_, _, 0, 0, version, ..] = bytes
        && matches!(version, 9 | 10 | 0xff)
    {
        return Greeting::Known(Dialect::Mysql);
    }
    let Some(end) = bytes.iter().position(|b| *b == b'\n') else {
        let may_go_on = bytes.len() < 512 && bytes.iter().all(|b| !b.is_ascii_control() || *b == b'\r');
        let may_be_mysql = bytes.len() < 5 && bytes.get(2).is_none_or(|b| *b == 0);
        return if may_go_on || may_be_mysql { Greeting::More } else { Greeting::Other("something that is not known here".into()) };
    };
    let line = String::from_utf8_lossy(&bytes[..end.min(200)]);
    let upper = line.to_ascii_uppercase();
    let known = match upper.as_bytes() {
        [b'2', b'2', b'0', b' ' | b'-', ..] if port == 21 || upper.contains("FTP") && !upper.contains("SMTP") => Dialect::Ftp,
        [b'2', b'2', b'0', b' ' | b'-', ..] => Dialect::Smtp,
        [b'2', b'0', b'0' | b'1', b' ', ..] => Dialect::Nntp,
        [b'*', b' ', b'O', b'K', ..] | [b'*', b' ', b'P', b'R', b'E', b'A', b'U', b'T', b'H', ..] => Dialect::Imap,
        [b'+', b'O', b'K', ..] => Dialect::Pop3,
        [b'"', ..] if upper.starts_with("\"IMPLEMENTATION\"") => Dialect::Sieve,
        [b'S', b'S', b'H', b'-', ..] => return Greeting::Other("SSH".into()),
        _ => return Greeting::Other(format!("greets with {:?}", line.trim_end().chars().take(40).collect::<String>())),
    };
    Greeting::Known(known)
}

/// Whether a MySQL server that greets so can do TLS; `None` where the packet is cut short.
#[must_use]
pub fn mysql_offers_tls(packet: &[u8]) -> Option<bool> {
    const CLIENT_SSL: u8 = 0x08;
    let &[low, middle, high, _, version, ..] = packet else { return None };
    if version != 10 {
        return Some(false);
    }
    let length = usize::from(low) | usize::from(middle) << 8 | usize::from(high) << 16;
    let body = packet.get(4..4 + length)?;
    // Version, its text, a zero; thread, first part of the salt, a zero; then the capabilities, low half first.
    let text = body.get(1..)?.iter().position(|b| *b == 0)?;
    Some(body.get(1 + text + 1 + 4 + 8 + 1 + 1).is_some_and(|high| high & CLIENT_SSL != 0))
}

/// What MySQL's client says to begin TLS: that it can, the largest packet, a character set, nothing.
#[must_use]
pub fn mysql_asks_tls() -> Vec<u8> {
    // CLIENT_LONG_PASSWORD, CLIENT_PROTOCOL_41, CLIENT_SSL, CLIENT_SECURE_CONNECTION; latin1.
    let mut packet = vec![32, 0, 0, 1, 0x01, 0x8a, 0, 0, 0, 0, 0, 1, 8];
    packet.resize(4 + 32, 0);
    packet
}

/// What PostgreSQL's client says to begin TLS.
pub const POSTGRES_ASKS_TLS: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// What an LDAP client says to begin TLS: an extended request with the identifier of StartTLS.
pub const LDAP_ASKS_TLS: &[u8] = b"\x30\x1d\x02\x01\x01\x77\x18\x80\x161.3.6.1.4.1.1466.20037";

/// Whether an LDAP server agrees; `None` where the message is cut short or is none.
#[must_use]
pub fn ldap_agrees(message: &[u8]) -> Option<bool> {
    /// `ExtendedResponse`.
    const RESPONSE: u8 = 0x78;
    let mut message = Reader::new(message).sequence()?;
    message.take(INTEGER)?;
    let code = Reader::new(message.take(RESPONSE)?).take(0x0a)?;
    Some(code == [0])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn servers_are_told_by_how_they_greet() {
        for (text, port, expected) in [
            ("220 mail.example.org ESMTP Postfix\r\n", 2525, Greeting::Known(Dialect::Smtp)),
            ("220-first line\r\n", 25, Greeting::Known(Dialect::Smtp)),
            ("220 (vsFTPd 3.0.3)\r\n", 2121, Greeting::Known(Dialect::Ftp)),
            ("220 ready\r\n", 21, Greeting::Known(Dialect::Ftp)),
            ("* OK [CAPABILITY IMAP4rev1 STARTTLS] Dovecot ready.\r\n", 143, Greeting::Known(Dialect::Imap)),
            ("+OK Dovecot ready.\r\n", 110, Greeting::Known(Dialect::Pop3)),
            ("200 news.example.org\r\n", 119, Greeting::Known(Dialect::Nntp)),
            ("\"IMPLEMENTATION\" \"Dovecot Pigeonhole\"\r\n", 4190, Greeting::Known(Dialect::Sieve)),
            ("SSH-2.0-OpenSSH_9.2p1\r\n", 22, Greeting::Other("SSH".into())),
            ("220 mail", 25, Greeting::More),
        ] {
            assert_eq!(greeting(text.as_bytes(), port), expected, "{text}");
        }
        assert!(matches!(greeting(b"RFB 003.008\n", 5900), Greeting::Other(_)));
        assert!(matches!(greeting(&[0x16, 3, 1, 9, 9, 9], 1), Greeting::Other(_)));
    }

    #[test]
    fn mysql_says_whether_it_can() {
        let mut packet = b"\x4a\x00\x00\x00\x0a8.0.36\x00".to_vec();
        packet.extend([1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0xff, 0xff]);
        packet.resize(4 + 0x4a, 0);
        assert_eq!(greeting(&packet, 3306), Greeting::Known(Dialect::Mysql));
        assert_eq!(mysql_offers_tls(&packet), Some(true));
        packet[4 + 1 + 7 + 4 + 8 + 1 + 1] = 0xf7;
        assert_eq!(mysql_offers_tls(&packet), Some(false));
        assert_eq!(mysql_offers_tls(&packet[..20]), None);
        assert_eq!(mysql_asks_tls().len(), 36);
    }

    #[test]
    fn a_directory_agrees_or_not() {
        assert_eq!(ldap_agrees(b"\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x00\x04\x00\x04\x00"), Some(true));
        assert_eq!(ldap_agrees(b"\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x02\x04\x00\x04\x00"), Some(false));
        assert_eq!(ldap_agrees(b"\x30\x0c\x02\x01"), None);
        assert_eq!((LDAP_ASKS_TLS.len(), LDAP_ASKS_TLS[1], LDAP_ASKS_TLS[6]), (31, 29, 24));
    }

    proptest! {
        #[test]
        fn no_input_panics(bytes in proptest::collection::vec(any::<u8>(), 0..100), port in any::<u16>()) {
            let _ = (greeting(&bytes, port), mysql_offers_tls(&bytes), ldap_agrees(&bytes));
        }
    }
}
