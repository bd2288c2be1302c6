//! Policies that are valid and yet may be mistakes, as this host is now: about no key that lies here, or for a program that is not here.
//! Called where somebody checks the configuration; looks through the key stores once for that.

use std::path::Path;
use std::time::Duration;

use keyvigil_common::clock::SystemClock;
use keyvigil_common::telemetry::Registry;

use super::files::told;
use super::{AccessConfig, AccessRules, Link};
use crate::collect::keystore::{Keystore, covers, missing};
use crate::collect::known::Known;
use crate::collect::{At, Collector, Context, KeystoreConfig, KnownKeys, ServedConfig, Sink};
use crate::rootfs::RootFs;

/// What may be a mistake.
pub(crate) fn policy_doubts(access: &AccessConfig, keystore: &KeystoreConfig, root: &RootFs) -> Vec<String> {
    if access.policy.is_empty() {
        return Vec::new();
    }
    let (mut doubts, known) = (Vec::new(), look(keystore, root));
    for (at, policy) in access.policy.iter().enumerate() {
        let lies = |path: &&String| known.as_ref().is_some_and(|known| known.private.keys().any(|file| is_at(path, file, known, root)));
        let none = policy.path.iter().filter(|path| !lies(path));
        doubts.extend(none.map(|path| format!("access.policy.{at}: no file with a private key that can be seen from here is at {path:?}")));
        let is_here = || known.as_ref().is_some_and(|known| known.private.values().flatten().any(|key| key.id == policy.key));
        if !policy.key.is_empty() && !is_here() {
            doubts.push(format!("access.policy.{at}: no private key that can be seen from here has the id {:?}", policy.key));
        }
        let programs = missing(root, policy.exe.iter());
        // In a container its programs are elsewhere.
        let programs = programs.into_iter().filter(|_| policy.container.is_empty());
        doubts.extend(programs.map(|exe| format!("access.policy.{at}: there is no program {exe:?}")));
    }
    doubts
}

/// Whether a policy's path is that of a file, or of what its links lead to: as it is judged.
fn is_at(path: &str, file: &str, known: &Known, root: &RootFs) -> bool {
    let real = || std::fs::canonicalize(known.place(file, root)).is_ok_and(|real| covers(path, Path::new(&told(&real, root))));
    covers(path, Path::new(file)) || !known.is_inside(file) && real()
}

/// What lies here, by one look of the keystore sensor.
fn look(keystore: &KeystoreConfig, root: &RootFs) -> Option<std::sync::Arc<Known>> {
    let clock = SystemClock::shared();
    let context = Context {
        root: root.clone(),
        started_ms: clock.now_ms(),
        keystore: keystore.clone(),
        served: ServedConfig::default(),
        known: KnownKeys::default(),
        canary: crate::canary::Canary::none(),
        access: AccessRules::default(),
        probe: Link::new("/nonexistent"),
        registry: Registry::default(),
        waiting: None,
    };
    let at = At { wall_ms: clock.now_ms(), monotonic: Duration::ZERO };
    Keystore::new(&context).collect(at, &mut Sink::new("", at));
    context.known.read()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::AccessPolicy;

    #[test]
    fn a_policy_about_no_key_or_for_no_program_is_doubted() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("keys")).unwrap();
        std::fs::create_dir_all(dir.path().join("bin")).unwrap();
        let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
        std::fs::write(dir.path().join("keys/a.pem"), key).unwrap();
        std::fs::write(dir.path().join("bin/tool"), "").unwrap();
        std::fs::create_dir_all(dir.path().join("vault")).unwrap();
        std::fs::rename(dir.path().join("keys/a.pem"), dir.path().join("vault/real.pem")).unwrap();
        std::os::unix::fs::symlink("../vault/real.pem", dir.path().join("keys/a.pem")).unwrap();
        let list = |items: &[&str]| items.iter().map(ToString::to_string).collect::<Vec<_>>();
        let policy = |path: &[&str], exe: &[&str]| AccessPolicy { path: list(path), exe: list(exe), ..AccessPolicy::default() };
        let policies = vec![
            policy(&["/keys/*.pem"], &["/bin/tool", "/opt/*/tool"]),
            policy(&["/vault/real.pem"], &["/bin/tool"]),
            policy(&["/keys/a.pem", "/keys/b.pem"], &["/bin/gone"]),
            AccessPolicy { key: "ab".into(), path: Vec::new(), container: list(&["web"]), ..policy(&[], &["/bin/gone"]) },
        ];
        let keystore = KeystoreConfig { paths: list(&["/keys"]), named_files: false, ..KeystoreConfig::default() };
        let doubts = policy_doubts(&AccessConfig { policy: policies, ..AccessConfig::default() }, &keystore, &RootFs::new(dir.path()));
        assert_eq!(doubts.len(), 3, "{doubts:#?}");
        for (doubt, said) in doubts.iter().zip(["/keys/b.pem", "/bin/gone", "\"ab\""]) {
            assert!(doubt.contains(said), "{doubt}");
        }
    }
}
