//! What we read of real keys against what the tools that made them say; and hostile input.

use keyvigil_common::key::{KeyFacts, KeyKind};
use keyvigil_common::{hex, sha256};
use proptest::prelude::*;

use super::*;
use crate::testkit::Workshop;

/// The one object of a file.
fn only(bytes: &[u8]) -> KeyFacts {
    let parsed = keys(bytes);
    assert!(parsed.faults.is_empty(), "{:?}", parsed.faults);
    assert_eq!(parsed.objects.len(), 1);
    parsed.objects.into_iter().next().unwrap().facts
}

fn kinds(bytes: &[u8]) -> Vec<KeyKind> {
    keys(bytes).objects.iter().map(|found| found.facts.kind).collect()
}

#[test]
fn private_keys_of_every_algorithm_have_the_fingerprint_that_openssl_computes() {
    let shop = Workshop::new();
    let algorithms = [
        ("-algorithm RSA -pkeyopt rsa_keygen_bits:2048", "rsa", Some(2048), None),
        ("-algorithm RSA -pkeyopt rsa_keygen_bits:3072", "rsa", Some(3072), None),
        ("-algorithm RSA-PSS -pkeyopt rsa_keygen_bits:2048", "rsa-pss", Some(2048), None),
        ("-algorithm EC -pkeyopt ec_paramgen_curve:P-256", "ec", Some(256), Some("secp256r1")),
        ("-algorithm EC -pkeyopt ec_paramgen_curve:P-384", "ec", Some(384), Some("secp384r1")),
        ("-algorithm EC -pkeyopt ec_paramgen_curve:secp256k1", "ec", Some(256), Some("secp256k1")),
        ("-algorithm EC -pkeyopt ec_paramgen_curve:brainpoolP256r1", "ec", Some(256), Some("brainpoolP256r1")),
        ("-algorithm ED25519", "ed25519", Some(256), None),
        ("-algorithm X25519", "x25519", Some(256), None),
    ];
    for (options, algorithm, bits, curve) in algorithms {
        shop.openssl(&format!("genpkey {options} -out k.pem"));
        shop.openssl("pkey -in k.pem -outform der -out k.der");
        shop.openssl("pkey -in k.pem -pubout -out k.pub");
        let expected = shop.spki_sha256("-in k.pem");
        for file in ["k.pem", "k.der", "k.pub"] {
            let facts = only(&shop.read(file));
            let kind = if file == "k.pub" { KeyKind::PublicKey } else { KeyKind::PrivateKey };
            assert_eq!((&facts.id, &facts.fingerprint, facts.kind), (&expected, &expected, kind), "{options} {file}");
            assert_eq!((facts.algorithm.as_str(), facts.bits, facts.curve.as_deref()), (algorithm, bits, curve));
            assert_eq!(facts.encrypted, kind.is_private().then_some(false));
        }
    }
}

#[test]
fn older_forms_have_the_same_fingerprint_also_without_an_embedded_public_key() {
    let shop = Workshop::new();
    shop.openssl("genrsa -traditional -out rsa.pem 2048");
    shop.openssl("rsa -in rsa.pem -RSAPublicKey_out -out rsa.pub");
    for file in ["rsa.pem", "rsa.pub"] {
        assert_eq!(only(&shop.read(file)).fingerprint, shop.spki_sha256("-in rsa.pem"), "{file}");
    }
    shop.openssl("dsaparam -genkey -out dsa.pem 1024");
    shop.openssl("dsa -in dsa.pem -out dsa1.pem");
    let dsa = only(&shop.read("dsa1.pem"));
    assert_eq!((dsa.fingerprint, dsa.bits), (shop.spki_sha256("-in dsa.pem"), Some(1024)));
    for curve in ["prime256v1", "secp384r1", "secp521r1", "secp256k1"] {
        shop.openssl(&format!("ecparam -name {curve} -genkey -out ec.pem"));
        assert!(shop.text("ec.pem").contains("BEGIN EC PARAMETERS"), "parameters are stepped over");
        shop.openssl("ec -in ec.pem -no_public -out bare.pem");
        shop.openssl("pkcs8 -topk8 -nocrypt -in bare.pem -out bare8.pem");
        for file in ["ec.pem", "bare.pem", "bare8.pem"] {
            assert_eq!(only(&shop.read(file)).fingerprint, shop.spki_sha256("-in ec.pem"), "{curve} {file}");
        }
    }
}

