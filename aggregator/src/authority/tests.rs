//! Tests of the authority.

use super::*;
use rcgen::{BasicConstraints, PublicKeyData};
use x509_parser::prelude::{FromDer, X509Certificate};

const NOW: i64 = 1_763_836_800_000;

#[test]
fn the_ca_is_made_once_and_a_foreign_key_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let first = Authority::load_or_create(dir.path(), NOW).unwrap();
    let again = Authority::load_or_create(dir.path(), NOW + 86_400_000).unwrap();
    assert_eq!((first.pin(), first.certificates()), (again.pin(), again.certificates()));
    let path = dir.path().join("authority.json");
    let mut state: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    state["cas"][0]["key"] = KeyPair::generate().unwrap().serialize_pem().into();
    std::fs::write(&path, state.to_string()).unwrap();
    let refused = Authority::load_or_create(dir.path(), NOW).unwrap_err();
    assert!(matches!(&refused, AuthorityError::At { source, .. } if matches!(**source, AuthorityError::Mismatch)), "{refused:?}");
}

#[test]
fn the_files_of_an_older_version_are_taken_over_and_their_key_does_not_stay_behind() {
    let dir = tempfile::tempdir().unwrap();
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Keyvigil CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let pem = params.self_signed(&key).unwrap().pem();
    let owner = Identity { tenant: "default".into(), agent: "ab".repeat(16) };
    let mut leaf = leaf_params("agent", NOW, NOW + DAY_MS).unwrap();
    leaf.subject_alt_names = vec![SanType::URI(ia5(&owner.uri()).unwrap())];
    let issued = leaf.signed_by(&KeyPair::generate().unwrap(), &rcgen::Issuer::from_params(&params, &key)).unwrap();
    std::fs::write(dir.path().join("ca.key"), key.serialize_pem()).unwrap();
    std::fs::write(dir.path().join("ca.pem"), &pem).unwrap();
    let ca = Authority::load_or_create(dir.path(), NOW).unwrap();
    assert_eq!(ca.pin(), keyvigil_common::sha256(&key.subject_public_key_info()));
    assert_eq!(std::fs::read_to_string(dir.path().join("ca.pem")).unwrap(), pem);
    assert!(!dir.path().join("ca.key").exists());
    assert!(ca.accepts(&tls::Shown::of(issued.der()).unwrap().issuer), "what it signed before is still good");
    assert_eq!(Authority::load_or_create(dir.path(), NOW).unwrap().pin(), ca.pin());
}

#[test]
fn steps_are_taken_in_their_order_survive_a_restart_and_can_be_taken_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut ca = Authority::load_or_create(dir.path(), NOW).unwrap();
    let (old, step) = (ca.pin(), |what: Result<(), AuthorityError>| matches!(what, Err(AuthorityError::Step(_))));
    assert!(step(ca.issue(NOW)) && step(ca.retire(NOW)) && step(ca.rollback(NOW)));
    let seen = |ca: &Authority| (ca.phase(), ca.list().len(), ca.pin() == old);
    type Step = fn(&Authority, i64) -> Result<(), AuthorityError>;
    let path: [(Step, _); 8] = [
        (Authority::announce, (Phase::Announce, 2, true)),
        (Authority::rollback, (Phase::Stable, 1, true)),
        (Authority::announce, (Phase::Announce, 2, true)),
        (Authority::issue, (Phase::Issue, 2, false)),
        (Authority::rollback, (Phase::Announce, 2, true)),
        (Authority::issue, (Phase::Issue, 2, false)),
        (Authority::retire, (Phase::Stable, 1, false)),
        (Authority::announce, (Phase::Announce, 2, false)),
    ];
    for (take, expected) in path {
        take(&ca, NOW).unwrap();
        let (list, trusts, pem) = (ca.certificates(), ca.trusts(), std::fs::read_to_string(dir.path().join("ca.pem")).unwrap());
        assert_eq!(seen(&ca), expected);
        // A death before ca.pem was written is made good.
        std::fs::write(dir.path().join("ca.pem"), "old").unwrap();
        std::fs::write(dir.path().join("authority.json.1a2b3c"), "half of a ke").unwrap();
        ca = Authority::load_or_create(dir.path(), NOW).unwrap();
        assert_eq!((seen(&ca), ca.certificates(), ca.trusts()), (expected, list, trusts));
        assert_eq!(std::fs::read_to_string(dir.path().join("ca.pem")).unwrap(), pem);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2, "no key is left lying about");
    }
    assert!(step(ca.announce(NOW)) && step(ca.retire(NOW)));
}

