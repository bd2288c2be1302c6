//! Inventories that differ from those of every day: keys in several forms, containers, clocks that are wrong, rotations in two
//! steps, facts that are missing or absurd.

use super::*;

fn ssh(id: char, spki: char) -> Key {
    key(KeyKind::SshPublicKey, id, id).facts(|f| (f.fingerprint, f.spki) = (format!("SHA256:{id}"), Some(spki.to_string().repeat(64))))
}

fn statuses(keys: Vec<Key>) -> Vec<(Status, Option<String>)> {
    let records: Vec<KeyRecord> = keys.into_iter().map(Key::record).collect();
    let found = Findings::of(&records, NOW);
    records.iter().map(|key| (found.status(key, NOW), found.revoked(key).and_then(|(_, why)| why.map(str::to_owned)))).collect()
}

#[test]
fn what_is_revoked_in_one_form_says_so_in_all_and_by_what() {
    let listed = |revoked: bool| {
        let why = Some("revocation list /etc/ssh/krl: lost".to_owned());
        ssh('a', 'f').at("bastion", "/root/.ssh/id.pub").facts(|f| (f.revoked_ms, f.revocation) = if revoked { (Some(NOW - DAY), why) } else { (None, None) })
    };
    let others = || {
        let gnupg = key(KeyKind::OpenpgpPrivateKey, 'c', 'f').at("mail", "/root/.gnupg/private-keys-v1.d/x.key");
        vec![private('b', 'f').at("web", "/k.pem"), gnupg, leaf('d', 'f', 60).at("web", "/k.crt"), private('e', 'e').at("web", "/other.pem")]
    };
    let told = statuses([vec![listed(true)], others()].concat_keys());
    let by = "revocation list /etc/ssh/krl: lost (of the same key as ssh public key aaaaaaaaaaaa)".to_owned();
    assert_eq!(told[0], (Status::Revoked, Some("revocation list /etc/ssh/krl: lost".into())));
    assert_eq!([&told[1], &told[2]], [&(Status::Revoked, Some(by)); 2]);
    assert_eq!([told[3].0, told[4].0], [Status::Active; 2], "its certificate is its authority's business, and another key is another");
    assert!(statuses([vec![listed(false)], others()].concat_keys()).iter().all(|told| *told == (Status::Active, None)), "once the list takes it back");
}

#[test]
fn what_was_revoked_is_told_since_it_was_known_of_a_key_in_use() {
    let mut record = leaf('a', 'f', 60).at("web", "/etc/ssl/shop.pem").used_by("nginx: /n:1").record();
    (record.revoked_ms, record.revoked_known_ms) = (Some(NOW - 30 * DAY), Some(NOW - 2 * DAY));
    let since = |record: &KeyRecord| all(&View::new([record], NOW, None)).into_iter().find(|f| f.kind == Kind::RevokedInUse).unwrap().since_ms;
    assert_eq!(since(&record), NOW - 2 * DAY, "the list of a month ago came the day before yesterday");
    record.revoked_known_ms = Some(NOW - 20 * DAY);
    assert_eq!(since(&record), NOW - 10 * DAY, "and it was put there ten days ago");
}

#[test]
fn a_stale_port_is_told_since_the_file_was_renewed() {
    let at = |at_ms: i64, renewed: bool, before: Option<KeyRecord>| {
        let made = leaf('a', 'f', 60).served("web", |s| s.file_key = renewed.then(|| "b".repeat(64)));
        let (host, place) = made.places.into_iter().next().unwrap();
        Some(KeyRecord::sighted(before, host, Sighting { facts: made.facts, place, at_ms, gone: false, replaces: None }))
    };
    let since =
        |record: Option<KeyRecord>| all(&View::new([&record.unwrap()], NOW, None)).into_iter().find(|f| f.kind == Kind::ServedStale).map(|f| f.since_ms);
    let fresh = at(NOW - 50 * DAY, false, None);
    let stale = at(NOW - 3 * DAY, true, fresh);
    assert_eq!(since(at(NOW - DAY, true, stale.clone())), Some(NOW - 3 * DAY));
    let reloaded = at(NOW - 2 * DAY, false, stale);
    assert_eq!(since(reloaded.clone()), None);
    assert_eq!(since(at(NOW - DAY, true, reloaded)), Some(NOW - DAY), "it is another time");
}

