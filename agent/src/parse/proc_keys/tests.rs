//! Lines as kernels print them.

use proptest::prelude::*;

use super::*;

const TEXT: &str = "\
009a2028 I--Q---     1 perm 3f010000  1000  1000 user      krb_ccache:primary: 12
1806c4ba I--Q---     1   5m 3f010000     0     0 logon     f2fs:k with  two spaces: 64
0b5f6f41 IR-Q---     1 expd 3f030000     0    -1 encrypted disk
2a1c0f00 I------     1 perm 1f030000     0     0 asymmetri Debian CA: 6ccece7e: X509.rsa 79b12c3d []
2a1c0f01 I--Q--N     1  10w 3f010000     0     0 dns_resol a.example: -2
08f421b8 I------     1 perm 1f0b0000     0     0 keyring   .builtin_trusted_keys: empty
garbage
";

#[test]
fn keys_are_read_and_keyrings_are_none() {
    let Listing { keys, strange, more, all } = keys(TEXT);
    let told: Vec<_> = keys.iter().map(|key| (key.serial.as_str(), key.kind.as_str(), key.dead, key.expiry, key.uid, key.gid)).collect();
    let expected = [
        ("009a2028", "user", None, Expiry::Never, 1_000, Some(1_000)),
        ("1806c4ba", "logon", None, Expiry::In { seconds: 300, unit: 60 }, 0, Some(0)),
        ("0b5f6f41", "encrypted", Some("revoked"), Expiry::Past, 0, None),
        ("2a1c0f00", "asymmetric", None, Expiry::Never, 0, Some(0)),
        ("2a1c0f01", "dns_resolver", Some("negative"), Expiry::In { seconds: 6_048_000, unit: 604_800 }, 0, Some(0)),
    ];
    assert_eq!((told.as_slice(), strange, more, all), (expected.as_slice(), 1, false, 7));
    assert_eq!(keys[1].description, "f2fs:k with  two spaces");
    assert_eq!(keys[3].description, "Debian CA: 6ccece7e");
    assert_eq!(permissions(keys[0].permissions), ["possessor=view,read,write,search,link,setattr", "user=view"]);
}

#[test]
fn the_keys_of_all_users_are_counted() {
    assert_eq!(held_by_users("    0:     9 8/8 3/1000000 56/25000000\n65534:     2 2/2 2/200 30/20000\nx\n"), 10);
}

proptest! {
    #[test]
    fn no_line_panics(line in "\\PC{0,80}", at in 0usize..400, c in any::<char>()) {
        let mut damaged = TEXT.to_owned();
        if damaged.is_char_boundary(at) {
            damaged.insert(at, c);
        }
        let _ = (keys(&line), keys(&damaged), permissions(at as u32), held_by_users(&line));
    }
}