#[test]
fn a_key_whose_public_half_nobody_can_compute_here_is_known_by_its_block() {
    let shop = Workshop::new();
    shop.openssl("genpkey -algorithm ED448 -out k.pem");
    shop.openssl("pkey -in k.pem -outform der -out k.der");
    let facts = only(&shop.read("k.pem"));
    assert_eq!((facts.algorithm.as_str(), facts.bits, facts.encrypted), ("ed448", Some(456), Some(false)));
    assert_eq!((&facts.id, &facts.fingerprint), (&hex(&sha256(&shop.read("k.der"))), &facts.id));
}

#[test]
fn post_quantum_private_keys_have_the_fingerprint_of_their_public_half() {
    use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
    use aws_lc_rs::signature::{KeyPair, ML_DSA_65_SIGNING, PqdsaKeyPair};
    let key = PqdsaKeyPair::generate(&ML_DSA_65_SIGNING).unwrap();
    let spki: PublicKeyX509Der<'_> = key.public_key().as_der().unwrap();
    let (private, public) = (only(key.to_pkcs8v1().unwrap().as_ref()), only(spki.as_ref()));
    assert_eq!((private.algorithm.as_str(), private.kind), ("ml-dsa-65", KeyKind::PrivateKey));
    assert_eq!((&private.fingerprint, &public.fingerprint), (&hex(&sha256(spki.as_ref())), &private.fingerprint));
}

#[test]
fn encrypted_keys_say_how_they_are_protected_and_nothing_is_decrypted() {
    let shop = Workshop::new();
    shop.ec_key("k.pem");
    let forms = [
        ("-v2 aes-256-cbc -iter 4096", "pbkdf2-hmac-sha256, 4096 iterations, aes-256-cbc"),
        ("-v2 des3 -v2prf hmacWithSHA1", "pbkdf2-hmac-sha1, 2048 iterations, des-ede3-cbc"),
        ("-scrypt -scrypt_N 1024 -scrypt_r 8 -scrypt_p 1", "scrypt, N=1024 r=8 p=1, aes-256-cbc"),
        ("-v1 PBE-SHA1-3DES", "pbe-sha1-3des, 2048 iterations"),
    ];
    for (options, kdf) in forms {
        shop.openssl(&format!("pkcs8 -topk8 -in k.pem {options} -passout pass:x -out e.pem"));
        shop.openssl(&format!("pkcs8 -topk8 -in k.pem {options} -passout pass:x -outform der -out e.der"));
        for file in ["e.pem", "e.der"] {
            let facts = only(&shop.read(file));
            assert_eq!((facts.algorithm.as_str(), facts.kdf.as_deref(), facts.encrypted), ("unknown (encrypted)", Some(kdf), Some(true)));
        }
        assert_eq!(only(&shop.read("e.der")).id, hex(&sha256(&shop.read("e.der"))));
    }
    shop.openssl("genrsa -out r.pem 2048");
    shop.openssl("rsa -in r.pem -traditional -aes128 -passout pass:x -out old.pem");
    assert!(shop.text("old.pem").contains("Proc-Type: 4,ENCRYPTED"));
    let facts = only(&shop.read("old.pem"));
    assert_eq!((facts.algorithm.as_str(), facts.kdf.as_deref(), facts.encrypted), ("rsa", Some("md5, 1 iteration, aes-128-cbc"), Some(true)));
}