#[test]
fn what_does_not_count_yet_is_told_by_how_it_is_used() {
    let early = |ms: i64| leaf('a', 'f', 60).facts(|f| f.not_before_ms = Some(NOW + ms)).at("web", "/etc/ssl/a.pem");
    let with_key = |key: Key| {
        let found = found(vec![key, private('b', 'f').at("web", "/etc/ssl/a.key")]);
        found.into_iter().find(|f| f.kind == Kind::NotYetValid).map(|f| (f.severity, f.title))
    };
    let title = "shop.example on web is not valid for another 2 days".to_owned();
    assert_eq!(with_key(early(2 * DAY)), Some((Severity::Info, title.clone())), "laid down in good time");
    assert_eq!(with_key(early(2 * DAY).used_by("nginx: /n:1")), Some((Severity::Warning, title.clone())));
    assert_eq!(with_key(early(2 * DAY).served("web", |_| ())), Some((Severity::Critical, title)));
    assert_eq!(with_key(early(2 * 60_000)), None, "clocks differ");
    assert_eq!(kinds(vec![early(2 * DAY)]), [], "somebody else's, without a key");
    let stale = leaf('a', 'f', 5).served("web", |s| s.file_key = Some("c".repeat(64)));
    let next = leaf('c', 'c', 90).facts(|f| f.not_before_ms = Some(NOW + DAY)).at("web", "/etc/ssl/shop.pem");
    let told = found(vec![stale, next]).into_iter().find(|f| f.kind == Kind::ServedStale).unwrap();
    assert!(told.remedy.contains("not before"), "a reload now would break what works: {}", told.remedy);
}

#[test]
fn what_went_after_its_successor_came_was_replaced_and_not_removed() {
    let gone = |key: Key| {
        let mut record = key.record();
        let places: Vec<_> = record.places.iter().map(|p| crate::keys::PlaceRecord { gone: true, ..p.clone() }.into()).collect();
        record.places = places.into();
        record
    };
    let status = |old: KeyRecord, new: Vec<Key>| {
        let records: Vec<KeyRecord> = [old].into_iter().chain(new.into_iter().map(Key::record)).collect();
        Findings::of(&records, NOW).status(&records[0], NOW)
    };
    let own = |id: char, days: i64| {
        leaf(id, id, days)
            .facts(|f| (f.sans, f.issuer) = (vec!["DNS:aggregator.keyvigil.internal".into(), format!("DNS:host-{id}")], Some(format!("CN=CA {id}"))))
    };
    let port = |key: Key| key.served("hub", |s| s.file = None);
    assert_eq!(status(gone(port(own('a', 15))), vec![port(own('b', 30))]), Status::Superseded, "our own, with another name and of the next CA");
    assert_eq!(status(gone(leaf('a', 'f', 5).at("web", "/old/shop.pem")), vec![leaf('b', 'g', 85).at("web", "/new/shop.pem")]), Status::Superseded);
    assert_eq!(status(gone(leaf('a', 'f', 5).at("web", "/x.pem")), vec![leaf('b', 'g', 85).at("db", "/x.pem")]), Status::Removed, "on another host");
    assert_eq!(status(gone(leaf('a', 'f', 85).at("web", "/x.pem")), vec![leaf('b', 'g', 5).at("web", "/x.pem")]), Status::Removed, "an older one");
    assert_eq!(status(gone(leaf('a', 'f', 5).at("web", "/x.pem")), vec![]), Status::Removed);
}

const BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";

#[test]
fn the_systems_authorities_are_that_in_a_container_too_and_a_copy_is_told_where_it_lies() {
    let root = |days| authority('a', 'f', "CN=Root", "CN=Root", days).at("web", BUNDLE).role(Role::Trusted);
    let inside = || {
        root(1).at("web", &format!("container:0123456789ab:{BUNDLE}")).at("db", "container:x:/etc/ssl/cert.pem").at("suse", "/var/lib/ca-certificates/x.pem")
    };
    assert_eq!(kinds(vec![inside()]), []);
    let copied = only(vec![inside().at("app", "/opt/app/cacert.pem")]);
    assert_eq!((copied.kind, copied.hosts.as_slice(), copied.places_total), (Kind::Expiring, &["app".to_owned()][..], 1));
    let weak = only(vec![root(900).at("app", "/opt/app/cacert.pem").facts(|f| f.bits = Some(1_024))]);
    assert_eq!((weak.kind, weak.hosts.len()), (Kind::Weak, 1));
}

#[test]
fn a_secret_that_is_known_by_its_path_alone_is_not_shared() {
    let psk = |path: &str| {
        key(KeyKind::SymmetricKey, 'a', 'a')
            .facts(|f| (f.algorithm, f.bits) = ("wireguard-psk".into(), Some(256)))
            .at("a", path)
            .used_by("wireguard: x")
            .at("b", path)
            .used_by("nginx: y")
    };
    assert_eq!(kinds(vec![psk("/etc/wireguard/wg0.conf")]), []);
}

#[test]
fn a_remedy_is_for_the_key_and_the_place_that_it_is_about() {
    let read = Reach { read: true, ..Reach::default() };
    let boxed = only(vec![private('b', 'f').at("web", "container:0123456789ab:/etc/ssl/my key.pem").place(|p| p.reach = Some(read))]);
    assert!(boxed.remedy.starts_with("`chmod o-rwx '/etc/ssl/my key.pem'`.") && boxed.remedy.ends_with("image that it was made from."), "{}", boxed.remedy);
    let unsure = private('b', 'f').at("web", "/a.key").place(|p| p.mode = Some(0o644)).at("web", "/z.key").place(|p| p.reach = Some(read));
    assert!(only(vec![unsure]).title.contains("/z.key"), "what is certain is told first");
    let backup = |path: &str| key(KeyKind::SshPrivateKey, 'b', 'f').at("a", "/etc/ssh/ssh_host_rsa_key").at("b", path);
    let copied = only(vec![backup("/backup/a/ssh_host_rsa_key")]);
    assert_eq!(copied.kind, Kind::PrivateKeyShared, "the backup proves nothing with it");
    assert!(copied.remedy.contains("ssh-keygen") && !copied.remedy.contains("certificate"), "{}", copied.remedy);
    assert_eq!(only(vec![backup("/usr/local/etc/ssh/ssh_host_rsa_key")]).kind, Kind::SshHostKeyShared);
    let hostile = leaf('a', 'f', 60).served("web", |s| (s.file_key, s.unit) = (Some("b".repeat(64)), Some("x; reboot #.service".into())));
    assert!(only(vec![hostile]).remedy.starts_with("`systemctl reload 'x; reboot #.service'`"));
    let old = |s: &mut Served, exe: &str| (s.file_key, s.pid, s.exe) = (Some("b".repeat(64)), Some(7), Some(exe.into()));
    let two = leaf('a', 'f', 60).served("web", |s| old(s, "/usr/bin/openssl")).served("db", |s| s.file_key = Some("b".repeat(64)));
    assert!(only(vec![two]).remedy.starts_with("Have process 7 (openssl) on web load it: "), "the other host's 7 is another process");
    for exe in ["/usr/sbin/nginx", "/usr/bin/openssl", "/opt/app"] {
        assert!(!only(vec![leaf('a', 'f', 60).served("web", |s| old(s, exe))]).remedy.contains("HUP"), "a program that does not know it dies of it");
    }
}

