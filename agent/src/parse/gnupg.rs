//! The private keys of `gpg-agent` (`private-keys-v1.d/*.key`), in its older and its present form. Public numbers are read, private
//! ones stepped over. Called by `keys`. Format: GnuPG's `agent/keyformat.txt`; Rivest's S-expressions.

use std::path::Path;

use keyvigil_common::key::{KeyFacts, KeyKind};
use zeroize::Zeroizing;

use super::keys::{Parsed, Within};
use super::openpgp::on_curve;
use super::pem::find;
use super::spki;

/// Levels of lists in each other; a key has five.
const DEPTH_MAX: usize = 16;
/// Lists and atoms that are looked at.
const TOKENS_MAX: usize = 2_000;
const BROKEN: &str = "the private key of gpg-agent does not parse";
/// What a key's list is called, and how the secret is kept then.
const KINDS: [&str; 3] = ["protected-private-key", "shadowed-private-key", "private-key"];
/// Curves by libgcrypt's names, and their encoded identifiers.
const CURVES: &[(&str, &[u8])] = &[
    ("ed25519", spki::ED25519_OID),
    ("curve25519", spki::X25519_OID),
    ("cv25519", spki::X25519_OID),
    ("x25519", spki::X25519_OID),
    ("ed448", spki::ED448_OID),
    ("x448", spki::X448_OID),
    ("nist p-256", &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07]),
    ("nist p-384", &[0x2b, 0x81, 0x04, 0x00, 0x22]),
    ("nist p-521", &[0x2b, 0x81, 0x04, 0x00, 0x23]),
    ("secp256k1", &[0x2b, 0x81, 0x04, 0x00, 0x0a]),
    ("brainpoolp256r1", &[0x2b, 0x24, 0x03, 0x03, 0x02, 0x08, 0x01, 0x01, 0x07]),
    ("brainpoolp384r1", &[0x2b, 0x24, 0x03, 0x03, 0x02, 0x08, 0x01, 0x01, 0x0b]),
    ("brainpoolp512r1", &[0x2b, 0x24, 0x03, 0x03, 0x02, 0x08, 0x01, 0x01, 0x0d]),
];

/// Where the list begins.
fn start(bytes: &[u8]) -> Option<usize> {
    let is_list = |at: usize| {
        KINDS.iter().any(|kind| {
            let rest = bytes[at..].strip_prefix(b"(").unwrap_or_default();
            let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
            let name = if rest.get(digits) == Some(&b':') { &rest[digits + 1..] } else { rest };
            name.starts_with(kind.as_bytes())
        })
    };
    if is_list(0) {
        return Some(0);
    }
    let field = if bytes.starts_with(b"Key: (") { 0 } else { find(bytes, b"\nKey: (")? + 1 };
    Some(field + 5).filter(|at| is_list(*at))
}

#[must_use]
pub fn looks(head: &[u8], _path: &Path) -> bool {
    !head.is_empty() && start(head).is_some()
}

/// What stands in the lines of one field. A line's end may lie within a word, and goes with the one space behind it; in the older form
/// these two bytes may be part of a number, whose length is told.
fn unfolded(field: &[u8]) -> Zeroizing<Vec<u8>> {
    if field.get(1).is_some_and(u8::is_ascii_digit) {
        return Zeroizing::new(field.to_vec());
    }
    let mut out = Zeroizing::new(Vec::with_capacity(field.len()));
    let mut lines = field.split(|b| *b == b'\n');
    out.extend_from_slice(lines.next().unwrap_or_default());
    for line in lines.map_while(|line| line.strip_prefix(b" ").or_else(|| line.strip_prefix(b"\t"))) {
        out.extend_from_slice(line);
    }
    out
}

/// Reads the key.
pub fn read(bytes: &[u8], path: &Path, parsed: &mut Parsed) {
    // The file's name is the key's number in GnuPG, which depends on nothing else.
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let is_keygrip = stem.len() == 40 && stem.bytes().all(|b| b.is_ascii_hexdigit());
    let within = Within::own("gnupg").entry(if is_keygrip { &stem } else { "" });
    let facts = start(bytes).ok_or(BROKEN.to_owned()).and_then(|at| key(&unfolded(&bytes[at..])));
    parsed.object(0, within, facts);
}

