//! What we read of keys that `gpg` made against what it says of them itself.

use std::path::Path;

use keyvigil_common::key::{KeyFacts, KeyKind, Role};
use keyvigil_common::limits::KEYS_PER_FILE_MAX;
use proptest::prelude::*;

use crate::parse::keys::FaultClass;
use crate::testkit::{Gpg, all, damaged, keys, only};

fn facts(bytes: &[u8]) -> Vec<KeyFacts> {
    all(bytes, "/srv/k.gpg").into_iter().map(|found| found.facts).collect()
}

/// The keys of what `--with-colons` prints: fingerprint, bits, made, ends, may.
fn told(gpg: &Gpg, user: &str) -> Vec<(String, u32, i64, Option<i64>, String)> {
    let rows = gpg.colons(user);
    let keys = rows.iter().filter(|row| row[0] == "pub" || row[0] == "sub");
    let may = |letters: &str| {
        let names = [('c', "certify"), ('s', "sign"), ('e', "encrypt"), ('a', "authenticate")];
        names.iter().filter(|(letter, _)| letters.contains(*letter)).map(|(_, name)| *name).collect::<Vec<_>>().join(" ")
    };
    let ms = |text: &str| text.parse::<i64>().ok().map(|seconds| seconds * 1_000);
    // Of these two curves it counts what a number takes, everyone else what a key takes.
    let bits = |text: &str| if text == "255" { 256 } else { text.parse().unwrap() };
    let keys = keys.map(|row| (bits(&row[2]), ms(&row[5]).unwrap(), ms(&row[6]), may(&row[11])));
    gpg.fingerprints(user).into_iter().zip(keys).map(|(id, (bits, made, ends, may))| (id, bits, made, ends, may)).collect()
}

fn read(facts: &[KeyFacts]) -> Vec<(String, u32, i64, Option<i64>, String)> {
    let one =
        |facts: &KeyFacts| (facts.key_id.clone().unwrap(), facts.bits.unwrap_or(0), facts.not_before_ms.unwrap(), facts.not_after_ms, facts.usage.join(" "));
    facts.iter().map(one).collect()
}

#[test]
fn keys_of_every_algorithm_are_as_gpg_lists_them() {
    let gpg = Gpg::new();
    for (primary, subkey, usage) in [
        ("ed25519", "cv25519", "encr"),
        ("rsa2048", "rsa3072", "sign"),
        ("nistp256", "nistp384", "encr"),
        ("brainpoolP256r1", "ed25519", "auth"),
        ("dsa1024", "elg1024", "encr"),
    ] {
        let user = format!("{primary}@example.org");
        let id = gpg.key(&user, primary, if primary == "rsa2048" { "sign,cert" } else { "cert" }, "2y");
        gpg.run(&format!("--passphrase '' --quick-add-key {id} {subkey} {usage} 30d"));
        let (binary, armoured) = (gpg.run(&format!("--export {user}")), gpg.run(&format!("--armor --export {user}")));
        let found = facts(&binary);
        assert_eq!(read(&found), told(&gpg, &user), "{primary}");
        assert_eq!(facts(&armoured), found);
        assert_eq!((found[0].kind, found[0].subject.as_deref(), &found[1].issuer), (KeyKind::OpenpgpPublicKey, Some(user.as_str()), &found[0].key_id));
        assert_eq!(found[0].sans, [format!("uid:{user}")]);
        let secret = facts(&gpg.run(&format!("--passphrase '' --export-secret-keys {user}")));
        let same = |facts: &KeyFacts| (facts.id.clone(), facts.fingerprint.clone(), facts.usage.clone(), facts.not_after_ms);
        assert_eq!(secret.iter().map(same).collect::<Vec<_>>(), found.iter().map(same).collect::<Vec<_>>());
        assert!(secret.iter().all(|facts| facts.kind == KeyKind::OpenpgpPrivateKey && facts.encrypted == Some(false)));
    }
    let names: Vec<_> = facts(&gpg.run("--export")).into_iter().map(|facts| (facts.algorithm, facts.curve)).collect();
    let named = |algorithm: &str, curve: Option<&str>| names.contains(&(algorithm.into(), curve.map(str::to_owned)));
    assert!(named("ed25519", None) && named("x25519", None) && named("rsa", None) && named("dsa", None) && named("elgamal", None), "{names:?}");
    assert!(named("ec", Some("secp384r1")) && named("ec", Some("brainpoolP256r1")), "{names:?}");
}

