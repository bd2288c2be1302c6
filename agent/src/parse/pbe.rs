//! Keys out of passwords, and what they open: the schemes by which key stores are encrypted and authenticated. Each derivation
//! is paid for out of a budget before it begins, as a file may ask for any number of iterations. All that is secret lies in
//! buffers that are wiped. Called by the parsers of key stores. Format: RFC 7292 appendix B, RFC 8018, RFC 9579.

use std::num::NonZeroU32;

use aws_lc_rs::cipher::{AES_128, AES_192, AES_256, Algorithm, DecryptionContext, PaddedBlockDecryptingKey, UnboundCipherKey};
use aws_lc_rs::{constant_time, digest, hmac, iv::FixedLength, pbkdf2};
use des::cipher::{Block, BlockCipherDecrypt, KeyInit};
use zeroize::Zeroizing;

use super::der::{OCTET_STRING, OID, Reader, oid_text};

/// A password that was configured.
pub type Password = Zeroizing<String>;

/// Why something stays closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// Not with this password.
    WrongPassword,
    /// It asks for more iterations than are left.
    TooCostly,
    /// By a scheme that is not known here.
    Unknown,
}

/// Iterations that may still be done for one file.
#[derive(Debug)]
pub struct Budget(pub u64);

impl Budget {
    fn pay(&mut self, iterations: u64, blocks: usize) -> Result<(), Closed> {
        self.0 = iterations.checked_mul(blocks as u64).and_then(|cost| self.0.checked_sub(cost)).ok_or(Closed::TooCostly)?;
        Ok(())
    }
}

/// Purposes of the derivation of PKCS#12.
const FOR_KEY: u8 = 1;
const FOR_IV: u8 = 2;
const FOR_MAC: u8 = 3;

/// A password's form in PKCS#12: UTF-16, big-endian, with a zero behind it.
fn wide(password: &str) -> Zeroizing<Vec<u8>> {
    let mut out = Zeroizing::new(Vec::with_capacity(2 * password.len() + 2));
    password.encode_utf16().chain([0]).for_each(|unit| out.extend_from_slice(&unit.to_be_bytes()));
    out
}

/// RFC 7292, B.2.
fn pkcs12_derive(
    hash: &'static digest::Algorithm,
    purpose: u8,
    password: &str,
    salt: &[u8],
    iterations: u64,
    out: &mut [u8],
    budget: &mut Budget,
) -> Result<(), Closed> {
    budget.pay(iterations.max(1), out.len().div_ceil(hash.output_len()))?;
    let block = hash.block_len();
    let repeat = |bytes: &[u8]| -> Zeroizing<Vec<u8>> {
        let length = bytes.len().div_ceil(block) * block;
        let mut out = Zeroizing::new(Vec::with_capacity(length));
        out.extend(bytes.iter().cycle().take(length));
        out
    };
    let (salt, password) = (repeat(salt), repeat(&wide(password)));
    let mut input = Zeroizing::new(Vec::with_capacity(salt.len() + password.len()));
    input.extend_from_slice(&salt);
    input.extend_from_slice(&password);
    for chunk in out.chunks_mut(hash.output_len()) {
        let mut context = digest::Context::new(hash);
        context.update(&vec![purpose; block]);
        context.update(&input);
        let mut derived = Zeroizing::new(context.finish().as_ref().to_vec());
        for _ in 1..iterations {
            let next = digest::digest(hash, &derived);
            derived.copy_from_slice(next.as_ref());
        }
        for part in input.chunks_mut(block) {
            add(part, &derived);
        }
        chunk.copy_from_slice(&derived[..chunk.len()]);
    }
    Ok(())
}

/// Adds 1 and the repeated `number` to a block, both big-endian.
fn add(block: &mut [u8], number: &[u8]) {
    let mut carry = 1u16;
    for at in (0..block.len()).rev() {
        carry += u16::from(block[at]) + u16::from(number[at % number.len()]);
        block[at] = carry as u8;
        carry >>= 8;
    }
}

