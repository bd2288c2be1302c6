//! `/proc/keys`: the keys that the kernel holds, as far as whoever reads it may view them. Payloads are never in it. Called by the
//! sensor `keyring`. Format: Linux' `security/keys/proc.c`, keyrings(7).

/// Keys that are read; hosts have some tens.
pub const KEYS_MAX: usize = 5_000;

/// One key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Number, hex.
    pub serial: String,
    /// Why it is of no use any more.
    pub dead: Option<&'static str>,
    /// How long it has to live.
    pub expiry: Expiry,
    /// Permissions, `include/linux/key.h`.
    pub permissions: u32,
    pub uid: u32,
    /// None: -1.
    pub gid: Option<u32>,
    /// Type, as far as the column goes; [`type_name`] completes it.
    pub kind: String,
    /// Description, without what its type tells behind it: a size that changes, the algorithm.
    pub description: String,
}

/// How long a key has to live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// For ever.
    Never,
    /// It is over.
    Past,
    /// At least `seconds`, and less than `seconds + unit`.
    In { seconds: u64, unit: u64 },
}

/// What the file lists.
#[derive(Debug, Default)]
pub struct Listing {
    /// All keys that are no keyrings, at most [`KEYS_MAX`].
    pub keys: Vec<Key>,
    /// Keys and keyrings.
    pub all: u64,
    /// Lines that were not understood.
    pub strange: usize,
    /// There are more.
    pub more: bool,
}

/// Reads the file.
#[must_use]
pub fn keys(text: &str) -> Listing {
    let mut listing = Listing::default();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        listing.all += 1;
        match key(line) {
            // Neither is a key: a list of keys, and what is being thrown away.
            Some(key) if matches!(key.kind.as_str(), "keyring" | ".dead") => {}
            Some(key) if listing.keys.len() < KEYS_MAX => listing.keys.push(key),
            Some(_) => {
                listing.more = true;
                return listing;
            }
            None => listing.strange += 1,
        }
    }
    listing
}

/// How many keys and keyrings all users of the host have, as `/proc/key-users` tells everyone: `1000:  5 4/4 4/200 60/20000`.
#[must_use]
pub fn held_by_users(text: &str) -> u64 {
    let count = |line: &str| line.split_ascii_whitespace().nth(2)?.split_once('/')?.0.parse::<u64>().ok();
    text.lines().filter_map(count).fold(0, u64::saturating_add)
}

/// `009a2028 I--Q---     1 perm 3f010000  1000  1000 user      krb_ccache:primary: 12`.
fn key(line: &str) -> Option<Key> {
    let mut rest = line;
    let mut field = || {
        let text = rest.trim_start();
        let end = text.find(' ').unwrap_or(text.len());
        let field;
        (field, rest) = text.split_at(end);
        Some(field).filter(|field| !field.is_empty())
    };
    let (serial, flags, _references, expiry, permissions, uid, gid, kind) = (field()?, field()?, field()?, field()?, field()?, field()?, field()?, field()?);
    u32::from_str_radix(serial, 16).ok()?;
    let has = |flag| flags.contains(flag);
    let dead = [('R', "revoked"), ('D', "dead"), ('i', "invalidated"), ('N', "negative")];
    Some(Key {
        serial: serial.to_owned(),
        dead: dead.iter().find(|(flag, _)| has(*flag)).map(|(_, name)| *name),
        expiry: self::expiry(expiry)?,
        permissions: u32::from_str_radix(permissions, 16).ok()?,
        uid: uid.parse().ok()?,
        gid: gid.parse().ok(),
        kind: type_name(kind).to_owned(),
        description: rest.trim().rsplit_once(": ").map_or(rest.trim(), |(description, _)| description).to_owned(),
    })
}

fn expiry(text: &str) -> Option<Expiry> {
    match text {
        "perm" => return Some(Expiry::Never),
        "expd" => return Some(Expiry::Past),
        _ => {}
    }
    let (last, _) = text.char_indices().next_back()?;
    let unit = match &text[last..] {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        "w" => 604_800,
        _ => return None,
    };
    Some(Expiry::In { seconds: text[..last].parse::<u64>().ok()?.checked_mul(unit)?, unit })
}

/// A type's name; the column has nine letters.
#[must_use]
pub fn type_name(column: &str) -> &str {
    const LONG: [&str; 8] = ["asymmetric", "dns_resolver", "cifs.spnego", "cifs.idmap", "id_resolver", "id_legacy", ".request_key_auth", "rxrpc_s"];
    LONG.iter().find(|name| column.len() == 9 && name.starts_with(column)).unwrap_or(&column)
}

/// Who may do what, `possessor=view,read`, of those who may do something.
#[must_use]
pub fn permissions(bits: u32) -> Vec<String> {
    const WHO: [(&str, u32); 4] = [("possessor", 24), ("user", 16), ("group", 8), ("other", 0)];
    const WHAT: [&str; 6] = ["view", "read", "write", "search", "link", "setattr"];
    let allowed = |shift: u32| WHAT.iter().enumerate().filter(move |(bit, _)| bits >> shift >> bit & 1 == 1).map(|(_, name)| *name).collect::<Vec<_>>();
    WHO.iter().map(|(who, shift)| (who, allowed(*shift))).filter(|(_, what)| !what.is_empty()).map(|(who, what)| format!("{who}={}", what.join(","))).collect()
}

#[cfg(test)]
mod tests;