#[test]
fn a_block_that_is_a_key_by_its_label_is_never_passed_over() {
    let shop = Workshop::new();
    shop.ec_key("k.pem");
    shop.openssl("pkey -in k.pem -pubout -out pub.pem");
    let labelled = |label: &str, body: &str| format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n");
    for label in ["NEBULA CERTIFICATE", "ATTRIBUTE CERTIFICATE", "ED25519 PRIVATE KEY", "TSS2 PRIVATE KEY", "RSA SECRET KEY", "Some Cloud Key", "ECHCONFIG"] {
        let faults = keys(labelled(label, "AQIDBAUG").as_bytes()).faults;
        assert_eq!((faults.len(), faults[0].class), (1, FaultClass::Unsupported), "{label}");
        assert!(faults[0].reason.contains(label), "{faults:?}");
    }
    for label in ["DH PARAMETERS", "PGP MESSAGE", "SSH SIGNATURE", "KEYBASE SALTPACK ENCRYPTED MESSAGE"] {
        assert!(keys(labelled(label, "AQIDBAUG").as_bytes()).not_a_key, "{label}");
    }
    for (file, own, strange) in [("k.pem", "PRIVATE KEY", "SM2 PRIVATE KEY"), ("pub.pem", "PUBLIC KEY", "EC PUBLIC KEY")] {
        let text = shop.text(file);
        assert_eq!(only(text.replace(own, strange).as_bytes()), only(text.as_bytes()), "what is in it is what others have, too");
    }
    let openvpn = labelled("OpenVPN Static key V1", &["0123456789abcdef0123456789abcdef"; 16].join("\n"));
    let facts = only(format!("#\n# 2048 bit OpenVPN static key\n#\n{openvpn}").as_bytes());
    assert_eq!((facts.kind, facts.algorithm.as_str(), facts.bits), (KeyKind::SymmetricKey, "openvpn-static", Some(2_048)));
    assert!(!keys(openvpn.replacen('0', "", 1).as_bytes()).faults.is_empty());
}

#[test]
fn text_of_any_length_may_stand_before_a_block() {
    let shop = Workshop::new();
    shop.ec_key("k.pem");
    let file = format!("{}{}", "of whom and why\n".repeat(2 * KEY_SNIFF_BYTES / 16), shop.text("k.pem"));
    let looks = |path: &str| looks_like_keys(&file.as_bytes()[..KEY_SNIFF_BYTES], file.len() as u64, Path::new(path));
    assert!(looks("/srv/bundle.pem") && looks("/srv/x.KEY") && !looks("/srv/notes.txt"));
    assert_eq!(only(file.as_bytes()).kind, KeyKind::PrivateKey);
}

#[test]
fn certificates_requests_and_lists_say_what_openssl_says() {
    let shop = Workshop::new();
    shop.openssl("genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out k.pem");
    let names = "subjectAltName=DNS:example.org,IP:192.0.2.1,IP:2001:db8::1,email:a@example.org,URI:https://example.org/";
    shop.openssl(&format!("req -x509 -new -key k.pem -subj /C=DE/O=Example/CN=example.org -addext {names} -days 90 -set_serial 0x00c0ffee -out c.pem"));
    shop.openssl("x509 -in c.pem -outform der -out c.der");
    shop.openssl("x509 -in c.pem -trustout -addtrust serverAuth -out trusted.pem");
    let (pem, der) = (only(&shop.read("c.pem")), only(&shop.read("c.der")));
    assert_eq!((&pem, &pem), (&der, &only(&shop.read("trusted.pem"))));
    assert_eq!((pem.kind, &pem.id), (KeyKind::Certificate, &hex(&sha256(&shop.read("c.der")))));
    assert_eq!(pem.fingerprint, shop.spki_sha256("-in k.pem"), "a certificate is bound to its key");
    assert_eq!(pem.subject.as_deref(), Some("C=DE, O=Example, CN=example.org"));
    assert_eq!(pem.sans, ["DNS:example.org", "IP:192.0.2.1", "IP:2001:db8::1", "email:a@example.org", "URI:https://example.org/"]);
    assert_eq!((pem.serial.as_deref(), pem.bits, pem.is_ca), (Some("c0ffee"), Some(2048), Some(true)));
    assert_eq!(pem.signature_algorithm.as_deref(), Some("sha256WithRSAEncryption"));
    let days = (pem.not_after_ms.unwrap() - pem.not_before_ms.unwrap()) / 86_400_000;
    assert_eq!(days, 90);

    shop.openssl("req -new -key k.pem -subj /CN=wanted -addext subjectAltName=DNS:wanted.example -out r.pem");
    let request = only(&shop.read("r.pem"));
    assert_eq!((request.kind, request.fingerprint), (KeyKind::CertificateRequest, pem.fingerprint.clone()));
    assert_eq!((request.subject.as_deref(), request.sans.as_slice()), (Some("CN=wanted"), &["DNS:wanted.example".to_owned()][..]));

    shop.write("ca.cnf", "[ca]\ndefault_ca=d\n[d]\ndatabase=index\ncrlnumber=number\ndefault_md=sha256\ndefault_crl_days=7\n");
    shop.write("index", "");
    shop.write("number", "2A\n");
    shop.openssl("ca -config ca.cnf -gencrl -keyfile k.pem -cert c.pem -out list.pem");
    shop.openssl("crl -in list.pem -outform der -out list.der");
    let list = only(&shop.read("list.pem"));
    assert_eq!((list.kind, &list), (KeyKind::Crl, &only(&shop.read("list.der"))));
    assert_eq!((list.issuer.as_deref(), list.serial.as_deref()), (Some("C=DE, O=Example, CN=example.org"), Some("2a")));
    assert_eq!((list.not_after_ms.unwrap() - list.not_before_ms.unwrap()) / 86_400_000, 7);
}