/// PBKDF2 by the contents of its AlgorithmIdentifier, for a key of `length` bytes.
fn pbkdf2_derive(mut kdf: Reader<'_>, password: &str, length: usize, budget: &mut Budget) -> Result<Zeroizing<Vec<u8>>, Closed> {
    if kdf.take(OID).map(oid_text).as_deref() != Some("1.2.840.113549.1.5.12") {
        return Err(Closed::Unknown);
    }
    let mut parameters = kdf.sequence().ok_or(Closed::Unknown)?;
    let salt = parameters.take(OCTET_STRING).ok_or(Closed::Unknown)?;
    let iterations = parameters.small().ok_or(Closed::Unknown)?;
    parameters.small();
    let prf = parameters.sequence().and_then(|mut prf| prf.take(OID).map(oid_text));
    let (algorithm, output) = match prf.as_deref() {
        None | Some("1.2.840.113549.2.7") => (pbkdf2::PBKDF2_HMAC_SHA1, 20),
        Some("1.2.840.113549.2.9") => (pbkdf2::PBKDF2_HMAC_SHA256, 32),
        Some("1.2.840.113549.2.10") => (pbkdf2::PBKDF2_HMAC_SHA384, 48),
        Some("1.2.840.113549.2.11") => (pbkdf2::PBKDF2_HMAC_SHA512, 64),
        Some(_) => return Err(Closed::Unknown),
    };
    budget.pay(iterations, length.div_ceil(output))?;
    let iterations = u32::try_from(iterations).ok().and_then(NonZeroU32::new).ok_or(Closed::Unknown)?;
    let mut key = Zeroizing::new(vec![0; length]);
    pbkdf2::derive(algorithm, iterations, salt, password.as_bytes(), &mut key);
    Ok(key)
}

/// Opens what `scheme`, the contents of an AlgorithmIdentifier, closed.
///
/// # Errors
/// Why it stays closed.
pub fn open(mut scheme: Reader<'_>, password: &str, closed: &[u8], budget: &mut Budget) -> Result<Zeroizing<Vec<u8>>, Closed> {
    let oid = scheme.take(OID).map(oid_text).ok_or(Closed::Unknown)?;
    let mut parameters = scheme.sequence().ok_or(Closed::Unknown)?;
    if oid == "1.2.840.113549.1.5.13" {
        let kdf = parameters.sequence().ok_or(Closed::Unknown)?;
        let mut encryption = parameters.sequence().ok_or(Closed::Unknown)?;
        let name = encryption.take(OID).map(oid_text).ok_or(Closed::Unknown)?;
        let (cipher, length) = match name.as_str() {
            "2.16.840.1.101.3.4.1.2" => (Cipher::Aes(&AES_128), 16),
            "2.16.840.1.101.3.4.1.22" => (Cipher::Aes(&AES_192), 24),
            "2.16.840.1.101.3.4.1.42" => (Cipher::Aes(&AES_256), 32),
            "1.2.840.113549.3.7" => (Cipher::TripleDes, 24),
            _ => return Err(Closed::Unknown),
        };
        let iv = encryption.take(OCTET_STRING).ok_or(Closed::Unknown)?;
        let key = pbkdf2_derive(kdf, password, length, budget)?;
        return cipher.open(&key, iv, closed);
    }
    let (cipher, length) = match oid.as_str() {
        "1.2.840.113549.1.12.1.3" => (Cipher::TripleDes, 24),
        "1.2.840.113549.1.12.1.4" => (Cipher::TripleDes, 16),
        "1.2.840.113549.1.12.1.5" => (Cipher::Rc2, 16),
        "1.2.840.113549.1.12.1.6" => (Cipher::Rc2, 5),
        _ => return Err(Closed::Unknown),
    };
    let (salt, iterations) = parameters.take(OCTET_STRING).zip(parameters.small()).ok_or(Closed::Unknown)?;
    let (mut key, mut iv) = (Zeroizing::new(vec![0; length]), [0; 8]);
    let hash = &digest::SHA1_FOR_LEGACY_USE_ONLY;
    pkcs12_derive(hash, FOR_KEY, password, salt, iterations, &mut key, budget)?;
    pkcs12_derive(hash, FOR_IV, password, salt, iterations, &mut iv, budget)?;
    cipher.open(&key, &iv, closed)
}

/// Whether `mac` (the contents of PKCS#12's `MacData`) is that of `contents` under the password.
///
/// # Errors
/// Why that cannot be told, or that it is not.
pub fn verify(mut mac: Reader<'_>, password: &str, contents: &[u8], budget: &mut Budget) -> Result<(), Closed> {
    let mut info = mac.sequence().ok_or(Closed::Unknown)?;
    let mut algorithm = info.sequence().ok_or(Closed::Unknown)?;
    let expected = info.take(OCTET_STRING).ok_or(Closed::Unknown)?;
    let name = algorithm.take(OID).map(oid_text).ok_or(Closed::Unknown)?;
    let (key, tag) = if name == "1.2.840.113549.1.5.14" {
        let mut parameters = algorithm.sequence().ok_or(Closed::Unknown)?;
        let (kdf, scheme) = parameters.sequence().zip(parameters.sequence()).ok_or(Closed::Unknown)?;
        let algorithm = { scheme }.take(OID).map(oid_text).and_then(|oid| hmac_of(&oid)).ok_or(Closed::Unknown)?;
        // As long as the parameters say, which is what the standard asks for; else as the hash.
        let length = key_length(kdf).unwrap_or(algorithm.digest_algorithm().output_len());
        (pbkdf2_derive(kdf, password, length, budget)?, algorithm)
    } else {
        let (salt, iterations) = (mac.take(OCTET_STRING).ok_or(Closed::Unknown)?, mac.small().unwrap_or(1));
        let algorithm = hmac_of(&name).ok_or(Closed::Unknown)?;
        let hash = algorithm.digest_algorithm();
        let mut key = Zeroizing::new(vec![0; hash.output_len()]);
        pkcs12_derive(hash, FOR_MAC, password, salt, iterations, &mut key, budget)?;
        (key, algorithm)
    };
    let tag = hmac::sign(&hmac::Key::new(tag, &key), contents);
    constant_time::verify_slices_are_equal(tag.as_ref(), expected).map_err(|_| Closed::WrongPassword)
}