/// What the lists of a key hold, private numbers left out.
#[derive(Default)]
struct Numbers<'a> {
    kind: &'a [u8],
    algorithm: &'a [u8],
    /// Name and value.
    list: Vec<(&'a [u8], Atom<'a>)>,
    protection: Option<&'a [u8]>,
    iterations: Option<&'a [u8]>,
}

impl Numbers<'_> {
    /// A public number, as bytes.
    fn get(&self, name: &str) -> Option<Vec<u8>> {
        self.list.iter().find(|(known, _)| *known == name.as_bytes()).and_then(|(_, atom)| atom.bytes())
    }
}

#[derive(Debug, Clone, Copy)]
enum Atom<'a> {
    Bytes(&'a [u8]),
    Hex(&'a [u8]),
    /// A short number may be written so, too.
    Quoted(&'a [u8]),
}

impl<'a> Atom<'a> {
    fn raw(self) -> &'a [u8] {
        match self {
            Self::Bytes(bytes) | Self::Hex(bytes) | Self::Quoted(bytes) => bytes,
        }
    }

    fn bytes(self) -> Option<Vec<u8>> {
        match self {
            Self::Bytes(bytes) => Some(bytes.to_vec()),
            Self::Hex(text) => unhex(text),
            Self::Quoted(text) => unescaped(text),
        }
    }
}

fn unhex(text: &[u8]) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text.iter().filter(|b| !b.is_ascii_whitespace()).map(|b| char::from(*b).to_digit(16).map(|d| d as u8)).collect::<Option<_>>()?;
    digits.chunks(2).map(|pair| (pair.len() == 2).then(|| pair[0] << 4 | pair[1])).collect()
}

fn unescaped(text: &[u8]) -> Option<Vec<u8>> {
    let (mut out, mut rest) = (Vec::with_capacity(text.len()), text);
    while let Some((first, behind)) = rest.split_first() {
        rest = behind;
        if *first != b'\\' {
            out.push(*first);
            continue;
        }
        let (escape, behind) = rest.split_first()?;
        rest = behind;
        out.push(match escape {
            b'b' => 8,
            b't' => b'\t',
            b'v' => 11,
            b'n' => b'\n',
            b'f' => 12,
            b'r' => b'\r',
            b'x' => {
                let (digits, behind) = rest.split_at_checked(2)?;
                rest = behind;
                *unhex(digits)?.first()?
            }
            other => *other,
        });
    }
    Some(out)
}

enum Token<'a> {
    Open,
    Close,
    Atom(Atom<'a>),
}

/// The next token and what follows it.
fn token(bytes: &[u8]) -> Option<(Token<'_>, &[u8])> {
    let bytes = bytes.trim_ascii_start();
    let (first, rest) = bytes.split_first()?;
    let until = |end: u8| {
        let length = rest.iter().position(|b| *b == end)?;
        Some((&rest[..length], &rest[length + 1..]))
    };
    match first {
        b'(' => Some((Token::Open, rest)),
        b')' => Some((Token::Close, rest)),
        b'#' => until(b'#').map(|(text, rest)| (Token::Atom(Atom::Hex(text)), rest)),
        b'"' => {
            let mut escaped = false;
            let length = rest.iter().position(|b| {
                let ends = *b == b'"' && !escaped;
                escaped = *b == b'\\' && !escaped;
                ends
            })?;
            Some((Token::Atom(Atom::Quoted(&rest[..length])), &rest[length + 1..]))
        }
        _ => {
            let digits = bytes.iter().take_while(|b| b.is_ascii_digit()).count();
            if digits > 0 && bytes.get(digits) == Some(&b':') {
                let length: usize = std::str::from_utf8(&bytes[..digits]).ok()?.parse().ok()?;
                let (text, rest) = bytes[digits + 1..].split_at_checked(length)?;
                return Some((Token::Atom(Atom::Bytes(text)), rest));
            }
            let length = bytes.iter().position(|b| b.is_ascii_whitespace() || b"()#\"".contains(b)).unwrap_or(bytes.len());
            (length > 0).then(|| (Token::Atom(Atom::Bytes(&bytes[..length])), &bytes[length..]))
        }
    }
}

