//! Stores as `openssl` and Java's `keytool` write them, and as other programs would have: in pieces, with a PBMAC1, hostile.

use keyvigil_common::key::Role;
use proptest::prelude::*;

use super::super::der::encode;
use super::super::keys::{Found, keys};
use super::*;
use crate::testkit::Workshop;

fn passwords(list: &[&str]) -> given::Given {
    given::Given { passwords: list.iter().map(|text| Password::new((*text).to_owned())).collect(), blacklist: None }
}

fn keys_with(bytes: &[u8], given: &given::Given) -> Parsed {
    given::during(given.clone(), || keys(bytes))
}

/// A certificate `c.pem` with its key `k.pem`, and that of an authority, `ca.pem`.
fn shop() -> Workshop {
    let shop = Workshop::new();
    shop.certificate("c.pem", "k.pem", "web", 9);
    shop.certificate("ca.pem", "ca.key", "ca", 9);
    shop
}

fn export(shop: &Workshop, options: &str) -> Vec<u8> {
    shop.openssl(&format!("pkcs12 -export -inkey k.pem -in c.pem -certfile ca.pem -name web -passout pass:s3crét -out s.p12 {options}"));
    shop.read("s.p12")
}

fn entries(found: &[Found]) -> Vec<(KeyKind, Option<&str>)> {
    found.iter().map(|found| (found.facts.kind, found.within.entry.as_deref())).collect()
}

const WHOLE: [(KeyKind, Option<&str>); 3] = [(KeyKind::Certificate, Some("web")), (KeyKind::Certificate, None), (KeyKind::PrivateKey, Some("web"))];

#[test]
fn a_store_opens_with_the_first_password_that_fits_whatever_it_is_closed_with() {
    let shop = shop();
    let key = shop.spki_sha256("-in k.pem");
    let aes = "pbkdf2-hmac-sha256, 2048 iterations, aes-256-cbc";
    let forms = [
        ("", aes),
        ("-legacy", "pbe-sha1-3des, 2048 iterations"),
        ("-legacy -keypbe PBE-SHA1-RC2-128 -certpbe PBE-SHA1-RC2-40 -macalg sha512", "pbe-sha1-rc2-128, 2048 iterations"),
        ("-legacy -keypbe PBE-SHA1-2DES -certpbe PBE-SHA1-3DES -macalg sha384", "pbe-sha1-2des, 2048 iterations"),
        ("-keypbe AES-128-CBC -certpbe AES-192-CBC -iter 7 -macalg sha224", "pbkdf2-hmac-sha256, 7 iterations, aes-128-cbc"),
        ("-keypbe DES-EDE3-CBC -certpbe NONE", "pbkdf2-hmac-sha256, 2048 iterations, des-ede3-cbc"),
        ("-nomac", aes),
        ("-noiter -macalg sha1", "pbkdf2-hmac-sha256, 1 iterations, aes-256-cbc"),
    ];
    for (options, kdf) in forms {
        let store = export(&shop, options);
        let read = keys_with(&store, &passwords(&["wrong", "s3crét", "s3cret"]));
        assert!(read.faults.is_empty(), "{options}: {:?}", read.faults);
        assert_eq!(entries(&read.objects), WHOLE, "{options}");
        let private = &read.objects[2].facts;
        assert_eq!((&private.fingerprint, private.encrypted, private.kdf.as_deref()), (&key, Some(true), Some(kdf)), "{options}");
        assert_eq!((private.curve.as_deref(), &private.id), (Some("secp256r1"), &private.fingerprint));
        assert!(read.objects.iter().all(|found| found.within.format.as_deref() == Some("pkcs12")));
    }
}

