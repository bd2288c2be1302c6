//! Lists of SSH keys as sshd and ssh read them, made by `ssh-keygen`.

use std::path::Path;

use keyvigil_common::hex;
use keyvigil_common::key::{KeyKind, Role};
use proptest::prelude::*;

use crate::testkit::{Workshop, all, damaged, keys, only};

/// A shop with the keys `a` and `b`; their lines.
fn shop() -> (Workshop, String, String) {
    let shop = Workshop::new();
    shop.ssh_keygen("-q -t ed25519 -N '' -C one@host -f a");
    shop.ssh_keygen("-q -t ecdsa -N '' -C two -f b");
    let line = |name: &str| shop.text(name).trim().to_owned();
    let (a, b) = (line("a.pub"), line("b.pub"));
    (shop, a, b)
}

#[test]
fn authorized_keys_say_what_a_key_may_do_and_until_when() {
    let (shop, a, b) = shop();
    let text = format!(
        "# comment ssh-ed25519 AAAA\n\
         restrict,pty,from=\"10.0.0.0/8,*.example.org\",expiry-time=\"20270102\" {a}\n\
         command=\"/bin/echo \\\"a, b\\\" ssh-rsa AAAA\",no-pty,environment=\"TOKEN=secret\" {b} M\u{fc}ller\u{1}\n\
         cert-authority,principals=\"root,admin\",expiry-time=\"202701020304Z\" {a}\r\n\t{b}\n"
    );
    let found = all(text.as_bytes(), "/home/a/.ssh/authorized_keys");
    let told: Vec<_> = found.iter().map(|found| (found.within.options.join(" "), found.within.not_after_ms, found.facts.is_ca)).collect();
    let (day, minute) = (1_798_848_000_000, 1_798_848_000_000 + (3 * 60 + 4) * 60_000);
    assert_eq!(
        told,
        [
            ("restrict pty from=10.0.0.0/8,*.example.org".into(), Some(day), None),
            ("command no-pty environment".into(), None, None),
            ("principals=root,admin".into(), Some(minute), Some(true)),
            (String::new(), None, None),
        ]
    );
    assert!(found.iter().all(|found| found.facts.usage.is_empty() && found.facts.not_after_ms.is_none()), "the next line may say otherwise of the same key");
    assert!(found.iter().all(|found| found.within.role == Role::Authorized && found.within.format.as_deref() == Some("authorized_keys")));
    assert_eq!(found[0].facts.fingerprint, shop.ssh_fingerprint("a.pub"));
    assert_eq!(found[1].facts.subject.as_deref(), Some("two M\u{fc}ller"));
    assert!(!format!("{found:?}").contains("secret"));
    let odd = [format!("{a} caf").as_bytes(), b"\xe9\n"].concat();
    assert_eq!(only(&odd, "/k.pub").facts.subject.as_deref(), Some("one@host caf\u{fffd}"));
}

#[test]
fn known_hosts_name_the_hosts_and_what_is_revoked() {
    let (shop, a, b) = shop();
    shop.write("known", format!("web.example,192.0.2.1 {a}\n[db.example]:2222 {b}\n"));
    shop.write("hashed", shop.read("known"));
    shop.ssh_keygen("-q -H -f hashed");
    let known = format!("{}@cert-authority *.example {a}\n@revoked * {b}\n", shop.text("known"));
    let found = all(known.as_bytes(), "/etc/ssh/ssh_known_hosts");
    let told: Vec<_> = found.iter().map(|found| (found.within.entry.as_deref().unwrap(), found.within.role, found.facts.is_ca)).collect();
    let expected = [
        ("web.example,192.0.2.1", Role::Peer, None),
        ("[db.example]:2222", Role::Peer, None),
        ("*.example", Role::Trusted, Some(true)),
        ("*", Role::Peer, None),
    ];
    assert_eq!(told, expected);
    assert_eq!(found.iter().map(|found| found.facts.revocation.is_some()).collect::<Vec<_>>(), [false, false, false, true]);
    let hashed = all(&shop.read("hashed"), "/home/a/.ssh/known_hosts");
    // Nobody can tell the names of one key apart.
    assert!(hashed.len() == 2 && hashed.iter().all(|found| found.within.entry.as_deref() == Some("hashed") && found.within.role == Role::Peer), "{hashed:?}");
}

#[test]
fn a_line_without_more_is_told_by_its_file() {
    let (_shop, a, b) = shop();
    let role = |text: &str, path: &str| all(text.as_bytes(), path)[0].within.role;
    assert_eq!(role(&a, "/etc/ssh/ssh_host_ed25519_key.pub"), Role::Held);
    assert_eq!(role(&a, "/srv/key"), Role::Held);
    assert_eq!(role(&a, "/home/a/.ssh/authorized_keys2"), Role::Authorized);
    assert_eq!(role(&a, "/etc/ssh/authorized_keys.d/alice"), Role::Authorized);
    assert_eq!(role(&format!("{a}\n{b}\n"), "/etc/ssh/keys/alice"), Role::Authorized);
    let list = only(format!("{a}\n{b}\n").as_bytes(), "/etc/ssh/revoked_keys");
    assert_eq!((list.facts.kind, list.facts.revokes.len(), list.within.format.as_deref()), (KeyKind::Crl, 2, Some("krl")));
}

