//! How an encrypted private key is protected: names and costs out of the AlgorithmIdentifier of PKCS#5 and PKCS#12. Nothing is
//! decrypted here. Called by the parsers of private keys and key stores. Format: RFC 8018, RFC 7914, RFC 7292.

use super::der::{INTEGER, OCTET_STRING, OID, Reader, oid_text};

/// Derivation with its cost, and the cipher: `pbkdf2-hmac-sha256, 2048 iterations, aes-256-cbc`. `scheme` stands inside the
/// AlgorithmIdentifier.
#[must_use]
pub fn encryption(mut scheme: Reader<'_>) -> Option<String> {
    let oid = oid_text(scheme.take(OID)?);
    if oid == "1.2.840.113549.1.5.13" {
        let mut parameters = scheme.sequence()?;
        let kdf = derivation(parameters.sequence()?)?;
        let cipher = parameters.sequence()?.take(OID).map(oid_text)?;
        return Some(format!("{kdf}, {}", cipher_name(&cipher)));
    }
    let mut parameters = scheme.sequence()?;
    parameters.take(OCTET_STRING)?;
    let iterations = parameters.small()?;
    Some(format!("{}, {iterations} iterations", password_scheme(&oid)))
}

/// How a PKCS#12 store is authenticated, by the contents of its `MacData`: `hmac-sha256 with pkcs12, 2048 iterations`.
#[must_use]
pub fn authentication(mut mac: Reader<'_>) -> Option<String> {
    let mut info = mac.sequence()?;
    let mut algorithm = info.sequence()?;
    let oid = oid_text(algorithm.take(OID)?);
    if oid == "1.2.840.113549.1.5.14" {
        let mut parameters = algorithm.sequence()?;
        let kdf = derivation(parameters.sequence()?)?;
        let scheme = parameters.sequence().and_then(|mut scheme| scheme.take(OID).map(oid_text));
        return Some(format!("{} with {kdf}", prf_name(scheme.as_deref())));
    }
    mac.take(OCTET_STRING)?;
    let iterations = mac.small().unwrap_or(1);
    let hash = match oid.as_str() {
        "1.3.14.3.2.26" => "hmac-sha1",
        "2.16.840.1.101.3.4.2.4" => "hmac-sha224",
        "2.16.840.1.101.3.4.2.1" => "hmac-sha256",
        "2.16.840.1.101.3.4.2.2" => "hmac-sha384",
        "2.16.840.1.101.3.4.2.3" => "hmac-sha512",
        other => return Some(format!("({other}) with pkcs12, {iterations} iterations")),
    };
    Some(format!("{hash} with pkcs12, {iterations} iterations"))
}

fn derivation(mut kdf: Reader<'_>) -> Option<String> {
    match oid_text(kdf.take(OID)?).as_str() {
        "1.2.840.113549.1.5.12" => {
            let mut parameters = kdf.sequence()?;
            parameters.element()?;
            let iterations = parameters.small()?;
            parameters.take(INTEGER);
            let prf = parameters.sequence().and_then(|mut prf| prf.take(OID).map(oid_text));
            Some(format!("pbkdf2-{}, {iterations} iterations", prf_name(prf.as_deref())))
        }
        "1.3.6.1.4.1.11591.4.11" => {
            let mut parameters = kdf.sequence()?;
            parameters.take(OCTET_STRING)?;
            Some(format!("scrypt, N={} r={} p={}", parameters.small()?, parameters.small()?, parameters.small()?))
        }
        other => Some(format!("unknown ({other})")),
    }
}

fn prf_name(oid: Option<&str>) -> String {
    match oid {
        // The default of the standard.
        None | Some("1.2.840.113549.2.7") => "hmac-sha1".into(),
        Some("1.2.840.113549.2.8") => "hmac-sha224".into(),
        Some("1.2.840.113549.2.9") => "hmac-sha256".into(),
        Some("1.2.840.113549.2.10") => "hmac-sha384".into(),
        Some("1.2.840.113549.2.11") => "hmac-sha512".into(),
        Some(other) => format!("({other})"),
    }
}

fn cipher_name(oid: &str) -> String {
    match oid {
        "2.16.840.1.101.3.4.1.2" => "aes-128-cbc".into(),
        "2.16.840.1.101.3.4.1.22" => "aes-192-cbc".into(),
        "2.16.840.1.101.3.4.1.42" => "aes-256-cbc".into(),
        "2.16.840.1.101.3.4.1.6" => "aes-128-gcm".into(),
        "2.16.840.1.101.3.4.1.46" => "aes-256-gcm".into(),
        "1.2.840.113549.3.7" => "des-ede3-cbc".into(),
        "1.3.14.3.2.7" => "des-cbc".into(),
        "1.2.840.113549.3.2" => "rc2-cbc".into(),
        other => other.to_owned(),
    }
}

fn password_scheme(oid: &str) -> String {
    match oid {
        "1.2.840.113549.1.5.1" => "pbe-md2-des".into(),
        "1.2.840.113549.1.5.3" => "pbe-md5-des".into(),
        "1.2.840.113549.1.5.6" => "pbe-md5-rc2".into(),
        "1.2.840.113549.1.5.10" => "pbe-sha1-des".into(),
        "1.2.840.113549.1.12.1.1" => "pbe-sha1-rc4-128".into(),
        "1.2.840.113549.1.12.1.2" => "pbe-sha1-rc4-40".into(),
        "1.2.840.113549.1.12.1.3" => "pbe-sha1-3des".into(),
        "1.2.840.113549.1.12.1.4" => "pbe-sha1-2des".into(),
        "1.2.840.113549.1.12.1.5" => "pbe-sha1-rc2-128".into(),
        "1.2.840.113549.1.12.1.6" => "pbe-sha1-rc2-40".into(),
        // Sun's own, of JCEKS.
        "1.3.6.1.4.1.42.2.19.1" => "pbe-md5-3des".into(),
        other => format!("unknown ({other})"),
    }
}