#[test]
fn two_certificates_of_two_algorithms_are_a_pair_and_not_each_others_heirs() {
    let rsa = |days| leaf('a', '1', days).at("web", "/etc/ssl/shop.rsa.pem");
    let ec = |days| leaf('b', '2', days).facts(|f| (f.algorithm, f.bits) = ("ec".into(), Some(256))).at("web", "/etc/ssl/shop.ec.pem");
    assert_eq!(kinds(vec![rsa(5), ec(6)]), [(Kind::Expiring, Severity::Warning); 2]);
    assert_eq!(kinds(vec![rsa(5), ec(85)]), [], "renewed, and another algorithm chosen");
}

#[test]
fn cross_signed_authorities_and_their_next_keys_are_no_fault() {
    let sha1 = |key: Key| key.facts(|f| f.signature_algorithm = Some("sha1WithRSAEncryption".into()));
    let cross = || sha1(authority('a', 'f', "CN=Root", "CN=Old", 900)).at("web", "/etc/ssl/fullchain.pem");
    let root = authority('b', 'f', "CN=Root", "CN=Root", 900).at("web", BUNDLE).role(Role::Trusted);
    assert_eq!(kinds(vec![cross(), root]), []);
    assert_eq!(kinds(vec![cross()]), [(Kind::Weak, Severity::Warning)], "nobody is known who trusts it by itself");
    let next = |own: &str| leaf('a', 'f', 60).facts(|f| (f.issuer, f.key_id, f.authority_key_id) = (f.subject.clone(), Some(own.into()), Some("0a".into())));
    assert_eq!(kinds(vec![next("0b").served("web", |_| ())]), [], "signed by the key before it, under the same name");
    assert_eq!(kinds(vec![next("0a").served("web", |_| ())]), [(Kind::SelfSignedServed, Severity::Info)]);
}

#[test]
fn an_older_list_beside_its_successor_is_not_overdue() {
    let list = |id, issuer: &str, made: i64, days: i64| {
        key(KeyKind::Crl, id, id).facts(|f| (f.issuer, f.not_before_ms, f.not_after_ms) = (Some(issuer.into()), Some(NOW - made * DAY), Some(NOW + days * DAY)))
    };
    let old = || list('a', "CN=CA", 14, -7).at("web", "/crl/old.pem");
    assert_eq!(kinds(vec![old(), list('b', "CN=CA", 1, 6).at("web", "/crl/new.pem")]), []);
    assert_eq!(kinds(vec![old().used_by("nginx: /n:1"), list('b', "CN=CA", 1, 6).at("web", "/crl/new.pem")]), [(Kind::StaleCrl, Severity::Warning)]);
    assert_eq!(kinds(vec![old(), list('b', "CN=CA", 1, 6).at("db", "/crl/new.pem")]), [(Kind::StaleCrl, Severity::Warning)]);
    assert_eq!(kinds(vec![old(), list('b', "CN=Other", 1, 6).at("web", "/crl/new.pem")]), [(Kind::StaleCrl, Severity::Warning)]);
}

#[test]
fn where_a_revoked_key_lies_as_a_warning_it_is_not_in_use() {
    let told = |path: &str, role| {
        let mut record = ssh('a', 'f').at("web", path).role(role).used_by("sshd: /etc/ssh/sshd_config:9").record();
        (record.revoked_ms, record.revoked_at) = (Some(NOW - DAY), Some(("web".into(), "/etc/ssh/revoked_keys".into())));
        all(&View::new([&record], NOW, None)).into_iter().any(|f| f.kind == Kind::RevokedInUse)
    };
    assert!(!told("/etc/ssh/revoked_keys", Role::Held), "the list that sshd refuses it by");
    assert!(!told("/etc/ssh/ssh_known_hosts", Role::Peer), "what others prove with it is theirs");
    assert!(told("/etc/ssh/ssh_host_key.pub", Role::Held));
}