#[test]
fn a_closed_store_tells_what_is_in_clear_how_it_is_protected_and_what_is_missing() {
    let shop = shop();
    let closed = keys(&export(&shop, ""));
    assert_eq!(entries(&closed.objects), [(KeyKind::PrivateKey, Some("web"))], "the name of a key is in clear");
    assert_eq!((closed.objects[0].facts.algorithm.as_str(), closed.objects[0].facts.encrypted), ("unknown (encrypted)", Some(true)));
    let [fault] = &closed.faults[..] else { panic!("{:?}", closed.faults) };
    assert_eq!(fault.class, FaultClass::Locked);
    for part in ["pbkdf2-hmac-sha256, 2048 iterations, aes-256-cbc", "hmac-sha256 with pkcs12, 2048 iterations", "no password is configured"] {
        assert!(fault.reason.contains(part), "{}", fault.reason);
    }
    let store = export(&shop, "");
    let wrong = keys_with(&store, &passwords(&["a", "b"]));
    assert_eq!(wrong.faults.iter().map(|fault| fault.class).collect::<Vec<_>>(), [FaultClass::WrongPassword]);
    assert_eq!(wrong.objects.len(), 1, "what is in clear is read all the same");
    // Certificates in clear: the key is known by the one that belongs to it.
    let paired = keys(&export(&shop, "-certpbe NONE"));
    assert_eq!((entries(&paired.objects).as_slice(), paired.faults.len()), (&WHOLE[..], 0));
    assert_eq!(paired.objects[2].facts.fingerprint, shop.spki_sha256("-in k.pem"));
    // Nothing is encrypted at all.
    let clear = keys(&export(&shop, "-certpbe NONE -keypbe NONE"));
    assert_eq!((entries(&clear.objects).as_slice(), clear.objects[2].facts.encrypted), (&WHOLE[..], Some(false)));
}

#[test]
fn a_key_in_a_store_without_an_authentication_code_opens_with_any_of_the_passwords() {
    let shop = shop();
    let store = export(&shop, "-certpbe NONE -nomac");
    let read = keys_with(&store, &passwords(&["for the key", "s3crét"]));
    assert_eq!((read.objects[2].facts.fingerprint.clone(), read.faults.len()), (shop.spki_sha256("-in k.pem"), 0));
}

#[test]
fn a_changed_store_is_told_from_a_wrong_password() {
    let shop = shop();
    let mut store = export(&shop, "");
    // The authentication code: the last but its salt and count.
    let mac = store.len() - 20;
    store[mac] ^= 1;
    let read = keys_with(&store, &passwords(&["wrong", "s3crét"]));
    assert_eq!(entries(&read.objects), WHOLE, "what can be read is read");
    assert_eq!(read.faults.iter().map(|fault| fault.class).collect::<Vec<_>>(), [FaultClass::Corrupt]);
    assert!(read.faults[0].reason.contains("changed or damaged"), "{:?}", read.faults);
    assert_eq!(keys_with(&store, &passwords(&["wrong"])).faults[0].class, FaultClass::WrongPassword);
}

#[test]
fn a_store_that_asks_for_endless_work_is_refused_at_once() {
    let shop = shop();
    for options in ["", "-legacy", "-nomac"] {
        let store = export(&shop, &format!("{options} -iter 8190"));
        let bomb = with_counts(&store, &2_147_483_647u32.to_be_bytes());
        assert_ne!(bomb.len(), store.len());
        let read = keys_with(&bomb, &passwords(&["s3crét", "other"]));
        assert_eq!(read.faults.last().map(|fault| fault.class), Some(FaultClass::TooCostly), "{options}: {:?}", read.faults);
        // Many cheap ones are dear, too.
        let many: Vec<String> = (0..5_000).map(|n| format!("no {n}")).collect();
        let read = keys_with(&store, &passwords(&many.iter().map(String::as_str).collect::<Vec<_>>()));
        assert_eq!(read.faults.last().map(|fault| fault.class), Some(FaultClass::TooCostly), "{options}: {:?}", read.faults);
    }
}

/// The store with other numbers in place of 8190.
fn with_counts(der: &[u8], count: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut reader = Reader::new(der);
    while let Some(element) = reader.element() {
        let is_inside = element.tag & 0x20 != 0 || element.tag == OCTET_STRING && element.body.first() == Some(&SEQUENCE);
        if element.raw == [2, 2, 0x1f, 0xfe] {
            out.extend(encode(INTEGER, &[count]));
        } else if is_inside && is_list_of_elements(element.body) {
            out.extend(encode(element.tag, &[&with_counts(element.body, count)]));
        } else {
            out.extend_from_slice(element.raw);
        }
    }
    out
}