#[test]
fn an_openpgp_key_has_the_fingerprint_that_the_same_key_has_elsewhere() {
    let gpg = Gpg::new();
    let id = gpg.key("rsa@example.org", "rsa2048", "sign,cert,auth", "never");
    let openpgp = facts(&gpg.run("--export rsa@example.org"));
    let ssh = gpg.run(&format!("--export-ssh-key {id}!"));
    gpg.0.write("key.pub", ssh);
    gpg.0.write("key.pem", gpg.0.run("ssh-keygen", "-e -m PKCS8 -f key.pub"));
    assert_eq!((&openpgp[0].fingerprint, openpgp[0].exponent), (&only(&gpg.0.read("key.pem"), "/k").facts.fingerprint, Some(65_537)));
}

#[test]
fn the_newest_self_signature_tells_the_end_and_a_revoked_user_is_left_out() {
    let gpg = Gpg::new();
    let id = gpg.key("first@example.org", "ed25519", "sign,cert", "1y");
    gpg.run("--quick-add-uid first@example.org second@example.org");
    gpg.run("--quick-add-uid first@example.org third@example.org");
    gpg.run(&format!("--faked-system-time 20350101T000000! --quick-set-expire {id} 5y"));
    gpg.run("--faked-system-time 20350102T000000! --quick-set-primary-uid second@example.org second@example.org");
    gpg.run("--faked-system-time 20350103T000000! --quick-revoke-uid second@example.org third@example.org");
    let found = facts(&gpg.run("--export second@example.org"));
    assert_eq!(read(&found), told(&gpg, "second@example.org"));
    assert_eq!(found[0].not_after_ms, Some(2_208_902_400_000));
    assert_eq!((found[0].subject.as_deref(), found[0].sans.len()), (Some("second@example.org"), 2), "{:?}", found[0].sans);
}

#[test]
fn a_subkey_lasts_no_longer_than_its_primary() {
    let gpg = Gpg::new();
    let id = gpg.key("a@example.org", "ed25519", "cert", "10d");
    gpg.run(&format!("--passphrase '' --quick-add-key {id} cv25519 encr 20d"));
    gpg.run(&format!("--passphrase '' --quick-add-key {id} cv25519 encr never"));
    let found = facts(&gpg.run("--export"));
    assert_eq!(found.iter().map(|facts| facts.not_after_ms).collect::<Vec<_>>(), [found[0].not_after_ms; 3]);
}

#[test]
fn a_revoked_key_says_when_and_why_and_takes_its_subkeys_along() {
    let gpg = Gpg::new();
    let id = gpg.key("a@example.org", "ed25519", "cert", "never");
    for _ in 0..2 {
        gpg.run(&format!("--passphrase '' --quick-add-key {id} cv25519 encr never"));
    }
    gpg.talk("--edit-key a@example.org", "key 1\nrevkey\ny\n1\nwas copied\n\ny\nsave\n");
    let found = facts(&gpg.run("--export a@example.org"));
    let why = |facts: &KeyFacts| facts.revocation.clone();
    assert_eq!(found.iter().map(why).collect::<Vec<_>>(), [None, Some("its primary key's signature: keyCompromise (was copied)".into()), None]);
    assert!(found[1].revoked_ms >= found[1].not_before_ms && found[2].revoked_ms.is_none());

    let certificate = gpg.0.text(&format!("openpgp-revocs.d/{}.rev", id.to_ascii_uppercase())).replace("\n:---", "\n---");
    gpg.0.write("revoke.asc", &certificate);
    assert!(keys(certificate.as_bytes(), Path::new("/r.asc")).objects.is_empty(), "a revocation alone is no key");
    gpg.run("--import revoke.asc");
    let found = facts(&gpg.run("--export a@example.org"));
    assert_eq!(found[0].revocation.as_deref(), Some("its own signature: no reason given"));
    assert_eq!(found[2].revocation.as_deref(), Some("of its primary key, its own signature: no reason given"));
    assert_eq!(found[2].revoked_ms, found[0].revoked_ms);
}

#[test]
fn a_strangers_revocation_means_nothing() {
    let gpg = Gpg::new();
    gpg.key("a@example.org", "ed25519", "cert", "never");
    let stranger = gpg.key("b@example.org", "ed25519", "cert", "never");
    let revocation = gpg.0.text(&format!("openpgp-revocs.d/{}.rev", stranger.to_ascii_uppercase())).replace("\n:---", "\n---");
    gpg.0.write("revoke.asc", revocation);
    let signature = gpg.run("--dearmor --output - revoke.asc");
    let key = gpg.run("--export a@example.org");
    let first = 2 + usize::from(key[1]);
    let spliced = [&key[..first], &signature, &key[first..]].concat();
    assert_eq!(facts(&spliced)[0].revoked_ms, None);
}