#[test]
fn absurd_and_missing_facts_break_nothing_and_hide_nothing() {
    let curve =
        |name: &str| key(KeyKind::PrivateKey, 'b', 'f').facts(|f| (f.algorithm, f.bits, f.curve) = ("ec".into(), None, Some(name.into()))).at("web", "/k");
    for (name, weak) in [("secp192r1", true), ("prime256v1", false), ("brainpoolP160r1", true), ("secp112r1", true), ("unknown (1.2.3)", false), ("", false)] {
        assert_eq!(kinds(vec![curve(name)]).len(), usize::from(weak), "{name}");
    }
    for (from, end) in [(i64::MIN, i64::MIN), (i64::MIN, i64::MAX), (i64::MAX, i64::MIN), (i64::MAX, i64::MAX)] {
        let name = "CN=\u{202e}ἀρχή\u{1f511}, O=".to_owned() + &"x".repeat(5_000);
        let absurd = |key: Key| key.facts(|f| (f.not_before_ms, f.not_after_ms, f.subject, f.sans) = (Some(from), Some(end), Some(name.clone()), Vec::new()));
        let served = absurd(leaf('a', 'f', 0)).facts(|f| f.revoked_ms = Some(end)).served("web", |s| s.file_key = Some("z".into())).until(end);
        let many = vec![served, absurd(key(KeyKind::KernelKey, 'b', 'b')).at("web", "keyring:1"), absurd(key(KeyKind::Crl, 'c', 'c')).at("web", "/crl")];
        let login = absurd(key(KeyKind::SshPublicKey, 'd', 'd')).at("web", "/root/.ssh/authorized_keys").role(Role::Authorized).until(end);
        let told = found([many, vec![login]].concat_keys());
        assert!(told.iter().any(|f| f.kind == Kind::RevokedInUse) && told.iter().all(|f| f.title.len() <= 2_000 && !f.title.contains('\u{202e}')), "{told:#?}");
        assert_eq!(told.iter().any(|f| f.kind == Kind::Expired), end == i64::MIN);
    }
    let nothing = key(KeyKind::Certificate, 'a', 'a').facts(|f| (f.algorithm, f.bits) = ("unknown (1.3.6.1)".into(), None)).at("", "");
    assert_eq!(kinds(vec![nothing]), []);
}

#[test]
fn of_two_keys_in_one_file_each_is_told_by_its_name_and_a_secret_is_no_private_key() {
    let in_set = |id: char, kind, kid: Option<&str>| {
        key(kind, id, id).at("web", "/srv/jwks.json").place(|p| {
            (p.format, p.entry, p.reach) = (Some("jwks".into()), kid.map(str::to_owned), Some(Reach { read: true, ..Reach::default() }));
        })
    };
    let title = |key: Key| only(vec![key]).title;
    assert_eq!(title(in_set('a', KeyKind::PrivateKey, Some("sig-1"))), "Every user can read the private key /srv/jwks.json [sig-1] on web");
    assert_eq!(title(in_set('b', KeyKind::SymmetricKey, Some("mac-1"))), "Every user can read the secret /srv/jwks.json [mac-1] on web");
    assert_eq!(title(in_set('c', KeyKind::PrivateKey, None).place(|p| p.slot = 1)), "Every user can read the private key /srv/jwks.json [key 2] on web");
}

#[test]
fn the_port_that_lacks_a_file_is_the_one_whose_process_is_named() {
    let here = |s: &mut Served| s.exe = Some("/usr/sbin/other".into());
    let ports =
        leaf('a', 'f', 60).at("web", "/etc/ssl/shop.pem").served("web", here).served("db", |s| (s.file, s.exe) = (None, Some("/usr/bin/haproxy".into())));
    let told = only(vec![ports]);
    assert_eq!((told.kind, told.evidence[0].1.as_str(), told.hosts.as_slice()), (Kind::ServedWithoutFile, "/usr/bin/haproxy", &["db".to_owned()][..]));
}