/// As Windows and NSS write it: no lengths but those of strings, and those in pieces.
fn in_pieces(der: &[u8], strings: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let mut reader = Reader::new(der);
    while let Some(element) = reader.element() {
        let is_store = element.tag == OCTET_STRING && element.body.len() > 40;
        if element.tag & 0x20 != 0 && is_list_of_elements(element.body) {
            out.extend([element.tag, 0x80]);
            out.extend(in_pieces(element.body, strings));
            out.extend([0, 0]);
        } else if element.tag == 0x80 && element.body.len() > 40 {
            out.extend([CONTEXT_0, 0x80]);
            element.body.chunks(100).for_each(|piece| out.extend(encode(OCTET_STRING, &[piece])));
            out.extend([0, 0]);
        } else if is_store {
            out.extend([OCTET_STRING | 0x20, 0x80]);
            // The list of parts and each of these; not the certificates.
            let body = if strings < 2 && element.body[0] == SEQUENCE { in_pieces(element.body, strings + 1) } else { element.body.to_vec() };
            body.chunks(100).for_each(|piece| out.extend(encode(OCTET_STRING, &[piece])));
            out.extend([0, 0]);
        } else {
            out.extend_from_slice(element.raw);
        }
    }
    out
}

fn is_list_of_elements(body: &[u8]) -> bool {
    let mut reader = Reader::new(body);
    while reader.element().is_some() {}
    reader.is_empty()
}

#[test]
fn a_store_in_pieces_without_lengths_is_read() {
    let shop = shop();
    for options in ["-nomac -certpbe AES-256-CBC", "-nomac -certpbe NONE -keypbe NONE"] {
        let pieces = in_pieces(&export(&shop, options), 0);
        shop.write("pieces.p12", &pieces);
        assert_eq!(pieces[1], 0x80);
        shop.openssl("pkcs12 -in pieces.p12 -passin pass:s3crét -noout");
        let read = keys_with(&pieces, &passwords(&["s3crét"]));
        assert_eq!((entries(&read.objects).as_slice(), read.faults.as_slice()), (&WHOLE[..], &[][..]), "{options}");
        assert_eq!(read.objects[0].facts.id, keys(&shop.read("c.pem")).objects[0].facts.id, "the certificate's bytes are its own");
        assert_eq!(keys(&pieces[..pieces.len() / 2]).faults[0].class, FaultClass::Truncated);
    }
}

#[test]
fn a_pbmac1_is_verified() {
    use aws_lc_rs::{hmac, pbkdf2};
    let shop = shop();
    let store = export(&shop, "-nomac");
    let contents = Reader::new(outer(&store).unwrap().contents).take(OCTET_STRING).unwrap();
    let oid = |last: &[u8]| encode(OID, &[&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d], last]);
    let hmac_sha256 = encode(SEQUENCE, &[&oid(&[2, 9]), &[5, 0]]);
    let kdf = encode(SEQUENCE, &[&encode(OCTET_STRING, &[b"saltsalt"]), &[2, 1, 99], &[2, 1, 32], &hmac_sha256]);
    let scheme = encode(SEQUENCE, &[&encode(SEQUENCE, &[&oid(&[1, 5, 12]), &kdf]), &hmac_sha256]);
    let mut key = [0; 32];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, 99.try_into().unwrap(), b"saltsalt", "s3crét".as_bytes(), &mut key);
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), contents);
    let info = encode(SEQUENCE, &[&encode(SEQUENCE, &[&oid(&[1, 5, 14]), &scheme]), &encode(OCTET_STRING, &[tag.as_ref()])]);
    let mac = encode(SEQUENCE, &[&info, &encode(OCTET_STRING, &[b"unused"]), &[2, 1, 1]]);
    let inner = Reader::new(&store).take(SEQUENCE).unwrap();
    let read = |mac: &[u8]| keys_with(&encode(SEQUENCE, &[inner, mac]), &passwords(&["s3crét"]));
    assert_eq!((read(&mac).objects.len(), read(&mac).faults.len()), (3, 0));
    let mut forged = mac.clone();
    let at = forged.windows(4).position(|window| window == &tag.as_ref()[..4]).unwrap();
    forged[at] ^= 1;
    assert_eq!(read(&forged).faults[0].class, FaultClass::Corrupt, "{:?}", read(&forged));
    let closed = keys(&encode(SEQUENCE, &[inner, &mac]));
    assert!(closed.faults.is_empty(), "nothing but a key is closed");
    let store = export(&shop, "-nomac -certpbe AES-256-CBC");
    let closed = keys(&encode(SEQUENCE, &[Reader::new(&store).take(SEQUENCE).unwrap(), &mac]));
    assert!(closed.faults[0].reason.contains("hmac-sha256 with pbkdf2-hmac-sha256, 99 iterations"), "{:?}", closed.faults);
}