#[test]
fn secret_keys_say_how_they_are_protected_or_that_they_are_elsewhere() {
    let gpg = Gpg::new();
    gpg.run("--passphrase secret --quick-gen-key a@example.org ed25519 cert never");
    let id = gpg.fingerprints("a@example.org")[0].clone();
    gpg.run(&format!("--passphrase secret --quick-add-key {id} cv25519 encr never"));
    let secret = facts(&gpg.run("--passphrase secret --export-secret-keys a@example.org"));
    for facts in &secret {
        let kdf = facts.kdf.as_deref().unwrap();
        assert!(kdf.starts_with("s2k-iterated-sha1, ") && kdf.ends_with(" bytes, aes-128-cfb"), "{kdf}");
        assert_eq!((facts.kind, facts.encrypted), (KeyKind::OpenpgpPrivateKey, Some(true)));
    }
    let stub = facts(&gpg.run("--passphrase secret --export-secret-subkeys a@example.org"));
    assert_eq!((stub[0].kind, stub[0].kdf.as_deref()), (KeyKind::OpenpgpPublicKey, Some("the secret half is not in this file")));
    assert_eq!((&stub[0].id, stub[1].kind), (&secret[0].id, KeyKind::OpenpgpPrivateKey));
    // A key on a card differs from that in two bytes and the card's number.
    let mut on_card = gpg.run("--passphrase secret --export-secret-subkeys a@example.org");
    let at = on_card.windows(3).position(|part| part == b"GNU").unwrap() + 3;
    on_card.splice(at..=at, [2, 4, 0xd2, 0x76, 0, 1]);
    on_card[1] += 5;
    assert_eq!(facts(&on_card)[0].kdf.as_deref(), Some("the secret half is on a card, d2760001"));
}

#[test]
fn a_keybox_has_what_gpg_lists_and_private_keys_have_their_fingerprints() {
    let gpg = Gpg::new();
    for (user, algorithm) in [("a@example.org", "ed25519"), ("b@example.org", "rsa2048"), ("c@example.org", "nistp256")] {
        gpg.key(user, algorithm, "sign,cert", "1y");
    }
    let keybox = all(&gpg.0.read("pubring.kbx"), "/home/a/.gnupg/pubring.kbx");
    assert_eq!(keybox.iter().map(|found| found.facts.clone()).collect::<Vec<_>>(), facts(&gpg.run("--export")));
    assert!(keybox.iter().all(|found| found.within.format.as_deref() == Some("keybox") && found.within.role == Role::Held));
    assert_eq!(all(&gpg.0.read("pubring.kbx"), "/usr/share/keyrings/x.gpg")[0].within.role, Role::Trusted);
    let mut grips: Vec<String> = gpg.run_grips();
    for entry in std::fs::read_dir(gpg.0.path("private-keys-v1.d")).unwrap() {
        let path = entry.unwrap().path();
        let found = only(&std::fs::read(&path).unwrap(), path.to_str().unwrap());
        let grip = found.within.entry.unwrap();
        let at = grips.iter().position(|known| *known == grip).unwrap();
        grips.remove(at);
        assert!(keybox.iter().any(|public| public.facts.fingerprint == found.facts.fingerprint), "{:?}", found.facts);
        assert_eq!((found.facts.kind, found.facts.encrypted), (KeyKind::OpenpgpPrivateKey, Some(false)));
    }
    assert!(grips.is_empty(), "{grips:?}");
}

impl Gpg {
    fn run_grips(&self) -> Vec<String> {
        let text = String::from_utf8(self.run("--with-colons --with-keygrip --list-secret-keys")).unwrap();
        text.lines().filter(|line| line.starts_with("grp:")).map(|line| line.split(':').nth(9).unwrap().to_owned()).collect()
    }
}

#[test]
fn version_6_keys_have_the_fingerprint_that_their_signatures_name() {
    // RFC 9580, appendix A.3.
    let armoured = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n\
        xioGY4d/4xsAAAAg+U2nu0jWCmHlZ3BqZYfQMxmZu52JGggkLq2EVD34laPCsQYf\n\
        GwoAAABCBYJjh3/jAwsJBwUVCg4IDAIWAAKbAwIeCSIhBssYbE8GCaaX5NUt+mxy\n\
        KwwfHifBilZwj2Ul7Ce62azJBScJAgcCAAAAAK0oIBA+LX0ifsDm185Ecds2v8lw\n\
        gyU2kCcUmKfvBXbAf6rhRYWzuQOwEn7E/aLwIwRaLsdry0+VcallHhSu4RN6HWaE\n\
        QsiPlR4zxP/TP7mhfVEe7XWPxtnMUMtf15OyA51YBM4qBmOHf+MZAAAAIIaTJINn\n\
        +eUBXbki+PSAld2nhJh/LVmFsS+60WyvXkQ1wpsGGBsKAAAALAWCY4d/4wKbDCIh\n\
        BssYbE8GCaaX5NUt+mxyKwwfHifBilZwj2Ul7Ce62azJAAAAAAQBIKbpGG2dWTX8\n\
        j+VjFM21J0hqWlEg+bdiojWnKfA5AQpWUtWnNwDEM0g12vYxoWM8Y81W+bHBw805\n\
        I8kWVkXU6vFOi+HWvv/ira7ofJu16NnoUkhclkUrk0mXubZvyl4GBg==\n\
        -----END PGP PUBLIC KEY BLOCK-----\n";
    let found = facts(armoured.as_bytes());
    assert_eq!(found[0].key_id.as_deref(), Some("cb186c4f0609a697e4d52dfa6c722b0c1f1e27c18a56708f6525ec27bad9acc9"));
    assert_eq!((found[0].algorithm.as_str(), found[0].usage.join(" ")), ("ed25519", "certify sign".into()));
    assert_eq!((found[1].algorithm.as_str(), found[1].usage.join(" "), &found[1].issuer), ("x25519", "encrypt".into(), &found[0].key_id));
}

