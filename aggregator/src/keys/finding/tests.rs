//! What each detector finds, and the false alarms that it must not raise.

mod attacks;
mod reach;

use std::collections::BTreeMap;
use std::sync::Arc;

use keyvigil_common::finding::{FindingKind as Kind, Severity};
use keyvigil_common::key::{KeyFacts, KeyKind, Place, Reach, Revoked, Role, Served, Sighting};

use super::{Finding, View, all};
use crate::keys::{ByHost, Findings, KeyRecord, Observed, Sensor, Status};

const NOW: i64 = 1_795_000_000_000;
const DAY: i64 = 86_400_000;

/// A key under construction.
struct Key {
    facts: KeyFacts,
    places: Vec<(&'static str, Place)>,
}

/// A key whose fingerprint and id are told apart by one character each.
fn key(kind: KeyKind, id: char, fingerprint: char) -> Key {
    let mut facts = KeyFacts::bare(kind, id.to_string().repeat(64), fingerprint.to_string().repeat(64), "rsa");
    facts.bits = Some(3_072);
    Key { facts, places: Vec::new() }
}

fn leaf(id: char, fingerprint: char, days: i64) -> Key {
    let mut made = key(KeyKind::Certificate, id, fingerprint);
    let facts = &mut made.facts;
    (facts.subject, facts.issuer) = (Some("CN=shop.example".into()), Some("CN=R1, O=Authority".into()));
    (facts.sans, facts.is_ca) = (vec!["DNS:shop.example".into()], Some(false));
    (facts.not_before_ms, facts.not_after_ms) = (Some(NOW + (days - 90) * DAY), Some(NOW + days * DAY));
    facts.signature_algorithm = Some("sha256WithRSAEncryption".into());
    made
}

fn authority(id: char, fingerprint: char, subject: &str, issuer: &str, days: i64) -> Key {
    let mut made = leaf(id, fingerprint, days);
    made.facts.not_before_ms = Some(NOW - 1_000 * DAY);
    (made.facts.subject, made.facts.issuer) = (Some(subject.into()), Some(issuer.into()));
    (made.facts.is_ca, made.facts.sans) = (Some(true), Vec::new());
    made
}

fn private(id: char, fingerprint: char) -> Key {
    key(KeyKind::PrivateKey, id, fingerprint)
}

impl Key {
    fn at(mut self, host: &'static str, path: &str) -> Self {
        let slot = u32::try_from(self.places.len()).unwrap();
        self.places.push((host, Place { path: path.into(), slot, ..Place::default() }));
        self
    }

    fn place(mut self, change: impl FnOnce(&mut Place)) -> Self {
        change(&mut self.places.last_mut().unwrap().1);
        self
    }

    fn facts(mut self, change: impl FnOnce(&mut KeyFacts)) -> Self {
        change(&mut self.facts);
        self
    }

    fn used_by(self, user: &str) -> Self {
        self.place(|place| place.used_by.push(user.into()))
    }

    fn until(self, end_ms: i64) -> Self {
        self.place(|place| place.not_after_ms = Some(end_ms))
    }

    fn role(self, role: Role) -> Self {
        self.place(|place| place.role = role)
    }

    fn served(self, host: &'static str, change: impl FnOnce(&mut Served)) -> Self {
        let mut served =
            Served { file: Some("/etc/ssl/shop.pem".into()), exe: Some("/usr/sbin/nginx".into()), chain: vec!["9".repeat(64)], ..Served::default() };
        change(&mut served);
        self.at(host, "tls://0.0.0.0:443/shop.example").role(Role::Served).place(|place| place.served = Some(Box::new(served)))
    }

