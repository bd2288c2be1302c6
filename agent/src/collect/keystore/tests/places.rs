//! Where keys are looked for when nobody says where, what configurations name, and who can get at it.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use keyvigil_common::key::{Place, Reach, Role};

use super::*;

fn chmod(host: &Host, path: &str, mode: u32) {
    fs::set_permissions(host.shop.path(path), fs::Permissions::from_mode(mode)).unwrap();
}

fn place<'a>(sink: &'a Sink, path: &str) -> &'a Place {
    let sighting = sink.sightings.iter().find(|sighting| sighting.place.path == path);
    &sighting.unwrap_or_else(|| panic!("{path} is not told: {:?}", sink.sightings)).place
}

/// The told places with their users, the host's own keys apart.
fn used(sink: &Sink) -> Vec<(&str, Vec<&str>)> {
    let mut used: Vec<_> = sink.sightings.iter().map(|s| (s.place.path.as_str(), s.place.used_by.iter().map(String::as_str).collect())).collect();
    used.sort();
    used
}

#[test]
fn usual_places_are_looked_at_and_missing_ones_are_not_missed() {
    let mut host = Host::new(&[]);
    host.context.keystore.extra_paths = vec!["/data/keys".to_owned()];
    host.sensor = Keystore::new(&host.context);
    let key = host.shop.ec_key("k.pem");
    host.shop.write("etc/passwd", "root:x:0:0::/root:/bin/sh\npg:x:26:26::/var/lib/pgsql:/bin/sh\n");
    let paths = [
        "etc/ssl/private/a.key",
        "etc/pki/tls/private/b.key",
        "root/.ssh/id",
        "home/ldap/.ssh/id",
        "var/lib/pgsql/.postgresql/postgresql.key",
        "var/lib/pgsql/data/server.key",
        "etc/letsencrypt/live/x/privkey.pem",
        "etc/kubernetes/pki/ca.key",
        "etc/nobody-knows-it/tls/k.pem",
        "usr/lib/jvm/temurin-21/lib/security/jssecacerts",
        "var/snap/lxd/common/lxd/server.key",
        "home/ldap/.aws/ec2.pem",
        "opt/app/conf/deep/k.pem",
        "usr/local/etc/k.pem",
        "data/keys/k.pem",
    ];
    for path in paths {
        host.shop.write(path, fs::read(&key).unwrap());
    }
    for path in ["srv/data/k.pem", "var/lib/pgsql/data/base/k.key", "etc/unusual.pem"] {
        host.shop.write(path, fs::read(&key).unwrap());
    }
    let sink = host.look();
    let mut told: Vec<&str> = sink.sightings.iter().map(|sighting| &sighting.place.path[1..]).collect();
    let mut expected = paths.to_vec();
    told.sort_unstable();
    expected.sort_unstable();
    assert_eq!(told, expected);
    assert!(sink.blind.is_empty(), "{:?}", sink.blind);
    let ups = |sink: &Sink| sink.samples.iter().filter(|sample| sample.series.metric_id == metrics::UP).count();
    assert!((12..18).contains(&ups(&sink)), "only places that are there have a series: {}", ups(&sink));
    assert_eq!(place(&sink, "/var/lib/pgsql/.postgresql/postgresql.key").home.as_deref(), Some("pg"));
    assert_eq!((place(&sink, "/home/ldap/.ssh/id").home.as_deref(), &place(&sink, "/etc/ssl/private/a.key").home), (Some("ldap"), &None));
    // A usual place that goes was nobody's promise; one that was asked for is missed.
    let before = ups(&sink);
    fs::remove_dir_all(host.shop.path("opt")).unwrap();
    let sink = host.look();
    assert!(sink.blind.is_empty() && ups(&sink) == before - 1, "{:?}", sink.blind);
    fs::remove_dir_all(host.shop.path("data")).unwrap();
    assert_eq!(host.look().blind[0].0, "/data/keys");
}

