//! Files of Kubernetes as `kubectl` and people write them.

use std::path::Path;

use keyvigil_common::key::{KeyKind, Role};
use proptest::prelude::*;

use super::*;
use crate::parse::Found;
use crate::testkit::{Workshop, all, damaged, keys};

fn base64(shop: &Workshop, name: &str) -> String {
    String::from_utf8(shop.openssl(&format!("base64 -A -in {name}"))).unwrap()
}

fn told(found: &[Found]) -> Vec<(KeyKind, &str, Role)> {
    found.iter().map(|found| (found.facts.kind, found.within.entry.as_deref().unwrap(), found.within.role)).collect()
}

/// A shop with a CA's and a user's certificate, and a kubeconfig that `kubectl` wrote from them.
fn shop() -> Workshop {
    let shop = Workshop::new();
    shop.certificate("ca.pem", "ca.key", "ca", 3_650);
    shop.certificate("alice.pem", "alice.key", "alice", 30);
    let config = |arguments: &str| shop.run("kubectl", &format!("config --kubeconfig config {arguments}"));
    config("set-cluster prod --server=https://192.0.2.1:6443 --certificate-authority=ca.pem --embed-certs=true");
    config("set-credentials alice --client-certificate=alice.pem --client-key=alice.key --embed-certs=true");
    config("set-credentials robot --token=a-token-nobody-reads");
    config("set-credentials bob --client-certificate=bob.pem --client-key=bob.key");
    shop
}

#[test]
fn what_a_kubeconfig_carries_is_read_and_what_it_names_is_told() {
    let shop = shop();
    let expected = [
        (KeyKind::Certificate, "cluster prod", Role::Trusted),
        (KeyKind::Certificate, "user alice", Role::Held),
        (KeyKind::PrivateKey, "user alice", Role::Held),
    ];
    let json = shop.run("kubectl", "config --kubeconfig config view --raw -o json");
    for bytes in [shop.read("config"), json] {
        let found = all(&bytes, "/root/.kube/config");
        assert_eq!(told(&found), expected);
        assert!(found.iter().all(|found| found.within.format.as_deref() == Some("kubeconfig")));
        assert_eq!(found[1].facts.fingerprint, shop.spki_sha256("-in alice.key"));
        assert_eq!(found[2].facts.fingerprint, found[1].facts.fingerprint);
        let named = files(&bytes);
        let paths: Vec<_> = named.iter().map(|named| (named.path.rsplit('/').next().unwrap(), named.what)).collect();
        assert_eq!(paths, [("bob.pem", What::Certificate), ("bob.key", What::Key)]);
    }
    assert!(!format!("{:?}", keys(&shop.read("config"), Path::new("/c"))).contains("a-token"));
}

#[test]
fn secrets_of_a_manifest_are_read_in_every_form() {
    let shop = shop();
    let (certificate, key) = (base64(&shop, "alice.pem"), base64(&shop, "alice.key"));
    let secret = format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: web, namespace: shop}}\ntype: kubernetes.io/tls\ndata:\n  tls.crt: {certificate}\n  tls.key: >-\n    {key}\n  password: c2VjcmV0\n"
    );
    let expected = [(KeyKind::Certificate, "shop/web tls.crt", Role::Held), (KeyKind::PrivateKey, "shop/web tls.key", Role::Held)];
    assert_eq!(told(&all(secret.as_bytes(), "/m.yaml")), expected);
    let two = format!("{secret}---\n{}", secret.replace("name: web", "name: other"));
    assert_eq!(all(two.as_bytes(), "/m.yaml").len(), 4);
    let list = format!(
        r#"{{"apiVersion":"v1","kind":"List","items":[{{"kind":"Secret","metadata":{{"name":"web","namespace":"shop"}},"data":{{"tls.crt":"{certificate}","tls.key":"{key}"}}}}]}}"#
    );
    assert_eq!(told(&all(list.as_bytes(), "/m.json")), expected);
    let indented: String = shop.text("ca.pem").lines().map(|line| format!("    {line}\n")).collect();
    let clear = format!("kind: Secret\nmetadata:\n  name: web\nstringData:\n  ca.crt: |\n{indented}");
    assert_eq!(told(&all(clear.as_bytes(), "/m.yaml")), [(KeyKind::Certificate, "web ca.crt", Role::Trusted)]);
    let other = format!("kind: ConfigMap\n# not a Secret\ndata:\n  ca.crt: |\n{indented}");
    assert_eq!(all(other.as_bytes(), "/m.yaml").len(), 1);
}

#[test]
fn what_is_wrong_with_one_entry_hides_no_other() {
    let shop = shop();
    let text = shop.text("config");
    let at = text.find("certificate-authority-data: ").unwrap() + "certificate-authority-data: ".len();
    let broken = format!("{}LS%0{}", &text[..at], &text[at..]);
    let parsed = keys(broken.as_bytes(), Path::new("/c"));
    assert_eq!((parsed.objects.len(), parsed.faults.len()), (2, 1));
    assert!(parsed.faults[0].reason.contains("cluster prod"), "{:?}", parsed.faults);
    let omitted = text.replacen(&text[at..at + text[at..].find('\n').unwrap()], "DATA+OMITTED", 1);
    assert_eq!(all(omitted.as_bytes(), "/c").len(), 2);
    assert_eq!(keys(format!("{text}\n: : :\n  - [").as_bytes(), Path::new("/c")).faults.len(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_damaged_file_panics(cut in any::<prop::sample::Index>(), hits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6)) {
        static FILE: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
        let bytes = damaged(FILE.get_or_init(|| shop().read("config")), &hits, cut);
        let parsed = keys(&bytes, Path::new("/k"));
        prop_assert!(parsed.objects.len() + parsed.faults.len() <= 4 && files(&bytes).len() <= 4);
    }
}
