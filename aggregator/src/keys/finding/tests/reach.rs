//! Who reaches a private key, and what ports serve of what lies on disk.

use super::*;

#[test]
fn a_readable_private_key_says_how_sure_that_is() {
    let at = |mode, reach: Option<Reach>| private('b', 'f').at("web", "/etc/ssl/a.key").place(|p| (p.mode, p.reach) = (Some(mode), reach));
    let read = Reach { read: true, ..Reach::default() };
    assert_eq!(kinds(vec![at(0o644, Some(read))]), [(Kind::PrivateKeyReadable, Severity::Critical)]);
    assert_eq!(kinds(vec![at(0o644, Some(Reach::default()))]), [], "a directory above keeps others out");
    let listed = only(vec![at(0o640, Some(read))]);
    assert_eq!((listed.severity, listed.title.as_str()), (Severity::Warning, "An access control list lets others read the private key /etc/ssl/a.key on web"));
    let both = only(vec![at(0o640, Some(read)).at("web", "/z.key").place(|p| (p.mode, p.reach) = (Some(0o644), Some(read)))]);
    assert_eq!((both.severity, both.title.starts_with("Every user can read the private key /z.key")), (Severity::Critical, true), "{}", both.title);
    let by_mode = only(vec![at(0o644, None)]);
    assert_eq!((by_mode.kind, by_mode.severity), (Kind::PrivateKeyReadable, Severity::Warning));
    assert!(by_mode.evidence[0].1.starts_with("the file's mode alone"), "{by_mode:?}");
    assert_eq!(kinds(vec![at(0o640, None)]), []);
    assert_eq!(kinds(vec![at(0o644, Some(read)).facts(|f| f.encrypted = Some(true))]), [(Kind::PrivateKeyReadable, Severity::Warning)]);
    assert_eq!(kinds(vec![leaf('a', 'f', 60).at("web", "/a.pem").place(|p| p.reach = Some(read))]), [], "a certificate is for everybody");
    let mut pair = key(KeyKind::SshPrivateKey, 'b', 'f').at("web", "/k").place(|p| p.mode = Some(0o600)).record();
    let mut half = key(KeyKind::SshPublicKey, 'b', 'f').at("web", "/k.pub").place(|p| (p.mode, p.reach) = (Some(0o644), Some(read)));
    let place = half.places.remove(0).1;
    pair = KeyRecord::sighted(Some(pair), "web", Sighting { facts: half.facts, place, at_ms: NOW, gone: false, replaces: None });
    assert!(all(&View::new([&pair], NOW, None)).iter().all(|f| f.kind == Kind::NotQuantumSafe), "its public half is for everybody");
    let fifty: Vec<&'static str> = (0..50).map(|n| &*Box::leak(format!("web-{n:02}").into_boxed_str())).collect();
    let fleet = fifty.iter().fold(key(KeyKind::SymmetricKey, 'b', 'b'), |key, host| key.at(host, "/k").place(|p| p.reach = Some(read)));
    let one = only(vec![fleet]);
    assert_eq!((one.hosts.len(), one.title.as_str()), (50, "Every user can read the secret /k on 50 hosts"));
    assert!(one.is_on("web-07") && !one.is_on("web-7"));
}

#[test]
fn who_may_write_may_replace_and_listing_sshs_directory_is_no_matter() {
    let at = |path: &str, reach| private('b', 'f').at("web", path).place(|p| p.reach = Some(reach));
    let (write, list) = (Reach { write: true, ..Reach::default() }, Reach { list: true, ..Reach::default() });
    assert_eq!(kinds(vec![at("/srv/a.key", write)]), [(Kind::PrivateKeyInOpenDirectory, Severity::Critical)]);
    assert_eq!(kinds(vec![at("/srv/a.key", list)]), [(Kind::PrivateKeyInOpenDirectory, Severity::Info)]);
    assert_eq!(kinds(vec![at("/etc/ssh/ssh_host_rsa_key", list)]), []);
    let two =
        [("b", "/srv/b.key"), ("c", "/srv/c.key")].map(|(id, path)| private(id.chars().next().unwrap(), 'e').at("web", path).place(|p| p.reach = Some(list)));
    let one = only(two.into());
    assert_eq!(one.title, "Every user can list /srv, where 2 private keys lie on web", "one directory, one finding");
}