fn numbers(bytes: &[u8]) -> Option<Numbers<'_>> {
    /// What may be read of each algorithm; RSA's `p` and `q` are private, DSA's are not.
    const PUBLIC: &[(&[u8], &[&str])] = &[(b"rsa", &["n", "e"]), (b"ecc", &["curve", "q"]), (b"dsa", &["p", "q", "g", "y"]), (b"elg", &["p", "g", "y"])];
    let mut numbers = Numbers::default();
    // Name of each list that is open, and how many atoms came behind it.
    let mut open: Vec<(Option<&[u8]>, usize)> = Vec::new();
    let mut rest = bytes;
    for _ in 0..TOKENS_MAX {
        let (token, behind) = token(rest)?;
        rest = behind;
        match token {
            Token::Open if open.len() >= DEPTH_MAX => return None,
            Token::Open => open.push((None, 0)),
            Token::Close => {
                open.pop()?;
                if open.is_empty() {
                    return Some(numbers);
                }
            }
            Token::Atom(atom) => {
                let depth = open.len();
                let (name, count) = open.last_mut()?;
                let Some(name) = name else {
                    *name = Some(atom.raw());
                    match depth {
                        1 => numbers.kind = atom.raw(),
                        2 => numbers.algorithm = atom.raw(),
                        _ => {}
                    }
                    continue;
                };
                *count += 1;
                let is_public =
                    || PUBLIC.iter().any(|(algorithm, names)| *algorithm == numbers.algorithm && names.iter().any(|public| public.as_bytes() == *name));
                match (depth, *name, *count) {
                    (3, name, 1) if is_public() => numbers.list.push((name, atom)),
                    (3, b"protected", 1) => numbers.protection = Some(atom.raw()),
                    (5, b"sha1", 2) => numbers.iterations = Some(atom.raw()),
                    _ => {}
                }
            }
        }
    }
    None
}

fn key(bytes: &[u8]) -> Result<KeyFacts, String> {
    let numbers = numbers(bytes).ok_or(BROKEN)?;
    let kind = if numbers.kind == b"shadowed-private-key" { KeyKind::OpenpgpPublicKey } else { KeyKind::OpenpgpPrivateKey };
    let number = |name: &str| numbers.get(name).ok_or(BROKEN);
    let facts = match numbers.algorithm {
        b"rsa" => spki::rsa(kind, &number("n")?, &number("e")?),
        b"dsa" => spki::dsa(kind, [&number("p")?, &number("q")?, &number("g")?, &number("y")?]),
        b"elg" => spki::elgamal(kind, [&number("p")?, &number("g")?, &number("y")?]),
        b"ecc" => {
            let name = String::from_utf8_lossy(&number("curve")?).to_ascii_lowercase();
            let oid = CURVES.iter().find(|row| row.0 == name).map(|row| row.1);
            on_curve(kind, oid.ok_or_else(|| format!("a private key of gpg-agent on a curve that is not known here ({name})"))?, &number("q")?)
        }
        other => return Err(format!("a private key of gpg-agent of an algorithm that is not known here ({})", String::from_utf8_lossy(other))),
    };
    let mut facts = facts.ok_or(BROKEN)?;
    match numbers.kind {
        b"private-key" => facts.encrypted = Some(false),
        b"shadowed-private-key" => facts.kdf = Some("the secret half is on a card".into()),
        _ => {
            let text = |bytes: Option<&[u8]>| bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
            let iterations = text(numbers.iterations).map(|count| format!(", {count} bytes")).unwrap_or_default();
            facts.encrypted = Some(true);
            facts.kdf = Some(format!("{}{iterations}", text(numbers.protection).unwrap_or_else(|| "unknown".into())));
        }
    }
    Ok(facts)
}