#[test]
fn files_with_several_objects_keep_their_order_and_their_slots() {
    let shop = Workshop::new();
    shop.certificate("a.pem", "a.key", "a", 10);
    shop.certificate("b.pem", "b.key", "b", 10);
    let both = [shop.read("a.key"), b"junk \xff\n".to_vec(), shop.read("a.pem"), shop.read("b.pem")].concat();
    assert_eq!(kinds(&both), [KeyKind::PrivateKey, KeyKind::Certificate, KeyKind::Certificate]);
    let broken = [shop.text("a.pem").replace("MII", "!!!"), shop.text("b.pem"), shop.text("a.key")[..80].to_owned()].concat();
    let parsed = keys(broken.as_bytes());
    assert_eq!(parsed.objects.iter().map(|found| found.slot).collect::<Vec<_>>(), [1]);
    assert_eq!(parsed.faults.iter().map(|f| (f.slot, f.class)).collect::<Vec<_>>(), [(0, FaultClass::Corrupt), (2, FaultClass::Truncated)]);
    shop.write("chain.pem", [shop.read("a.pem"), shop.read("b.pem")].concat());
    shop.openssl("crl2pkcs7 -nocrl -certfile chain.pem -out chain.p7b");
    shop.openssl("crl2pkcs7 -nocrl -certfile chain.pem -outform der -out chain.p7c");
    assert_eq!((kinds(&shop.read("chain.p7b")).len(), kinds(&shop.read("chain.p7c")).len()), (2, 2));
    shop.openssl("pkcs12 -export -inkey a.key -in a.pem -passout pass:x -out a.p12");
    assert_eq!(keys(&shop.read("a.p12")).faults[0].class, FaultClass::Locked);
}

#[test]
fn the_public_half_of_post_quantum_keys_is_found_where_they_contain_it() {
    use crate::parse::der::{BIT_STRING, INTEGER, OCTET_STRING, OID, SEQUENCE, encode};
    let key = |last: [u8; 2], private: &[u8]| {
        let identifier = encode(SEQUENCE, &[&encode(OID, &[&[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04], &last])]);
        let facts = only(&encode(SEQUENCE, &[&encode(INTEGER, &[&[0]]), &identifier, &encode(OCTET_STRING, &[private])]));
        let spki = move |public: &[u8]| hex(&sha256(&encode(SEQUENCE, &[&identifier, &encode(BIT_STRING, &[&[0], public])])));
        (facts.algorithm, facts.fingerprint, spki)
    };
    // SLH-DSA-SHA2-128s: two secrets of 16 bytes, then the public half.
    let (algorithm, fingerprint, spki) = key([3, 20], &[[1; 32], [2; 32]].concat());
    assert_eq!((algorithm.as_str(), fingerprint), ("slh-dsa-sha2-128s", spki(&[2; 32])));
    // ML-KEM-768: a secret of 1152 bytes, the public half of 1184, a hash and another secret.
    let long = [vec![1; 1152], vec![2; 1184], vec![3; 64]].concat();
    let both = encode(SEQUENCE, &[&encode(OCTET_STRING, &[&[9; 64]]), &encode(OCTET_STRING, &[&long])]);
    for private in [encode(OCTET_STRING, &[&long]), both] {
        let (algorithm, fingerprint, spki) = key([4, 2], &private);
        assert_eq!((algorithm.as_str(), fingerprint), ("ml-kem-768", spki(&[2; 1184])));
    }
}