#[test]
fn who_signs_his_own_server_certificates_replaces_them_too() {
    // As `openssl req -x509` makes it: CA:TRUE, whatever it is for.
    let own = |id, days| leaf(id, id, days).facts(|f| (f.issuer, f.is_ca) = (f.subject.clone(), Some(true)));
    let unnamed = |id, days| own(id, days).facts(|f| f.sans.clear());
    let secret = |id, host, path| key(KeyKind::PrivateKey, id, id).facts(|f| f.id = "e".repeat(63) + &id.to_string()).at(host, path);
    let status = |keys: Vec<Key>| statuses(keys).into_iter().next().map(|(status, _)| status);
    let new = || own('b', 85).at("web", "/new/shop.pem");
    assert_eq!(status(vec![own('a', 2).at("web", "/old/shop.pem"), new()]), Some(Status::Superseded));
    assert_eq!(status(vec![own('a', 2).at("web", "/old/shop.pem").used_by("nginx: /n:1"), new()]), Some(Status::Active), "it is in use");
    let bare = |kept: bool| {
        let keys = [secret('a', "web", "/old/shop.key"), secret('b', "web", "/new/shop.key")];
        let certificates = vec![unnamed('a', 2).at("web", "/old/shop.pem"), unnamed('b', 85).at("web", "/new/shop.pem")];
        status([certificates, keys.into_iter().filter(|_| kept).collect()].concat_keys())
    };
    assert_eq!((bare(true), bare(false)), (Some(Status::Superseded), Some(Status::Active)), "a name alone may be an authority's, whose key is elsewhere");
    let gone = |mut record: KeyRecord| {
        let places: Vec<_> = record.places.iter().map(|p| crate::keys::PlaceRecord { gone: true, ..p.clone() }.into()).collect();
        record.places = places.into();
        record
    };
    let records = [gone(own('a', 2).at("web", "/old/shop.pem").record()), new().record()];
    assert_eq!(Findings::of(&records, NOW).status(&records[0], NOW), Status::Superseded, "it was taken away after its successor came");

    let root = |id: char, days| authority(id, id, "CN=Root", "CN=Root", days).facts(|f| f.not_before_ms = Some(NOW - (1_000 - days) * DAY));
    let roots = || {
        vec![
            root('a', 2).at("web", "/ca/old.pem"),
            root('b', 900).at("web", "/ca/new.pem"),
            secret('a', "web", "/ca/old.key"),
            secret('b', "web", "/ca/new.key"),
        ]
    };
    let issued = leaf('c', 'c', 60).facts(|f| f.issuer = Some("CN=Root".into())).at("db", "/etc/ssl/db.pem");
    assert_eq!(status([roots(), vec![issued]].concat_keys()), Some(Status::Active), "an authority is needed as long as what it signed");
    let trusted = |key: Key| key.at("web", "/etc/app/ca.pem").role(Role::Trusted);
    assert_eq!(status(vec![trusted(root('a', 2)), trusted(root('b', 900))]), Some(Status::Active), "clients may hold what the old one signed");
}

#[test]
fn an_older_certificate_that_was_put_back_is_not_superseded_by_the_one_that_it_displaced() {
    let records = |put_back: bool| {
        let mut old = leaf('a', 'a', 20).at("web", "/etc/ssl/shop.pem").record();
        old.replaces = put_back.then(|| "b".repeat(64));
        [old, leaf('b', 'b', 85).at("web", "/etc/ssl/next/shop.pem").record()]
    };
    let status = |records: [KeyRecord; 2]| Findings::of(&records, NOW).status(&records[0], NOW);
    assert_eq!([status(records(false)), status(records(true))], [Status::Superseded, Status::Active]);
}
