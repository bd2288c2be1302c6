//! Certificates that `openssl` makes against what it says of them, and such as it refuses to make, put together here.

use super::super::der::{BIT_STRING, GENERALIZED_TIME, UTC_TIME, encode};
use super::super::keys;
use super::*;
use crate::testkit::Workshop;

const UTF8_STRING: u8 = 0x0c;

/// An Ed25519 key.
fn spki() -> Vec<u8> {
    let identifier = encode(SEQUENCE, &[&encode(OID, &[&[0x2b, 0x65, 0x70]])]);
    encode(SEQUENCE, &[&identifier, &encode(BIT_STRING, &[&[0], &[7; 32]])])
}

fn dn(tag: u8, value: &[u8]) -> Vec<u8> {
    let attribute = encode(SEQUENCE, &[&encode(OID, &[&[0x55, 4, 3]]), &encode(tag, &[value])]);
    encode(SEQUENCE, &[&encode(SET, &[&attribute])])
}

/// A certificate of these parts, some of which no tool would put there.
fn made(serial: &[u8], times: [(u8, &str); 2], subject: &[u8], spki: &[u8]) -> Vec<u8> {
    let algorithm = encode(SEQUENCE, &[&encode(OID, &[&[0x2a, 3, 4]])]);
    let validity = times.map(|(tag, text)| encode(tag, &[text.as_bytes()])).concat();
    let parts = [encode(CONTEXT_0, &[&[2, 1, 2]]), encode(INTEGER, &[serial]), algorithm.clone(), dn(UTF8_STRING, b"issuer")];
    let signed = [parts.concat(), encode(SEQUENCE, &[&validity]), subject.to_vec(), spki.to_vec()].concat();
    encode(SEQUENCE, &[&encode(SEQUENCE, &[&signed]), &algorithm, &encode(BIT_STRING, &[&[0, 1]])])
}

const TIMES: [(u8, &str); 2] = [(UTC_TIME, "260101000000Z"), (UTC_TIME, "270101000000Z")];

#[test]
fn what_a_key_may_be_used_for_and_who_signed_it_is_what_openssl_says() {
    let shop = Workshop::new();
    shop.openssl("req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -subj /CN=ca -days 9");
    shop.write("ext", "keyUsage=critical,digitalSignature,cRLSign,decipherOnly,keyAgreement\nextendedKeyUsage=serverAuth,OCSPSigning,1.2.3.4\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\nbasicConstraints=CA:FALSE\n");
    shop.openssl("req -newkey rsa:2048 -nodes -keyout k.pem -out r.pem -subj /CN=x -addext keyUsage=keyEncipherment -addext extendedKeyUsage=clientAuth");
    shop.openssl("x509 -req -in r.pem -CA ca.pem -CAkey ca.key -set_serial 7 -extfile ext -days 9 -out c.pem");
    let leaf = &keys(&shop.read("c.pem")).objects[0].facts;
    assert_eq!(leaf.usage, ["digitalSignature", "keyAgreement", "cRLSign", "decipherOnly", "serverAuth", "OCSPSigning", "1.2.3.4"]);
    let said = |option: &str| {
        let text = String::from_utf8(shop.openssl(&format!("x509 -in c.pem -noout -ext {option}"))).unwrap();
        text.lines().last().unwrap().trim().replace(':', "").to_ascii_lowercase()
    };
    assert_eq!(leaf.key_id, Some(said("subjectKeyIdentifier")));
    assert_eq!(leaf.authority_key_id, Some(said("authorityKeyIdentifier")));
    let ca = &keys(&shop.read("ca.pem")).objects[0].facts;
    assert_eq!((&ca.key_id, ca.is_ca, leaf.is_ca, leaf.exponent), (&leaf.authority_key_id, Some(true), Some(false), Some(65_537)));
    let request = &keys(&shop.read("r.pem")).objects[0].facts;
    assert_eq!((request.usage.as_slice(), request.exponent), (&["keyEncipherment".to_owned(), "clientAuth".to_owned()][..], Some(65_537)));
    assert_eq!(keys(&shop.read("k.pem")).objects[0].facts.exponent, Some(65_537), "of the private key, too");
}

#[test]
fn times_of_every_century_and_every_form_are_read() {
    let cases = [
        ((UTC_TIME, "491231235959Z"), 2_524_607_999),
        ((UTC_TIME, "500101000000Z"), -631_152_000),
        ((UTC_TIME, "6912312359Z"), -60),
        ((UTC_TIME, "700101010000+0100"), 0),
        ((GENERALIZED_TIME, "20500101000000Z"), 2_524_608_000),
        ((GENERALIZED_TIME, "99991231235959Z"), 253_402_300_799),
        ((GENERALIZED_TIME, "00010101000000Z"), -62_135_596_800),
        ((GENERALIZED_TIME, "20240229120000.123Z"), 1_709_208_000),
    ];
    for (time, seconds) in cases {
        let facts = certificate(&made(&[1], [TIMES[0], time], &dn(UTF8_STRING, b"x"), &spki())).unwrap();
        assert_eq!(facts.not_after_ms, Some(seconds * 1_000), "{time:?}");
    }
    for broken in ["", "27", "271301000000Z", "2701010000xxZ"] {
        let fault = certificate(&made(&[1], [TIMES[0], (UTC_TIME, broken)], &dn(UTF8_STRING, b"x"), &spki())).unwrap_err();
        assert!(fault.contains("validity"), "{fault}: an end that is not known is not for ever");
    }
}