#[test]
fn real_files_with_all_that_people_and_tools_put_around_keys_are_read() {
    let shop = Workshop::new();
    shop.certificate("a.pem", "a.key", "a", 10);
    shop.certificate("b.pem", "b.key", "b", 10);
    let (a, b, key) = (shop.text("a.pem"), shop.text("b.pem"), shop.text("a.key"));
    let expected = [KeyKind::Certificate, KeyKind::PrivateKey, KeyKind::Certificate];
    let whole = format!("{a}{key}{b}");
    let one_line = |text: &str| {
        let body: String = text.lines().filter(|line| !line.starts_with('-')).collect();
        let label = text.lines().next().unwrap().trim_start_matches("-----BEGIN ").trim_end_matches('-');
        format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
    };
    let utf16 = whole.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>();
    let files: [Vec<u8>; 8] = [
        whole.replace('\n', "\r\n").into_bytes(),
        whole.replace('\n', "\r").into_bytes(),
        [b"\xef\xbb\xbf".to_vec(), whole.clone().into_bytes()].concat(),
        [b"\xff\xfe".to_vec(), utf16].concat(),
        [a.as_bytes(), b"# Schl\xfcssel\x00\n", key.as_bytes(), &[b'x'; 100_000], b"\n", b.as_bytes()].concat(),
        format!("Bag Attributes\n    friendlyName: a\n    localKeyID: 01\nsubject=CN = a\n{a}Key Attributes: <No Attributes>\n{key}{b}").into_bytes(),
        [one_line(&a), one_line(&key), one_line(&b)].concat().into_bytes(),
        whole.replace("-----END CERTIFICATE-----\n", "-----END CERTIFICATE-----").into_bytes(),
    ];
    for (which, file) in files.iter().enumerate() {
        let read = keys(file);
        assert!(looks_like_keys(&file[..file.len().min(KEY_SNIFF_BYTES)], file.len() as u64, Path::new("/srv/file")), "{which}");
        assert!(read.faults.is_empty(), "{which}: {:?}", read.faults);
        assert_eq!(kinds(file), expected, "{which}");
    }
    let cut = &whole[..whole.len() - 60];
    assert_eq!((kinds(cut.as_bytes()).len(), keys(cut.as_bytes()).faults[0].class), (2, FaultClass::Truncated));

    // One DER object behind the other; as OpenSSL trusts it; with something behind it.
    shop.openssl("x509 -in a.pem -outform der -out a.der");
    shop.openssl("x509 -in b.pem -outform der -trustout -addtrust serverAuth -setalias b -out b.der");
    let both = [shop.read("a.der"), shop.read("b.der")].concat();
    assert_eq!((kinds(&both).len(), keys(&both).faults.len()), (2, 0));
    let junk = [shop.read("a.der"), b"nothing".to_vec()].concat();
    assert_eq!((kinds(&junk).len(), keys(&junk).faults[0].class), (1, FaultClass::Corrupt));
}

#[test]
fn a_key_that_does_not_name_its_curve_is_on_that_of_the_block_before_it() {
    let shop = Workshop::new();
    shop.openssl("ecparam -name prime256v1 -genkey -out ec.pem");
    let der = shop.openssl("ec -in ec.pem -outform der");
    let expected = only(&shop.read("ec.pem")).fingerprint;
    use crate::parse::der::{Reader, SEQUENCE, encode};
    let mut inner = Reader::new(&der).sequence().unwrap();
    let scalar = [inner.element().unwrap().raw, inner.element().unwrap().raw].concat();
    let bare = armoured("EC PRIVATE KEY", &encode(SEQUENCE, &[&scalar]));
    assert!(keys(&bare).faults[0].reason.contains("curve"));
    let parameters = shop.text("ec.pem").split_inclusive("-----END EC PARAMETERS-----\n").next().unwrap().to_owned();
    assert_eq!(only(&[parameters.as_bytes(), &bare].concat()).fingerprint, expected);
}

