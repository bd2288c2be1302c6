//! What is wrong with an RSA key that only one who sees its numbers can tell. Called by the parsers wherever they meet one.
//! Looks at public numbers only, and for a bounded time. Sources: Nemec et al., "The Return of Coppersmith's Attack"
//! (CVE-2017-15361); Debian's openssl-blacklist and openssh-blacklist (CVE-2008-0166); the CA/Browser Forum's baseline
//! requirements 6.1.1.3 for close primes.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use keyvigil_common::hex;
use keyvigil_common::key::KeyFacts;
use md5::{Digest, Md5};
use num_bigint::BigUint;

use super::der::{bit_length, magnitude};
use super::given;

/// Made by Infineon's library: the primes are of a form that can be found.
pub const ROCA: &str = "roca";
/// One of the few keys that Debian's OpenSSL could make from 2006 to 2008.
pub const DEBIAN_WEAK: &str = "debian-weak";
/// The modulus is even: no product of two odd primes.
pub const EVEN_MODULUS: &str = "even-modulus";
/// A small prime divides the modulus.
pub const SMALL_FACTOR: &str = "small-factor";
/// The two primes lie so close together that a few steps find them.
pub const CLOSE_PRIMES: &str = "close-primes";
/// The public exponent is 1: what is encrypted is the text itself.
pub const EXPONENT_ONE: &str = "exponent-1";
/// The public exponent is even, or 0: no RSA.
pub const EVEN_EXPONENT: &str = "even-exponent";

/// Bits of a modulus that is looked into; larger ones cost more than they are worth, and nobody makes them.
const LOOKED_INTO_BITS_MAX: u32 = 16_384;
/// Primes up to this are tried as factors.
const SMALL_PRIMES_BELOW: usize = 1_000;
/// The form of Infineon's primes shows modulo each of the first 39 primes.
const ROCA_PRIMES_UP_TO: u32 = 167;
/// Steps of Fermat's method, as the baseline requirements ask of authorities.
const FERMAT_STEPS: u32 = 100;

/// Fills in the public exponent of an RSA key and what is wrong with its numbers, given as big-endian bytes.
pub fn rsa(facts: &mut KeyFacts, modulus: &[u8], exponent: &[u8]) {
    let (modulus, exponent) = (magnitude(modulus), magnitude(exponent));
    facts.exponent = (exponent.len() <= 8).then(|| exponent.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)));
    match exponent {
        [1] => weakness(facts, EXPONENT_ONE),
        [] => weakness(facts, EVEN_EXPONENT),
        [.., last] if last & 1 == 0 => weakness(facts, EVEN_EXPONENT),
        _ => {}
    }
    let bits = bit_length(modulus);
    if modulus.is_empty() || bits > LOOKED_INTO_BITS_MAX {
        return;
    }
    if modulus.last().is_some_and(|last| last & 1 == 0) {
        weakness(facts, EVEN_MODULUS);
    } else {
        let tests = [(SMALL_FACTOR, has_small_factor as fn(&[u8]) -> bool), (ROCA, is_roca), (CLOSE_PRIMES, has_close_primes)];
        tests.into_iter().filter(|(_, test)| test(modulus)).for_each(|(name, _)| weakness(facts, name));
    }
    let endings = || [openssl_ending(modulus), md5_ending(&ssh_blob(modulus, exponent))];
    if is_blacklisted(&format!("RSA-{bits}"), endings) {
        weakness(facts, DEBIAN_WEAK);
    }
}

/// Looks up an OpenSSH DSA key, given as its public blob.
pub fn ssh_dsa(facts: &mut KeyFacts, bits: u32, blob: &[u8]) {
    if is_blacklisted(&format!("DSA-{bits}"), || [md5_ending(blob)]) {
        weakness(facts, DEBIAN_WEAK);
    }
}

fn weakness(facts: &mut KeyFacts, name: &str) {
    facts.weaknesses.push(name.to_owned());
}

fn remainder(modulus: &[u8], divisor: u32) -> u32 {
    let fours = modulus.rchunks(4).rev();
    let rest = fours.fold(0u64, |rest, digits| {
        let digit = digits.iter().fold(0u64, |value, byte| value << 8 | u64::from(*byte));
        (rest << (8 * digits.len()) | digit) % u64::from(divisor)
    });
    // Less than the divisor.
    rest as u32
}