#[test]
fn text_that_speaks_of_keys_is_none() {
    for text in ["the word AAAA stands here\n", "a-b AAAAB3NzaC1yc2E\n", "x AAAA\nssh-rsa\n"] {
        assert!(keys(text.as_bytes(), Path::new("/etc/motd")).not_a_key, "{text}");
    }
}

/// Length and bytes, as SSH writes them.
fn string(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}

fn base64(shop: &Workshop, bytes: &[u8]) -> String {
    shop.write("raw", bytes);
    String::from_utf8(shop.openssl("base64 -A -in raw")).unwrap()
}

#[test]
fn keys_on_tokens_name_their_application_and_what_they_ask_for() {
    let shop = Workshop::new();
    shop.openssl("ecparam -name prime256v1 -genkey -noout -out ec.pem");
    shop.openssl("ec -in ec.pem -pubout -outform der -out ec.der");
    let point = shop.read("ec.der")[26..].to_vec();
    let ed = ["sk-ssh-ed25519@openssh.com".as_bytes(), &[7; 32], b"ssh:work"].map(string).concat();
    let ec = ["sk-ecdsa-sha2-nistp256@openssh.com".as_bytes(), b"nistp256", &point, b"ssh:"].map(string).concat();
    for (name, blob, algorithm, application) in
        [("sk-ssh-ed25519@openssh.com", &ed, "ed25519-sk", "application=ssh:work"), ("sk-ecdsa-sha2-nistp256@openssh.com", &ec, "ecdsa-sk", "application=ssh:")]
    {
        let line = format!("{name} {} token\n", base64(&shop, blob));
        shop.write("k.pub", &line);
        let facts = only(line.as_bytes(), "/k.pub").facts;
        assert_eq!((facts.algorithm.as_str(), facts.bits, facts.usage.join(" ")), (algorithm, Some(256), application.into()));
        assert_eq!(facts.fingerprint, shop.ssh_fingerprint("k.pub"));
    }
    // The handle in such a file is no secret by itself; `ssh-keygen -t ed25519-sk` writes it so.
    let inner = [[1, 2, 3, 4, 1, 2, 3, 4].to_vec(), ed.clone(), vec![0x05], string(b"handle"), string(b""), string(b"me@token"), vec![1, 2, 3]].concat();
    let head = [string(b"none"), string(b"none"), string(b""), vec![0, 0, 0, 1], string(&ed), string(&inner)].concat();
    let body = base64(&shop, &[b"openssh-key-v1\0".as_slice(), &head].concat());
    let facts = only(format!("-----BEGIN OPENSSH PRIVATE KEY-----\n{body}\n-----END OPENSSH PRIVATE KEY-----\n").as_bytes(), "/k").facts;
    assert_eq!((facts.kind, facts.subject.as_deref()), (KeyKind::SshPrivateKey, Some("me@token")));
    assert_eq!((facts.id, facts.usage.join(" ")), (hex(&keyvigil_common::sha256(&ed)), "application=ssh:work touch-required verify-required".into()));
}

#[test]
fn certificates_say_what_they_allow() {
    let (shop, ..) = shop();
    shop.ssh_keygen("-q -s b -I me -n root -O clear -O permit-pty -O force-command=/bin/true -O source-address=10.0.0.0/8 -O no-touch-required a.pub");
    let facts = only(&shop.read("a-cert.pub"), "/a-cert.pub").facts;
    assert_eq!(facts.usage, ["force-command=/bin/true", "source-address=10.0.0.0/8", "no-touch-required", "permit-pty"]);
    assert_eq!((facts.subject.as_deref(), facts.issuer), (Some("me"), Some(shop.ssh_fingerprint("b.pub"))));
    shop.ssh_keygen("-q -t rsa -b 2048 -N '' -f r");
    assert_eq!(only(&shop.read("r.pub"), "/r.pub").facts.exponent, Some(65_537));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_damaged_list_panics(cut in any::<prop::sample::Index>(), hits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6)) {
        static LIST: std::sync::OnceLock<String> = std::sync::OnceLock::new();
        let list = LIST.get_or_init(|| {
            let (shop, a, b) = shop();
            shop.ssh_keygen("-q -s b -I me -n root a.pub");
            format!("from=\"a,b\",command=\"x \\\" y\" {a}\n@revoked host {b}\n|1|x=|y= {a}\n{}", shop.text("a-cert.pub"))
        });
        let parsed = keys(&damaged(list.as_bytes(), &hits, cut), Path::new("/k"));
        prop_assert!(parsed.objects.len() + parsed.faults.len() <= 4);
    }
}