#[test]
fn revocation_lists_in_a_message_are_read_with_its_certificates() {
    let shop = Workshop::new();
    shop.certificate("c.pem", "k.pem", "ca", 10);
    shop.write("ca.cnf", "[ca]\ndefault_ca=d\n[d]\ndatabase=index\ndefault_md=sha256\ndefault_crl_days=7\n");
    shop.write("index", "");
    shop.openssl("ca -config ca.cnf -gencrl -keyfile k.pem -cert c.pem -out list.pem");
    shop.openssl("crl2pkcs7 -in list.pem -certfile c.pem -out both.p7");
    shop.openssl("crl2pkcs7 -in list.pem -out list.p7");
    assert_eq!(kinds(&shop.read("both.p7")), [KeyKind::Certificate, KeyKind::Crl]);
    assert_eq!(kinds(&shop.read("list.p7")), [KeyKind::Crl]);
}

#[test]
fn ssh_keys_have_the_fingerprint_that_ssh_keygen_prints() {
    let shop = Workshop::new();
    let types = [("ed25519", "", "ed25519", 256), ("rsa", "-b 2048", "rsa", 2048), ("ecdsa", "-b 384", "ec", 384), ("dsa", "", "dsa", 1024)];
    for (kind, options, algorithm, bits) in types {
        for (name, passphrase) in [("clear", "''"), ("locked", "secret")] {
            let file = format!("{kind}-{name}");
            shop.ssh_keygen(&format!("-q -t {kind} {options} -N {passphrase} -C me@{kind} -f {file}"));
            let (private, public) = (only(&shop.read(&file)), only(&shop.read(&format!("{file}.pub"))));
            let expected = shop.ssh_fingerprint(&file);
            assert_eq!((&private.fingerprint, &public.fingerprint), (&expected, &expected), "{file}");
            assert_eq!((&private.id, private.kind, public.kind), (&public.id, KeyKind::SshPrivateKey, KeyKind::SshPublicKey));
            assert_eq!((private.algorithm.as_str(), private.bits), (algorithm, Some(bits)));
            assert_eq!(public.subject, Some(format!("me@{kind}")));
            if passphrase == "secret" {
                assert_eq!((private.encrypted, private.kdf.as_deref()), (Some(true), Some("bcrypt, 16 rounds, aes256-ctr")));
            } else {
                assert_eq!((private.encrypted, private.subject), (Some(false), public.subject), "the comment is inside a clear key");
            }
        }
    }
    assert_eq!(only(&shop.read("ecdsa-clear")).curve.as_deref(), Some("secp384r1"));
}

#[test]
fn ssh_certificates_say_for_whom_and_how_long() {
    let shop = Workshop::new();
    shop.ssh_keygen("-q -t ed25519 -N '' -f ca");
    for kind in ["ed25519", "rsa", "ecdsa"] {
        shop.ssh_keygen(&format!("-q -t {kind} -N '' -f k-{kind}"));
        shop.ssh_keygen(&format!("-q -s ca -I web-1 -h -n web.example,192.0.2.1 -z 4660 -V 20260101000000Z:20270101000000Z k-{kind}.pub"));
        let facts = only(&shop.read(&format!("k-{kind}-cert.pub")));
        assert_eq!((facts.kind, &facts.fingerprint), (KeyKind::SshCertificate, &shop.ssh_fingerprint(&format!("k-{kind}.pub"))));
        assert_ne!(facts.id, only(&shop.read(&format!("k-{kind}.pub"))).id);
        assert_eq!((facts.subject.as_deref(), facts.serial.as_deref()), (Some("web-1"), Some("1234")));
        assert_eq!(facts.sans, ["host:web.example", "host:192.0.2.1"]);
        assert_eq!((facts.not_before_ms, facts.not_after_ms), (Some(1_767_225_600_000), Some(1_798_761_600_000)));
        assert_eq!(facts.issuer, Some(shop.ssh_fingerprint("ca.pub")));
        assert_eq!(facts.signature_algorithm.as_deref(), Some("ssh-ed25519"));
    }
    shop.ssh_keygen("-q -s ca -I for-ever -n root k-rsa.pub");
    let facts = only(&shop.read("k-rsa-cert.pub"));
    assert_eq!((facts.not_before_ms, facts.not_after_ms, facts.sans), (None, None, vec!["user:root".to_owned()]));
}