#[test]
fn a_path_written_in_full_that_leads_nowhere_is_told_from_the_first_look_on() {
    let mut host = Host::new(&["/keys", "/etc/typo", "/srv/*/tls", "~nobody-here/keys", "/left/out"]);
    host.context.keystore.exclude = vec!["/left".to_owned()];
    host.sensor = Keystore::new(&host.context);
    host.shop.ec_key("keys/k.pem");
    for sink in [host.look(), host.look()] {
        let blind: Vec<&str> = sink.blind.iter().map(|(what, _)| what.as_str()).collect();
        assert_eq!(blind, ["/etc/typo", "~nobody-here/keys"], "globs may lead nowhere, and what is excluded is not looked for");
        assert_eq!(value(&sink, metrics::UP, Some(("path", "/etc/typo"))), Some(0.0));
    }
    let paths = &host.context.keystore.paths[..4];
    assert_eq!(missing(&host.context.root, paths.iter()), ["/etc/typo", "~nobody-here/keys"], "check-config says the same");
    host.shop.ec_key("etc/typo/k.pem");
    let sink = host.look();
    assert_eq!((sink.blind.len(), kinds(&sink.events), value(&sink, metrics::UP, Some(("path", "/etc/typo")))), (1, vec![EventKind::Created], Some(1.0)));
}

#[test]
fn the_documentation_lists_the_usual_places() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference/discovery.md");
    let page = fs::read_to_string(page).unwrap();
    let listed: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("    ")).filter(|line| line.starts_with(['/', '~'])).collect();
    assert_eq!(listed, PLACES);
    let split = |text: &str| text.split('{').skip(1).any(|inner| inner.split('}').next().is_some_and(|inner| inner.contains('/')));
    let programs = crate::parse::names::PROGRAMS;
    let across: Vec<_> = programs.iter().flat_map(|program| program.files).chain(PLACES).filter(|text| split(text)).collect();
    assert!(across.is_empty(), "alternatives are within one part of a path: {across:?}");
    for program in programs {
        assert!(page.contains(&format!("| {} |", program.name)), "{} is not documented", program.name);
    }
}

#[test]
fn what_configurations_name_is_found_wherever_it_lies() {
    let mut host = Host::new(&["/etc/ssl"]);
    host.shop.certificate("srv/shop/c.pem", "srv/shop/k.pem", "shop", 30);
    host.shop.write("etc/ssl/ca.pem", host.shop.read("srv/shop/c.pem"));
    host.shop.write("etc/nginx/nginx.conf", "http {\n include sites/*;\n ssl_client_certificate /etc/ssl/ca.pem; }");
    host.shop.write("etc/nginx/sites/shop", "server {\n ssl_certificate /srv/shop/c.pem;\n ssl_certificate_key /srv/shop/k.pem;\n}");
    host.shop.write("etc/nginx/sites/.shop.swp", "ssl_certificate /no/such.pem;");
    host.shop.write("etc/haproxy/haproxy.cfg", "frontend x\n bind :1 ssl crt /srv/shop/ ");
    let first = host.look();
    let (haproxy, nginx) = ("haproxy: /etc/haproxy/haproxy.cfg:2", "nginx: /etc/nginx/sites/shop");
    let expected = [
        ("/etc/ssl/ca.pem", vec!["nginx: /etc/nginx/nginx.conf:3".to_owned()]),
        ("/srv/shop/c.pem", vec![haproxy.to_owned(), format!("{nginx}:2")]),
        ("/srv/shop/k.pem", vec![haproxy.to_owned(), format!("{nginx}:3")]),
    ];
    assert_eq!(used(&first), expected.iter().map(|(path, users)| (*path, users.iter().map(String::as_str).collect())).collect::<Vec<_>>());
    assert!(first.events.is_empty() && first.blind.is_empty(), "{:?} {:?}", first.events, first.blind);
    assert!(host.settle().is_empty());
    // Who is no longer named is not gone.
    host.pass(Duration::from_secs(10));
    host.shop.write("etc/nginx/sites/shop", "server {\n\n ssl_certificate /srv/shop/c.pem;\n}");
    let sink = host.look();
    assert_eq!(place(&sink, "/srv/shop/c.pem").used_by, [haproxy, &format!("{nginx}:3")]);
    fs::remove_file(host.shop.path("etc/haproxy/haproxy.cfg")).unwrap();
    let sink = host.look();
    assert_eq!((place(&sink, "/srv/shop/k.pem").used_by.len(), sink.events.len()), (0, 0));
    host.restart();
    assert!(host.settle().is_empty());
    fs::remove_file(host.shop.path("srv/shop/k.pem")).unwrap();
    assert_eq!(kinds(&host.settle()), [EventKind::Removed]);
    assert!(host.settle().is_empty());
}