#[test]
fn what_keytool_stores_has_its_aliases_and_trusted_certificates_are_trusted() {
    let shop = shop();
    shop.keytool("-genkeypair -alias web -keyalg EC -dname CN=web -keystore j.jks -storepass secret");
    shop.keytool("-genseckey -alias sym -keyalg AES -keysize 256 -keystore j.jks -storepass secret");
    shop.keytool("-importcert -noprompt -alias root -file ca.pem -keystore j.jks -storepass secret");
    let store = shop.read("j.jks");
    let read = keys_with(&store, &passwords(&["secret"]));
    assert!(read.faults.is_empty(), "{:?}", read.faults);
    let by_name = |name: &str| read.objects.iter().filter(|found| found.within.entry.as_deref() == Some(name)).collect::<Vec<_>>();
    let web = by_name("web");
    assert_eq!(web.iter().map(|found| found.facts.kind).collect::<Vec<_>>(), [KeyKind::PrivateKey, KeyKind::Certificate]);
    assert_eq!(web[0].facts.fingerprint, web[1].facts.fingerprint);
    let [root] = by_name("root")[..] else { panic!() };
    assert_eq!((root.within.role, &root.facts.id), (Role::Trusted, &keys(&shop.read("ca.pem")).objects[0].facts.id));
    let [sym] = by_name("sym")[..] else { panic!() };
    assert_eq!((sym.facts.kind, sym.facts.algorithm.as_str(), sym.facts.bits), (KeyKind::SymmetricKey, "aes", Some(256)));
    let closed = keys(&store);
    assert_eq!((closed.objects.len(), closed.faults[0].class), (2, FaultClass::Locked), "both secrets are seen to be there");
}

#[test]
fn a_store_as_pem_is_a_store() {
    let shop = shop();
    export(&shop, "");
    let body = String::from_utf8(shop.openssl("base64 -in s.p12")).unwrap();
    let pem = format!("-----BEGIN PKCS12-----\n{body}-----END PKCS12-----\n");
    assert_eq!(entries(&keys_with(pem.as_bytes(), &passwords(&["s3crét"])).objects), WHOLE);
}

/// Stores of each kind, made once.
fn samples() -> &'static [Vec<u8>] {
    static SAMPLES: std::sync::OnceLock<Vec<Vec<u8>>> = std::sync::OnceLock::new();
    SAMPLES.get_or_init(|| {
        let shop = shop();
        let forms = ["-iter 1", "-iter 1 -certpbe NONE -keypbe NONE -nomac", "-legacy -iter 1", "-nomac -iter 1"];
        let mut samples: Vec<Vec<u8>> = forms.iter().map(|options| export(&shop, options)).collect();
        samples.push(in_pieces(&samples[3], 0));
        samples
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_damaged_store_panics(which in 0usize..5, cut in any::<prop::sample::Index>(), hits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..5)) {
        let mut store = samples()[which].clone();
        for (at, value) in &hits {
            let at = at.index(store.len());
            store[at] = *value;
        }
        if hits.len() % 2 == 0 {
            store.truncate(cut.index(store.len()));
        }
        let read = keys_with(&store, &passwords(&["s3crét", "x"]));
        prop_assert!(read.objects.len() + read.faults.len() <= 20);
    }
}