#[test]
fn lists_of_ssh_keys_are_read_line_by_line() {
    let shop = Workshop::new();
    shop.ssh_keygen("-q -t ed25519 -N '' -C one -f a");
    shop.ssh_keygen("-q -t rsa -b 2048 -N '' -C two -f b");
    let (a, b) = (shop.text("a.pub"), shop.text("b.pub"));
    let authorized = format!("# keys\n\nrestrict,command=\"/bin/true -x\" {a}\n{b}ssh-ed25519 AAAAnonsense\n");
    let parsed = keys(authorized.as_bytes());
    assert_eq!(parsed.objects.iter().map(|o| o.facts.subject.clone().unwrap()).collect::<Vec<_>>(), ["one", "two"]);
    assert_eq!(parsed.faults.len(), 1);
    let known = format!("|1|hash=|hash= {a}@cert-authority *.example {b}");
    assert_eq!(keys(known.as_bytes()).objects.len(), 2);
}

#[test]
fn what_is_not_a_key_is_none() {
    let shop = Workshop::new();
    shop.openssl("dhparam -dsaparam -out dh.pem 512");
    shop.openssl("dhparam -in dh.pem -outform der -out dh.der");
    let dh = [shop.read("dh.pem"), shop.read("dh.der")];
    for bytes in [
        b"".as_slice(),
        b"0 5 * * * root true\n",
        b"text AAAA\n",
        &[0; 4096],
        &dh[0],
        &dh[1],
        b"-----BEGIN PGP MESSAGE-----\nAQID\n-----END PGP MESSAGE-----\n",
    ] {
        assert!(keys(bytes).not_a_key, "{:?}", keys(bytes));
    }
}

#[test]
fn a_file_with_too_many_objects_ends_with_one_fault() {
    let block = "-----BEGIN CERTIFICATE-----\nAQID\n-----END CERTIFICATE-----\n";
    let parsed = keys(block.repeat(KEYS_PER_FILE_MAX + 10).as_bytes());
    assert_eq!(parsed.faults.len(), KEYS_PER_FILE_MAX + 1);
    assert_eq!(parsed.faults.last().unwrap().class, FaultClass::TooMany);
}

#[test]
fn the_seeds_of_the_fuzzer_are_read_and_no_beginning_of_one_panics() {
    use crate::parse::given::{Given, during};
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/corpus/keys");
    let read = |bytes: &[u8]| {
        let passwords = ["x", "xxxxxx"].map(|text| crate::parse::pbe::Password::new(text.to_owned()));
        during(Given { passwords: passwords.into(), blacklist: None }, || keys(bytes))
    };
    let mut seeds = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let seed = std::fs::read(&path).unwrap();
        let whole = read(&seed);
        assert!(whole.objects.len() == 1 || path.ends_with("bks"), "{}: {whole:?}", path.display());
        seeds += 1;
        for length in 0..seed.len() {
            let cut = read(&seed[..length]);
            assert!(cut.objects.len() <= 1 && cut.faults.len() <= 2, "{} cut to {length}: {cut:?}", path.display());
        }
    }
    assert!(seeds >= 9);
}

#[test]
fn a_store_with_too_many_objects_ends_with_one_fault() {
    let mut store = [0xfe, 0xed, 0xfe, 0xed, 0, 0, 0, 2, 0, 0, 0xff, 0xff].to_vec();
    // Each without a name, of a time, and without a certificate that parses.
    let entry = [&[0, 0, 0, 2, 0, 0][..], &[0; 8], &[0, 5], b"X.509", &[0, 0, 0, 1, 0]].concat();
    (0..0xffff).for_each(|_| store.extend(&entry));
    store.extend([0; 20]);
    let parsed = keys(&store);
    assert_eq!((parsed.faults.len(), parsed.faults.last().unwrap().class), (KEYS_PER_FILE_MAX + 1, FaultClass::TooMany));
}