    fn record(self) -> KeyRecord {
        let mut record = None;
        for (host, place) in self.places {
            let sighting = Sighting { facts: self.facts.clone(), place, at_ms: NOW - 10 * DAY, gone: false, replaces: None };
            record = Some(KeyRecord::sighted(record, host, sighting));
        }
        record.unwrap()
    }
}

/// All that is found, but for what is true of every key of today.
fn found(keys: Vec<Key>) -> Vec<Finding> {
    let records: Vec<KeyRecord> = keys.into_iter().map(Key::record).collect();
    let mut found = all(&View::new(&records, NOW, None));
    found.retain(|finding| finding.kind != Kind::NotQuantumSafe);
    found
}

fn kinds(keys: Vec<Key>) -> Vec<(Kind, Severity)> {
    found(keys).iter().map(|finding| (finding.kind, finding.severity)).collect()
}

fn only(keys: Vec<Key>) -> Finding {
    let mut found = found(keys);
    assert_eq!(found.len(), 1, "{found:#?}");
    found.remove(0)
}

#[test]
fn a_private_key_on_two_hosts_is_one_finding_and_its_copies_on_one_host_are_none() {
    let shared = only(vec![leaf('a', 'f', 60).at("web-2", "/etc/ssl/shop.pem"), private('b', 'f').at("web-1", "/etc/ssl/shop.key").at("web-2", "/x.key")]);
    assert_eq!((shared.kind, shared.severity, shared.hosts.as_slice()), (Kind::PrivateKeyShared, Severity::Warning, &["web-1".to_owned(), "web-2".into()][..]));
    assert_eq!(shared.title, "The private key of shop.example lies on 2 hosts");
    assert_eq!(kinds(vec![private('b', 'f').at("web-1", "/etc/ssl/shop.key").at("web-1", "/backup/shop.key")]), []);
    let two_services = private('b', 'f').at("web-1", "/a").used_by("nginx: /etc/nginx/a:1").at("web-1", "/b").used_by("postfix: /etc/postfix/main.cf:2");
    assert_eq!(kinds(vec![two_services]), [(Kind::PrivateKeyShared, Severity::Info)]);
    let peers = key(KeyKind::SymmetricKey, 'b', 'b').at("a", "/etc/wireguard/wg0.conf").at("b", "/etc/wireguard/wg0.conf");
    assert_eq!(kinds(vec![peers]), [], "a secret of two sides lies on both");
    let other_forms = vec![private('b', 'f').at("web-1", "/a.key"), private('c', 'f').at("web-2", "/store.p12")];
    assert_eq!(only(other_forms).keys.len(), 2, "by fingerprint, whatever form it has");
}

#[test]
fn copied_images_share_their_ssh_host_key_and_known_hosts_do_not_make_it_shared() {
    let host_key = || key(KeyKind::SshPrivateKey, 'b', 'f').at("a", "/etc/ssh/ssh_host_ed25519_key");
    assert_eq!(kinds(vec![host_key().at("b", "/etc/ssh/ssh_host_ed25519_key")]), [(Kind::SshHostKeyShared, Severity::Critical)]);
    assert_eq!(kinds(vec![host_key().at("b", "/root/.ssh/known_hosts").role(Role::Peer)]), []);
    assert_eq!(kinds(vec![host_key().at("b", "/root/.ssh/authorized_keys").role(Role::Authorized)]), []);
}

#[test]
fn a_certificate_needs_its_key_only_where_it_is_used() {
    let used = || leaf('a', 'f', 60).at("web", "/etc/ssl/shop.pem").used_by("nginx: /etc/nginx/shop:3");
    assert_eq!(only(vec![used()]).kind, Kind::CertificateWithoutKey);
    assert_eq!(kinds(vec![used(), private('b', 'f').at("web", "/elsewhere.key")]), []);
    assert_eq!(only(vec![used(), private('b', 'f').at("other", "/etc/ssl/shop.key")]).kind, Kind::CertificateWithoutKey, "on another host it does not help");
    assert_eq!(kinds(vec![leaf('a', 'f', 60).at("web", "/home/ana/partner.pem")]), [], "a certificate of somebody else may lie around");
    assert_eq!(kinds(vec![leaf('a', 'f', 60).at("web", "/p.pem").role(Role::Peer).used_by("x: /y")]), []);
    let mismatch = only(vec![leaf('a', 'f', 60).at("web", "/etc/ssl/shop.pem"), private('b', '0').at("web", "/etc/ssl/shop.key")]);
    assert_eq!(mismatch.title, "The key file beside shop.example on web is not its key");
    let sealed = private('b', 'b').at("web", "/etc/ssl/shop.key").facts(|f| (f.encrypted, f.bits) = (Some(true), None));
    assert_eq!(kinds(vec![used(), sealed]), [], "a key that needs a password may be the one");
}

#[test]
fn a_key_needs_a_certificate_only_beside_those_of_its_configuration() {
    let named = || private('b', 'f').at("web", "/etc/ssl/new.key").used_by("nginx: /etc/nginx/shop:4");
    let other =
        || vec![leaf('a', '0', 60).at("web", "/etc/ssl/shop.pem").used_by("nginx: /etc/nginx/shop:3"), private('c', '0').at("web", "/etc/ssl/shop.key")];
    assert_eq!(kinds([other(), vec![named()]].concat_keys()), [(Kind::KeyWithoutCertificate, Severity::Warning)]);
    assert_eq!(kinds(vec![named()]), [], "a key for signing mail has no certificate");
    let request = key(KeyKind::CertificateRequest, 'd', 'f').at("web", "/etc/ssl/new.csr");
    assert_eq!(kinds([other(), vec![named(), request]].concat_keys()), [], "it is on its way");
}

trait Concat {
    fn concat_keys(self) -> Vec<Key>;
}

impl<const N: usize> Concat for [Vec<Key>; N] {
    fn concat_keys(self) -> Vec<Key> {
        self.into_iter().flatten().collect()
    }
}

#[test]
fn the_nearer_the_end_the_worse_and_short_lives_have_short_warnings() {
    let at = |days| kinds(vec![leaf('a', 'f', days).at("web", "/a.pem")]);
    assert_eq!(at(31), []);
    assert_eq!(at(30), [(Kind::Expiring, Severity::Info)]);
    assert_eq!(at(14), [(Kind::Expiring, Severity::Warning)]);
    assert_eq!(at(1), [(Kind::Expiring, Severity::Critical)]);
    assert_eq!(at(-2), [(Kind::Expired, Severity::Warning)]);
    assert_eq!(at(-400), [(Kind::Expired, Severity::Info)], "history");
    let used = leaf('a', 'f', -400).at("web", "/a.pem").used_by("nginx: /n:1");
    assert!(kinds(vec![used]).contains(&(Kind::Expired, Severity::Critical)));
    let hour = 3_600_000;
    let of_a_week = |left_hours: i64, renewed: bool| {
        let week = |id| leaf(id, id, 0).facts(|f| (f.not_before_ms, f.not_after_ms) = (Some(NOW + left_hours * hour - 7 * DAY), Some(NOW + left_hours * hour)));
        let (mut old, mut new) = (week('a').at("web", "/a.pem").record(), week('b').at("web", "/a.pem").record());
        let gone = crate::keys::PlaceRecord { gone: true, ..old.places.first().unwrap().clone() };
        old.places.put(gone);
        if renewed {
            (old.replaced_by, new.replaces) = (Some(new.facts.id.clone()), Some(old.facts.id.clone()));
        }
        let found = all(&View::new([&old, &new], NOW, None));
        found.iter().find(|found| found.kind == Kind::Expiring).map(|found| found.severity)
    };
    assert_eq!(of_a_week(6 * 24, false), Some(Severity::Warning), "the days that are left are few");
    assert_eq!(of_a_week(6 * 24, true), None, "and that is how it is here");
    assert_eq!(of_a_week(26, true), Some(Severity::Warning));
    assert_eq!(only(vec![leaf('a', 'f', 6).at("web", "/a.pem")]).title, "shop.example on web expires in 6 days");
}

#[test]
fn what_nobody_waits_for_does_not_expire() {
    let peer = leaf('a', 'f', 1).at("web", "/p.pem").role(Role::Peer);
    let shipped = authority('b', '1', "CN=X", "CN=X", 1).at("web", "/etc/ssl/certs/ca-certificates.crt").at("web", "/etc/ssl/certs/X.pem").role(Role::Trusted);
    let request = key(KeyKind::CertificateRequest, 'c', '2').facts(|f| f.not_after_ms = Some(NOW)).at("web", "/a.csr");
    assert_eq!(kinds(vec![peer, shipped, request]), []);
    let own = authority('b', '1', "CN=X", "CN=X", 1).at("web", "/etc/nginx/clients.pem").role(Role::Trusted);
    assert_eq!(kinds(vec![own]), [(Kind::Expiring, Severity::Critical)], "an authority that somebody trusts by his own choice");
    let revoked = leaf('a', 'f', 1).facts(|f| f.revoked_ms = Some(NOW - DAY)).at("web", "/a.pem");
    assert_eq!(kinds(vec![revoked]), [(Kind::Expiring, Severity::Critical)], "being called revoked hides no end");
}

#[test]
fn a_private_key_is_the_same_in_pem_and_in_the_form_of_ssh() {
    let pem = key(KeyKind::PrivateKey, 'a', 'f').at("web", "/etc/ssl/private/k.pem");
    let ssh = key(KeyKind::SshPrivateKey, 'b', '1').facts(|f| f.spki = Some("f".repeat(64))).at("mail", "/home/ana/.ssh/id_ecdsa");
    assert_eq!(kinds(vec![pem, ssh]), [(Kind::PrivateKeyShared, Severity::Warning)]);
}

#[test]
fn our_own_certificate_of_a_month_is_not_about_to_expire_from_its_first_day() {
    let own = |left: i64| {
        let made = key(KeyKind::Certificate, 'a', 'f').facts(|f| {
            (f.not_before_ms, f.not_after_ms) = (Some(NOW + left - 30 * DAY), Some(NOW + left));
            f.sans = vec!["DNS:aggregator.keyvigil.internal".into()];
        });
        kinds(vec![made.served("web", |served| served.file = None)])
    };
    assert_eq!((own(29 * DAY), own(DAY / 4)), (vec![], vec![(Kind::Expiring, Severity::Critical)]), "but it is told where it is not renewed");
}

#[test]
fn a_revoked_certificate_does_not_revoke_the_key_it_was_made_for() {
    let login = || key(KeyKind::SshPublicKey, 'a', 'f').at("web", "/root/.ssh/authorized_keys").role(Role::Authorized);
    let certificate = key(KeyKind::SshCertificate, 'b', 'f').facts(|f| f.revoked_ms = Some(NOW - DAY)).at("web", "/etc/ssh/k-cert.pub");
    let told = kinds(vec![login(), certificate]);
    assert!(!told.iter().any(|(kind, _)| *kind == Kind::AuthorizedKeyRevoked), "{told:?}");
}

#[test]
fn a_finding_names_the_file_of_the_host_that_it_is_about() {
    let read = Reach { read: true, ..Reach::default() };
    let named = |keys, kind| found(keys).into_iter().find(|found| found.kind == kind).map(|found| found.title);
    let elsewhere = || private('b', 'f').at("db", "/srv/odd/site.secret");
    let lone = elsewhere().at("web", "/k/legacy.p12").place(|p| p.reach = Some(read));
    assert_eq!(named(vec![lone], Kind::PrivateKeyReadable).as_deref(), Some("Every user can read the private key /k/legacy.p12 on web"));
    let odd = elsewhere().at("web", "/k/legacy.key").used_by("nginx: /etc/nginx/x:3");
    let beside = leaf('c', '0', 60).at("web", "/k/site.pem").used_by("nginx: /etc/nginx/x:2");
    let alone = named(vec![odd, beside], Kind::KeyWithoutCertificate);
    assert_eq!(alone.as_deref(), Some("The private key /k/legacy.key on web belongs to no certificate there"));
}

#[test]
fn a_key_revoked_in_one_form_is_revoked_in_all() {
    let list = || key(KeyKind::SshPublicKey, 'a', 'e').facts(|f| (f.spki, f.revoked_ms) = (Some("f".repeat(64)), Some(NOW - DAY))).at("web", "/k.pub");
    let pem = || private('b', 'f').at("web", "/etc/nginx/k.key").place(|p| p.used_by = vec!["nginx: /etc/nginx/x:3".into()]);
    assert!(kinds(vec![list(), pem()]).contains(&(Kind::RevokedInUse, Severity::Critical)));
    assert!(!kinds(vec![pem()]).contains(&(Kind::RevokedInUse, Severity::Critical)));
}

#[test]
fn keys_other_than_certificates_end_too() {
    let apt =
        key(KeyKind::OpenpgpPublicKey, 'a', 'f').facts(|f| f.not_after_ms = Some(NOW + 5 * DAY)).at("web", "/etc/apt/keyrings/vendor.gpg").role(Role::Trusted);
    let login = key(KeyKind::SshPublicKey, 'b', '1').at("web", "/root/.ssh/authorized_keys").role(Role::Authorized).until(NOW + DAY);
    let ssh = key(KeyKind::SshCertificate, 'c', '2').facts(|f| (f.not_before_ms, f.not_after_ms) = (Some(NOW - 11 * 3_600_000), Some(NOW + 3_600_000)));
    assert_eq!(kinds(vec![apt, login]).len(), 2);
    assert_eq!(kinds(vec![ssh.at("web", "/etc/ssh/host-cert.pub")]), [(Kind::Expiring, Severity::Warning)]);
    let kernel = |left: i64| {
        let made = key(KeyKind::KernelKey, 'd', '3').facts(|f| (f.not_before_ms, f.not_after_ms) = (Some(NOW - 10 * DAY), Some(NOW + left)));
        kinds(vec![made.at("web", "keyring:1")])
    };
    assert_eq!(kernel(DAY / 2), [(Kind::KernelKeyExpiring, Severity::Info)]);
    assert_eq!((kernel(5 * DAY), kernel(-DAY)), (vec![], vec![]), "they time out as they were told to");
    let stranger = key(KeyKind::OpenpgpPublicKey, 'a', 'f').facts(|f| f.not_after_ms = Some(NOW - DAY)).at("web", "/home/ana/.gnupg/pubring.kbx");
    assert_eq!(kinds(vec![stranger]), [], "somebody else's key");
}

#[test]
fn an_older_certificate_of_the_same_line_is_quiet_unless_it_is_in_use() {
    let old = || leaf('a', 'f', 2).at("web", "/archive/shop/cert1.pem");
    let new = || leaf('b', '1', 85).at("web", "/archive/shop/cert2.pem");
    assert_eq!(kinds(vec![old(), new()]), []);
    let renewed_authority = new().facts(|f| f.issuer = Some("CN=R2, O=Authority".into()));
    assert_eq!(kinds(vec![old(), renewed_authority]), [], "authorities renew their intermediates");
    assert_eq!(kinds(vec![old().used_by("x: /y"), private('c', 'f').at("web", "/k"), new()]), [(Kind::Expiring, Severity::Warning)], "the old one is named");
    assert_eq!(kinds(vec![old().served("web", |_| ()), new()]), [(Kind::Expiring, Severity::Warning)], "or served");
    assert_eq!(kinds(vec![old(), new().facts(|f| f.sans.push("DNS:www".into()))]), [(Kind::Expiring, Severity::Warning)], "for other names");
    assert_eq!(kinds(vec![old(), leaf('b', '1', 85).at("db", "/x.pem")]), [(Kind::Expiring, Severity::Warning)], "on another host");
    assert_eq!(kinds(vec![old(), new().facts(|f| f.issuer = Some("CN=self".into()))]), [(Kind::Expiring, Severity::Warning)], "of another authority");
    let records = [old().record(), new().record()];
    let found = Findings::of(&records, NOW);
    assert_eq!((found.status(&records[0], NOW), found.end(&records[0], NOW)), (Status::Superseded, None));
    assert_eq!(found.status(&records[1], NOW), Status::Active);
}

#[test]
fn a_chain_ends_with_the_soonest_link_that_is_needed() {
    let file = "/etc/ssl/fullchain.pem";
    let site = || leaf('a', 'f', 60).facts(|f| f.issuer = Some("CN=I".into())).at("web", file);
    let between = |days| authority('b', '1', "CN=I", "CN=Root", days).at("web", file);
    let soon = only(vec![site(), between(5)]);
    assert_eq!((soon.kind, soon.keys[0].as_str()), (Kind::Expiring, "a".repeat(64).as_str()), "told of the leaf, not of the intermediate");
    assert!(soon.evidence.contains(&("soonest link of its chain".into(), "I".into())), "{soon:?}");
    assert_eq!(kinds(vec![site(), between(200)]), []);
    // The root was cross-signed by one that has expired since; who trusts the root does not look further.
    let root = || authority('c', '2', "CN=Root", "CN=Root", 900).at("web", "/etc/ssl/certs/ca-certificates.crt").role(Role::Trusted);
    let cross = || authority('d', '2', "CN=Root", "CN=Old", -30).at("web", file);
    assert_eq!(kinds(vec![site(), between(200), cross(), root()]), []);
    assert_eq!(only(vec![site(), between(200), cross()]).kind, Kind::Expired, "nobody is known who trusts the root");
    let stale_root = authority('c', '2', "CN=Root", "CN=Root", -5).at("web", file);
    assert_eq!(kinds(vec![site(), between(200), stale_root]), [], "a root that comes along is not needed");
    let unneeded = authority('e', '3', "CN=Unrelated", "CN=Old", -30).at("web", file);
    assert_eq!(kinds(vec![site(), between(200), unneeded]), []);
    let served = leaf('a', 'f', 60).facts(|f| f.issuer = Some("CN=I".into())).served("web", |s| s.chain = vec!["b".repeat(64)]);
    let intermediate = authority('b', '1', "CN=I", "CN=Root", 5).served("web", |_| ());
    assert_eq!(only(vec![served.at("web", "/x.pem"), intermediate]).kind, Kind::Expiring, "a served chain too");
}

#[test]
fn weak_keys_are_told_once_and_roots_may_be_signed_as_they_like() {
    let small = |bits| {
        kinds(vec![leaf('a', 'f', 60).facts(|f| f.bits = Some(bits)).at("web", "/a.pem"), private('b', 'f').facts(|f| f.bits = Some(bits)).at("web", "/a.key")])
    };
    assert_eq!(small(1_024), [(Kind::Weak, Severity::Warning)]);
    assert_eq!(small(768), [(Kind::Weak, Severity::Critical)]);
    assert_eq!(small(2_048), []);
    let with = |change: fn(&mut KeyFacts)| kinds(vec![leaf('a', 'f', 60).facts(change).at("web", "/a.pem")]);
    assert_eq!(with(|f| f.signature_algorithm = Some("sha1WithRSAEncryption".into())), [(Kind::Weak, Severity::Warning)]);
    assert_eq!(with(|f| f.signature_algorithm = Some("md5WithRSAEncryption".into())), [(Kind::Weak, Severity::Critical)]);
    assert_eq!(with(|f| f.signature_algorithm = Some("slh-dsa-sha2-128s".into())), []);
    assert_eq!(with(|f| f.weaknesses = vec!["roca".into()]), [(Kind::Weak, Severity::Critical)]);
    assert_eq!(with(|f| (f.algorithm, f.bits) = ("ec".into(), Some(192))), [(Kind::Weak, Severity::Warning)]);
    assert_eq!(with(|f| (f.algorithm, f.bits) = ("ed25519".into(), Some(256))), []);
    for (exponent, weak) in [(1, true), (3, true), (65_536, true), (65_537, false), (17, false)] {
        let kinds = kinds(vec![leaf('a', 'f', 60).facts(|f| f.exponent = Some(exponent)).at("web", "/a.pem")]);
        assert_eq!(kinds.len(), usize::from(weak), "{exponent}");
    }
    let root = authority('a', 'f', "CN=Root", "CN=Root", 900).facts(|f| f.signature_algorithm = Some("sha1WithRSAEncryption".into()));
    assert_eq!(kinds(vec![root.at("web", "/own-ca.pem")]), [], "nobody checks a root's own signature");
    let peer = key(KeyKind::SshPublicKey, 'a', 'f').facts(|f| f.bits = Some(1_024)).at("web", "/root/.ssh/known_hosts").role(Role::Peer);
    assert_eq!(kinds(vec![peer]), [], "the peer's matter");
    let login = key(KeyKind::SshPublicKey, 'a', 'f').facts(|f| f.algorithm = "dsa".into()).at("web", "/root/.ssh/authorized_keys").role(Role::Authorized);
    assert_eq!(kinds(vec![login]), [(Kind::Weak, Severity::Warning)]);
}

#[test]
fn revoked_keys_matter_where_they_open_something() {
    let list =
        key(KeyKind::Crl, 'c', 'c').facts(|f| f.revokes = vec![Revoked { what: "SHA256:xyz".into(), at_ms: None, reason: None }]).at("bastion", "/etc/ssh/krl");
    let login = || key(KeyKind::SshPublicKey, 'a', 'f').facts(|f| f.fingerprint = "SHA256:xyz".into()).at("web", "/root/.ssh/authorized_keys");
    let told = only(vec![list, login().facts(|f| f.subject = Some("bob@old-laptop".into())).place(|p| p.slot = 2).role(Role::Authorized)]);
    assert_eq!((told.kind, told.severity), (Kind::AuthorizedKeyRevoked, Severity::Critical));
    assert_eq!(told.title, "The revoked key bob@old-laptop, SHA256:xyz may still log in on web, by key 3 of /root/.ssh/authorized_keys");
    assert!(told.evidence.contains(&("line".into(), "key 3 of /root/.ssh/authorized_keys on web".into())), "{:?}", told.evidence);
    assert!(told.remedy.contains("`ssh-keygen -lf /root/.ssh/authorized_keys`"), "{}", told.remedy);
    assert_eq!(kinds(vec![login().role(Role::Authorized)]), []);
    let revoked = |key: Key| key.facts(|f| (f.revoked_ms, f.revocation) = (Some(NOW - DAY), Some("CRL: keyCompromise".into())));
    let in_use = only(vec![revoked(leaf('a', 'f', 60)).served("web", |_| ()).at("web", "/etc/ssl/shop.pem")]);
    assert_eq!((in_use.kind, in_use.since_ms), (Kind::RevokedInUse, NOW - DAY));
    assert_eq!(kinds(vec![revoked(leaf('a', 'f', 60)).at("web", "/old/shop.pem")]), [], "it lies there, and opens nothing");
}

#[test]
fn a_list_of_revocations_is_stale_when_the_next_is_overdue() {
    let list = |days: i64| key(KeyKind::Crl, 'a', 'a').facts(|f| (f.not_before_ms, f.not_after_ms) = (Some(NOW - 7 * DAY), Some(NOW + days * DAY)));
    assert_eq!(kinds(vec![list(-1).at("web", "/crl.pem")]), [(Kind::StaleCrl, Severity::Warning)]);
    assert_eq!(kinds(vec![list(3).at("web", "/crl.pem")]), []);
}

#[test]
fn unused_is_said_only_after_use_was_observed_for_long() {
    let private = private('a', 'a').at("web", "/root/.ssh/id").record();
    let login = key(KeyKind::SshPublicKey, 'b', 'a').at("db", "/root/.ssh/authorized_keys").role(Role::Authorized).record();
    let seen = |sensors: &[Sensor], from, to| {
        let mut observed = Observed::default();
        let days = (from..=to).map(|day| NOW + day * DAY);
        days.for_each(|at| sensors.iter().for_each(|sensor| observed.saw(*sensor, (at, at + DAY), 10_000)));
        Arc::new(BTreeMap::from([("web".to_owned(), observed)]))
    };
    let told = |private: &KeyRecord, day: i64, observed: Option<&ByHost>| {
        let found = all(&View::new([private, &login], NOW + day * DAY, observed.cloned())).into_iter();
        found.filter(|f| matches!(f.kind, Kind::AuthorizedKeyNeverUsed | Kind::PrivateKeyUnused)).map(|f| f.kind).collect::<Vec<_>>()
    };
    assert_eq!(told(&private, 400, None), [], "nothing observes");
    assert_eq!(told(&private, 400, Some(&seen(&Sensor::ALL, 399, 400))), [], "not for long");
    assert_eq!(told(&private, 100, Some(&seen(&Sensor::ALL, 0, 100))), [Kind::AuthorizedKeyNeverUsed, Kind::PrivateKeyUnused]);
    assert_eq!(told(&private, 100, Some(&seen(&[Sensor::Access], 0, 100))), [], "who has loaded it already opens it no more");
    assert_eq!(told(&private, 200, Some(&seen(&Sensor::ALL, 0, 100))), [], "nobody looks any more");
    let mut gone = seen(&Sensor::ALL, 0, 40);
    Sensor::ALL.iter().for_each(|sensor| Arc::make_mut(&mut gone).get_mut("web").unwrap().saw(*sensor, (NOW + 90 * DAY, NOW + 100 * DAY), 10_000));
    assert_eq!(told(&private, 100, Some(&gone)), [], "what was not observed does not count");
    let used = |day| KeyRecord { last_used_ms: Some(NOW + day * DAY), ..private.clone() };
    assert_eq!(told(&used(50), 100, Some(&seen(&Sensor::ALL, 0, 100))), []);
    assert_eq!(told(&used(5), 100, Some(&seen(&Sensor::ALL, 0, 100))), [Kind::PrivateKeyUnused], "it was used, and not for long now");
}

#[test]
fn keys_of_today_are_one_finding_an_algorithm_and_can_still_be_told_apart() {
    let records: Vec<KeyRecord> =
        [private('a', 'a').at("w", "/a"), private('b', 'b').at("v", "/b"), private('c', 'c').facts(|f| f.algorithm = "ml-dsa-65".into()).at("w", "/c")]
            .into_iter()
            .map(Key::record)
            .collect();
    let found = Findings::of(&records, NOW);
    assert_eq!(found.all.iter().map(|f| (f.kind, f.keys_total)).collect::<Vec<_>>(), [(Kind::NotQuantumSafe, 2)]);
    let concerned: Vec<bool> = records.iter().map(|key| found.kinds(key) & Kind::NotQuantumSafe.bit() != 0).collect();
    assert_eq!(concerned, [true, true, false]);
    assert_eq!((found.about(&records[0]).count(), found.about(&records[2]).count()), (1, 0));
}

#[test]
fn the_same_fault_has_the_same_id_and_hostile_names_are_one_line() {
    let at = |hosts: &[&'static str]| only(vec![hosts.iter().fold(leaf('a', 'f', 1), |key, host| key.at(host, "/a.pem"))]).id;
    assert_eq!(at(&["a"]), at(&["a", "b"]));
    let hostile = only(vec![leaf('a', 'f', 1).facts(|f| (f.subject, f.sans) = (Some("CN=x\r\nBcc: y\u{1b}[2J".into()), Vec::new())).at("web", "/a.pem")]);
    assert!(!hostile.title.chars().any(char::is_control), "{hostile:?}");
}

/// 200,000 keys of 2,000 hosts: prints what a look takes.
#[test]
fn a_large_fleet_is_looked_at_in_time() {
    use keyvigil_common::clock::SystemClock;
    let hosts: Vec<&'static str> = (0..2_000).map(|n| &*Box::leak(format!("web-{n:04}").into_boxed_str())).collect();
    let mut records = Vec::new();
    for (h, host) in hosts.iter().enumerate() {
        for n in 0..100_usize {
            let number = h * 100 + n;
            let (kind, path) =
                if n % 2 == 0 { (KeyKind::Certificate, format!("/etc/ssl/{n}.pem")) } else { (KeyKind::PrivateKey, format!("/etc/ssl/{}.key", n - 1)) };
            let mut made = if kind == KeyKind::Certificate { leaf('a', 'f', i64::try_from(number % 90).unwrap()) } else { private('b', 'f') };
            (made.facts.id, made.facts.fingerprint) = (format!("{number:064}"), format!("{:064}", number / 2));
            made.facts.sans = vec![format!("DNS:{number}.example")];
            records.push(made.at(host, &path).record());
        }
    }
    let clock = SystemClock::shared();
    let began = clock.monotonic();
    let found = Findings::of(&records, NOW);
    println!("{} keys: {} findings in {} ms", records.len(), found.all.len(), (clock.monotonic() - began).as_millis());
    let ends = (0..200_000_usize).step_by(2).filter(|number| number % 90 <= 30).count();
    assert_eq!(found.counts().by_kind["expiring"] + found.counts().by_kind["expired"], ends);
}
