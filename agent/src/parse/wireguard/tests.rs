//! Configurations with keys that `wg` made, in the three forms that hosts have.

use std::path::Path;

use keyvigil_common::key::{KeyKind, Role};
use proptest::prelude::*;

use crate::parse::Found;
use crate::testkit::{Workshop, all, damaged, keys, only};

/// A private key, the public one of it as `wg` computes it, and a secret for two.
fn keys_of_wg(shop: &Workshop) -> (String, String, String) {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().trim().to_owned();
    let private = text(shop.run("wg", "genkey"));
    shop.write("private", &private);
    let public = text(shop.run("sh", "-c wg${IFS}pubkey<private"));
    (private, public, text(shop.run("wg", "genpsk")))
}

fn told(found: &[Found]) -> Vec<(KeyKind, &str, Role)> {
    found.iter().map(|found| (found.facts.kind, found.within.entry.as_deref().unwrap_or_default(), found.within.role)).collect()
}

const EXPECTED: [(KeyKind, &str, Role); 4] = [
    (KeyKind::PrivateKey, "Interface", Role::Held),
    (KeyKind::PublicKey, "10.0.0.2/32, fd00::2/128 at vpn.example:51820", Role::Peer),
    (KeyKind::SymmetricKey, "10.0.0.2/32, fd00::2/128 at vpn.example:51820", Role::Held),
    (KeyKind::PublicKey, "10.0.0.3/32", Role::Peer),
];

#[test]
fn all_writers_of_a_configuration_are_understood() {
    let shop = Workshop::new();
    let ((private, own, psk), (_, peer, _), (_, other, _)) = (keys_of_wg(&shop), keys_of_wg(&shop), keys_of_wg(&shop));
    let quick = format!(
        "[Interface]\nAddress = 10.0.0.1/24\nPrivateKey = {private} # ours\nListenPort=51820\n\n[Peer]\nPublicKey={peer}\nPresharedKey = {psk}\n\
         AllowedIPs = 10.0.0.2/32\nAllowedIPs = fd00::2/128\nEndpoint = vpn.example:51820\n[peer]\npublickey = {other}\nAllowedIPs=10.0.0.3/32\n"
    );
    let networkd = format!(
        "[NetDev]\nName=wg0\nKind=wireguard\n[WireGuard]\nPrivateKey={private}\n[WireGuardPeer]\nPublicKey={peer}\nPresharedKey={psk}\n\
         AllowedIPs=10.0.0.2/32\nAllowedIPs=fd00::2/128\nEndpoint=vpn.example:51820\n[WireGuardPeer]\nPublicKey={other}\nAllowedIPs=10.0.0.3/32\n"
    );
    let manager = format!(
        "[connection]\ntype=wireguard\n[wireguard]\nprivate-key={private}\n[wireguard-peer.{peer}]\nendpoint=vpn.example:51820\npreshared-key={psk}\n\
         preshared-key-flags=0\nallowed-ips=10.0.0.2/32, fd00::2/128;\n[wireguard-peer.{other}]\nallowed-ips=10.0.0.3/32;\n[ipv4]\nmethod=auto\n"
    );
    for text in [quick, networkd, manager] {
        let found = all(text.as_bytes(), "/etc/x.conf");
        assert_eq!(told(&found), EXPECTED, "{text}");
        assert_eq!((found[0].facts.algorithm.as_str(), found[0].facts.encrypted, found[2].facts.bits), ("x25519", Some(false), Some(256)));
        // The peer at the other end has our public key, and that is the same key.
        let theirs = only(format!("[Peer]\nPublicKey={own}\n").as_bytes(), "/etc/y.conf").facts;
        assert_eq!((&theirs.id, &theirs.fingerprint), (&found[0].facts.id, &found[0].facts.fingerprint));
    }
    let elsewhere = format!("[WireGuard]\nPrivateKeyFile=/etc/k\nPrivateKey=@network.wireguard.private.wg0\n[WireGuardPeer]\nPublicKey={peer}\n");
    assert_eq!(all(elsewhere.as_bytes(), "/x").len(), 1);
}

#[test]
fn a_bare_key_is_one_only_where_wireguard_keeps_its_keys() {
    let shop = Workshop::new();
    let (private, public, psk) = keys_of_wg(&shop);
    let kind = |text: &str, path: &str| only(format!("{text}\n").as_bytes(), path).facts.kind;
    assert_eq!(kind(&private, "/etc/wireguard/privatekey"), KeyKind::PrivateKey);
    assert_eq!(kind(&private, "/etc/wireguard/keys/wg0.key"), KeyKind::PrivateKey);
    assert_eq!(kind(&public, "/etc/wireguard/wg0.pub"), KeyKind::PublicKey);
    assert_eq!(kind(&psk, "/etc/wireguard/wg0.psk"), KeyKind::SymmetricKey);
    assert!(keys(private.as_bytes(), Path::new("/home/a/note")).not_a_key);
    let ids =
        [&private, &public].map(|text| only(text.as_bytes(), if text == &public { "/etc/wireguard/pub" } else { "/etc/wireguard/key" }).facts.fingerprint);
    assert_eq!(ids[0], ids[1]);
}

#[test]
fn other_configurations_are_none_and_a_broken_key_is_told() {
    assert!(keys(b"[Interface]\nName=eth0\n[Peer]\nAddress=10.0.0.1\n", Path::new("/etc/x.network")).not_a_key);
    let parsed = keys(b"[Interface]\nPrivateKey = AAAA\n[Peer]\nPublicKey = !\n", Path::new("/etc/x.conf"));
    assert_eq!((parsed.objects.len(), parsed.faults.len()), (0, 2));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_damaged_file_panics(cut in any::<prop::sample::Index>(), hits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6)) {
        static FILE: std::sync::OnceLock<String> = std::sync::OnceLock::new();
        let text = FILE.get_or_init(|| {
            let (private, public, psk) = keys_of_wg(&Workshop::new());
            format!("[Interface]\nPrivateKey = {private}\n[Peer]\nPublicKey={public}\nPresharedKey = {psk}\nAllowedIPs = ::/0\n")
        });
        let parsed = keys(&damaged(text.as_bytes(), &hits, cut), Path::new("/etc/wireguard/k"));
        prop_assert!(parsed.objects.len() + parsed.faults.len() <= 3);
    }
}