/// One file of each format, made once.
fn samples() -> &'static [Vec<u8>] {
    static SAMPLES: std::sync::OnceLock<Vec<Vec<u8>>> = std::sync::OnceLock::new();
    SAMPLES.get_or_init(|| {
        let shop = Workshop::new();
        shop.certificate("c.pem", "k.pem", "x", 1);
        shop.openssl("x509 -in c.pem -outform der -out c.der");
        shop.openssl("pkey -in k.pem -outform der -out k.der");
        shop.openssl("genrsa -traditional -out rsa.pem 1024");
        shop.openssl("pkcs8 -topk8 -in k.pem -passout pass:x -outform der -out e.der");
        shop.openssl("req -new -key k.pem -subj /CN=x -outform der -out r.der");
        shop.openssl("crl2pkcs7 -nocrl -certfile c.pem -outform der -out p7.der");
        shop.openssl("genpkey -algorithm ED25519 -outform der -out ed.der");
        shop.ssh_keygen("-q -t ecdsa -N '' -f s");
        shop.ssh_keygen("-q -t ed25519 -N x -f t");
        shop.ssh_keygen("-q -s s -I x -n root t.pub");
        ["c.pem", "k.pem", "c.der", "k.der", "rsa.pem", "e.der", "r.der", "p7.der", "ed.der", "s", "t", "t.pub", "t-cert.pub"].map(|f| shop.read(f)).to_vec()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_random_input_panics(bytes in proptest::collection::vec(any::<u8>(), 0..2_000)) {
        let _ = (keys(&bytes), looks_like_keys(&bytes, bytes.len() as u64, Path::new("/k")));
    }

    #[test]
    fn no_mutated_key_panics(which in 0usize..13, cut in any::<prop::sample::Index>(), hits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6)) {
        let mut bytes = samples()[which].clone();
        for (at, value) in &hits {
            let at = at.index(bytes.len());
            bytes[at] = *value;
        }
        if hits.len() % 2 == 0 {
            bytes.truncate(cut.index(bytes.len()));
        }
        // Inside the armour, so that the parsers behind it are reached as well.
        for form in [keys(&bytes), keys(&armoured("CERTIFICATE", &bytes)), keys(&armoured("PRIVATE KEY", &bytes)), keys(&armoured("OPENSSH PRIVATE KEY", &bytes))] {
            for found in &form.objects {
                prop_assert_eq!(found.facts.id.len(), 64);
            }
        }
    }
}

fn armoured(label: &str, der: &[u8]) -> Vec<u8> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = format!("-----BEGIN {label}-----\n").into_bytes();
    for group in der.chunks(3) {
        let bits = group.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        text.extend((0..=group.len()).map(|at| ALPHABET[(bits >> (18 - 6 * at) & 63) as usize]));
    }
    text.extend(format!("\n-----END {label}-----\n").into_bytes());
    text
}

#[test]
fn an_ssh_key_is_known_as_the_same_key_that_lies_in_pem() {
    let shop = Workshop::new();
    for kind in ["rsa -b 2048", "ecdsa -b 256", "ecdsa -b 384", "ecdsa -b 521"] {
        shop.ssh_keygen(&format!("-q -t {kind} -N '' -m PEM -f k"));
        let (pem, line) = (only(&shop.read("k")), only(&shop.read("k.pub")));
        assert_eq!(line.spki.as_ref(), Some(&pem.fingerprint), "{kind}");
        assert_eq!(line.key(), pem.key());
        for name in ["k", "k.pub"] {
            std::fs::remove_file(shop.path(name)).unwrap();
        }
    }
    // What OpenSSL makes of the same 32 bytes.
    shop.openssl("genpkey -algorithm ed25519 -out e.pem");
    let der = shop.openssl("pkey -in e.pem -pubout -outform der");
    let blob = [&11u32.to_be_bytes()[..], b"ssh-ed25519", &32u32.to_be_bytes(), &der[der.len() - 32..]].concat();
    shop.write("blob", blob);
    let line = [b"ssh-ed25519 ".to_vec(), shop.openssl("base64 -A -in blob")].concat();
    assert_eq!(only(&line).spki, Some(only(&shop.read("e.pem")).fingerprint));
}
