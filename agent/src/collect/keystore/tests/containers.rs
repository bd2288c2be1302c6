//! Keys in containers: mount namespaces with a root of their own, made here as engines make them.

use std::fs;
use std::process::{Child, Command, Stdio};

use super::*;

/// A process in a mount namespace whose root is a directory of the workshop; `None` where we may not.
struct Container(Child);

impl Container {
    fn start(shop: &Workshop, root: &str) -> Option<Self> {
        if !rustix::process::getuid().is_root() {
            return None;
        }
        for dir in ["usr", "proc", "keys"] {
            fs::create_dir_all(shop.path(root).join(dir)).unwrap();
        }
        for link in ["bin", "lib", "lib64"] {
            let _ = std::os::unix::fs::symlink(format!("usr/{link}"), shop.path(root).join(link));
        }
        let script = "mount --bind /usr $1/usr && mount --make-private $1/usr && exec chroot $1 sh -c 'echo in; exec sleep 1000'";
        let root = shop.path(root);
        let args = ["--mount", "--propagation", "private", "sh", "-ec", script, "sh", root.to_str().unwrap()];
        let mut child = Command::new("unshare").args(args).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut said = [0; 2];
        let is_in = io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut said).is_ok();
        let container = Self(child);
        is_in.then_some(container)
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn host(containers: bool) -> Host {
    let shop = Workshop::new();
    let mut host = Host::with(shop, RootFs::host(), vec!["/keys".to_owned()]);
    host.context.keystore.containers = containers;
    host.context.keystore.named_files = true;
    host.sensor = Keystore::new(&host.context);
    host
}

/// What is told of this test's keys: another container may run here.
fn told(host: &Host, sink: &Sink) -> Vec<(String, bool)> {
    let ours: Vec<String> = ["a", "b", "c"]
        .iter()
        .filter_map(|name| fs::metadata(host.shop.path(&format!("{name}.pem"))).ok().map(|_| host.shop.spki_sha256(&format!("-in {name}.pem"))))
        .collect();
    let is_ours = |sighting: &&keyvigil_common::key::Sighting| ours.contains(&sighting.facts.fingerprint);
    sink.sightings.iter().filter(is_ours).map(|s| (s.place.path.clone(), s.gone)).collect()
}

#[test]
fn keys_in_containers_come_and_go_with_them() {
    let mut host = host(true);
    for name in ["a", "b", "c"] {
        host.shop.ec_key(&format!("{name}.pem"));
    }
    let put = |host: &Host, from: &str, to: &str| host.shop.write(&format!("box/{to}"), host.shop.read(from));
    put(&host, "a.pem", "keys/a.pem");
    put(&host, "b.pem", "srv/b.pem");
    host.shop.write("box/etc/nginx/nginx.conf", "ssl_certificate_key /srv/b.pem;");
    host.shop.write("box/etc/passwd", "www:x:0:0::/:/bin/sh\n");
    let Some(container) = Container::start(&host.shop, "box") else { return };
    let namespace = fs::read_link(format!("/proc/{}/ns/mnt", container.0.id())).unwrap();
    let number: String = namespace.to_string_lossy().chars().filter(char::is_ascii_digit).collect();
    let at = |path: &str| format!("container:mnt-{number}:{path}");
    let first = host.look();
    assert_eq!(told(&host, &first), [(at("/keys/a.pem"), false), (at("/srv/b.pem"), false)], "{:?}", first.blind);
    let named = first.sightings.iter().find(|sighting| sighting.place.path == at("/srv/b.pem")).unwrap();
    assert_eq!((&named.place.used_by[..], named.place.owner.as_deref()), (&["nginx: /etc/nginx/nginx.conf:1".to_owned()][..], Some("www")));
    assert_eq!(kinds(&first.events).iter().filter(|kind| **kind == EventKind::Created).count(), 0);
    host.pass(Duration::from_secs(5));
    put(&host, "c.pem", "keys/c.pem");
    let sink = host.look();
    assert_eq!(told(&host, &sink), [(at("/keys/c.pem"), false)]);
    assert!(sink.events.iter().any(|event| event.kind == EventKind::Created && event.path.as_ref() == Some(&at("/keys/c.pem"))));
    host.restart();
    let again = host.look();
    assert!(!kinds(&again.events).contains(&EventKind::Created), "{:?}", again.events);
    assert_eq!(told(&host, &again).len(), 3, "told again, and nothing is new");
    drop(container);
    let sink = host.look();
    let gone = told(&host, &sink);
    assert!(gone.len() == 3 && gone.iter().all(|(_, gone)| *gone), "{gone:?}");
    assert!(!kinds(&sink.events).contains(&EventKind::Removed), "a container that ends is no loss of keys");
}

#[test]
fn nobody_looks_into_containers_unasked() {
    let mut host = host(false);
    host.shop.write("box/keys/a.pem", host.shop.read(host.shop.ec_key("a.pem").file_name().unwrap().to_str().unwrap()));
    let Some(_container) = Container::start(&host.shop, "box") else { return };
    let sink = host.look();
    assert!(told(&host, &sink).is_empty());
}

#[test]
fn who_may_not_look_into_processes_says_so() {
    if !rustix::process::getuid().is_root() {
        return;
    }
    let found = hostile::thread_as_nobody(|| crate::collect::keystore::containers::find(&RootFs::host()).unwrap());
    assert!(found.blind.is_some_and(|why| why.contains("CAP_SYS_PTRACE")) && found.running.is_empty());
}
