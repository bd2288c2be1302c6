//! Lists of revoked keys that `ssh-keygen -k` made.

use std::path::Path;

use keyvigil_common::key::KeyKind;
use keyvigil_common::limits::REVOKED_MAX;
use proptest::prelude::*;

use crate::parse::keys;
use crate::testkit::{Workshop, damaged, only};

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
    for expected in ["serial 01", "serial 03", "serial 05", "serials 0a-fa0", "serial f4240", "id web-1"] {
        assert!(what.contains(&format!("{ca} {expected}").as_str()), "{expected}: {what:?}");
    }
    for key in ["a.pub", "b.pub", "c.pub"] {
        assert!(what.contains(&shop.ssh_fingerprint(key).as_str()), "{key}: {what:?}");
    }
    assert_eq!((facts.kind, facts.serial.as_deref(), what.len()), (KeyKind::Crl, Some("08"), 9));
    assert!(facts.not_before_ms.is_some());
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
