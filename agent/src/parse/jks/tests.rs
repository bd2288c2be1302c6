//! Stores that `keytool` wrote, and what may have become of them.

use std::path::Path;

use proptest::prelude::*;

use super::super::keys::{keys, looks_like_keys};
use super::*;
use crate::testkit::Workshop;

fn passwords(list: &[&str]) -> given::Given {
    given::Given { passwords: list.iter().map(|text| Password::new((*text).to_owned())).collect(), blacklist: None }
}

fn keys_with(bytes: &[u8], given: &given::Given) -> Parsed {
    given::during(given.clone(), || keys(bytes))
}

/// A store `s` with a key whose chain has an authority, a certificate that is trusted and, in JCEKS, secret keys.
fn shop(kind: &str) -> Workshop {
    let shop = Workshop::new();
    let store = format!("-keystore s -storetype {kind} -storepass strong-1");
    shop.certificate("ca.pem", "ca.key", "ca", 9);
    shop.keytool(&format!("-genkeypair -alias web -keyalg RSA -keysize 2048 -dname CN=web {store}"));
    shop.keytool(&format!("-certreq -alias web -file r.pem {store}"));
    shop.openssl("x509 -req -in r.pem -CA ca.pem -CAkey ca.key -set_serial 7 -days 9 -out c.pem");
    shop.keytool(&format!("-importcert -noprompt -alias root -file ca.pem {store}"));
    shop.keytool(&format!("-importcert -noprompt -alias web -file c.pem {store}"));
    if kind == "JCEKS" {
        shop.keytool(&format!("-genseckey -alias sym -keyalg AES -keysize 256 {store}"));
        shop.keytool(&format!("-genseckey -alias mac -keyalg HmacSHA256 -keysize 256 {store}"));
    }
    shop
}

#[test]
fn certificates_aliases_and_public_halves_are_read_without_a_password() {
    for kind in ["JKS", "JCEKS"] {
        let shop = shop(kind);
        let store = shop.read("s");
        assert!(looks_like_keys(&store[..64], store.len() as u64, Path::new("/srv/file")));
        let read = keys(&store);
        assert!(read.faults.is_empty(), "{kind}: {:?}", read.faults);
        let find = |kind: KeyKind, alias: &str| {
            let mut all = read.objects.iter().filter(|found| found.facts.kind == kind && found.within.entry.as_deref() == Some(alias));
            all.next().unwrap_or_else(|| panic!("{kind:?} {alias}: {read:?}")).clone()
        };
        let (key, leaf) = (find(KeyKind::PrivateKey, "web"), find(KeyKind::Certificate, "web"));
        assert_eq!(leaf.facts.id, keys(&shop.read("c.pem")).objects[0].facts.id);
        assert_eq!((&key.facts.fingerprint, key.facts.bits, key.facts.encrypted), (&leaf.facts.fingerprint, Some(2048), Some(true)));
        let kdf = if kind == "JKS" { "sha1, 1 iteration, xor" } else { "pbe-md5-3des, 200000 iterations" };
        assert_eq!((key.facts.kdf.as_deref(), key.facts.exponent), (Some(kdf), Some(65_537)));
        assert_eq!(find(KeyKind::Certificate, "root").within.role, Role::Trusted);
        assert_eq!((key.within.role, key.within.format), (Role::Held, Some(kind.to_ascii_lowercase())));
        if kind == "JCEKS" {
            let secrets = ["sym", "mac"].map(|alias| find(KeyKind::SymmetricKey, alias).facts);
            assert_eq!(secrets[0].kdf.as_deref(), Some("PBEWithMD5AndTripleDES, 200000 iterations"));
            assert_ne!(secrets[0].id, secrets[1].id);
        }
    }
}

#[test]
fn a_wrong_password_is_told_from_a_changed_store() {
    let shop = shop("JKS");
    let store = shop.read("s");
    let faults = |store: &[u8], list: &[&str]| keys_with(store, &passwords(list)).faults.iter().map(|fault| fault.class).collect::<Vec<_>>();
    assert_eq!(faults(&store, &["x", "strong-1"]), []);
    assert_eq!(faults(&store, &["x", "y"]), [FaultClass::WrongPassword]);
    // Another alias: nothing of the structure changes.
    let mut changed = store.clone();
    let at = changed.windows(4).position(|window| window == b"root").unwrap();
    changed[at] = b'R';
    assert_eq!(faults(&changed, &["x", "strong-1"]), [FaultClass::Corrupt]);
    assert_eq!(faults(&changed, &[]), [], "without a password nobody can tell");
    assert_eq!(faults(&store[..store.len() - 30], &["x"]), [FaultClass::Truncated]);
    assert_eq!(keys(&store[..store.len() - 30]).objects.len(), keys(&store).objects.len() - 1, "what is whole is read");
    assert_eq!(faults(&[store.clone(), vec![0; 9]].concat(), &[]), [FaultClass::Corrupt]);
}

#[test]
fn stores_of_bouncy_castle_are_known_and_said_not_to_be_read() {
    let bks = [&[0, 0, 0, 2, 0, 0, 0, 20][..], &[7; 20], &[0, 0, 4, 0], &[1; 60]].concat();
    assert!(looks_like_keys(&bks, bks.len() as u64, Path::new("/srv/file")));
    assert_eq!(keys(&bks).faults[0].class, FaultClass::Unsupported);
    use super::super::der::{OCTET_STRING, OID, SEQUENCE, encode};
    let algorithm = encode(SEQUENCE, &[&encode(OID, &[&[0x2a, 3]])]);
    let data = encode(SEQUENCE, &[&algorithm, &encode(OCTET_STRING, &[&[9; 200]])]);
    let check = encode(SEQUENCE, &[&algorithm, &algorithm, &encode(OCTET_STRING, &[&[9; 32]])]);
    let bcfks = encode(SEQUENCE, &[&data, &check]);
    assert_eq!((keys(&bcfks).faults[0].class, keys(&bcfks).objects.len()), (FaultClass::Unsupported, 0));
}

fn samples() -> &'static [Vec<u8>; 2] {
    static SAMPLES: std::sync::OnceLock<[Vec<u8>; 2]> = std::sync::OnceLock::new();
    SAMPLES.get_or_init(|| ["JKS", "JCEKS"].map(|kind| shop(kind).read("s")))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_damaged_store_panics(which in 0usize..2, cut in any::<prop::sample::Index>(), hits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..5)) {
        let mut store = samples()[which].clone();
        for (at, value) in &hits {
            let at = at.index(store.len());
            store[at] = *value;
        }
        if hits.len() % 2 == 0 {
            store.truncate(cut.index(store.len()));
        }
        let read = keys_with(&store, &passwords(&["x"]));
        prop_assert!(read.objects.len() + read.faults.len() <= 20);
    }
}
