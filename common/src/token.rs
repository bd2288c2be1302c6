//! The join token: one string that carries where the aggregator is, how to recognise it, and a secret for one use.
//!
//! `kvj1_<host:port>_<pin>_<id>_<secret>_<check>`: pin = SHA-256 of the CA's SubjectPublicKeyInfo, id = 8 bytes, secret =
//! 20 bytes (160 bits), check = first 4 bytes of SHA-256 over all before it; all in hex. The address may hold no `_`.

use std::fmt;
use std::str::FromStr;

use zeroize::Zeroizing;

/// A parsed join token.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// `host:port` of the mTLS listener.
    pub address: String,
    /// SHA-256 of the CA key's SubjectPublicKeyInfo.
    pub pin: [u8; 32],
    /// Names the token in lists and logs.
    pub id: String,
    /// What the aggregator stores only the hash of.
    pub secret: Zeroizing<String>,
}

const PREFIX: &str = "kvj1";

impl JoinToken {
    /// A token with a new id and secret.
    #[must_use]
    pub fn generate(address: &str, pin: [u8; 32]) -> Self {
        Self { address: address.to_owned(), pin, id: crate::hex(&crate::random::<8>()), secret: Zeroizing::new(crate::hex(&crate::random::<20>())) }
    }

    /// What the aggregator keeps of the secret.
    #[must_use]
    pub fn secret_hash(secret: &str) -> String {
        crate::hex(&crate::sha256(format!("keyvigil join {secret}").as_bytes()))
    }

    /// The whole string. The only way to print a token: `Display` and `Debug` hide the secret.
    #[must_use]
    pub fn reveal(&self) -> Zeroizing<String> {
        let body = format!("{PREFIX}_{}_{}_{}_{}", self.address, crate::hex(&self.pin), self.id, *self.secret);
        let check = check(&body);
        Zeroizing::new(format!("{body}_{check}"))
    }
}

fn check(body: &str) -> String {
    crate::hex(&crate::sha256(body.as_bytes())[..4])
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinToken {{ address: {:?}, id: {:?}, secret: *** }}", self.address, self.id)
    }
}

impl FromStr for JoinToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        let parts: Vec<&str> = text.split('_').collect();
        let [prefix, address, pin, id, secret, given] = parts[..] else { return Err(TokenError::Shape) };
        if prefix != PREFIX {
            return Err(TokenError::Shape);
        }
        let body = &text[..text.len() - given.len() - 1];
        if check(body) != given {
            return Err(TokenError::Check);
        }
        let port_ok = address.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|p| p > 0));
        let pin = crate::unhex(pin).and_then(|b| <[u8; 32]>::try_from(b).ok());
        match pin {
            Some(pin) if port_ok => Ok(Self { address: address.into(), pin, id: id.into(), secret: Zeroizing::new(secret.to_owned()) }),
            _ => Err(TokenError::Shape),
        }
    }
}

/// Why a text is not a join token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not of the form.
    #[error("this is not a join token: it must be kvj1_<host:port>_<pin>_<id>_<secret>_<check>, as `keyvigil token create` prints it")]
    Shape,
    /// A typing or copying fault.
    #[error("the join token's check sum is wrong: a character is missing or changed; copy it again whole")]
    Check,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_returns_whole_and_a_changed_character_is_noticed() {
        let token = JoinToken::generate("agg.example.org:8443", [9; 32]);
        let text = token.reveal();
        assert_eq!(text.parse::<JoinToken>().unwrap(), token);
        assert!(!format!("{token:?}").contains(token.secret.as_str()));
        for at in 0..text.len() {
            let mut changed = text.to_string().into_bytes();
            changed[at] = if changed[at] == b'x' { b'y' } else { b'x' };
            assert!(String::from_utf8(changed).unwrap().parse::<JoinToken>().is_err(), "character {at}");
            assert!(text[..at].parse::<JoinToken>().is_err(), "cut at {at}");
        }
    }
}