/// Length that PBKDF2's parameters name; no key is longer than a hash's block.
fn key_length(mut kdf: Reader<'_>) -> Option<usize> {
    kdf.take(OID)?;
    let mut parameters = kdf.sequence()?;
    parameters.take(OCTET_STRING)?;
    parameters.small()?;
    parameters.small().and_then(|length| usize::try_from(length).ok()).filter(|length| (1..=128).contains(length))
}

/// By the identifier of a hash, or of the HMAC made of it.
fn hmac_of(oid: &str) -> Option<hmac::Algorithm> {
    Some(match oid {
        "1.3.14.3.2.26" | "1.2.840.113549.2.7" => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
        "2.16.840.1.101.3.4.2.4" | "1.2.840.113549.2.8" => hmac::HMAC_SHA224,
        "2.16.840.1.101.3.4.2.1" | "1.2.840.113549.2.9" => hmac::HMAC_SHA256,
        "2.16.840.1.101.3.4.2.2" | "1.2.840.113549.2.10" => hmac::HMAC_SHA384,
        "2.16.840.1.101.3.4.2.3" | "1.2.840.113549.2.11" => hmac::HMAC_SHA512,
        _ => return None,
    })
}

enum Cipher {
    Aes(&'static Algorithm),
    /// With two keys, or three.
    TripleDes,
    Rc2,
}

impl Cipher {
    /// In CBC mode. A wrong password shows in the padding.
    fn open(&self, key: &[u8], iv: &[u8], closed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Closed> {
        let mut data = Zeroizing::new(closed.to_vec());
        match self {
            Self::Aes(algorithm) => {
                let iv: [u8; 16] = iv.try_into().map_err(|_| Closed::Unknown)?;
                let key = UnboundCipherKey::new(algorithm, key).and_then(PaddedBlockDecryptingKey::cbc_pkcs7).map_err(|_| Closed::Unknown)?;
                let context = DecryptionContext::Iv128(FixedLength::from(iv));
                let length = key.decrypt(&mut data, context).map_err(|_| Closed::WrongPassword)?.len();
                data.truncate(length);
                Ok(data)
            }
            Self::TripleDes => {
                let mut whole = Zeroizing::new([0; 24]);
                whole[..key.len()].copy_from_slice(key);
                // The third is the first where there are two.
                whole.copy_within(..24 - key.len(), key.len());
                chained(&des::TdesEde3::new_from_slice(&whole[..]).map_err(|_| Closed::Unknown)?, iv, data)
            }
            Self::Rc2 => chained(&rc2::Rc2::new_with_eff_key_len(key, key.len() * 8), iv, data),
        }
    }
}

/// CBC over blocks of 8 bytes, with the padding of PKCS#7.
fn chained<C: BlockCipherDecrypt>(cipher: &C, iv: &[u8], mut data: Zeroizing<Vec<u8>>) -> Result<Zeroizing<Vec<u8>>, Closed> {
    let mut before: [u8; 8] = iv.try_into().map_err(|_| Closed::Unknown)?;
    for chunk in data.chunks_exact_mut(8) {
        let mut closed = [0; 8];
        closed.copy_from_slice(chunk);
        let block: &mut Block<C> = chunk.try_into().map_err(|_| Closed::Unknown)?;
        cipher.decrypt_block(block);
        block.iter_mut().zip(before).for_each(|(byte, mask)| *byte ^= mask);
        before = closed;
    }
    let padding = usize::from(*data.last().ok_or(Closed::WrongPassword)?);
    let rest = data.len().checked_sub(padding).filter(|_| (1..=8).contains(&padding) && data.len().is_multiple_of(8)).ok_or(Closed::WrongPassword)?;
    if data[rest..].iter().any(|byte| usize::from(*byte) != padding) {
        return Err(Closed::WrongPassword);
    }
    data.truncate(rest);
    Ok(data)
}