#[test]
fn whichever_ca_signs_who_trusts_only_one_of_them_can_follow() {
    use rustls::client::WebPkiServerVerifier;
    use rustls_pki_types::{ServerName, UnixTime};
    let dir = tempfile::tempdir().unwrap();
    let ca = Authority::load_or_create(dir.path(), NOW).unwrap();
    let verifies = |root: &CertificateDer<'static>, chain: &[CertificateDer<'static>]| {
        let mut store = rustls::RootCertStore::empty();
        store.add(root.clone()).unwrap();
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(store), tls::provider()).build().unwrap();
        let now = UnixTime::since_unix_epoch(std::time::Duration::from_millis(NOW.unsigned_abs()));
        let name = ServerName::try_from(AGGREGATOR_NAME).unwrap();
        rustls::client::danger::ServerCertVerifier::verify_server_cert(&*verifier, &chain[0], &chain[1..], &name, &[], now).is_ok()
    };
    ca.announce(NOW).unwrap();
    let [old, new] = &ca.certificates()[..] else { panic!("two") };
    for step in [Authority::issue, Authority::rollback] {
        let chain = ca.server_identity(&[], NOW).unwrap().chain;
        assert!(verifies(old, &chain) && verifies(new, &chain), "{:?}", ca.phase());
        step(&ca, NOW).unwrap();
    }
    ca.issue(NOW).unwrap();
    ca.retire(NOW).unwrap();
    let chain = ca.server_identity(&[], NOW).unwrap().chain;
    assert!(verifies(new, &chain) && !verifies(old, &chain) && chain.len() == 2);
}

#[test]
fn what_a_request_asks_for_beside_its_key_is_ignored() {
    let dir = tempfile::tempdir().unwrap();
    let ca = Authority::load_or_create(dir.path(), NOW).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut greedy = CertificateParams::new(vec![AGGREGATOR_NAME.to_owned()]).unwrap();
    greedy.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    greedy.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let csr = greedy.serialize_request(&key).unwrap().pem().unwrap();
    let identity = Identity { tenant: "default".into(), agent: "ab".repeat(16) };
    let issued = ca.sign_agent(&csr, &identity, NOW, LEAF_DAYS * DAY_MS).unwrap();
    let (_, cert) = X509Certificate::from_der(&issued.certificate).unwrap();
    assert!(!cert.is_ca());
    assert!(!cert.extended_key_usage().unwrap().unwrap().value.server_auth);
    assert_eq!(Identity::from_certificate(&issued.certificate).unwrap(), identity);
    assert!(!format!("{:?}", cert.subject_alternative_name()).contains(AGGREGATOR_NAME));
    assert_eq!(cert.validity().not_after.timestamp() * 1_000, NOW + LEAF_DAYS * DAY_MS);
}

#[test]
fn a_request_that_does_not_prove_its_key_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let ca = Authority::load_or_create(dir.path(), NOW).unwrap();
    let csr = CertificateParams::default().serialize_request(&KeyPair::generate().unwrap()).unwrap();
    let mut forged = csr.pem().unwrap().into_bytes();
    // A character in the last line of the signature.
    let at = forged.len() - 40;
    forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
    let pem = String::from_utf8(forged).unwrap();
    let identity = Identity { tenant: "default".into(), agent: "a".into() };
    assert!(ca.sign_agent(&pem, &identity, NOW, DAY_MS).is_err());
    assert!(ca.sign_agent("not pem", &identity, NOW, DAY_MS).is_err());
}
