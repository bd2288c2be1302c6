//! Weak keys made as the faulty programs made them.

use std::sync::Arc;

use keyvigil_common::key::KeyKind;

use super::*;
use crate::parse::given::Blacklist;
use crate::parse::keys;
use crate::testkit::Workshop;

fn weaknesses(modulus: &BigUint, exponent: &[u8]) -> Vec<String> {
    let mut facts = KeyFacts::bare(KeyKind::PublicKey, String::new(), String::new(), "rsa");
    rsa(&mut facts, &modulus.to_bytes_be(), exponent);
    facts.weaknesses
}

fn prime(shop: &Workshop, bits: u32) -> BigUint {
    let text = shop.openssl(&format!("prime -generate -bits {bits}"));
    BigUint::parse_bytes(text.trim_ascii(), 10).unwrap()
}

/// The next prime after a number, as `openssl` judges.
fn prime_from(shop: &Workshop, mut number: BigUint, step: &BigUint) -> BigUint {
    loop {
        if String::from_utf8(shop.openssl(&format!("prime {number}"))).unwrap().contains("is prime") {
            return number;
        }
        number += step;
    }
}

const E: &[u8] = &[1, 0, 1];

#[test]
fn sound_keys_have_no_weakness() {
    let shop = Workshop::new();
    for bits in [512, 1024, 2048] {
        shop.openssl(&format!("genrsa -out k.pem {bits}"));
        let facts = &keys(&shop.read("k.pem")).objects[0].facts;
        assert_eq!((facts.weaknesses.as_slice(), facts.exponent), (&[][..], Some(65_537)));
    }
}

#[test]
fn primes_of_infineons_form_are_known_by_their_product() {
    let shop = Workshop::new();
    // For keys of up to 960 bits: primes k * M + (65537^a mod M), M the product of the first 39 primes.
    let m = small_primes().iter().take_while(|prime| **prime <= ROCA_PRIMES_UP_TO).fold(BigUint::from(2u32), |m, prime| m * prime);
    let of_form = |a: u32, k: u32| prime_from(&shop, &m * k + BigUint::from(65_537u32).modpow(&BigUint::from(a), &m), &m);
    assert_eq!(weaknesses(&(of_form(12_345, 900_001) * of_form(777, 100_001)), E), [ROCA]);
    assert!(weaknesses(&(of_form(12_345, 900_001) * prime(&shop, 256)), E).is_empty());
}

#[test]
fn factors_that_anyone_finds_are_found() {
    let shop = Workshop::new();
    let (p, q) = (prime(&shop, 512), prime(&shop, 512));
    assert_eq!(weaknesses(&(&p * 997u32), E), [SMALL_FACTOR]);
    assert_eq!(weaknesses(&(&p * 2u32), E), [EVEN_MODULUS]);
    let near = prime_from(&shop, &p + 2u32, &BigUint::from(2u32));
    assert_eq!(weaknesses(&(&p * near), E), [CLOSE_PRIMES]);
    assert_eq!(weaknesses(&(&p * &p), E), [CLOSE_PRIMES]);
    assert_eq!(weaknesses(&(&p * &q), &[1]), [EXPONENT_ONE]);
    assert_eq!(weaknesses(&(&p * &q), &[1, 0]), [EVEN_EXPONENT]);
    for strange in [vec![], vec![0], vec![1], vec![3], vec![0xff; 8_000]] {
        let _ = weaknesses(&BigUint::from_bytes_be(&strange), &strange);
    }
}

/// As `openssl-vulnkey` and `ssh-vulnkey` compute it, by the tools that they use.
fn endings_by_tools(shop: &Workshop) -> [String; 2] {
    shop.openssl("rsa -in k.pem -modulus -noout -out modulus");
    let sha1 = shop.text("modulus");
    let sha1 = hex(digest(&SHA1_FOR_LEGACY_USE_ONLY, sha1.as_bytes()).as_ref());
    let md5 = String::from_utf8(shop.ssh_keygen("-l -E md5 -f k.pem")).unwrap();
    let md5 = md5.split(' ').nth(1).unwrap().trim_start_matches("MD5:").replace(':', "");
    [sha1[20..].to_owned(), md5[12..].to_owned()]
}

#[test]
fn keys_on_debians_lists_are_known_wherever_they_lie() {
    struct List(String);
    impl Blacklist for List {
        fn has(&self, list: &str, endings: &[String]) -> bool {
            list == "RSA-2048" && endings.contains(&self.0)
        }
    }
    let shop = Workshop::new();
    shop.openssl("genrsa -traditional -out k.pem 2048");
    std::fs::set_permissions(shop.path("k.pem"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    shop.openssl("req -x509 -new -key k.pem -subj /CN=x -out c.pem");
    shop.write("k.pub", shop.ssh_keygen("-y -f k.pem"));
    for ending in endings_by_tools(&shop) {
        let list: Arc<dyn Blacklist> = Arc::new(List(ending));
        for file in ["k.pem", "c.pem", "k.pub"] {
            let bytes = shop.read(file);
            let looked_up = given::during(given::Given { blacklist: Some(Arc::clone(&list)), ..given::Given::default() }, || keys(&bytes));
            assert_eq!(looked_up.objects[0].facts.weaknesses, [DEBIAN_WEAK], "{file}");
            assert!(keys(&bytes).objects[0].facts.weaknesses.is_empty(), "the list is for one parse");
        }
    }
}