#[test]
fn serial_numbers_of_any_size_and_sign_are_told_apart() {
    let of = |number: &[u8]| certificate(&made(number, TIMES, &dn(UTF8_STRING, b"x"), &spki())).unwrap().serial.unwrap();
    assert_eq!((of(&[0]), of(&[0, 0xfb]), of(&[0xfb]), of(&[0xff, 0])), ("00".into(), "fb".into(), "-05".into(), "-0100".into()));
    assert_eq!(of(&[0x7f; 200]), "7f".repeat(200));
    let shop = Workshop::new();
    shop.openssl("req -x509 -newkey rsa:1024 -nodes -keyout k.pem -out c.pem -subj /CN=x -set_serial -5");
    let said = String::from_utf8(shop.openssl("x509 -in c.pem -noout -serial")).unwrap();
    assert_eq!(keys(&shop.read("c.pem")).objects[0].facts.serial.as_deref(), said.trim().strip_prefix("serial="));
}

#[test]
fn names_are_read_in_every_encoding() {
    let wide = |text: &str| text.encode_utf16().flat_map(u16::to_be_bytes).collect::<Vec<_>>();
    let cases: [(u8, Vec<u8>, &str); 6] = [
        (0x1e, wide("Müller 東京 🔑"), "CN=Müller 東京 🔑"),
        (0x1c, "Łódź".chars().flat_map(|c| (c as u32).to_be_bytes()).collect(), "CN=Łódź"),
        (0x14, b"M\xfcller".to_vec(), "CN=Müller"),
        (UTF8_STRING, "Müller".into(), "CN=Müller"),
        (UTF8_STRING, b"M\xfcller".to_vec(), "CN=Müller"),
        (0x13, b"plain".to_vec(), "CN=plain"),
    ];
    for (tag, value, expected) in cases {
        assert_eq!(certificate(&made(&[1], TIMES, &dn(tag, &value), &spki())).unwrap().subject.as_deref(), Some(expected));
    }
    assert_eq!(certificate(&made(&[1], TIMES, &encode(SEQUENCE, &[]), &spki())).unwrap().subject.as_deref(), Some(""));
}

#[test]
fn a_key_of_an_unknown_algorithm_hides_nothing_else() {
    let identifier = encode(SEQUENCE, &[&encode(OID, &[&[0x2b, 6, 1, 4, 1, 0x82, 0x37, 99]])]);
    let unknown = encode(SEQUENCE, &[&identifier, &encode(BIT_STRING, &[&[0], &[9; 2_000]])]);
    let facts = certificate(&made(&[5], TIMES, &dn(UTF8_STRING, b"x"), &unknown)).unwrap();
    assert_eq!((facts.algorithm.as_str(), facts.signature_algorithm.as_deref()), ("unknown (1.3.6.1.4.1.311.99)", Some("1.2.3.4")));
    assert_eq!((facts.fingerprint, facts.not_after_ms), (hex(&sha256(&unknown)), Some(1_798_761_600_000)));
}

#[test]
fn curves_that_are_spelled_out_have_their_size() {
    let shop = Workshop::new();
    for (curve, bits) in [("prime256v1", 256), ("sect283k1", 283), ("brainpoolP384r1", 384)] {
        shop.openssl(&format!("ecparam -name {curve} -param_enc explicit -genkey -noout -out k.pem"));
        shop.openssl("req -x509 -new -key k.pem -subj /CN=x -out c.pem");
        let facts = &keys(&shop.read("c.pem")).objects[0].facts;
        assert_eq!((facts.bits, facts.curve.as_deref()), (Some(bits), Some("explicit parameters")), "{curve}");
        assert_eq!(keys(&shop.read("k.pem")).objects[0].facts.fingerprint, facts.fingerprint, "the key and its certificate are bound");
    }
    for curve in ["brainpoolP320t1", "secp112r1", "sect571r1", "SM2"] {
        shop.openssl(&format!("ecparam -name {curve} -genkey -noout -out k.pem"));
        let facts = &keys(&shop.read("k.pem")).objects[0].facts;
        assert!(facts.bits.is_some() && facts.curve.as_ref().is_some_and(|name| !name.contains('.')), "{curve}: {facts:?}");
    }
}