#[test]
fn a_configuration_that_names_what_is_not_there_is_told_once() {
    let mut host = Host::new(&["/etc/ssl"]);
    host.shop.write("srv/readme.pem", "nothing");
    host.shop.write(
        "etc/nginx/nginx.conf",
        "ssl_certificate /srv/c.pem; ssl_certificate_key /srv/readme.pem;\nssl_crl /srv/$x.pem; include nginx.conf; include nginx.*;",
    );
    host.shop.write("etc/kubernetes/admin.conf", "client-certificate: /srv/in-a-container.pem");
    let events = host.look().events;
    assert_eq!(events.iter().map(|event| event.path.as_deref().unwrap()).collect::<Vec<_>>(), ["/srv/readme.pem"], "the other may be on its way");
    host.pass(GRACE);
    let events: Vec<Event> = host.look().events.into_iter().chain(events).collect();
    let told: Vec<(&str, &str)> = events.iter().map(|event| (event.path.as_deref().unwrap(), event.message.as_str())).collect();
    assert_eq!(told.iter().map(|(path, _)| *path).collect::<Vec<_>>(), ["/srv/c.pem", "/srv/readme.pem"]);
    assert!(told[0].1.contains("nginx: /etc/nginx/nginx.conf:1 names it as a certificate") && told[0].1.contains("it does not exist"), "{told:?}");
    assert!(told[1].1.contains("nginx: /etc/nginx/nginx.conf:1 names it, and there is no key or certificate in it"), "{told:?}");
    assert!(host.settle().is_empty());
    host.restart();
    assert!(host.settle().is_empty(), "nor again after a restart");
    host.shop.certificate("srv/c.pem", "srv/k.pem", "www", 30);
    let sink = host.look();
    assert_eq!((kinds(&sink.events), place(&sink, "/srv/c.pem").used_by.len()), (vec![EventKind::Created; 2], 2), "the other one is what $x may be");
    assert_eq!(value(&sink, "crypto.keystore.unreadable", None), Some(1.0));
}

#[test]
fn a_named_link_is_followed_as_it_turns() {
    let mut host = Host::new(&["/etc/ssl"]);
    host.shop.certificate("srv/v1/c.pem", "k1", "www", 30);
    host.shop.certificate("srv/v2/c.pem", "k2", "www", 60);
    symlink("v1", host.shop.path("srv/now")).unwrap();
    host.shop.write("etc/apache2/apache2.conf", "SSLCertificateFile /srv/now/c.pem\n");
    let old = host.look().sightings.remove(0);
    symlink("v2", host.shop.path("srv/.now")).unwrap();
    fs::rename(host.shop.path("srv/.now"), host.shop.path("srv/now")).unwrap();
    let sink = host.look();
    assert_eq!(kinds(&sink.events), [EventKind::Rotated]);
    assert!(sink.sightings.iter().any(|sighting| sighting.replaces.as_ref() == Some(&old.facts.id)));
}

#[test]
fn hostile_configurations_end() {
    let mut host = Host::new(&["/etc/ssl"]);
    host.shop.ec_key("etc/ssl/k.pem");
    let many: String = (0..6_000).map(|n| format!("ssl_certificate_key /srv/{n}/$x.key;\n")).collect();
    host.shop.write("etc/nginx/nginx.conf", format!("include *.conf; include /etc/nginx/../nginx/*.conf;\n{many}"));
    host.shop.run("mkfifo", "etc/nginx/pipe.conf");
    host.shop.write("etc/apache2/apache2.conf", "Include /etc/apache2\nInclude /\nInclude /etc/*\n");
    host.shop.write("etc/postfix/main.cf", "a = $b$b\nb = $a$a\nsmtpd_tls_cert_file = $a\n");
    let sink = host.look();
    assert_eq!(sink.sightings.len(), 1);
    let limit = sink.blind.iter().find(|(what, _)| what == "/etc/nginx/nginx.conf");
    assert!(limit.is_some_and(|(_, why)| why.contains("more than 4000 key files are named")), "{:?}", sink.blind);
}