/// Odd primes below [`SMALL_PRIMES_BELOW`], and how many they are.
const SMALL_PRIMES: ([u32; SMALL_PRIMES_BELOW], usize) = {
    let mut composite = [false; SMALL_PRIMES_BELOW];
    let mut primes = [0; SMALL_PRIMES_BELOW];
    let (mut count, mut number) = (0, 3);
    while number < SMALL_PRIMES_BELOW {
        if !composite[number] {
            primes[count] = number as u32;
            count += 1;
            let mut multiple = number * number;
            while multiple < SMALL_PRIMES_BELOW {
                composite[multiple] = true;
                multiple += 2 * number;
            }
        }
        number += 2;
    }
    (primes, count)
};

/// Odd ones.
fn small_primes() -> &'static [u32] {
    &SMALL_PRIMES.0[..SMALL_PRIMES.1]
}

/// Whether a small prime divides a number that is not that prime itself.
fn has_small_factor(modulus: &[u8]) -> bool {
    let mut primes = small_primes();
    while !primes.is_empty() {
        // One long division for as many primes as have a product that fits.
        let (mut product, mut count) = (1u32, 0);
        while let Some(more) = primes.get(count).and_then(|prime| product.checked_mul(*prime)) {
            (product, count) = (more, count + 1);
        }
        let rest = remainder(modulus, product);
        if primes[..count].iter().any(|prime| rest.is_multiple_of(*prime)) {
            return true;
        }
        primes = &primes[count..];
    }
    false
}

/// Whether the modulus is, modulo each small prime, a power of 65537, as all of Infineon's are. One in 2^27 others is, too.
fn is_roca(modulus: &[u8]) -> bool {
    small_primes().iter().take_while(|prime| **prime <= ROCA_PRIMES_UP_TO).all(|prime| {
        let (wanted, generator) = (remainder(modulus, *prime), 65_537 % prime);
        let mut power = 1;
        (0..*prime).any(|_| {
            power = power * generator % prime;
            power == wanted
        })
    })
}

/// Fermat's method: whether n is the difference of two squares whose first root is little above its own.
fn has_close_primes(modulus: &[u8]) -> bool {
    let n = BigUint::from_bytes_be(modulus);
    let mut root = n.sqrt();
    if &root * &root == n {
        return true;
    }
    root += 1u32;
    let mut difference = &root * &root - &n;
    for _ in 0..FERMAT_STEPS {
        if is_square(&difference) {
            return true;
        }
        difference += &root * 2u32 + 1u32;
        root += 1u32;
    }
    false
}

fn is_square(number: &BigUint) -> bool {
    // A square's last six bits are one of twelve: most numbers need no root.
    const LAST_BITS_OF_SQUARES: u64 = 0x0202_0212_0203_0213;
    let low = number.iter_u32_digits().next().unwrap_or(0) & 63;
    if LAST_BITS_OF_SQUARES >> low & 1 == 0 {
        return false;
    }
    // As well for other moduli; 63 * 65 * 11 fits.
    let rest = remainder(&number.to_bytes_be(), 63 * 65 * 11);
    let fits = [63, 65, 11].into_iter().all(|modulus| (0..modulus).any(|root| root * root % modulus == rest % modulus));
    fits && {
        let root = number.sqrt();
        &root * &root == *number
    }
}

fn is_blacklisted<const N: usize>(list: &str, endings: impl Fn() -> [String; N]) -> bool {
    given::blacklist().is_some_and(|blacklist| blacklist.has(list, &endings()))
}

/// As openssl-blacklist names a key: the end of the SHA-1 of what `openssl rsa -modulus` prints.
fn openssl_ending(modulus: &[u8]) -> String {
    let line = format!("Modulus={}\n", hex(modulus).to_ascii_uppercase());
    hex(digest(&SHA1_FOR_LEGACY_USE_ONLY, line.as_bytes()).as_ref())[20..].to_owned()
}

/// As openssh-blacklist names a key: the end of its MD5 fingerprint.
fn md5_ending(blob: &[u8]) -> String {
    hex(&Md5::digest(blob))[12..].to_owned()
}

/// An RSA key in the form of RFC 4253.
fn ssh_blob(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
    let mut blob = Vec::with_capacity(modulus.len() + 32);
    let mut string = |bytes: &[u8], sign: bool| {
        let zero = sign && bytes.first().is_some_and(|first| first & 0x80 != 0);
        blob.extend_from_slice(&((bytes.len() + usize::from(zero)) as u32).to_be_bytes());
        blob.extend(zero.then_some(0));
        blob.extend_from_slice(bytes);
    };
    string(b"ssh-rsa", false);
    string(exponent, true);
    string(modulus, true);
    blob
}

#[cfg(test)]
mod tests;