#[test]
fn armour_may_lack_its_check_sum_and_one_that_does_not_fit_is_told() {
    let gpg = Gpg::new();
    gpg.key("a@example.org", "ed25519", "cert", "never");
    let text = String::from_utf8(gpg.run("--armor --export a@example.org")).unwrap();
    let sum = text.lines().rev().nth(1).unwrap().to_owned();
    assert!(sum.starts_with('=') && sum.len() == 5, "{sum}");
    let bare = text.replace(&format!("{sum}\n"), "");
    gpg.key("b@example.org", "ed25519", "cert", "never");
    let other = String::from_utf8(gpg.run("--armor --export b@example.org")).unwrap();
    let two = format!("Comment: our keys\n{bare}\nand\n{}", other.replace("-----\n\n", "-----\nVersion: x\nComment: a: b\n\n"));
    assert_eq!((facts(bare.as_bytes()), facts(two.as_bytes()).len()), (facts(text.as_bytes()), 2));
    let parsed = keys(text.replace(&sum, "=AAAA").as_bytes(), Path::new("/k.asc"));
    assert_eq!((parsed.objects.len(), parsed.faults.len()), (1, 1));
    let cut = keys(&gpg.run("--export a@example.org")[..120], Path::new("/k.gpg"));
    assert_eq!((cut.objects.len(), cut.faults[0].class), (1, FaultClass::Truncated));
}

#[test]
fn keys_for_packages_vouch_for_others() {
    let gpg = Gpg::new();
    gpg.key("apt@example.org", "rsa2048", "sign,cert", "never");
    let (binary, armoured) = (gpg.run("--export"), gpg.run("--armor --export"));
    assert_eq!(only(&armoured, "/etc/apt/keyrings/x.asc").within.role, Role::Trusted);
    assert_eq!(only(&binary, "/usr/share/keyrings/x.gpg").within.role, Role::Trusted);
    assert_eq!(only(&binary, "/home/a/x.gpg").within.role, Role::Held);
}

/// What real files hold, made once.
fn samples() -> &'static [Vec<u8>] {
    static SAMPLES: std::sync::OnceLock<Vec<Vec<u8>>> = std::sync::OnceLock::new();
    SAMPLES.get_or_init(|| {
        let gpg = Gpg::new();
        let id = gpg.key("a@example.org", "ed25519", "cert", "1y");
        gpg.run(&format!("--passphrase '' --quick-add-key {id} rsa1024 encr never"));
        let grip = gpg.run_grips()[0].clone();
        let secret = gpg.run("--passphrase '' --export-secret-keys");
        vec![gpg.run("--export"), secret, gpg.0.read("pubring.kbx"), gpg.0.read(&format!("private-keys-v1.d/{grip}.key")), gpg.run("--armor --export")]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_damaged_file_panics(which in 0usize..5, cut in any::<prop::sample::Index>(), hits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6)) {
        let parsed = keys(&damaged(&samples()[which], &hits, cut), Path::new("/k"));
        prop_assert!(parsed.objects.len() + parsed.faults.len() <= KEYS_PER_FILE_MAX + 1);
        prop_assert!(parsed.objects.iter().all(|found| found.facts.is_clamped() && found.facts.id.len() == 64));
    }

    #[test]
    fn no_packets_panic(tag in 0u8..64, body in proptest::collection::vec(any::<u8>(), 0..200), version in 2u8..8, algorithm in 0u8..40) {
        let mut bytes = vec![0xc6, 60, version, 1, 2, 3, 4, algorithm];
        bytes.resize(62, 7);
        bytes.extend([0xc0 | tag, body.len().min(191) as u8]);
        bytes.extend(&body[..body.len().min(191)]);
        let _ = (keys(&bytes, Path::new("/k")), keys(&body, Path::new("/k")));
    }
}