#[test]
fn what_includes_cannot_be_read_is_told_and_nothing_waits_for_it() {
    let mut host = Host::new(&["/etc/ssl"]);
    host.shop.certificate("srv/c.pem", "srv/k.pem", "www", 30);
    let chain = |n: u32| format!("include deep/{}.conf;", n + 1);
    (0..30).for_each(|n| drop(host.shop.write(&format!("etc/nginx/deep/{n}.conf"), chain(n))));
    host.shop.write("etc/nginx/nginx.conf", "include deep/0.conf; include pipe; include loop; include big; ssl_certificate /srv/c.pem;");
    host.shop.run("mkfifo", "etc/nginx/pipe");
    symlink("loop", host.shop.path("etc/nginx/loop")).unwrap();
    host.shop.write("etc/nginx/big", "# \n".repeat(1 << 19));
    let many: String = (0..12_000).map(|n| format!("Include conf/{n}\n")).collect();
    host.shop.write("etc/apache2/apache2.conf", many);
    (0..100).for_each(|n| drop(host.shop.write(&format!("etc/apache2/conf/{n}"), "Include apache2.conf\nInclude conf/*\n")));
    host.pass(GRACE);
    let sink = host.look();
    assert_eq!(used(&sink).iter().map(|(path, _)| *path).collect::<Vec<_>>(), ["/srv/c.pem"]);
    let told: Vec<(&str, &str)> = sink.events.iter().map(|event| (event.path.as_deref().unwrap(), event.message.as_str())).collect();
    let said = |path: &str, what: &str| told.iter().any(|(at, message)| *at == path && message.contains(what));
    assert!(said("/etc/nginx/deep/20.conf", "included by more than 20 files"), "{told:#?}");
    assert!(
        said("/etc/nginx/pipe", "a pipe or device") && said("/etc/nginx/loop", "symbolic link") && said("/etc/nginx/big", "at most 1048576 are read"),
        "{told:#?}"
    );
    assert!(said("/etc/apache2/apache2.conf", "more than 10000 includes"), "{told:#?}");
    assert!(host.settle().is_empty());
}

#[test]
fn who_can_get_at_a_key_depends_on_every_directory_above_it() {
    let mut host = Host::new(&["/keys"]);
    host.shop.ec_key("keys/closed/k.pem");
    chmod(&host, "keys/closed", 0o700);
    chmod(&host, "keys/closed/k.pem", 0o644);
    let sink = host.look();
    assert_eq!(place(&sink, "/keys/closed/k.pem").reach, Some(Reach { read: false, write: false, list: false }));
    assert!(sink.events.is_empty(), "nobody can read it where it lies");
    chmod(&host, "keys/closed", 0o755);
    let sink = host.look();
    assert_eq!(place(&sink, "/keys/closed/k.pem").reach, Some(Reach { read: true, write: false, list: true }));
    assert_eq!(kinds(&sink.events), [EventKind::PolicyViolation], "though nothing happened to the file");
    assert!(host.settle().is_empty());
    chmod(&host, "keys/closed/k.pem", 0o600);
    chmod(&host, "keys", 0o777);
    let sink = host.look();
    assert_eq!(kinds(&sink.events), [], "it was exposed before");
    assert_eq!(place(&sink, "/keys/closed/k.pem").reach, Some(Reach { read: false, write: true, list: true }), "another may be put in its place");
}

#[test]
fn authorities_are_there_to_be_trusted_where_the_system_keeps_them_or_a_configuration_says_so() {
    let mut host = Host::new(&["/etc/ssl", "/keys"]);
    let ca = host.shop.certificate("keys/ca.pem", "ca.key", "ca", 30);
    for path in ["etc/ssl/certs/ca.pem", "keys/named.pem"] {
        host.shop.write(path, fs::read(&ca).unwrap());
    }
    host.shop.write("etc/nginx/nginx.conf", "ssl_client_certificate /keys/named.pem;");
    let sink = host.look();
    let roles = ["/etc/ssl/certs/ca.pem", "/keys/named.pem", "/keys/ca.pem"].map(|path| place(&sink, path).role);
    assert_eq!(roles, [Role::Trusted, Role::Trusted, Role::Held]);
}