#[test]
fn a_key_without_a_password_in_a_home_is_told_but_not_a_tokens_handle() {
    let at = |path: &str| key(KeyKind::SshPrivateKey, 'b', 'f').facts(|f| f.encrypted = Some(false)).at("web", path).place(|p| p.home = Some("ana".into()));
    assert_eq!(kinds(vec![at("/home/ana/.ssh/id_ed25519")]), [(Kind::UnencryptedKeyInHome, Severity::Warning)]);
    assert_eq!(kinds(vec![at("/var/lib/jenkins/.ssh/id_rsa")]), [(Kind::UnencryptedKeyInHome, Severity::Info)]);
    assert_eq!(kinds(vec![at("/home/ana/.ssh/id").facts(|f| f.encrypted = Some(true))]), []);
    assert_eq!(kinds(vec![at("/home/ana/.ssh/id").facts(|f| f.algorithm = "ed25519-sk".into())]), []);
}

#[test]
fn what_ports_serve_is_judged_against_the_disk() {
    let disk = |key: Key| key.at("web", "/etc/ssl/shop.pem");
    let stale = only(vec![leaf('a', 'f', 60).served("web", |s| {
        (s.file_key, s.unit, s.pid) = (Some("b".repeat(64)), Some("nginx.service".into()), Some(812));
    })]);
    assert_eq!((stale.kind, stale.severity), (Kind::ServedStale, Severity::Warning));
    assert_eq!(stale.title, "nginx on web still serves the old certificate of shop.example, though /etc/ssl/shop.pem was renewed");
    assert!(stale.remedy.starts_with("`systemctl reload nginx.service`"), "{}", stale.remedy);
    assert_eq!(kinds(vec![disk(leaf('a', 'f', 60).served("web", |_| ()))]), []);
    let fault = leaf('a', 'f', 60).served("web", |s| s.chain_fault = Some("the intermediate is missing".into()));
    assert_eq!(kinds(vec![disk(fault)]), [(Kind::ServedChainFault, Severity::Warning)]);
    assert_eq!(kinds(vec![leaf('a', 'f', 60).served("web", |s| s.file = None)]), [(Kind::ServedWithoutFile, Severity::Info)]);
    assert_eq!(kinds(vec![disk(leaf('a', 'f', 60).served("web", |s| s.file = None))]), [], "it lies in a file that is watched");
    let own = leaf('a', 'f', 60).facts(|f| f.issuer.clone_from(&f.subject)).served("web", |_| ());
    assert_eq!(kinds(vec![own]), [(Kind::SelfSignedServed, Severity::Info)]);
}

#[test]
fn a_stapled_answer_that_has_ended_while_it_was_served_is_told() {
    let stapled = |end: i64| {
        leaf('a', 'f', 60).at("web", "/etc/ssl/shop.pem").served("web", |s| {
            s.staple = Some(keyvigil_common::key::Staple { status: "good".into(), this_update_ms: None, next_update_ms: Some(end) });
        })
    };
    assert_eq!(kinds(vec![stapled(NOW - 20 * DAY)]), [(Kind::ServedChainFault, Severity::Warning)]);
    assert_eq!(kinds(vec![stapled(NOW + DAY)]), []);
    assert_eq!(kinds(vec![stapled(NOW - DAY)]), [], "nobody has looked since");
}

#[test]
fn a_chain_that_may_lack_nothing_is_no_warning() {
    let alone = || leaf('a', 'f', 60).at("web", "/etc/ssl/shop.pem").served("web", |s| s.chain.clear());
    let told = |authority: Option<Key>| {
        let records: Vec<KeyRecord> = authority.into_iter().chain([alone()]).map(Key::record).collect();
        let found = all(&View::new(&records, NOW, None)).into_iter().filter(|f| f.kind == Kind::ServedChainFault);
        found.map(|f| (f.severity, f.title)).collect::<Vec<_>>()
    };
    let r1 = |issuer: &str| authority('b', 'b', "CN=R1, O=Authority", issuer, 900).at("other", "/etc/pki/r1.pem");
    let unknown = told(None);
    assert_eq!((unknown.len(), unknown[0].0), (1, Severity::Info));
    assert!(unknown[0].1.ends_with("which no host knows: whether clients can verify it cannot be told"), "{unknown:?}");
    assert_eq!(told(Some(r1("CN=R1, O=Authority"))), [], "it is a root");
    let missing = told(Some(r1("CN=Root")));
    assert_eq!((missing.len(), missing[0].0), (1, Severity::Warning), "another host knows that it is none");
    let namesake = r1("CN=R1, O=Authority").facts(|f| f.key_id = Some("00".into()));
    let by_another = alone().facts(|f| f.authority_key_id = Some("01".into()));
    let found = all(&View::new(&[namesake.record(), by_another.record()], NOW, None));
    assert!(found.iter().any(|f| f.kind == Kind::ServedChainFault && f.severity == Severity::Info));
}
