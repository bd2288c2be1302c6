//! Keys of other programs than OpenSSH, made by `ssh-keygen -e` and `puttygen`.

use std::path::Path;

use keyvigil_common::key::KeyKind;
use proptest::prelude::*;

use crate::testkit::{Workshop, all, damaged, keys, only};

#[test]
fn ssh2_public_keys_have_the_fingerprint_of_their_openssh_form() {
    let shop = Workshop::new();
    let mut both = Vec::new();
    for kind in ["ed25519", "rsa"] {
        shop.ssh_keygen(&format!("-q -t {kind} -N '' -C me@{kind} -f {kind}"));
        let text = shop.ssh_keygen(&format!("-e -m RFC4716 -f {kind}.pub"));
        let found = only(&text, "/k");
        assert_eq!((found.facts.fingerprint, found.within.format.as_deref()), (shop.ssh_fingerprint(&format!("{kind}.pub")), Some("ssh2")));
        assert!(found.facts.subject.unwrap().contains("converted by"));
        both.extend(String::from_utf8(text).unwrap().replace("Comment: ", "Subject: x\\\r\n y: z\r\nComment: ").into_bytes());
    }
    assert_eq!(all(&both, "/k").len(), 2);
    assert_eq!(keys(&both[..both.len() - 20], Path::new("/k")).faults.len(), 1);
}

#[test]
fn putty_keys_show_their_public_half_and_how_they_are_protected() {
    let shop = Workshop::new();
    shop.write("old", "secret\n");
    for (options, kdf) in [
        ("-P --new-passphrase old", Some("argon2id, 8192 KiB, 1 passes, parallelism 1, aes256-cbc")),
        ("-P --new-passphrase old --ppk-param version=2", Some("sha1, 1 iteration, aes256-cbc")),
        ("", None),
    ] {
        for kind in ["ed25519", "rsa", "ecdsa"] {
            shop.ssh_keygen(&format!("-q -t {kind} -N '' -C me -f key"));
            let passes = if kdf.is_some_and(|kdf| kdf.starts_with("argon")) { "--ppk-param memory=8192,passes=1,parallelism=1" } else { "" };
            shop.run("puttygen", &format!("key -O private -o key.ppk {options} {passes}"));
            let facts = only(&shop.read("key.ppk"), "/key.ppk").facts;
            assert_eq!((facts.kind, facts.fingerprint), (KeyKind::SshPrivateKey, shop.ssh_fingerprint("key.pub")), "{options} {kind}");
            assert_eq!((facts.encrypted, facts.kdf.as_deref(), facts.subject.as_deref()), (Some(kdf.is_some()), kdf, Some("me")));
            std::fs::remove_file(shop.path("key")).unwrap();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_damaged_file_panics(which in 0usize..2, cut in any::<prop::sample::Index>(), hits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6)) {
        static FILES: std::sync::OnceLock<[Vec<u8>; 2]> = std::sync::OnceLock::new();
        let files = FILES.get_or_init(|| {
            let shop = Workshop::new();
            shop.ssh_keygen("-q -t ed25519 -N '' -f key");
            shop.run("puttygen", "key -O private -o key.ppk");
            [shop.read("key.ppk"), shop.ssh_keygen("-e -m RFC4716 -f key.pub")]
        });
        let parsed = keys(&damaged(&files[which], &hits, cut), Path::new("/k"));
        prop_assert!(parsed.objects.len() + parsed.faults.len() <= 2);
    }
}
