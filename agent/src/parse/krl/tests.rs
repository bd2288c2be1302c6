//! Lists of revoked keys that `ssh-keygen -k` made.

use std::path::Path;

use keyvigil_common::key::KeyKind;
use keyvigil_common::limits::REVOKED_MAX;
use keyvigil_common::revocation::Lists;
use proptest::prelude::*;

use crate::parse::keys::FaultClass;
use crate::testkit::{Workshop, damaged, keys, only};

/// A list of all forms.
fn list(shop: &Workshop) -> Vec<u8> {
    for name in ["ca", "a", "b", "c"] {
        shop.ssh_keygen(&format!("-q -t ed25519 -N '' -f {name}"));
    }
    let line = String::from_utf8(shop.ssh_keygen("-lf c.pub")).unwrap();
    let hash = line.split(' ').nth(1).unwrap();
    shop.write("spec", format!("serial: 1\nserial: 3\nserial: 10-4000\nserial: 5\nserial: 1000000\nid: web-1\nhash: {hash}\n"));
    shop.ssh_keygen("-q -k -f list -s ca.pub -z 7 spec a.pub");
    shop.ssh_keygen("-q -k -u -f list -z 8 b.pub");
    shop.read("list")
}

#[test]
fn a_binary_list_tells_what_it_revokes() {
    let shop = Workshop::new();
    let facts = only(&list(&shop), "/etc/ssh/revoked").facts;
    let ca = shop.ssh_fingerprint("ca.pub");
    let what: Vec<&str> = facts.revokes.iter().map(|revoked| revoked.what.as_str()).collect();
    for expected in ["01", "03", "05", "0a-fa0", "f4240", "id:web-1"] {
        assert!(what.contains(&format!("{ca} {expected}").as_str()), "{expected}: {what:?}");
    }
    for key in ["a.pub", "b.pub", "c.pub"] {
        assert!(what.contains(&shop.ssh_fingerprint(key).as_str()), "{key}: {what:?}");
    }
    assert_eq!((facts.kind, facts.serial.as_deref(), what.len()), (KeyKind::Crl, Some("08"), 9));
    assert!(facts.not_before_ms.is_some() && facts.revokes.iter().all(|revoked| revoked.at_ms == facts.not_before_ms));
}

#[test]
fn keys_and_certificates_are_found_in_the_list_as_ssh_keygen_finds_them() {
    let shop = Workshop::new();
    let list = only(&list(&shop), "/etc/ssh/revoked");
    let mut lists = Lists::default();
    lists.add("list", &list.facts, list.revokes.as_ref().unwrap());
    shop.ssh_keygen("-q -t ed25519 -N '' -f d");
    let (mut files, mut count) = (vec!["a.pub".to_owned(), "b.pub".into(), "c.pub".into(), "d.pub".into()], 0);
    for (id, serial) in [("x", 1), ("x", 2), ("x", 10), ("x", 4_000), ("x", 4_001), ("web-1", 7_000), ("x", 1_000_000), ("web-2", 8_000)] {
        for ca in ["ca", "d"] {
            shop.write("k.pub", shop.read("d.pub"));
            shop.ssh_keygen(&format!("-q -s {ca} -I {id} -n root -z {serial} k.pub"));
            files.push(format!("{ca}-{serial}-cert.pub"));
            shop.write(files.last().unwrap(), shop.read("k-cert.pub"));
        }
    }
    shop.ssh_keygen("-q -s a -I x -n root k.pub");
    files.push("k-cert.pub".into());
    for file in files {
        let told = std::process::Command::new("ssh-keygen").args(["-Q", "-f", "list", &file]).current_dir(shop.root()).output().unwrap().status;
        let found = lists.find(&only(&shop.read(&file), "/k.pub").facts);
        assert_eq!(found.is_some(), !told.success(), "{file}");
        count += usize::from(found.is_some());
        assert!(found.is_none_or(|found| Some(found.at_ms) == list.facts.not_before_ms));
    }
    assert_eq!(count, 3 + 5 + 1);
}

#[test]
fn a_range_without_end_is_told_not_to_be_looked_up() {
    let shop = Workshop::new();
    shop.ssh_keygen("-q -t ed25519 -N '' -f ca");
    shop.write("spec", format!("serial: 1-{}\n", u64::MAX));
    shop.ssh_keygen("-q -k -f list -s ca.pub spec");
    let parsed = keys(&shop.read("list"), Path::new("/l"));
    assert_eq!((parsed.objects[0].facts.revokes.len(), parsed.faults[0].class), (1, FaultClass::TooMany));
}

#[test]
fn a_list_of_a_whole_host_fleet_is_bounded() {
    let shop = Workshop::new();
    shop.ssh_keygen("-q -t ed25519 -N '' -f ca");
    shop.write("spec", (0..3 * REVOKED_MAX).map(|serial| format!("serial: {}\n", serial * 2 + 1)).collect::<String>());
    shop.ssh_keygen("-q -k -f list -s ca.pub spec");
    assert_eq!(only(&shop.read("list"), "/l").facts.revokes.len(), REVOKED_MAX);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_damaged_list_panics(cut in any::<prop::sample::Index>(), hits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6)) {
        static LIST: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
        let parsed = keys(&damaged(LIST.get_or_init(|| list(&Workshop::new())), &hits, cut), Path::new("/k"));
        prop_assert!(parsed.objects.iter().all(|found| found.facts.revokes.len() <= REVOKED_MAX));
    }
}
